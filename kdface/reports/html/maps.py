"""Maps of the sampled test embeddings stored by runs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdface.errors import UserError
from kdface.reports.curves import short
from kdface.reports.html.runs import Run
from kdface.stored import read_arrays


def embedding_maps(members: Sequence[Sequence[Run]], drawn: Sequence[int]) -> dict[str, dict[str, Any]]:
    """Test -> configuration -> map, from the lowest seed with embeddings, for the configurations in `drawn`."""
    found: dict[str, dict[str, Any]] = {}
    for number in drawn:
        for run in sorted(members[number], key=lambda run: run.seed):
            for test, file in run.scores.items():
                if str(number) in found.get(test, {}):
                    continue
                try:
                    made = _map(file, file.stat().st_mtime_ns)
                except OSError:  # reported with the run
                    continue
                if made is not None:
                    found.setdefault(test, {})[str(number)] = {**made, "seed": run.seed}
    return found


@lru_cache(maxsize=256)
def _map(file: Path, changed: int) -> dict[str, Any] | None:
    """The map of a file, cached by its modification time, `changed`, for rewritten pages."""
    del changed
    try:
        arrays = read_arrays(file)
        if "sample" not in arrays:
            return None
        rows, people = arrays["sample"].astype(np.float64), arrays["sample_people"].astype(np.int64)
        if rows.ndim != 2 or len(rows) != len(people) or not np.isfinite(rows).all():
            return None
    except (UserError, KeyError):
        return None  # reported with the run
    where = flat(rows)
    return {
        "x": short(where[:, 0]),
        "y": short(where[:, 1]),
        "person": people.tolist(),
        "nearest": nearest_is_same(rows, people),
    }


def flat(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """(images, D) unit embeddings -> (images, 2): t-SNE of their cosine distances (van der Maaten, Hinton 2008)."""
    try:
        from sklearn.manifold import TSNE
        from threadpoolctl import threadpool_limits
    except ImportError:
        raise UserError(
            "kdface report needs scikit-learn for embedding maps, which is not installed.",
            fix='pip install "kdface[report]"',
        ) from None
    distances = np.clip(1.0 - rows @ rows.T, 0.0, None)
    np.fill_diagonal(distances, 0.0)
    perplexity = min(12.0, (len(rows) - 1) / 3)
    made = TSNE(metric="precomputed", init="random", perplexity=perplexity, random_state=0, max_iter=750)
    with threadpool_limits(1):  # for so few rows, threads are 20 times slower
        return np.asarray(made.fit_transform(distances), dtype=np.float64)


def nearest_is_same(rows: NDArray[np.float64], people: NDArray[np.int64]) -> float:
    """The fraction of images whose nearest neighbour by cosine, in all dimensions, shows the same person."""
    cosines = rows @ rows.T
    np.fill_diagonal(cosines, -np.inf)
    return float((people[cosines.argmax(axis=1)] == people).mean())
