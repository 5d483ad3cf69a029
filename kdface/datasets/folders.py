"""Folders of faces: one folder per person, the images in it."""

from __future__ import annotations

import os
from pathlib import Path

from kdface.datasets.images import SUFFIXES
from kdface.errors import DataError, UserError


def missing(path: Path, contents: str) -> UserError:
    """The message for a dataset that is not where it was looked for; `contents` says what should be there."""
    there = next((parent for parent in path.absolute().parents if parent.exists()), Path(path.anchor))
    variable = os.environ.get("KDFACE_DATA")
    return UserError(
        f"The dataset was looked for at {path}, which does not exist (the part that exists is {there}).",
        expected=contents,
        mend="point paths.data to the folder that holds your datasets: paths.data=FOLDER on the command line, or "
        f"KDFACE_DATA=FOLDER in the environment (now {variable or 'not set'})",
    )


def scan(root: Path) -> tuple[dict[str, list[str]], list[str]]:
    """The image files of every person's folder under `root`, both sorted by name, and what was passed over.

    Hidden entries and plain files beside the people's folders are not looked at. A folder without images, and
    within a person's folder whatever has no image suffix, is returned in the second list.

    Raises:
        UserError: `root` is not there.
        DataError: there is no image in it.
    """
    contents = f"one folder per person with {', '.join(sorted(SUFFIXES))} files in it"
    if not root.is_dir():
        raise missing(root, contents)
    people: dict[str, list[str]] = {}
    passed_over: list[str] = []
    for person in _visible(root):
        if not (root / person).is_dir():
            continue
        entries = _visible(root / person)
        files = [entry for entry in entries if Path(entry).suffix.lower() in SUFFIXES]
        others = sorted(set(entries) - set(files))
        passed_over += [f"{person}/{entry}" for entry in others] if files else [f"{person}/"]
        if files:
            people[person] = files
    if not people:
        found = ", ".join(_visible(root)[:5]) or "nothing"
        raise DataError(f"{root}: no image in any folder here (found: {found}).", expected=contents)
    return people, passed_over


def _visible(folder: Path) -> list[str]:
    return sorted(entry for entry in os.listdir(folder) if not entry.startswith("."))
