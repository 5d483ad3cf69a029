"""Reads damaged inputs one after the other, with a limit of memory, and prints what became of each.

python -m tests.fuzz.worker FOLDER KIND:FIRST:COUNT ...
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import resource
import shutil
import signal
import sys
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any

from kdface.errors import UserError
from tests.fuzz.all_kinds import KINDS
from tests.fuzz.kinds import Kind, digest, refusals

SECONDS = 10.0  # for one input
_MEMORY = 3 << 29  # bytes beside what the process has when it begins: 1.5 GiB


class Hang(BaseException):
    """An input took too long."""


@contextlib.contextmanager
def limited(seconds: float) -> Iterator[None]:
    def stop(number: int, frame: FrameType | None) -> None:
        raise Hang

    signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def limit_memory() -> None:
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + _MEMORY, resource.RLIM_INFINITY))


def outcome(kind: Kind, seed: int, valid: Path, work: Path, expected: str) -> dict[str, Any]:
    """Damage a copy of the valid files and read it.

    Returns:
        `outcome`: "refused" (with the reader's message), "same" (nothing that is read has changed), "changed" (it has,
        and the format cannot tell), "silent" (it has, although the format could), "traceback", "memory", "hang".
    """
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(valid, work, symlinks=True)
    rng = Random(f"{kind.name} {seed}")
    told = kind.damage(work, rng)
    found, said = "", ""
    refusals.clear()
    try:
        with limited(SECONDS), contextlib.redirect_stderr(io.StringIO()):
            value = digest(kind.read(work))
        if value == expected:
            found = "same"
        elif refusals:
            found, said = "refused", refusals[0]
        else:
            found = "silent" if kind.sealed else "changed"
    except UserError as error:
        found, said = "refused", str(error)
    except MemoryError:
        found, said = "memory", traceback.format_exc()
    except Hang:
        found, said = "hang", traceback.format_exc()
    except BaseException as error:
        found = "memory" if "alloc" in str(error).lower() else "traceback"
        said = traceback.format_exc()
    return {"kind": kind.name, "seed": seed, "outcome": found, "damage": told, "said": said}


def main(words: list[str]) -> None:
    warnings.filterwarnings("ignore")
    logging.disable()
    folder = Path(words[0])
    for word in words[1:]:
        name, first, count = word.split(":")
        kind = KINDS[name]
        valid = folder / kind.make.__name__.strip("_")  # kinds of the same files share them
        if not valid.is_dir():
            valid.mkdir(parents=True)
            kind.make(valid)
        work = folder / "work"
        values = []
        for _ in range(2):  # reading does not change what is read next
            shutil.rmtree(work, ignore_errors=True)
            shutil.copytree(valid, work, symlinks=True)
            values.append(digest(kind.read(work)))
        assert values[0] == values[1], f"{name}: reading valid files twice gives two values"
        limit_memory()
        for seed in range(int(first), int(first) + int(count)):
            print(json.dumps({"kind": name, "seed": seed}), flush=True)
            print(json.dumps(outcome(kind, seed, valid, work, values[0])), flush=True)
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


if __name__ == "__main__":
    main(sys.argv[1:])
