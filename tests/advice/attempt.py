"""Advice that works when typed: a row's mistake is made, and the command fixed as its message says is run."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from kdface.errors import UserError
from tests.advice.calls import call, called, raised_messages
from tests.advice.row import Row
from tests.advice.suggestions import Suggestion, apply, suggestions

_PLACEHOLDER = re.compile(r"\.\.\.|(?<![\w$])[A-Z][A-Z_]{2,}(?![\w(])")
T = TypeVar("T")


@dataclass
class Tried:
    """What became of a row's suggestions."""

    works: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    in_words: list[str] = field(default_factory=list)


def attempt(row: Row, folder: Path) -> Tried:
    """Make the mistake and try each suggestion of its message: the first one where it was made, others afresh."""
    tried = Tried()
    before = dict(os.environ)
    try:
        error = _there(row, folder / "0", lambda: mistake(row))
        assert row.told in str(error), f"told another mistake:\n{error}"
        found = suggestions(error)
        if not found and (error.fix or error.nearest):
            tried.in_words.append(error.fix or error.nearest)
        for number, suggestion in enumerate(found):
            filled = _filled(suggestion, row)
            if filled is None or not row.apply:
                tried.in_words.append(str(suggestion))
                continue

            lists = filled.kind == "command" and filled.words[0] == "list"  # looks at no folder: any will do
            place = 0 if lists else number

            def fixed(number: int = number, place: int = place) -> str:
                said = mistake(row) if place else error
                suggestion = _filled(suggestions(said)[number], row)
                assert suggestion is not None
                return _outcome(row, suggestion, said)

            problem = _there(row, folder / str(place), fixed)
            if problem:
                tried.wrong.append(f"{filled}\n--- mistake\n{error}\n--- after it\n{problem}")
            else:
                tried.works.append(str(filled))
            os.environ.clear()
            os.environ.update(before)
    finally:
        os.environ.clear()
        os.environ.update(before)
    return tried


def mistake(row: Row) -> UserError:
    """The message that a row's command gives."""
    with raised_messages() as raised:
        try:
            call(row, row.words)
        except UserError as error:
            return error
    raise AssertionError(f"no mistake: {row.name} ({raised})")


def _outcome(row: Row, suggestion: Suggestion, said: UserError) -> str:
    """What is still wrong with a suggestion applied; empty: nothing."""
    try:
        if suggestion.kind == "command":
            code = called(suggestion.words)
            return "" if code == 0 else f"exit code {code}"
        if suggestion.kind == "export":
            os.environ.update({word.partition("=")[0]: word.partition("=")[2] for word in suggestion.words})
            call(row, row.words)
        else:
            call(row, apply(row.words, suggestion, said))
    except SystemExit as left:  # --help
        return str(left.code or "")
    except UserError as again:
        found_faults = suggestion.words[:2] == ("data", "verify") and "images of " in again.problem
        return "" if found_faults else str(again)
    return ""


def _filled(suggestion: Suggestion, row: Row) -> Suggestion | None:
    words = []
    for word in suggestion.words:
        filled = word
        for name, value in row.fill.items():
            filled = filled.replace(name, value)
        if _PLACEHOLDER.search(filled):
            return None
        several = any(" " in value for name, value in row.fill.items() if name in word)
        words += filled.split() if several else [filled]
    return Suggestion(suggestion.kind, tuple(words), suggestion.old)


def _there(row: Row, folder: Path, act: Callable[[], T]) -> T:
    """Act in a folder, which is set up the first time."""
    before = Path.cwd()
    new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)
    try:
        if new and row.set_up is not None:
            row.set_up(folder)
        return act()
    finally:
        os.chdir(before)
