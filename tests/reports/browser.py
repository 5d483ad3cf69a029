"""A real browser for tests of pages: Chromium, told what to do by messages over a pair of pipes."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
_PATIENCE = 120.0  # seconds for an answer
_KEYS = {"Tab": 9, "Enter": 13, "Escape": 27, "ArrowDown": 40}  # and their codes


@dataclass
class Seen:
    """Attributes:
    dom: the page when its scripts have run.
    messages: errors and warnings, of scripts and of the console.
    requests: addresses that the page asked the network for.
    """

    dom: str
    messages: list[str]
    requests: list[str]


class Browser:
    """Chromium, by DevTools' `--remote-debugging-pipe`, with one page at a time.

    Its clock is the real one: a virtual one runs out on a busy machine before anything is drawn.

    Args:
        profile: a folder for what it keeps.
    """

    def __init__(self, profile: Path) -> None:
        for_it, ours = os.pipe()
        from_us, its = os.pipe()
        flags = [
            *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
            *("--disable-background-networking", "--disable-component-update", "--disable-extensions"),
            "--host-resolver-rules=MAP * ~NOTFOUND",  # asked for, but not answered
            f"--user-data-dir={profile}",
            "--remote-debugging-pipe",  # reads from 3 and writes to 4
            "about:blank",
        ]
        shell = f'exec "$@" 3<&{for_it} 4>&{its}'
        command = ["bash", "-c", shell, "bash", str(CHROMIUM), *flags]
        self._process = subprocess.Popen(command, pass_fds=(for_it, its), stderr=subprocess.DEVNULL)
        os.close(for_it)
        os.close(its)
        self._to, self._from = os.fdopen(ours, "wb", buffering=0), os.fdopen(from_us, "rb")
        self._number = 0
        self._context = ""
        self._buffer = b""
        self._session: str | None = None
        self.events: list[dict[str, Any]] = []

    def __call__(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        self._to.write(json.dumps(message).encode() + b"\0")
        while True:
            while b"\0" not in self._buffer:
                assert select.select([self._from], [], [], _PATIENCE)[0], f"Chromium does not answer: {message}"
                read = os.read(self._from.fileno(), 1 << 20)
                assert read, "Chromium has ended"
                self._buffer += read
            text, _, self._buffer = self._buffer.partition(b"\0")
            answer: dict[str, Any] = json.loads(text)
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result
            self.events.append(answer)

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression; None where it has none."""
        answer = self("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def open(self, page: Path, until: str = "true", *, width: int = 1400, scheme: str = "light") -> Seen:
        """Load a file.

        Args:
            page: the file.
            until: a JavaScript expression that is true when the page is ready to be looked at.
            width: of the window, in pixels; it is so high that every chart comes into view.
            scheme: light or dark, what the user prefers.
        """
        self._renew()
        self("Emulation.setDeviceMetricsOverride", width=width, height=9000, deviceScaleFactor=1, mobile=width < 600)
        self("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self("Page.navigate", url=page.as_uri())
        self.wait_for(f"location.href !== 'about:blank' && document.readyState === 'complete' && ({until})")
        dom = self.evaluate("document.documentElement.outerHTML")
        messages, requests = [], []
        for event in self.events:
            params = event.get("params", {})
            match event.get("method"):
                case "Runtime.exceptionThrown":
                    messages.append(params["exceptionDetails"]["exception"]["description"])
                case "Runtime.consoleAPICalled":
                    messages.append(str(params["args"]))
                case "Log.entryAdded" if params["entry"]["source"] != "network":  # what follows tells of those
                    messages.append(params["entry"]["text"])
                case "Network.requestWillBeSent":
                    requests.append(params["request"]["url"])
        return Seen(dom, messages, [request for request in requests if request.startswith(("http", "ws", "ftp"))])

    def _renew(self) -> None:
        """A page that knows nothing of those before."""
        self._session = None
        if self._context:
            self("Target.disposeBrowserContext", browserContextId=self._context)
        self._context = self("Target.createBrowserContext")["browserContextId"]
        page = self("Target.createTarget", url="about:blank", browserContextId=self._context)["targetId"]
        self._session = self("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self(f"{domain}.enable")
        self.events.clear()

    def wait_for(self, expression: str, seconds: float = 120) -> None:
        """Until a JavaScript expression is true, or the time is over."""
        end = time.monotonic() + seconds
        while not self.evaluate(expression) and time.monotonic() < end:
            time.sleep(0.1)

    def press(self, key: str) -> None:
        text = {"text": "\r"} if key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            self("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=_KEYS[key], **text)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._to.close()
        self._from.close()
