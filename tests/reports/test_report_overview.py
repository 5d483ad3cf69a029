"""The report's first screen: papers apart, the rows of tables as names, published numbers beside ours."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdface.reports.html.overview import facts
from kdface.reports.html.page import Reader, report
from kdface.reports.html.payload import grouped, payload
from kdface.reports.tables import Definition, collect, tabulate
from kdface.reports.tables.definition import Column, PublishedFile, Row
from kdface.runs.folder import RunFolder
from tests.reports.folders import config, make_run


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Two papers: one of two configurations with two seeds each, one that no test is finished of."""
    folder = tmp_path / "runs"
    for margin, accuracies in ((0.4, (0.70, 0.74)), (0.5, (0.80, 0.90))):
        for seed, accuracy in enumerate(accuracies):
            tree = config(folder, name="alpha/small", seed=seed, head__margin=margin)
            make_run(folder, tree, {"lfw/accuracy": accuracy, "lfw/eer": 1 - accuracy, "lfw/tar@far=1e-3": None})
    make_run(folder, config(folder, name="beta"), None)
    return folder


def test_papers_have_the_columns_that_they_have_numbers_for(runs: Path) -> None:
    members = grouped(Reader(runs).runs())
    alpha, beta = payload(Reader(runs).runs(), "t")["papers"]
    assert (alpha["name"], beta["name"]) == ("alpha", "beta")
    assert alpha["metrics"] == ["lfw/accuracy", "lfw/eer"] and beta["metrics"] == []  # nothing resolves the rate
    assert [members[place][0].config["head"]["margin"] for place in alpha["groups"]] == [0.5, 0.4]
    # Mean and sample standard deviation of 0.8 and 0.9, by hand: 0.85, 0.1 / sqrt(2).
    assert alpha["value"] == "0.8500 ± 0.0707" and beta["best"] is None


def test_what_when_and_where(runs: Path) -> None:
    found = Reader(runs).runs()
    told = dict(facts(found, grouped(found)))
    assert told["what"] == "3 configurations, 5 runs, 2 seeds"
    assert told["when"] == "1970-01-01 00:00 to 1970-01-01 00:00 UTC"  # the records are of seconds 1 to 3
    assert told["where"] == "one" and told["code"] == "abc123" and told["versions"] == "torch 2.13.0"
    assert told["training data"] == "toy_faces"


def test_a_table_names_runs_and_stands_above(runs: Path, tmp_path: Path) -> None:
    pytest.importorskip("plotly", reason='the charting library: pip install "kdface[report]"')
    head = "paper,table,method,value,spread,unit,provenance\n"
    (tmp_path / "published.csv").write_text(f"{head}Alpha,1,best,99.5,,percent,paper\n")
    definition = Definition(
        title="Alpha in small",
        rows=(
            Row(label="half", overrides=("0.5",), published={"method": "best"}),
            Row(label="four tenths", overrides=("0.4",)),
        ),
        columns=(Column(label="accuracy", metric="lfw/accuracy", published={"table": "1"}),),
        published=PublishedFile(),
        seeds=(0, 1),
    )
    by_margin = {
        (str(run.config["head"]["margin"]), f"seed={run.seed}"): RunFolder(run.root)
        for run in Reader(runs).runs()
        if run.root and run.name == "alpha/small"
    }
    table = tabulate(definition, collect(definition, lambda words: by_margin[words[0], words[-1]]), tmp_path)
    page = report(Reader(runs).runs(), "t", tables=[table])
    shown = page.partition('<section id="summary"')[2].partition("</section>")[0]
    assert "Alpha in small" in shown and "85.00" in shown and "99.5" in shown
    assert '<td class="v">half' in shown and '"label": "half"' in page and '"label": "four tenths"' in page
    assert "Give tables after the folder" not in shown
