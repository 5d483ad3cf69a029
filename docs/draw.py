"""Draws the figures of the documentation: python docs/draw.py

The small tables of experiments/: a dot for each seed, and one for their mean. Generated faces: the views of a method.
"""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import matplotlib
import numpy as np

from kdface.augmentations import Misalignment, SyntheticMask
from kdface.datasets import ToyFaces

matplotlib.use("Agg")
import matplotlib.pyplot as plt

HERE = Path(__file__).resolve().parent
# method -> table, column, label of the axis, factor
TABLES = {
    "spherefacer": ("spherefacer/small.csv", "accuracy", "LFW accuracy, %", 100),
    "facenet": ("facenet/small.csv", "accuracy", "LFW accuracy, %", 100),
    "maskinv": ("maskinv/small.csv", "masked accuracy", "accuracy on LFW, both faces masked, %", 100),
    "aikd": ("aikd/small.csv", "rank correlation with aligned (LFW) 6 pixels", "rank correlation, 6 pixels", 1),
}
INK = "#3949ab"


def dots(name: str) -> None:
    table, column, label, factor = TABLES[name]
    with (HERE.parent / "experiments" / table).open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["column"] == column]
    assert rows, f"{table} has no column {column!r}"
    figure, axes = plt.subplots(figsize=(6.4, 0.36 * len(rows) + 0.9), layout="constrained")
    for place, row in enumerate(rows):
        values = factor * np.array(row["values"].split(), dtype=float)
        axes.plot(values, [place] * len(values), "o", color=INK, alpha=0.35, markersize=4)
        axes.plot(factor * float(row["mean"]), place, "o", color=INK, markersize=8)
    axes.set_yticks(range(len(rows)), [f"{row['group']} {row['row']}".strip() for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)  # the first row on top, half a row of room at both ends
    axes.set_xlabel(label)
    axes.grid(axis="x", alpha=0.3)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    plt.rcParams["svg.hashsalt"] = "kdface"
    figure.savefig(HERE / "img" / f"{name}.svg", metadata={"Date": None})
    plt.close(figure)


def views() -> None:
    """Eight generated people, the views of a method in two rows."""
    faces = ToyFaces(people=8, images_per_person=1)
    for name, augmentation in (("maskinv", SyntheticMask(probability=1.0)), ("aikd", Misalignment(pixels=6.0))):
        columns = [augmentation(faces[index], np.random.default_rng(index)) for index in range(len(faces))]
        sheet = np.vstack([np.hstack([views[view] for views in columns]) for view in augmentation.views])
        cv2.imwrite(str(HERE / "img" / f"{name}_views.jpg"), sheet[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])


if __name__ == "__main__":
    (HERE / "img").mkdir(exist_ok=True)
    for method in TABLES:
        dots(method)
    views()
