"""Folders of faces, and the rule for which of their entries count.

Hidden entries (`._x.jpg`, `.ipynb_checkpoints`), leftovers of other systems (`__MACOSX`, `Thumbs.db`) and files without
an image suffix are ignored and listed. Links are followed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from kdface.datasets.images import SUFFIXES
from kdface.errors import DataError, UserError, nearest

_LEFT_BEHIND = frozenset({"__MACOSX", "__pycache__", "Thumbs.db", "desktop.ini", "@eaDir", "lost+found"})
_ARCHIVES = frozenset({".zip", ".tar", ".tgz", ".gz", ".7z", ".rar"})
_IMAGES = f"one folder per person with {', '.join(sorted(SUFFIXES))} files in it"


def missing(path: Path, contents: str) -> UserError:
    """The error for a missing dataset; `contents` describes what should be there."""
    if path.exists():
        return UserError(
            f"{path} is a folder, not a file." if path.is_dir() else f"{path} is a file, not a folder.",
            expected=contents,
            fix="unpack it, and give the folder" if path.suffix.lower() in _ARCHIVES else "",
        )
    there = next((parent for parent in path.absolute().parents if parent.exists()), Path(path.anchor))
    variable = os.environ.get("KDFACE_DATA")
    problem = f"The dataset was looked for at {path}, which does not exist (the part that exists is {there})."
    if not path.absolute().is_relative_to(Path(variable or "data").expanduser().absolute()):
        lost = path.absolute().relative_to(there).parts[0]
        near = nearest(lost, os.listdir(there)) if there.is_dir() and os.access(there, os.R_OK) else ""
        return UserError(
            problem,
            expected=contents,
            nearest=str(there / near) if near else "",
            fix="correct the path. paths.data=FOLDER, or KDFACE_DATA=FOLDER in the environment (now "
            f"{variable or 'not set'}), moves a path only where it begins with paths.data",
        )
    return UserError(
        problem,
        expected=contents,
        fix="name the folder that holds your datasets: paths.data=FOLDER on the command line, or for all commands "
        f"export KDFACE_DATA=FOLDER (now {variable or 'not set'})",
    )


def scan(root: Path) -> tuple[dict[str, list[str]], list[str]]:
    """The image files in every person's folder under `root`, both sorted by name, and the ignored entries.

    The ignored entries are paths relative to `root`, with a trailing slash for folders, including people without
    images.

    Raises:
        UserError: `root` does not exist or is not a folder.
        DataError: it contains no images, or a folder cannot be read.
    """
    if not root.is_dir():
        raise missing(root, _IMAGES)
    people: dict[str, list[str]] = {}
    folders, beside, passed_over = entries(root)
    passed_over += beside
    for person in folders:
        within, files, others = image_entries(root / person)
        if files:
            people[person] = files
            passed_over += [f"{person}/{other}" for other in (*(f"{entry}/" for entry in within), *others)]
        else:
            passed_over.append(f"{person}/")
    if not people:
        found = ", ".join([*folders, *beside][:5]) or "nothing"
        raise DataError(f"{root}: no image in any folder here (found: {found}).", expected=_IMAGES)
    return people, sorted(passed_over)


def images_below(root: Path) -> tuple[list[Path], list[str]]:
    """All image files below a folder, sorted, and the ignored entries, relative to it.

    Raises:
        UserError: `root` does not exist or is not a folder.
        DataError: a folder cannot be read, or there are no images.
    """
    if not root.is_dir():
        raise missing(root, f"a folder of {', '.join(sorted(SUFFIXES))} files")
    files: list[Path] = []
    passed_over: list[str] = []
    for folder, names, others in _walk(root, ()):
        files += [folder / name for name in names]
        prefix = "" if folder == root else f"{folder.relative_to(root).as_posix()}/"
        passed_over += [prefix + other for other in others]
    if not files:
        raise DataError(f"{root} holds no images.", expected=", ".join(sorted(SUFFIXES)))
    return sorted(files), sorted(passed_over)


def _walk(folder: Path, above: tuple[Path, ...]) -> Iterator[tuple[Path, list[str], list[str]]]:
    above = (*above, folder.resolve())
    folders, files, others = image_entries(folder)
    loops = [name for name in folders if (folder / name).resolve() in above]
    yield folder, files, [*others, *(f"{name}/" for name in loops)]
    for name in folders:
        if name not in loops:
            yield from _walk(folder / name, above)


def image_entries(folder: Path) -> tuple[list[str], list[str], list[str]]:
    """Sorted names: the folders in a folder, its image files, and ignored entries."""
    folders, files, others = entries(folder)
    images = [name for name in files if Path(name).suffix.lower() in SUFFIXES]
    return folders, images, sorted([*others, *(set(files) - set(images))])


def entries(folder: Path) -> tuple[list[str], list[str], list[str]]:
    """Sorted names: the folders in a folder, its other files, and ignored entries. Links are followed.

    Raises:
        DataError: the folder cannot be read, or a name in it is not UTF-8.
    """
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise DataError(f"{folder}: the folder cannot be read ({error.strerror}).") from error
    for name in names:
        if not name.isprintable() and any("\ud800" <= letter <= "\udfff" for letter in name):
            raise DataError(
                f"{folder}: the name {os.fsencode(name)!r} in it is not UTF-8.",
                fix="rename it, for example with convmv -f latin1 -t utf8",
            )
    kept = [name for name in names if not (name.startswith(".") or name in _LEFT_BEHIND)]
    folders = [name for name in kept if (folder / name).is_dir()]
    files = sorted(set(kept) - set(folders))
    others = [f"{name}/" if (folder / name).is_dir() else name for name in names if name not in kept]
    return folders, files, others
