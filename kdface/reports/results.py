"""The results of a run: its own, and those of later evaluations of its final network."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from kdface.errors import UserError
from kdface.runs.folder import RunFolder


def later_results(
    folder: RunFolder, results: Mapping[str, Any], tell: Callable[[str], object]
) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The files of `kdface evaluate` on the run's final network with their contents, newest first.

    Args:
        folder: the run.
        results: its own results; empty if there are none yet.
        tell: receives why a file cannot be read; it is skipped.
    """
    for file in folder.evaluated():
        try:
            later = folder.read_evaluation(file)
        except UserError as error:
            tell(error.problem)
            continue
        if folder.is_of_end(later, results):
            yield file, later


def cards_of(test: str, cards: Mapping[str, Any]) -> dict[str, Any]:
    """The cards of the datasets of a test: `lfw`, or `lfw.gallery` and `lfw.probe`."""
    return {name: card for name, card in cards.items() if name == test or name.startswith(f"{test}.")}
