"""The report in a real browser: every chart is drawn, no script fails, and nothing is fetched."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from kdface.reports.html.page import Reader, report
from tests.reports.folders import make_showcase

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium: apt-get install chromium")

_VOID = {"br", "col", "hr", "img", "input", "link", "meta"}


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


class _Browser:
    """Chromium, told what to do by messages over a pair of pipes (DevTools' `--remote-debugging-pipe`).

    Its clock is the real one: a virtual one runs out on a busy machine before anything is drawn.
    """

    def __init__(self, profile: Path) -> None:
        for_it, ours = os.pipe()
        from_us, its = os.pipe()
        flags = [
            *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
            *("--disable-background-networking", "--disable-component-update", "--disable-extensions"),
            "--host-resolver-rules=MAP * ~NOTFOUND",  # asked for, but not answered
            f"--user-data-dir={profile}",
            "--window-size=1400,9000",  # charts are drawn when they come into view
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
        self._buffer = b""
        self.events: list[dict[str, Any]] = []
        targets = self("Target.getTargets")["targetInfos"]
        page = next(each["targetId"] for each in targets if each["type"] == "page")
        self._session = self("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]

    _session: str | None = None

    def __call__(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        self._to.write(json.dumps(message).encode() + b"\0")
        while True:
            while b"\0" not in self._buffer:
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
        answer = self("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"]["value"]

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._to.close()
        self._from.close()


def _open(page: Path, profile: Path, until: str) -> Seen:
    """Args: until: a JavaScript expression that is true when the page is ready to be looked at."""
    browser = _Browser(profile)
    try:
        for domain in ("Page", "Runtime", "Log", "Network"):
            browser(f"{domain}.enable")
        browser("Page.navigate", url=page.as_uri())
        ready = f"location.href !== 'about:blank' && document.readyState === 'complete' && ({until})"
        end = time.monotonic() + 240
        while not browser.evaluate(ready) and time.monotonic() < end:
            time.sleep(0.2)
        dom = browser.evaluate("document.documentElement.outerHTML")
    finally:
        browser.close()
    messages, requests = [], []
    for event in browser.events:
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
    return Seen(dom, messages, [each for each in requests if each.startswith(("http", "ws", "ftp"))])


class _Page(HTMLParser):
    """What stands below each element that has an id."""

    def __init__(self) -> None:
        super().__init__()
        self._open: list[tuple[str, str]] = []  # tag, id
        self.lines: dict[str, int] = {}
        self.rows: dict[str, int] = {}
        self.images: dict[str, list[str]] = {}
        self.hidden: set[str] = set()
        self.points: dict[str, int] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        if tag not in _VOID:
            self._open.append((tag, named.get("id") or ""))
        if "hidden" in named and named.get("id"):
            self.hidden.add(str(named["id"]))
        classes = (named.get("class") or "").split()
        for _, above in self._open:
            self.lines[above] = self.lines.get(above, 0) + ("js-line" in classes)
            self.points[above] = self.points.get(above, 0) + ("point" in classes)
            self.rows[above] = self.rows.get(above, 0) + (tag == "tr")
            if tag == "img":
                self.images.setdefault(above, []).append(named.get("src") or "")

    def handle_endtag(self, tag: str) -> None:
        while self._open:
            if self._open.pop()[0] == tag:
                break


def test_a_failing_script_and_a_fetch_are_seen(tmp_path: Path) -> None:
    """The control: what the other test asks for could be missed."""
    page = tmp_path / "page.html"
    page.write_text(
        '<p id="x"></p><script>x.textContent = "run"; nope();</script><img src="http://kdface.invalid/x.png">'
    )
    seen = _open(page, tmp_path / "profile", "true")
    assert '<p id="x">run</p>' in seen.dom
    assert len(seen.messages) == 1 and "nope is not defined" in seen.messages[0]
    assert seen.requests == ["http://kdface.invalid/x.png"]


def test_every_section_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("plotly", reason='the charting library: pip install "kdface[report]"')
    pytest.importorskip("sklearn", reason='for embedding maps: pip install "kdface[report]"')
    make_showcase(tmp_path / "runs")
    page = tmp_path / "report.html"
    page.write_text(report(Reader(tmp_path / "runs").runs(), "showcase"), encoding="utf-8")
    drawn = " && ".join(
        f"document.querySelector('#{each} .js-line')" for each in ("roc", "cmc", "edc", "learning", "det")
    )
    seen = _open(page, tmp_path / "profile", f"!!({drawn} && document.querySelector('#map-charts .point'))")
    assert seen.messages == []
    assert seen.requests == []
    found = _Page()
    found.feed(seen.dom)
    assert found.hidden == set()
    # Two configurations of three seeds, each a line and the outline of its band.
    for chart in ("roc", "cmc", "edc"):
        assert found.lines[chart] == 4, chart
    assert found.lines["learning"] >= 4 and found.lines["det"] >= 1
    assert found.points["map-charts"] == 2 * 32  # the images whose embeddings are kept
    assert found.rows["gain-rows"] == 1 + 1  # the distilled one against the plain one
    assert found.rows["groups"] == 1 + 3
    assert len(found.images["hardest"]) == 2 * 2 * 6 * 2  # configurations, kinds, pairs, sides
    assert len(found.images["sheets"]) == 5 * (1 + 2)  # people; as it is, and in two epochs
    for sources in found.images.values():
        assert all(source.startswith("data:image/webp;base64,") for source in sources)
    assert "out of memory" in seen.dom
