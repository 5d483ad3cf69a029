"""The Jinja2 templates of pages and texts."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment

_FOLDERS = [Path(__file__).parent / "templates", Path(__file__).parent / "html" / "assets"]


def render(template: str, /, **values: Any) -> str:
    """Fill in a template. In HTML, everything is escaped except values marked `safe`."""
    return _environment().get_template(template).render(**values)


def asset(name: str) -> str:
    """The text of a file that a page includes as it is: a style or a script."""
    return next(folder / name for folder in _FOLDERS if (folder / name).is_file()).read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

    made = Environment(
        loader=FileSystemLoader(_FOLDERS),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.globals["asset"] = asset
    return made
