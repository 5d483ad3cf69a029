"""User errors: one message, exit code 2, no traceback."""

from __future__ import annotations

import difflib
import errno
import re
from collections.abc import Iterable
from itertools import takewhile


class UserError(Exception):
    """An error the user can fix. The command line prints it and exits with 2.

    Args:
        problem: what was given and why it is invalid.
        expected: what would be valid.
        nearest: the valid name closest to the given one.
        origin: the file and line, or the override, that set the value.
        fix: the command or change that fixes it.
    """

    def __init__(self, problem: str, *, expected: str = "", nearest: str = "", origin: str = "", fix: str = "") -> None:
        self.problem = problem
        self.expected = expected
        self.nearest = nearest
        self.origin = origin
        self.fix = fix
        super().__init__(problem)

    def __str__(self) -> str:
        rows = [
            ("set in", self.origin),
            ("expected", self.expected),
            ("nearest", self.nearest),
            ("fix", self.fix),
        ]
        return "\n".join([self.problem, *(f"  {name + ':':<10} {text}" for name, text in rows if text)])


class DataError(UserError):
    """An unusable image, record, landmark row or list on disk. `problem` names file and record."""


_ELSEWHERE = "paths.runs for runs; for other output -o, or the file name"
_REMEDIES = {
    errno.ENOSPC: "free space (df -h), then rerun the same command to resume",
    errno.EDQUOT: "free space (quota -s), then rerun the same command to resume",
    errno.EFBIG: "a larger file-size limit (ulimit -f), then rerun the same command to resume",
    errno.EROFS: f"a writable folder: {_ELSEWHERE}",
    errno.EACCES: f"the permission of the file and its folders (ls -ld), or another folder: {_ELSEWHERE}",
    errno.EPERM: f"the permission of the file and its folders (ls -ld), or another folder: {_ELSEWHERE}",
    errno.EMFILE: "a higher limit of open files: ulimit -n 4096",
}


def of_system(error: OSError) -> UserError:
    """Convert an error of the system (full disk, no permission) to one message."""
    what = f"{error.filename}: " if error.filename else ""
    return UserError(f"{what}{error.strerror or error}.", fix=_REMEDIES.get(error.errno or 0, ""))


def of_memory(error: BaseException) -> str | None:
    """Convert an out-of-memory error of Python or torch (CPU or GPU) to one message; None for other errors."""
    text = str(error)
    if not (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "DefaultCPUAllocator: can't allocate memory" in text
    ):
        return None
    where = " of the GPU" if "CUDA" in text else ""
    asked = re.search(r"ried to allocate ([\d.]+ \w+)", text)
    return (
        f"out of memory{where}{f': {asked[1]} were requested' if asked else ''}.\n"
        "  fix:       free some (nvidia-smi, free -h), then rerun the same command to resume from the last "
        "checkpoint;\n             or use less: a smaller loader.batch_size, or trainer.accumulate_grad_batches=2"
    )


def nearest(given: str, valid: Iterable[str], cutoff: float = 0.5) -> str:
    """The valid name most similar to `given`, or an empty string if none is similar; `cutoff` as in `alike`."""
    return next(iter(alike(given, valid, cutoff)), "")


def alike(given: str, valid: Iterable[str], cutoff: float = 0.5, within: float = 1.0) -> list[str]:
    """Valid names similar to `given`, best first: by share of common letters, then by common prefix.

    Args:
        cutoff: minimum share, in [0, 1].
        within: maximum difference to the first one's share.
    """
    share = {name: difflib.SequenceMatcher(None, name, given).ratio() for name in valid}
    least = max(cutoff, max(share.values(), default=0.0) - within)

    def rank(name: str) -> tuple[float, int, str]:
        common = takewhile(lambda pair: pair[0] == pair[1], zip(name, given, strict=False))
        return share[name], len([*common]), name

    return sorted((name for name in share if share[name] >= least), key=rank, reverse=True)
