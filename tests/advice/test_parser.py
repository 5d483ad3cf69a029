"""What the parser of suggestions finds in a text, and where rows are tried."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdface.errors import UserError
from tests.advice.counts import PARTS
from tests.advice.suggestions import Suggestion, suggestions


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
    assert suggestions(UserError("x", fix=text)) == found


def test_every_module_of_rows_is_in_one_file_of_tests() -> None:
    named = sorted(name for part in PARTS.values() for name in part)
    assert named == sorted(file.stem for file in Path(__file__).parent.glob("rows_*.py"))
