"""A pack: a finished run without machine-specific content, as a folder or zip file.

    README.md  config.yaml  origin.json  model.safetensors  environment.json  data.json  results.json
    fingerprints.json  DONE

It is a run folder with weights as safetensors, so it is accepted wherever a run is. Local folders are replaced by
`<data>`, `<runs>` and `<elsewhere>`. A zip file may contain only these files, uncompressed; it is unpacked into the
cache, under the SHA-256 of its bytes.
"""

from __future__ import annotations

import hashlib
import shutil
import stat
import tempfile
import zipfile
from pathlib import Path

from kdface.errors import UserError

WEIGHTS = "model.safetensors"
FINGERPRINTS = "fingerprints.json"
FILES = (
    *("README.md", "config.yaml", "origin.json", WEIGHTS, "environment.json", "data.json", "results.json"),
    *(FINGERPRINTS, "DONE"),
)
_REQUIRED = {"config.yaml", "origin.json", WEIGHTS, FINGERPRINTS}


def unpacked(path: Path) -> Path:
    """Unpack a zipped pack into the cache and return its folder.

    Raises `UserError` if it is damaged or contains anything but the files of a pack (a path to another place, a link, a
    payload).
    """
    from kdface.datasets.cache import cache_folder

    folder = cache_folder() / "packs" / f"{path.stem}-{digest_of(path)[:16]}"
    if (folder / FINGERPRINTS).is_file():
        return folder
    try:
        with zipfile.ZipFile(path) as content:
            _require_pack(path, content)
            folder.parent.mkdir(parents=True, exist_ok=True)
            temporary = Path(tempfile.mkdtemp(prefix=".", dir=folder.parent))
            try:
                for entry in content.infolist():
                    with content.open(entry) as source, open(temporary / entry.filename, "xb") as target:
                        shutil.copyfileobj(source, target)  # zipfile verifies the CRC at the end of an entry
                if not folder.exists():
                    temporary.rename(folder)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
    except (zipfile.BadZipFile, EOFError, NotImplementedError) as error:
        raise UserError(f"{path} cannot be read as a zip file: {error}.") from None
    return folder


def _require_pack(path: Path, content: zipfile.ZipFile) -> None:
    names = [entry.filename for entry in content.infolist()]
    for entry in content.infolist():
        is_link = stat.S_ISLNK(entry.external_attr >> 16)
        if entry.filename not in FILES or is_link or entry.is_dir():
            raise UserError(
                f"{path} contains {entry.filename!r}{' as a link' if is_link else ''}, which is not part of a pack: it "
                "is not unpacked.",
                expected=f"only the files of kdface pack: {', '.join(FILES)}",
            )
        if entry.compress_type != zipfile.ZIP_STORED:  # stored entries are no larger than the file
            raise UserError(f"{path}: {entry.filename} is compressed.", expected="a zip file that kdface pack wrote")
    if len(set(names)) < len(names) or (missing := sorted(_REQUIRED - set(names))):
        what = "a file twice" if len(set(names)) < len(names) else f"no {', '.join(missing)}"
        raise UserError(f"{path} contains {what}.", expected="a zip file that kdface pack wrote")


def require_whole_pack(folder: Path) -> None:
    """Raise `UserError` if a file of a pack does not match its fingerprint; folders without fingerprints pass."""
    from kdface.runs.schemas import Fingerprints
    from kdface.stored import read_json

    listed = folder / FINGERPRINTS
    if not listed.is_file():
        return
    for name, digest in read_json(listed, Fingerprints)["files"].items():
        if name not in FILES:
            raise UserError(f"{listed} names {name!r}, which is not part of a pack.")
        file = folder / name
        if not file.is_file() or file.is_symlink() or digest_of(file) != digest:
            raise UserError(f"{file} has changed since it was packed.", expected="the files that kdface pack wrote")


def digest_of(file: Path) -> str:
    """SHA-256 of a file, in hex."""
    with open(file, "rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def zipped(folder: Path, path: Path) -> None:
    """Write a folder's files into an uncompressed zip file, in the order of `FILES`."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as content:
        for name in FILES:
            if (folder / name).is_file():
                content.write(folder / name, name)
