"""The report in a real browser: every chart is drawn, no script fails, and nothing is fetched."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

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
    messages: of the console.
    requests: addresses that the page, and not the browser on its own account, asked the network for.
    """

    dom: str
    messages: list[str]
    requests: list[str]


def _open(page: Path, profile: Path) -> Seen:
    log = profile / "net.json"
    command = [
        str(CHROMIUM),
        *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
        *("--disable-background-networking", "--disable-component-update", "--disable-extensions"),
        "--host-resolver-rules=MAP * ~NOTFOUND",  # asked for, but not answered
        f"--user-data-dir={profile}",
        f"--log-net-log={log}",
        "--enable-logging=stderr",
        "--window-size=1400,9000",  # charts are drawn when they come into view
        "--virtual-time-budget=20000",
        "--dump-dom",
        page.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    found = json.loads(log.read_text(encoding="utf-8"))
    begins = found["constants"]["logEventTypes"]["URL_REQUEST_START_JOB"]
    asked = [event.get("params", {}) for event in found["events"] if event["type"] == begins]
    requests = [str(each["url"]) for each in asked if each.get("initiator", "not an origin") != "not an origin"]
    messages = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
    return Seen(done.stdout, messages, [each for each in requests if each.startswith(("http", "ws", "ftp"))])


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
    seen = _open(page, tmp_path / "profile")
    assert '<p id="x">run</p>' in seen.dom
    assert len(seen.messages) == 1 and "nope is not defined" in seen.messages[0]
    assert seen.requests == ["http://kdface.invalid/x.png"]


def test_every_section_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("plotly", reason='the charting library: pip install "kdface[report]"')
    pytest.importorskip("sklearn", reason='for embedding maps: pip install "kdface[report]"')
    make_showcase(tmp_path / "runs")
    page = tmp_path / "report.html"
    page.write_text(report(Reader(tmp_path / "runs").runs(), "showcase"), encoding="utf-8")
    seen = _open(page, tmp_path / "profile")
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
