"""Embedding maps keep people together who are together, and the share beside them is counted in all dimensions."""

from __future__ import annotations

import numpy as np
import pytest

from kdface.reports.html.maps import flat, nearest_is_same

PEOPLE = np.repeat(np.arange(5), 6)


def _rows(spread: float) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    rows = np.eye(16)[PEOPLE] + spread * np.random.default_rng(0).normal(size=(30, 16))
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def test_the_share_against_a_loop() -> None:
    rows = _rows(0.4)
    right = 0
    for i in range(30):
        cosines = {j: float(rows[i] @ rows[j]) for j in range(30) if j != i}
        right += PEOPLE[max(cosines, key=cosines.__getitem__)] == PEOPLE[i]
    assert 0.2 < right / 30 < 1
    assert nearest_is_same(rows, PEOPLE) == pytest.approx(right / 30)


def test_people_who_are_apart_are_apart_on_the_map() -> None:
    pytest.importorskip("sklearn", reason='for embedding maps: pip install "kdface[report]"')
    where = flat(_rows(0.02))
    apart = np.linalg.norm(where[:, None] - where[None], axis=2)
    np.fill_diagonal(apart, np.inf)
    assert (PEOPLE[apart.argmin(axis=1)] == PEOPLE).all()


def test_a_map_is_made_by_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads that share the rows of so small a map wait for one another: 20 to 50 times the processor time."""
    manifold = pytest.importorskip("sklearn.manifold", reason='for embedding maps: pip install "kdface[report]"')
    import threadpoolctl

    threads: list[int] = []

    def fit(self: object, distances: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> object:
        threads.extend(pool["num_threads"] for pool in threadpoolctl.threadpool_info())
        return distances[:, :2]

    monkeypatch.setattr(manifold.TSNE, "fit_transform", fit)
    with threadpoolctl.threadpool_limits(2):
        flat(_rows(0.4))
    assert threads and set(threads) == {1}
