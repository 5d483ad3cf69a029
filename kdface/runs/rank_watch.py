"""If a rank of this machine dies or freezes, one message names it and the cause, and all of them end."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from kdface.datasets.workers import is_stopped
from kdface.errors import UserError

_FROZEN = 60.0  # seconds that a rank may be stopped (SIGSTOP)
_POLL = 0.3
_ASKED = 130  # the exit code of a rank that was asked to end, as all ranks then do
_GRACE = 3.0  # seconds in which the end of a rank is seen after its connection broke
_BROKEN = ("Connection closed by peer", "Connection reset by peer", "Timed out waiting", "NCCL", "Broken pipe")


def children() -> dict[int, int]:
    """Rank -> process, of the ranks that this process has started (Lightning gives each its LOCAL_RANK)."""
    found = {}
    for task in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for pid in map(int, task.read_text().split()):
                with contextlib.suppress(OSError):
                    environ = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
                    ranks = [entry[11:] for entry in environ if entry.startswith(b"LOCAL_RANK=")]
                    command = Path(f"/proc/{pid}/cmdline").read_bytes()
                    if ranks and ranks[0] != os.environ.get("LOCAL_RANK", "0").encode() and b"kdface" in command:
                        found[int(ranks[0])] = pid
    return found


def ended(pid: int) -> str:
    """How a child ended, if not well; it is left for whoever waits for it. "" if it runs or ended well."""
    try:
        status = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return ""
    if status is None or (status.si_code == os.CLD_EXITED and status.si_status in (0, _ASKED)):
        return ""
    if status.si_code == os.CLD_EXITED:
        return f"ended with exit code {status.si_status}; its message stands above"
    return f"was ended by a signal ({signal.Signals(status.si_status).name})"


def lost(ranks: dict[int, int], since: dict[int, float], frozen: float = _FROZEN) -> UserError | None:
    """The first rank that died, or has been stopped for `frozen` seconds; `since` remembers when each was stopped."""
    for rank, pid in sorted(ranks.items()):
        how = ended(pid)
        if is_stopped(pid):
            if time.monotonic() - since.setdefault(pid, time.monotonic()) >= frozen:
                how = f"has been stopped for {frozen:g} s"
        else:
            since.pop(pid, None)
        if how:
            return UserError(
                f"rank {rank} (process {pid}) {how}.",
                fix="see why, by its message or dmesg; the same command goes on from the last checkpoint",
            )
    return None


@contextlib.contextmanager
def watched(
    rank: int, world: int, leaving: Callable[[], bool] = lambda: False, note: Callable[[str], object] = lambda _: None
) -> Iterator[None]:
    """Watch the ranks that this process starts, on Linux. One that dies or freezes ends this process: Lightning alone
    would kill it without a word, or wait for good. A connection that broke is one message too, on every rank.

    Args:
        rank, world: this rank, and how many there are.
        leaving: whether the ranks were asked to end.
        note: receives why this process is about to end.
    """
    over = threading.Event()

    def watch() -> None:
        ranks: dict[int, int] = {}
        since: dict[int, float] = {}
        while not over.wait(_POLL):
            ranks |= children() if len(ranks) < world - 1 else {}
            if (error := lost(ranks, since)) is not None and not leaving():
                _end(error, ranks, note)

    if world > 1 and rank == 0 and sys.platform.startswith("linux"):
        threading.Thread(target=watch, name="ranks", daemon=True).start()
    try:
        yield
    except RuntimeError as error:
        if world == 1 or leaving() or not any(text in str(error) for text in _BROKEN):
            raise
        if rank == 0:
            time.sleep(_GRACE)  # the watch ends the process, if it is a rank of this machine that was lost
        raise UserError(
            f"rank {rank} lost its connection to another rank ({str(error).strip().splitlines()[-1][:160]}).",
            fix="see what that rank says; the same command goes on from the last checkpoint",
        ) from None
    finally:
        over.set()


def _end(error: UserError, ranks: dict[int, int], note: Callable[[str], object]) -> None:
    note(str(error))
    print(f"error: {error}", file=sys.stderr, flush=True)
    for pid in ranks.values():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    os._exit(1)
