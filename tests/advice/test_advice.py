"""Every fix that a message suggests is applied to its own mistake, and the result run."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from tests.advice import harness
from tests.advice.harness import Row, Suggestion, Tried, attempt, suggestions

# No more places than this may make a message whose fix a machine can apply and no row tries: a new message comes with
# its row. Some of what is left needs ranks, a cluster, a GPU or a table's runs.
UNTRIED_AT_MOST = 33

ROWS: list[Row] = [
    row
    for file in sorted(Path(__file__).parent.glob("rows_*.py"))
    for row in importlib.import_module(f"tests.advice.{file.stem}").ROWS
]
_tried: dict[int, Tried] = {}


@pytest.mark.parametrize("number", range(len(ROWS)), ids=[row.name for row in ROWS])
def test_a_suggested_fix_works(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KDFACE_DATA", raising=False)
    tried = _tried[number] = attempt(ROWS[number], tmp_path)
    assert not tried.wrong, "\n\n".join(tried.wrong)


def test_counts() -> None:
    if len(_tried) < len(ROWS):
        pytest.skip("counts are of all rows")
    works = sum(len(tried.works) for tried in _tried.values())
    wrong = sum(len(tried.wrong) for tried in _tried.values())
    words = sum(len(tried.in_words) for tried in _tried.values())
    places = [each for each in harness.sites() if each.applicable]
    untried = [each for each in harness.untried() if each.applicable]
    print(f"\n{len(ROWS)} mistakes, {works + wrong} suggestions applied, {works} work, {words} more in words alone")
    print(f"{len(harness.sites())} places suggest a fix, {len(places)} of them one that a machine can apply;")
    print(f"{len(places) - len(untried)} of these have a row; without one:")
    print("\n".join(f"  kdface/{place}" for place in untried))
    assert len(untried) <= UNTRIED_AT_MOST


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("head=none", [Suggestion("override", ("head=none",))]),
        (
            "teacher=run teacher.run=FOLDER   (kdface list teacher)",
            [Suggestion("override", ("teacher=run", "teacher.run=FOLDER")), Suggestion("command", ("list", "teacher"))],
        ),
        (
            "method=aikd, head=magface, or a source: evaluation.x.grader=...",
            [
                Suggestion("override", ("method=aikd",)),
                Suggestion("override", ("head=magface",)),
                Suggestion("override", ("evaluation.x.grader=...",)),
            ],
        ),
        ("write a.b in place of a.c", [Suggestion("rename", ("a.b",), "a.c")]),
        ("export KDFACE_PLUGINS=os   (only if you trust it)", [Suggestion("export", ("KDFACE_PLUGINS=os",))]),
        ("kdface train --cfg job shows every key", [Suggestion("command", ("train", "--cfg", "job"))]),
        ("'key=\"a, b\"'", [Suggestion("override", ('key="a, b"',))]),
        ("fetch the lists anew", []),
        ("the run's own command makes it", []),
        ("put it back, or rm a/b; kdface run a", [Suggestion("rm", ("run", "a"), "a/b")]),
    ],
)
def test_the_parser(text: str, found: list[Suggestion]) -> None:
    from kdface.errors import UserError

    assert suggestions(UserError("x", fix=text)) == found
