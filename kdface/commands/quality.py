"""kdface quality FOLDER run=PATH [-o FOLDER]: score the quality of each image, with a sorted contact sheet."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from kdface.errors import DataError, UserError

if TYPE_CHECKING:
    from kdface.faces import Image

_BATCH = 64  # images in one forward pass


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"kdface quality: {message}.", fix="kdface quality --help")


def run(words: list[str]) -> int:
    """Run `kdface quality` and return the exit code. Raises `UserError` for invalid arguments."""
    parser = _Parser(
        prog="kdface quality",
        description="Score the quality of each aligned crop of a folder and its subfolders. Crops of another size are "
        "resized if the run was trained on resized crops of their shape.",
    )
    parser.add_argument("words", nargs="*", metavar="FOLDER|run=PATH", help="the images, and the run that scores them")
    parser.add_argument(
        "-o", "--output", type=Path, default=Path(), metavar="FOLDER", help="output folder; default: the current folder"
    )
    given = parser.parse_intermixed_args(words)
    runs = [word.removeprefix("run=") for word in given.words if word.startswith("run=")]
    folders = [word for word in given.words if not word.startswith("run=")]
    if len(folders) != 1 or len(runs) != 1:
        raise UserError(
            f"kdface quality {' '.join(words)}: give one folder and one run.",
            expected="one folder of aligned face crops, and one run",
            fix="kdface quality FOLDER run=runs/aikd/...",
        )
    return _grade(Path(folders[0]).expanduser(), runs[0], given.output.expanduser())


def _grade(folder: Path, run_path: str, output: Path) -> int:
    import numpy as np
    import torch

    from kdface.config.load import load_run
    from kdface.config.shipped import is_resized
    from kdface.csv_files import csv_text
    from kdface.datasets.folders import images_below
    from kdface.datasets.images import SUFFIXES
    from kdface.hardware import detect
    from kdface.progress import track
    from kdface.recogniser.crops import pixels
    from kdface.reports.figures import save
    from kdface.reports.quality_figures import quality_sheet, spread
    from kdface.reports.summary import shown
    from kdface.runs.folder import write_text

    files, passed_over = images_below(folder)
    if not files:
        raise DataError(f"{folder} holds no images.", expected=", ".join(sorted(SUFFIXES)))
    loaded = load_run(run_path)
    device = torch.device("cuda" if detect().accelerator == "gpu" else "cpu")
    method = loaded.method.to(device)
    size, resizes = method.preprocessing.size, is_resized(loaded.config["dataset"])
    graded: list[Path] = []
    scores: list[float] = []
    broken: list[DataError] = []
    images: list[Image]
    resized = 0
    for start in track(range(0, len(files), _BATCH), "grading", unit=_BATCH, total=len(files)):
        images = []
        for file in files[start : start + _BATCH]:
            try:
                image, was_resized = pixels(file, size, resizes)
            except DataError as error:
                broken.append(error)
                continue
            images.append(image)
            graded.append(file)
            resized += was_resized
        if images:
            with torch.inference_mode():
                batch = torch.from_numpy(np.stack(images)).to(device)
                scores += method.quality(batch, method.preprocessing).float().tolist()
    if not graded:
        raise broken[0]
    if not np.isfinite(scores).all():
        raise UserError(
            f"{run_path}: {int((~np.isfinite(scores)).sum())} of {len(scores)} quality scores are not finite.",
            fix="use another run: the training of this one has probably diverged",
        )
    ranked = sorted(zip(scores, graded, strict=True), key=lambda pair: (-pair[0], str(pair[1])))
    rows = [["key", "quality"], *([file.relative_to(folder).as_posix(), f"{score:.6f}"] for score, file in ranked)]
    stem = f"quality_{folder.resolve().name}"
    table, sheet = output / f"{stem}.csv", output / f"{stem}.png"
    write_text(table, csv_text(rows))
    rows_shown = spread(np.asarray(scores))  # read again: a folder may not fit in memory
    images = [pixels(graded[row], size, resizes)[0] for row in rows_shown]
    save(quality_sheet(images, np.asarray(scores)[rows_shown]), sheet)
    for score, path in ranked if len(ranked) <= 6 else (*ranked[:3], *ranked[-3:]):
        print(f"{score:8.4f}  {path.relative_to(folder)}")
    if resized:
        print(f"resized  {resized} images to {size[0]}x{size[1]}, like the run's training images")
    for reason in broken:
        expected = f" (expected: {reason.expected})" if reason.expected else ""
        print(f"left out  {reason.problem}{expected}", file=sys.stderr)
    if broken:
        print(f"left out  {len(broken)} broken files")
    if passed_over:
        more = ", ..." if len(passed_over) > 3 else ""
        print(f"skipped  {len(passed_over)} entries that are not images: {', '.join(passed_over[:3])}{more}")
    print(f"written  {shown(table)}  ({len(graded)} images, best first)")
    print(f"written  {shown(sheet)}")
    return 0
