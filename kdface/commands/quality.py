"""kdface quality FOLDER run=PATH [-o FOLDER]: score the quality of each image, with a sorted contact sheet."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from kdface.commands.given import read
from kdface.errors import DataError, UserError

if TYPE_CHECKING:
    from kdface.faces import Image
    from kdface.methods import Method

_BATCH = 64  # images in one forward pass


def run(words: list[str]) -> int:
    """Run `kdface quality` and return the exit code. Raises `UserError` for invalid arguments."""
    given = read(
        "quality",
        words,
        "Score the quality of each aligned crop of a folder and its subfolders. Crops of another size are resized if "
        "the run was trained on resized crops of their shape. The table and the contact sheet are written to the "
        "output folder, by default the current one.",
        ("FOLDER",),
        {"run": str},
        output="folder",
        wants="one folder and one run",
    )
    return _grade(given.things[0], given.run, given.output or Path())


def _grade(folder: Path, run_path: str, output: Path) -> int:
    import numpy as np

    from kdface.atomic import write_text
    from kdface.config.load import load_run
    from kdface.config.shipped import is_resized
    from kdface.csv_files import csv_text
    from kdface.datasets.folders import images_below
    from kdface.datasets.images import SUFFIXES
    from kdface.recogniser.crops import pixels
    from kdface.reports.contact_sheet import quality_sheet, spread
    from kdface.reports.figures import save
    from kdface.reports.summary import shown

    files, passed_over = images_below(folder)
    if not files:
        raise DataError(f"{folder} holds no images.", expected=", ".join(sorted(SUFFIXES)))
    loaded = load_run(run_path)
    resizes = is_resized(loaded.config["dataset"])
    graded = _graded(files, loaded.method, resizes)
    scores = graded.scores
    if not np.isfinite(scores).all():
        raise UserError(
            f"{run_path}: {int((~np.isfinite(scores)).sum())} of {len(scores)} quality scores are not finite.",
            fix="use another run: the training of this one has probably diverged",
        )
    ranked = sorted(zip(scores, graded.files, strict=True), key=lambda pair: (-pair[0], str(pair[1])))
    rows = [["key", "quality"], *([file.relative_to(folder).as_posix(), f"{score:.6f}"] for score, file in ranked)]
    stem = f"quality_{folder.resolve().name}"
    table, sheet = output / f"{stem}.csv", output / f"{stem}.png"
    write_text(table, csv_text(rows))
    size = loaded.method.preprocessing.size
    rows_shown = spread(np.asarray(scores))  # read again: a folder may not fit in memory
    images = [pixels(graded.files[row], size, resizes)[0] for row in rows_shown]
    save(quality_sheet(images, np.asarray(scores)[rows_shown]), sheet)
    for score, path in ranked if len(ranked) <= 6 else (*ranked[:3], *ranked[-3:]):
        print(f"{score:8.4f}  {path.relative_to(folder)}")
    _tell_of_others(graded, size, passed_over)
    print(f"written  {shown(table)}  ({len(scores)} images, best first)")
    print(f"written  {shown(sheet)}")
    return 0


@dataclass
class _Graded:
    """Attributes:
    files, scores: of the images that could be read, in their order.
    broken: why the others could not.
    resized: how many were shrunk.
    """

    files: list[Path] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    broken: list[DataError] = field(default_factory=list)
    resized: int = 0


def _graded(files: Sequence[Path], method: Method, resizes: bool) -> _Graded:
    """Read and grade images batch by batch. Raises `DataError` if none can be read."""
    import numpy as np
    import torch

    from kdface.hardware import detect
    from kdface.progress import track
    from kdface.recogniser.crops import pixels

    device = torch.device("cuda" if detect().accelerator == "gpu" else "cpu")
    method = method.to(device)
    found = _Graded()
    for start in track(range(0, len(files), _BATCH), "grading", unit=_BATCH, total=len(files)):
        images: list[Image] = []
        for file in files[start : start + _BATCH]:
            try:
                image, was_resized = pixels(file, method.preprocessing.size, resizes)
            except DataError as error:
                found.broken.append(error)
                continue
            images.append(image)
            found.files.append(file)
            found.resized += was_resized
        if images:
            with torch.inference_mode():
                batch = torch.from_numpy(np.stack(images)).to(device)
                found.scores += method.quality(batch, method.preprocessing).float().tolist()
    if not found.files:
        raise found.broken[0]
    return found


def _tell_of_others(graded: _Graded, size: tuple[int, int], passed_over: Sequence[str]) -> None:
    """What was not graded as it lies: images that were shrunk, that are broken, and what is no image."""
    if graded.resized:
        print(f"resized  {graded.resized} images to {size[0]}x{size[1]}, like the run's training images")
    for reason in graded.broken:
        expected = f" (expected: {reason.expected})" if reason.expected else ""
        print(f"left out  {reason.problem}{expected}", file=sys.stderr)
    if graded.broken:
        print(f"left out  {len(graded.broken)} broken files")
    if passed_over:
        more = ", ..." if len(passed_over) > 3 else ""
        print(f"skipped  {len(passed_over)} entries that are not images: {', '.join(passed_over[:3])}{more}")
