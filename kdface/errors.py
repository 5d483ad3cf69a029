"""The one way a user's mistake is reported: one message, exit code 2, no traceback."""

from __future__ import annotations

import difflib
import errno
import re
from collections.abc import Iterable
from itertools import takewhile


class UserError(Exception):
    """Something the user can fix. The command line prints it whole and exits with 2.

    Args:
        problem: what was given and why it cannot be used.
        expected: what would have been accepted.
        nearest: the valid name closest to what was given.
        origin: the file and line, or the override, the value came from.
        fix: the command or change that fixes it.
    """

    def __init__(self, problem: str, *, expected: str = "", nearest: str = "", origin: str = "", fix: str = "") -> None:
        self.problem = problem
        self.expected = expected
        self.nearest = nearest
        self.origin = origin
        self.fix = fix
        super().__init__(str(self))

    def __reduce__(self) -> tuple[object, ...]:
        return _remade, (type(self), self.problem, self.expected, self.nearest, self.origin, self.fix)

    def __str__(self) -> str:
        rows = [
            ("set in", self.origin),
            ("expected", self.expected),
            ("nearest", self.nearest),
            ("fix", self.fix),
        ]
        return "\n".join([self.problem, *(f"  {name + ':':<10} {text}" for name, text in rows if text)])


class DataError(UserError):
    """An image, record, landmark row or list on disk that cannot be used. `problem` names file and record."""


_ELSEWHERE = "paths.runs for runs; for what else is written -o, or the name of the file"
_REMEDIES = {
    errno.ENOSPC: "free space (df -h), then the same command goes on from what it has",
    errno.EDQUOT: "free space (quota -s), then the same command goes on from what it has",
    errno.EFBIG: "a larger file-size limit (ulimit -f), then the same command goes on from what it has",
    errno.EROFS: f"a folder that can be written: {_ELSEWHERE}",
    errno.EACCES: f"the permission of the file and its folders (ls -ld), or another folder: {_ELSEWHERE}",
    errno.EPERM: f"the permission of the file and its folders (ls -ld), or another folder: {_ELSEWHERE}",
    errno.EMFILE: "a larger limit of open files: ulimit -n 4096",
}


def of_system(error: OSError) -> UserError:
    """What the system refused (a full disk, no permission), in one message."""
    what = f"{error.filename}: " if error.filename else ""
    return UserError(f"{what}{error.strerror or error}.", fix=_REMEDIES.get(error.errno or 0, ""))


def of_memory(error: BaseException) -> str | None:
    """What Python or torch (on a processor or a GPU) says of memory that ran out, in one message; None: of something
    else."""
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
        f"out of memory{where}{f': {asked[1]} were asked for' if asked else ''}.\n"
        "  fix:       free some (nvidia-smi, free -h), and the same command goes on from the last checkpoint; or a run "
        "that needs less:\n             a smaller loader.batch_size, or trainer.accumulate_grad_batches=2"
    )


def _remade(kind: type[UserError], problem: str, expected: str, near: str, origin: str, fix: str) -> UserError:
    """Errors cross process borders whole."""
    return kind(problem, expected=expected, nearest=near, origin=origin, fix=fix)


def nearest(given: str, valid: Iterable[str]) -> str:
    """The valid name most like `given`, or an empty string where none is alike."""
    return next(iter(alike(given, valid)), "")


def alike(given: str, valid: Iterable[str], cutoff: float = 0.5, within: float = 1.0) -> list[str]:
    """Valid names like `given`, the likeliest first: by the share of letters in common, then by a common beginning.

    Args:
        cutoff: the least share, of 1.
        within: how much less than the first one's it may be.
    """
    names = list(dict.fromkeys(valid))
    close = difflib.get_close_matches(given, names, n=len(names) or 1, cutoff=cutoff)
    share = {name: difflib.SequenceMatcher(None, name, given).ratio() for name in close}
    begins = {
        name: len([*takewhile(lambda pair: pair[0] == pair[1], zip(name, given, strict=False))]) for name in close
    }
    close.sort(key=lambda name: (share[name], begins[name]), reverse=True)
    return [name for name in close if share[name] >= share[close[0]] - within]
