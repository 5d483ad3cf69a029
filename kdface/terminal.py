"""Text for a terminal: paths, tables, and lines wrapped with hanging indents."""

from __future__ import annotations

import io
import shutil
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.table import Table

WIDTH = 100  # columns of a table
_TO_COPY = ("  set in:", "  nearest:", "  fix:")  # rows of a `UserError` that are never wrapped


def folded(line: str, indent: int, stream: TextIO) -> str:
    """A line wrapped to the terminal's width; unchanged if `stream` is a file or a pipe."""
    width = shutil.get_terminal_size().columns
    if not stream.isatty() or len(line) <= width:
        return line
    return textwrap.fill(line, width, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False)


def folded_message(text: str) -> str:
    """A `UserError` wrapped for standard error, except rows to be copied."""
    return "\n".join(
        line if line.startswith(_TO_COPY) else folded(line, 13 if line.startswith("  ") else 0, sys.stderr)
        for line in text.split("\n")
    )


def shown(path: Path) -> str:
    """A path relative to the current folder where possible."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def render(table: Table) -> str:
    """A table as text without trailing spaces."""
    from rich.console import Console

    buffer = io.StringIO()
    Console(file=buffer, width=WIDTH, no_color=True).print(table)
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()).strip("\n")


def tell_passed_over(entries: Sequence[str]) -> None:
    """Print the entries of a folder that are not images."""
    if entries:
        more = ", ..." if len(entries) > 3 else ""
        print(f"skipped  {len(entries)} entries that are not images: {', '.join(entries[:3])}{more}")
