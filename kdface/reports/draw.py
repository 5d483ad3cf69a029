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
from kdface.reports.contact_sheet import contact_sheet
from kdface.reports.figures import det_figure, learning_figure, roc_figure, save, score_figure
from kdface.reports.identification_figures import cmc_figure
from kdface.reports.quality_figures import consistency_figure, edc_figure
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
        if "errors" in found:
            interval = ("interval_at", "interval_low", "interval_high")  # missing in older runs
            at, low, high = (found.get(key) for key in interval)
            bands = {name: (at, low, high)} if at is not None and low is not None and high is not None else None
            _save(edc_figure({name: (found["discarded"], found["errors"])}, bands=bands), figures / f"{name}_edc")
        if "aligned_quality" in found:
            both = found["aligned_quality"], found["quality"]
            _save(consistency_figure(*both, spearman=spearman(*both)), figures / f"{name}_consistency")
        if "cmc" in found:
            _save(cmc_figure({name: found["cmc"]}), figures / f"{name}_cmc")
        if "quality" in found or "scores" not in found:
            continue
        values, same = found["scores"], found["same"]
        curve = roc_corners(values, same)
        _save(roc_figure({name: (curve.far, curve.tar)}), figures / f"{name}_roc")
        _save(det_figure({name: (curve.far, curve.fnmr)}), figures / f"{name}_det")
        _save(score_figure(values[same], values[~same]), figures / f"{name}_scores")


def draw_run(folder: RunFolder, training: Any) -> None:
    """Draw all figures of a run: its scores, its learning curves, and a training batch.

    `training` is the training set (`kdface.datasets.loading.TrainingSet`).
    """
    draw_scores(folder.scores, folder.figures)
    records = list(read(folder.metrics))
    losses = [(record["step"], record["loss"]) for record in records if record["kind"] == "train"]
    if len(losses) > 1:
        _save(learning_figure({"loss": losses}, value="Training loss"), folder.figures / "loss")
    _save_png(views_sheet(training.faces, training.augmentation, training.seed), folder.figures / "views")


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
        row += [None] * (images * (1 + len(augmentation.views)) - len(row))
        rows.append(row)
        titles.append(str(faces.people[person]))
    if broken and not any(image is not None for row in rows for image in row):
        raise broken[0]
    return contact_sheet(rows, titles, ["original", *augmentation.views] * images)


def _save(figure: Figure, stem: Path) -> None:
    stem.parent.mkdir(parents=True, exist_ok=True)
    for suffix in (".png", ".pdf"):
        save(figure, stem.with_name(stem.name + suffix))
        figure.set_layout_engine("none")  # reuse the layout, which takes as long to compute as to draw


def _save_png(figure: Figure, stem: Path) -> None:
    stem.parent.mkdir(parents=True, exist_ok=True)
    save(figure, stem.with_name(stem.name + ".png"))
