"""Match image names across lists and folders: one image may be `Ada_0001.jpg` here and `Ada_1.PNG` there."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from pathlib import PurePosixPath

_NUMBER = re.compile(r"(?<!\d)0+(?=\d+$)")


def plain(name: str) -> str:
    """A name in Unicode's composed form (NFC); macOS's HFS+ stores the decomposed one."""
    return unicodedata.normalize("NFC", name)


def loose(key: str) -> str:
    """A key without suffix and leading zeros of its last number, in normalised Unicode form."""
    path = PurePosixPath(plain(key))
    return str(path.with_name(_NUMBER.sub("", path.stem) or path.name))


def matched(wanted: Iterable[str], there: Iterable[str]) -> dict[str, str]:
    """wanted -> the existing key: the same one, else the only loose match, else `wanted` itself."""
    exact = set(there)
    alike: dict[str, list[str]] = {}
    found = {}
    for key in wanted:
        if key not in exact and not alike:
            for name in exact:
                alike.setdefault(loose(name), []).append(name)
        near = [] if key in exact else alike.get(loose(key), [])
        found[key] = near[0] if len(near) == 1 else key
    return found
