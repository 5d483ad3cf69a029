"""Stop training on request, after finishing and saving the current step, so that nothing is computed twice."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

# Ctrl-C, the end of a sweep or machine, and the warnings that clusters send before they end a job.
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


class Interruption:
    """Attributes:
    asked: whether a signal has arrived since `listen`. A second Ctrl-C raises `KeyboardInterrupt` at once.
    """

    def __init__(self) -> None:
        self.asked = False

    def listen(self) -> None:
        """Install the handlers, replacing those of Lightning, which must already be set."""
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                signal.signal(number, self._ask)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = True

    @contextlib.contextmanager
    def restored(self) -> Iterator[None]:
        """Restore the previous handlers on exit."""
        before = {number: signal.getsignal(number) for number in _SIGNALS}
        try:
            yield
        finally:
            if threading.current_thread() is threading.main_thread():
                for number, handler in before.items():
                    signal.signal(number, handler)
