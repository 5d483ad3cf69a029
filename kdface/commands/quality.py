"""kdface quality FOLDER run=PATH: a quality score for each image of a folder, and a contact sheet sorted by it."""

from __future__ import annotations

import csv
from pathlib import Path

from kdface.errors import DataError, UserError


def run(words: list[str]) -> int:
    folders = [word for word in words if not word.startswith("run=") and not word.startswith("-")]
    runs = [word.removeprefix("run=") for word in words if word.startswith("run=")]
    strange = [word for word in words if word.startswith("-")]
    if strange or len(folders) != 1 or len(runs) != 1:
        raise UserError(
            f"kdface quality {' '.join(words)}: what to grade and by which run is not clear.",
            expected="one folder of aligned face crops, and one run",
            mend="kdface quality FOLDER run=runs/aikd/...",
        )
    return _grade(Path(folders[0]).expanduser(), runs[0])


def _grade(folder: Path, run_path: str) -> int:
    import numpy as np
    import torch

    from kdface.config.load import load_run
    from kdface.datasets.images import SUFFIXES, decode, read_bytes
    from kdface.progress import track
    from kdface.reports.figures import save
    from kdface.reports.quality_figures import quality_sheet
    from kdface.reports.summary import shown

    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder.", mend="kdface quality FOLDER run=PATH")
    files = sorted(each for each in folder.rglob("*") if each.suffix.lower() in SUFFIXES)
    if not files:
        raise DataError(f"{folder} holds no images.", expected=", ".join(sorted(SUFFIXES)))
    method = load_run(run_path).method
    size = method.preprocessing.size
    images = [decode(read_bytes(each), str(each), size) for each in track(files, "reading", total=len(files))]
    scores: list[float] = []
    for start in track(range(0, len(images), 64), "grading", unit=64, total=len(images)):
        with torch.inference_mode():
            batch = torch.from_numpy(np.stack(images[start : start + 64]))
            scores += method.quality(batch, method.preprocessing).float().tolist()
    ranked = sorted(zip(scores, files, strict=True), key=lambda each: (-each[0], str(each[1])))
    table, sheet = Path(f"quality_{folder.name}.csv"), Path(f"quality_{folder.name}.png")
    with open(table, "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["key", "quality"])
        rows.writerows([[each.relative_to(folder).as_posix(), f"{score:.6f}"] for score, each in ranked])
    save(quality_sheet(images, np.asarray(scores)), sheet)
    for score, each in (*ranked[:3], *ranked[-3:]):
        print(f"{score:8.4f}  {each.relative_to(folder)}")
    print(f"written  {shown(table)}  ({len(files)} images, best first)")
    print(f"written  {shown(sheet)}")
    return 0
