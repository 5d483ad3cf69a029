"""The picture of the README: generated faces, and a demo run's ROC and scores beside them."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from kdface.datasets import ToyFaces
from kdface.evaluation.curves import roc
from kdface.reports.plotting import BASELINE, PALETTE, style

PEOPLE, IMAGES = (1, 3, 4, 5), 14


def main(run: Path, target: Path) -> None:
    faces = ToyFaces()
    rows = [np.concatenate([faces[24 * person + image].image for image in range(IMAGES)], 1) for person in PEOPLE]
    with np.load(run / "scores" / "toy_pairs.npz", allow_pickle=False) as arrays:
        scores, same = arrays["scores"], arrays["same"]
    curve = roc(scores, same).corners()
    with style():
        figure = Figure(figsize=(7.2, 4.5), dpi=150, layout="constrained")
        grid = figure.add_gridspec(2, 2, height_ratios=(2.15, 2))
        sheet = figure.add_subplot(grid[0, :])
        sheet.imshow(np.concatenate(rows))
        sheet.axis("off")
        left, right = figure.add_subplot(grid[1, 0]), figure.add_subplot(grid[1, 1])
        left.plot(np.maximum(curve.far, 1e-4), curve.tar, color=PALETTE[0])
        left.set(xscale="log", xlim=(1e-3, 1), ylim=(0, 1), xlabel="False accept rate", ylabel="True accept rate")
        left.set_xticks([0.001, 0.01, 0.1, 1], ["0.001", "0.01", "0.1", "1"])
        bins = np.linspace(scores.min(), scores.max(), 50).tolist()
        right.hist(scores[~same], bins, color=BASELINE, alpha=0.8, label="different people")
        right.hist(scores[same], bins, color=PALETTE[0], alpha=0.7, label="same person")
        right.set(xlabel="Cosine similarity", ylabel="Pairs")
        right.legend(frameon=False)
        figure.savefig(target, metadata={"Software": None})


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(__file__).with_name("demo.png"))
