"""kdface quality: score the quality of each aligned crop of a folder and its subfolders.

Crops of another size are resized if the run was trained on resized crops of their shape. A table and a sorted contact
sheet are written to the output folder, by default the current one.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from kdface.atomic import write_text
from kdface.commands.arguments import Parser
from kdface.errors import DataError, UserError

if TYPE_CHECKING:
    from kdface.recogniser import Recogniser


def run(words: list[str]) -> int:
    """Run `kdface quality` and return the exit code. Raises `UserError` for invalid arguments."""
    given = Parser("quality", __doc__, "FOLDER", keys={"run": str}, needs=("run",), output="FOLDER").read(words)
    import numpy as np

    from kdface.csv_files import csv_text
    from kdface.datasets.folders import images_below
    from kdface.recogniser.crops import pixels
    from kdface.recogniser.load import load
    from kdface.reports.contact_sheet import quality_sheet, spread
    from kdface.reports.plotting import save
    from kdface.terminal import shown, tell_passed_over

    folder, output = given.paths[0], given.values.get("output", Path())
    files, passed_over = images_below(folder)
    recogniser = load(given.values["run"])
    found, broken, resized = _graded(files, recogniser)
    scores = np.asarray(list(found.values()))
    if not np.isfinite(scores).all():
        raise UserError(
            f"{given.values['run']}: {(~np.isfinite(scores)).sum()} of {len(scores)} quality scores are not finite.",
            fix="use another run: the training of this one has probably diverged",
        )
    ranked = sorted(found.items(), key=lambda pair: (-pair[1], str(pair[0])))
    rows = [["key", "quality"], *([file.relative_to(folder).as_posix(), f"{score:.6f}"] for file, score in ranked)]
    table, sheet = (output / f"quality_{folder.resolve().name}{suffix}" for suffix in (".csv", ".png"))
    write_text(table, csv_text(rows))
    rows_shown, read_files = spread(scores), list(found)  # read again: a folder may not fit in memory
    images = [pixels(read_files[row], recogniser.size, recogniser.resizes)[0] for row in rows_shown]
    save(quality_sheet(images, scores[rows_shown]), sheet)
    for file, score in ranked if len(ranked) <= 6 else (*ranked[:3], *ranked[-3:]):
        print(f"{score:8.4f}  {file.relative_to(folder)}")
    if resized:
        height, width = recogniser.size
        print(f"resized  {resized} images to {height}x{width}, like the run's training images")
    for reason in broken:
        expected = f" (expected: {reason.expected})" if reason.expected else ""
        print(f"left out  {reason.problem}{expected}", file=sys.stderr)
    if broken:
        print(f"left out  {len(broken)} broken files")
    tell_passed_over(passed_over)
    print(f"written  {shown(table)}  ({len(scores)} images, best first)")
    print(f"written  {shown(sheet)}")
    return 0


def _graded(files: list[Path], recogniser: Recogniser) -> tuple[dict[Path, float], list[DataError], int]:
    """The quality of each image that can be read, why the others cannot, and how many were shrunk. Raises `DataError`
    if none can be read."""
    import numpy as np

    from kdface.progress import track
    from kdface.recogniser.crops import pixels

    found: dict[Path, float] = {}
    broken: list[DataError] = []
    resized, size = 0, recogniser.batch_size
    for start in track(range(0, len(files), size), "grading", unit=size, total=len(files)):
        images = {}
        for file in files[start : start + size]:
            try:
                images[file], was_resized = pixels(file, recogniser.size, recogniser.resizes)
            except DataError as error:
                broken.append(error)
                continue
            resized += was_resized
        if images:
            scores = recogniser.quality_batch(np.stack(list(images.values()))).tolist()
            found |= dict(zip(images, scores, strict=True))
    if not found:
        raise broken[0]
    return found, broken, resized
