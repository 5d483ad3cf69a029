"""kdface data align: align the face in each photograph of a folder and its subfolders to the five-point template.

Landmarks come from detector=YUNET.onnx or landmarks=FILE.csv; size=[112,112] is that of the crops. Writes one .png per
face, landmarks.csv, left_out.csv and contact_sheet.png to CROPS.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from kdface.atomic import write_text
from kdface.commands.arguments import Arguments, Parser
from kdface.csv_files import csv_text
from kdface.datasets.images import Size
from kdface.errors import DataError, UserError

_SHOWN, _ACROSS = 60, 10  # crops on the contact sheet, and in a row of it
_LISTED = 10  # most photographs listed one by one


def parser() -> Parser:
    """The command line of `kdface data align`."""
    return Parser(
        "data align", __doc__, "FOLDER", keys={"detector": Path, "landmarks": Path, "size": Size}, output="CROPS"
    )


def align(given: Arguments) -> int:
    """Run `kdface data align` and return the exit code. Raises `UserError` for invalid arguments."""
    sources = [key for key in ("detector", "landmarks") if key in given.values]
    if len(sources) != 1 or "output" not in given.values:
        raise UserError(
            "kdface data align: "
            + ("no output folder given" if len(sources) == 1 else "give one source of landmarks")
            + ".",
            expected="kdface data align FOLDER -o CROPS, and detector=YUNET.onnx or landmarks=FILE.csv",
        )
    return _align(given.paths[0], given.values["output"], sources[0], given.values)


def _align(folder: Path, output: Path, source: str, values: dict[str, Any]) -> int:
    from kdface.datasets.cut import Cut, by_detector, by_landmarks, crop_names, cut, table
    from kdface.datasets.detector import YuNet
    from kdface.datasets.folders import images_below
    from kdface.datasets.landmarks import read_landmarks
    from kdface.progress import track
    from kdface.terminal import shown, tell_passed_over

    path = values[source]
    find = by_detector(YuNet(path)) if source == "detector" else by_landmarks(read_landmarks(path))
    if output.exists() and any(output.iterdir()):
        raise UserError(f"{output} is not empty, and its files are not overwritten.", fix="another folder after -o")
    photographs, passed_over = images_below(folder)
    files = {file.relative_to(folder).as_posix(): file for file in photographs}
    names = crop_names(list(files), output)
    size = values.get("size", (112, 112))
    found = Cut()
    for _ in track(cut(files, names, find, size, found), "aligning", total=len(files)):
        pass
    if not found.landmarks:
        raise DataError(f"no crop could be made: {next(iter(found.without.values()))}")
    write_text(output / "landmarks.csv", table(found.landmarks))
    rows: list[list[object]] = [["file", "faces", "reason"]]
    rows += ([key, "", reason] for key, reason in found.without.items())
    rows += ([key, count, "the largest was taken"] for key, count in found.several.items())
    write_text(output / "left_out.csv", csv_text(rows))
    _sheet([names[key] for key in found.landmarks], output / "contact_sheet.png", size)
    for reason in list(found.without.values())[:_LISTED]:
        print(f"left out  {reason}", file=sys.stderr)
    print(f"{len(found.landmarks)} crops of {size[0]}x{size[1]} in {shown(output)}, with their landmarks.csv")
    if found.without or found.several:
        print(
            f"{len(found.without)} photographs without a crop, {len(found.several)} with several faces (the largest "
            f"is used): {shown(output)}/left_out.csv"
        )
    tell_passed_over(passed_over)
    print(f"look at  {shown(output)}/contact_sheet.png")
    return 0


def _sheet(files: list[Path], path: Path, size: tuple[int, int]) -> None:
    """Write a contact sheet of evenly spaced crops."""
    import numpy as np

    from kdface.datasets.images import decode, read_bytes
    from kdface.reports.contact_sheet import contact_sheet
    from kdface.reports.plotting import save

    chosen = [
        files[row] for row in np.unique(np.linspace(0, len(files) - 1, min(_SHOWN, len(files))).round().astype(int))
    ]
    starts = range(0, len(chosen), _ACROSS)
    rows = [[decode(read_bytes(file), str(file), size) for file in chosen[start : start + _ACROSS]] for start in starts]
    save(contact_sheet(rows, [f"{start + 1}" for start in starts]), path)
