"""Errors say everything, and cross process borders whole."""

from __future__ import annotations

import pickle

from kdface.errors import DataError, UserError, nearest


def test_a_message_has_a_line_for_each_part_that_is_given() -> None:
    error = UserError("x = 1.", expected="2", nearest="y", origin="file:3", fix="x=2")
    assert str(error).splitlines() == [
        "x = 1.",
        "  set in:    file:3",
        "  expected:  2",
        "  nearest:   y",
        "  fix:       x=2",
    ]
    assert str(UserError("x = 1.")) == "x = 1."


def test_errors_are_pickled_whole() -> None:
    error = pickle.loads(pickle.dumps(DataError("a.jpg: cut off", fix="restore it")))
    assert isinstance(error, DataError)
    assert error.problem == "a.jpg: cut off" and error.fix == "restore it"


def test_nearest() -> None:
    assert nearest("resnt18", ["iresnet18", "sfnet20"]) == "iresnet18"
    assert nearest("zzz", ["iresnet18"]) == ""
