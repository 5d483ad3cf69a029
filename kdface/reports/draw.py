"""The figures of a run folder: curves from its scores and records, and a sample of a training batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from kdface.errors import DataError
from kdface.evaluation.curves import roc_corners
from kdface.evaluation.quality import spearman
from kdface.faces import FaceSet, Image
from kdface.randomness import generator
from kdface.reports import figures as draw
from kdface.reports.contact_sheet import contact_sheet
from kdface.reports.plotting import save, save_both
from kdface.runs.folder import RunFolder
from kdface.runs.records import read
from kdface.stored import read_arrays


def draw_scores(scores: Path, figures: Path) -> None:
    """Draw ROC, DET and score histogram, or CMC, of each test set in a folder of scores, as PNG and PDF.

    Tests of face-image quality get error-versus-discard curves instead and, on misaligned faces, the consistency of the
    quality. They do not test recognition, which is often done by another network.
    """
    for file in sorted(scores.glob("*.npz")):
        found = read_arrays(file)
        name = file.stem
        made: dict[str, Figure] = {}
        if "errors" in found:
            bands = {}
            if {"interval_at", "interval_low", "interval_high"} <= found.keys():  # older runs lack them
                bands[name] = (found["interval_at"], found["interval_low"], found["interval_high"])
            made["edc"] = draw.edc_figure({name: (found["discarded"], found["errors"])}, bands=bands)
        if "aligned_quality" in found:
            both = found["aligned_quality"], found["quality"]
            if np.isfinite(both).all():  # not those of a diverged network
                made["consistency"] = draw.consistency_figure(*both, spearman=spearman(*both))
        if "cmc" in found:
            made["cmc"] = draw.cmc_figure({name: found["cmc"]})
        if "scores" in found and "quality" not in found:
            values, same = found["scores"], found["same"]
            curve = roc_corners(values, same)
            made["roc"] = draw.roc_figure({name: (curve.far, curve.tar)})
            made["det"] = draw.det_figure({name: (curve.far, curve.fnmr)})
            made["scores"] = draw.score_figure(values[same], values[~same])
        for kind, figure in made.items():
            save_both(figure, figures / f"{name}_{kind}")


def draw_run(folder: RunFolder, training: Any) -> None:
    """Draw all figures of a run: its scores, its loss, and a training batch.

    `training` is the training set (`kdface.datasets.loading.TrainingSet`).
    """
    draw_scores(folder.scores, folder.figures)
    losses = [(record["step"], record["loss"]) for record in read(folder.metrics) if record["kind"] == "train"]
    steps, values = np.array(losses, dtype=np.float64).reshape(-1, 2).T  # a loss that was not finite is None: NaN
    if len(losses) > 1 and not np.isnan(values).all():
        save_both(draw.loss_figure(steps, values), folder.figures / "loss")
    save(views_sheet(training.faces, training.augmentation, training.seed), folder.figures / "views.png")


def views_sheet(faces: FaceSet, augmentation: Any, seed: int, people: int = 6, images: int = 4) -> Figure:
    """A contact sheet with one row per person; each image is followed by all its views.

    Raises `DataError` if none of the chosen images is usable.
    """
    broken: list[DataError] = []
    rows: list[list[Image | None]] = []
    titles: list[str] = []
    chosen = generator(seed, "contact sheet").permutation(len(faces.people))[:people]
    for person in sorted(int(label) for label in chosen):
        indices = np.flatnonzero(np.asarray(faces.labels) == person)[:images]
        row: list[Image | None] = []
        for index in indices:
            try:
                sample = faces[int(index)]
            except DataError as error:  # on_error applies to training; the sheet just skips it
                broken.append(error)
                row += [None] * (1 + len(augmentation.views))
                continue
            made = augmentation(sample, generator(seed, "augment", 0, sample.key))
            row += [sample.image, *(made[view] for view in augmentation.views)]
        rows.append(row)
        titles.append(str(faces.people[person]))
    if broken and not any(image is not None for row in rows for image in row):
        raise broken[0]
    return contact_sheet(rows, titles, ["original", *augmentation.views] * images)
