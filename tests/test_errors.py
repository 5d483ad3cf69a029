"""Errors say everything, and cross process borders whole."""

from __future__ import annotations

import pickle

from kdface.errors import DataError, UserError, alike, nearest


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
    assert nearest("max_epoch", ["min_epochs", "max_steps", "max_epochs"]) == "max_epochs"


def test_names_alike() -> None:
    # Shares of letters in common, 2M/T: aacb 2*3/7, aabb 2*3/7 too, abbb 2*2/7; aab is the beginning of aabb alone.
    valid = ["abbb", "aacb", "aabb"]
    assert alike("aab", valid, cutoff=0.5) == ["aabb", "aacb", "abbb"]
    assert alike("aab", reversed(valid), cutoff=0.5) == ["aabb", "aacb", "abbb"]
    assert alike("aab", valid, cutoff=0.6) == ["aabb", "aacb"]
    assert alike("aab", valid, cutoff=0.5, within=0.2) == ["aabb", "aacb"]
    assert alike("aab", [], cutoff=0.5) == []
