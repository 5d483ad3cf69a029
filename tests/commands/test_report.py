"""kdface report writes one file."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from kdface.commands import report
from kdface.errors import UserError
from tests.reports.folders import config, make_run


def test_the_report_is_one_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("plotly", reason='the charting library: pip install "kdface[report]"')
    runs = tmp_path / "runs"
    make_run(runs, config(runs), {"lfw/accuracy": 0.5})
    make_run(runs, config(runs, seed=1), None)
    assert report.run([str(runs)]) == 0
    assert "(2 runs, 1 finished" in capsys.readouterr().out
    assert (runs / "report.html").read_text().startswith("<!doctype html>")
    assert report.run([str(runs), "-o", str(tmp_path / "x.html")]) == 0
    assert (tmp_path / "x.html").read_bytes() == (runs / "report.html").read_bytes()


def test_watch_writes_again_when_a_run_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("plotly", reason='the charting library: pip install "kdface[report]"')
    make_run(tmp_path, config(tmp_path), {"lfw/accuracy": 0.5})
    written: list[int] = []
    monkeypatch.setattr(
        report, "_write", lambda reader, output, tables, live, images: written.append(len(reader.runs()))
    )
    steps = iter(["nothing", "a run", "stop"])

    def sleep(_: float) -> None:
        match next(steps):
            case "a run":
                make_run(tmp_path, config(tmp_path, seed=1), None)
            case "stop":
                raise KeyboardInterrupt

    monkeypatch.setattr("kdface.commands.report.time.sleep", sleep)
    with pytest.raises(KeyboardInterrupt):
        report.run([str(tmp_path), "--watch"])
    assert written == [1, 2]


def test_watch_waits_for_the_first_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("plotly", reason='the charting library: pip install "kdface[report]"')
    runs = tmp_path / "runs"
    steps = iter(["nothing", "a run", "gone", "stop"])

    def sleep(_: float) -> None:
        match next(steps):
            case "a run":
                make_run(runs, config(runs), None)
            case "gone":
                assert (runs / "report.html").is_file()
                shutil.rmtree(runs / "demo")
            case "stop":
                raise KeyboardInterrupt

    monkeypatch.setattr("kdface.commands.report.time.sleep", sleep)
    with pytest.raises(KeyboardInterrupt):
        report.run([str(runs), "--watch"])
    told = capsys.readouterr().out.splitlines()
    assert told[0] == f"waiting for the first run under {runs}" and "(1 runs, 0 finished" in told[1] and len(told) == 2
    with pytest.raises(UserError, match="there is no run under"):
        report.run([str(runs)])


def test_other_kinds_of_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"report\.pdf"):
        report.run([str(tmp_path), "-o", str(tmp_path / "report.pdf")])
