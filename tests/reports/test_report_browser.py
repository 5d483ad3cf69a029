"""The report in a real browser: every chart is drawn, no script fails, nothing is fetched, on a phone too."""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import t

from kdface.reports.html.page import Reader, report
from tests.reports.browser import CHROMIUM, Browser
from tests.reports.folders import LATER, config, make_run, make_showcase

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium: apt-get install chromium")

_VOID = {"br", "col", "hr", "img", "input", "link", "meta"}
_LINES = (f"document.querySelector('#{chart} .js-line')" for chart in ("roc", "cmc", "edc", "learning", "det"))
DRAWN = f"!!({' && '.join(_LINES)} && document.querySelector('#map-charts .point'))"


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


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    made = Browser(tmp_path_factory.mktemp("profile"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def showcase(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with something in every section."""
    pytest.importorskip("plotly", reason='the charting library: pip install "kdface[report]"')
    pytest.importorskip("sklearn", reason='for embedding maps: pip install "kdface[report]"')
    folder = tmp_path_factory.mktemp("showcase")
    make_showcase(folder / "runs")
    reader = Reader(folder / "runs")
    page = folder / "report.html"
    page.write_text(report(reader.runs(), "showcase", sweeps=reader.sweeps()), encoding="utf-8")
    return page


def test_a_failing_script_and_a_fetch_are_seen(browser: Browser, tmp_path: Path) -> None:
    """The control: what the other tests ask for could be missed."""
    page = tmp_path / "page.html"
    page.write_text(
        '<p id="x"></p><script>x.textContent = "run"; nope();</script><img src="http://kdface.invalid/x.png">'
    )
    seen = browser.open(page)
    assert '<p id="x">run</p>' in seen.dom
    assert len(seen.messages) == 1 and "nope is not defined" in seen.messages[0]
    assert seen.requests == ["http://kdface.invalid/x.png"]


def test_every_section_is_drawn(browser: Browser, showcase: Path) -> None:
    seen = browser.open(showcase, DRAWN)
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
    assert found.rows["groups"] == (1 + 2) + (1 + 1)  # a table for each paper
    assert found.rows["found"] == 1 + 2
    assert len(found.images["hardest"]) == 2 * 2 * 6 * 2  # configurations, kinds, pairs, sides
    assert len(found.images["sheets"]) == 1
    for sources in found.images.values():
        assert all(source.startswith("data:image/webp;base64,") for source in sources)
    assert "out of memory" in seen.dom


def _cells(browser: Browser, rows: str) -> list[list[str]]:
    found: list[list[str]] = browser.evaluate(
        f"[...document.querySelectorAll('{rows}')].map((row) => [...row.cells].map((cell) => cell.innerText))"
    )
    return found


def test_parallel_coordinates_and_differences(browser: Browser, showcase: Path) -> None:
    browser.open(showcase, "document.querySelectorAll('#parallel .js-line').length === 6")
    lines = browser.evaluate(
        "[...document.querySelectorAll('#parallel .js-line')].map((each) => each.getAttribute('d'))"
    )
    assert len(lines) == 6 and len(set(lines)) == 6  # finished runs of the name that has most
    # One axis for the teacher, whose keys change together, one for the result.
    assert browser.evaluate("document.querySelectorAll('#parallel .shapelayer path').length") == 2
    assert all(line.count("L") == 1 for line in lines)
    assert _cells(browser, "#differences tbody tr") == [
        ["teacher", "null", "(not set)"],
        ["teacher._target_", "(not set)", "kdface.teachers.from_run"],
        ["teacher.run", "(not set)", "/nowhere/teacher"],
    ]
    offered = "[...$('sweep-metric').options].map((each) => each.value)"
    assert browser.evaluate(offered) == ["toy/accuracy", "toy/eer", "later/accuracy"]
    for metric, wins in (("toy/accuracy", max), ("toy/eer", min)):
        browser.evaluate(f"$('sweep-metric').value = '{metric}'; $('sweep-metric').dispatchEvent(new Event('change'))")
        values = browser.evaluate(f"D.runs.map((run) => run.metrics['{metric}']?.value).filter(Boolean)")
        told = browser.evaluate("$('sweep-told').textContent")
        assert len(values) == 6 and f"{metric} {wins(values):.4f}." in told.partition("best: ")[2]
    browser.evaluate("$('sweep-name').value = 'broken'; $('sweep-name').dispatchEvent(new Event('change'))")
    assert browser.evaluate(offered) == []


def test_a_chart_of_nothing_takes_no_room(browser: Browser, showcase: Path) -> None:
    browser.open(showcase, DRAWN)
    height = "document.getElementById('roc').clientHeight"
    assert browser.evaluate(height) > 300
    browser.evaluate("document.getElementById('clear').click()")
    assert browser.evaluate(height) < 150
    browser.evaluate("[...document.querySelectorAll('#groups input')].at(-1).click()")
    browser.wait_for("!!document.querySelector('#roc .js-line')", 20)
    assert browser.evaluate(height) > 300
    assert browser.evaluate("document.querySelectorAll('#roc .js-line').length") == 2


def test_what_is_drawn_first_leaves_no_chart_empty(browser: Browser, tmp_path: Path) -> None:
    """Six configurations with scores, better by the metric that most runs have, and three that identify."""
    pytest.importorskip("plotly", reason='the charting library: pip install "kdface[report]"')
    same = [True, False] * 4
    for place in range(9):
        identifies = place < 3
        tree = config(tmp_path / "runs", name=f"{'who' if identifies else 'pairs'}{place}")
        metrics = {"who/rank1": 0.5} if identifies else {"lfw/accuracy": 0.5 + place / 20}
        arrays = {"who": {"cmc": np.array([0.5, 0.6])}} if identifies else None
        scores = None if identifies else (np.linspace(0, 1, 8).tolist(), same)
        make_run(tmp_path / "runs", tree, metrics, arrays=arrays, scores=scores)
    page = tmp_path / "report.html"
    page.write_text(report(Reader(tmp_path / "runs").runs(), "two kinds"), encoding="utf-8")
    drawn = ("roc", "cmc")
    browser.open(page, until=" && ".join(f"!!document.querySelector('#{chart} .js-line')" for chart in drawn))
    names = browser.evaluate("[...ticked].map((group) => D.groups[group].name)")
    assert names == ["pairs8", "pairs7", "pairs6", "pairs5", "pairs4", "who0", "who1"]


def _show_evaluated(browser: Browser) -> None:
    """Open the details of the run that was evaluated later too."""
    path = browser.evaluate("D.runs.find((run) => run.sources.length === 2).path")
    browser.evaluate(f"document.querySelector('.seeds button[aria-label$=\"{path}\"]').click()")


def test_a_run_tells_the_file_of_each_of_its_numbers(browser: Browser, showcase: Path) -> None:
    browser.open(showcase)
    _show_evaluated(browser)
    told = browser.evaluate("document.getElementById('details-body').innerText")
    _, own, later = told.split("Results at step")
    assert own.startswith(" 30 (results.json)") and "toy/accuracy" in own and "later/" not in own
    assert later.startswith(f" 30 (evaluations/{LATER}/results.json)") and "later/accuracy" in later
    assert "def456, with uncommitted changes" in later and "def456" not in own and "toy/" not in later.split("Data")[0]


def test_jobs_of_sweeps(browser: Browser, showcase: Path) -> None:
    browser.open(showcase)
    head, row = _cells(browser, "#sweeps tr")
    assert head == ["sweep", "done", "failed", "waiting", "total"] and row[1:] == ["1", "1", "1", "3"]
    text = browser.evaluate("document.getElementById('open-jobs').innerText")
    assert "failed lr=9" in text and "diverged" in text and "not started lr=3" in text


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_a_phone(browser: Browser, showcase: Path, scheme: str) -> None:
    seen = browser.open(showcase, DRAWN, width=390, scheme=scheme)
    assert seen.messages == []
    assert browser.evaluate("document.documentElement.clientWidth") == 390
    assert browser.evaluate("document.documentElement.scrollWidth") == 390
    _show_evaluated(browser)
    inside = browser.evaluate(
        "['scrollWidth', 'clientWidth'].map((width) => document.getElementById('details')[width])"
    )
    assert inside[0] == inside[1] <= 390
    assert browser.evaluate("document.documentElement.scrollWidth") == 390


def test_titles_of_axes_keep_apart(browser: Browser, tmp_path: Path) -> None:
    pytest.importorskip("plotly", reason='the charting library: pip install "kdface[report]"')
    keys = [f"trainer__key_{letter}_with_a_long_name" for letter in "abc"]
    for seed, key in enumerate(keys):
        changes: dict[str, Any] = {name: float(name == key) for name in keys}
        tree = config(tmp_path, seed=seed, **changes)
        make_run(tmp_path, tree, {"lfw/accuracy": 0.9 + 0.01 * seed})
    page = tmp_path / "report.html"
    page.write_text(report(Reader(tmp_path).runs(), "t"), encoding="utf-8")
    browser.open(page, "document.querySelectorAll('#parallel .js-line').length === 3", width=390)
    boxes = browser.evaluate(
        "[...document.querySelectorAll('#parallel .xtick text')].map((each) => each.getBoundingClientRect())"
        ".map((box) => [box.left, box.right])"
    )
    assert len(boxes) == 4
    assert all(right < left for (_, right), (left, _) in pairwise(boxes))


def test_dark_where_that_is_preferred(browser: Browser, showcase: Path) -> None:
    found = []
    for scheme in ("light", "dark"):
        browser.open(showcase, DRAWN, scheme=scheme)
        ask = "getComputedStyle(document.querySelector('{}')).{}"
        parts = [
            ("body", "backgroundColor"),
            ("body", "color"),
            ("section", "backgroundColor"),
            ("#roc .xtick text", "fill"),
        ]
        found.append([_brightness(browser.evaluate(ask.format(*part))) for part in parts])
    (page, ink, card, label), (dark_page, dark_ink, dark_card, dark_label) = found
    assert max(ink, label) < 100 < 200 < min(page, card)
    assert max(dark_page, dark_card) < 100 < 200 < min(dark_ink, dark_label)


def _brightness(colour: str) -> float:
    """0 to 255, of "rgb(r, g, b)"."""
    return sum(float(channel) for channel in colour.strip("rgba()").split(",")[:3]) / 3


def test_by_keyboard(browser: Browser, showcase: Path) -> None:
    browser.open(showcase)
    reached = set()
    for _ in range(90):
        browser.press("Tab")
        reached.add(browser.evaluate("document.activeElement.id || document.activeElement.className"))
    assert {"skip", "filter", "clear", "done", "series", "log", "test", "one", "two", "map-test"} <= reached
    browser.evaluate("document.querySelector('.seeds button.done').focus()")
    browser.press("Enter")
    assert browser.evaluate("document.getElementById('details').open")
    browser.press("Escape")
    browser.wait_for("!document.getElementById('details').open", 5)
    assert not browser.evaluate("document.getElementById('details').open")
    assert browser.evaluate("document.activeElement.className") == "done"


def test_the_factor_of_intervals(browser: Browser, showcase: Path) -> None:
    browser.open(showcase)
    assert browser.evaluate("D.t975") == pytest.approx([12.7062, 4.3027, 3.1824], abs=6e-5)  # up to as many as seeds
    metric, pair = "'toy/accuracy'", "D.gains[0].without, D.gains[0].with"
    value = f"(r) => D.runs[r].metrics[{metric}].value"
    without, taught = browser.evaluate(f"[{pair}].map((g) => D.groups[g].runs.map({value}))")
    gain = np.subtract(taught, without)
    found = browser.evaluate(f"paired({metric}, {pair})")
    assert found["mean"] == pytest.approx(gain.mean())
    assert found["half"] == pytest.approx(t.ppf(0.975, 2) * gain.std(ddof=1) / np.sqrt(3), rel=1e-4)


def test_a_page_of_nothing_that_can_be_read(browser: Browser, tmp_path: Path) -> None:
    pytest.importorskip("plotly", reason='the charting library: pip install "kdface[report]"')
    root = make_run(tmp_path, config(tmp_path), {"lfw/accuracy": 0.9})
    (root / "config.yaml").write_text("[")
    page = tmp_path / "report.html"
    page.write_text(report(Reader(tmp_path).runs(), "t"), encoding="utf-8")
    seen = browser.open(page)
    assert seen.messages == []
    assert browser.evaluate("[...document.querySelectorAll('section:not([hidden])')].map((each) => each.id)") == [
        "failures"
    ]
    assert "could not be read: config.yaml cannot be read: " in browser.evaluate(
        "document.getElementById('failed').innerText"
    )


def test_legends_hold_what_is_drawn_and_stay_in_view(browser: Browser, showcase: Path) -> None:
    browser.open(showcase, DRAWN)
    keys = browser.evaluate(
        "Object.fromEntries([...document.querySelectorAll('section:has(.key)')].map((each) => [each.id,"
        " [...each.querySelectorAll('.key > span')].map((entry) => entry.innerText)]))"
    )
    assert len(keys["curves"]) == 3 and len(keys["errors"]) == 2  # the broken run has losses, and no scores
    assert browser.evaluate("getComputedStyle(document.querySelector('.key')).position") == "sticky"
    assert browser.evaluate("document.querySelectorAll('#learning .chart').length") == 1  # of the one method


def test_the_two_best_are_compared_first(browser: Browser, showcase: Path) -> None:
    browser.open(showcase)
    value = "(id) => over(Number($(id).value), 'toy/accuracy').mean"
    one, two = browser.evaluate(f"['one', 'two'].map({value})")
    assert two > one
    assert browser.evaluate("[9.6e-5, -1e-5, 0, 0.25, 3, 1234567.5, -1e5].map(number)") == [
        "0.0001",
        "−1.00e−5",
        "0",
        "0.2500",
        "3",
        "1.23e+6",
        "−1.00e+5",
    ]
