"""The command line of train, evaluate and data: Hydra's flags and overrides."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from kdface.errors import UserError


class Parser(argparse.ArgumentParser):
    """Raises `UserError` with the name of the command."""

    def error(self, message: str) -> NoReturn:
        """Raise `UserError` instead of exiting."""
        raise UserError(f"{self.prog}: {message}.", fix=f"{self.prog} --help")


@dataclass
class Arguments:
    """Hydra's command line: overrides and flags."""

    overrides: list[str] = field(default_factory=list)
    config_dirs: list[Path] = field(default_factory=list)
    multirun: bool = False
    cfg: str | None = None
    resolve: bool = False
    package: str | None = None
    info: str | None = None

    def take(self, key: str) -> str | None:
        """Remove `KEY=VALUE` or `+KEY=VALUE`, which is not an override, and return the value; None: not given.

        Raises `UserError` if it is given more than once.
        """
        words = [word for word in self.overrides if word.lstrip("+").startswith(f"{key}=")]
        if len(words) > 1:
            raise UserError(f"{' '.join(words)}: {key}= is given more than once.")
        self.overrides = [word for word in self.overrides if word not in words]
        return words[0].partition("=")[2] if words else None


def parse(command: str, words: list[str], description: str) -> Arguments:
    """Parse a command line. Raises `UserError` for unknown flags."""
    parser = Parser(prog=f"kdface {command}", description=description)
    parser.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="GROUP=CHOICE, KEY=VALUE, +KEY=VALUE, ~KEY")
    add_config_dirs(parser)
    parser.add_argument("--multirun", "-m", action="store_true", help="sweep over comma-separated values")
    parser.add_argument("--cfg", "-c", choices=["job", "hydra", "all"], help="show the configuration and stop")
    parser.add_argument("--resolve", action="store_true", help="with --cfg: resolve interpolations")
    parser.add_argument("--package", "-p", help="with --cfg: show only this node")
    parser.add_argument("--info", nargs="?", const="all", help="show how the configuration is composed")
    return Arguments(**vars(parser.parse_intermixed_args(words)))


def add_config_dirs(parser: Parser) -> None:
    """Add `--config-dir`, which may be repeated, as `config_dirs`."""
    parser.add_argument(
        *("--config-dir", "-cd"),
        action="append",
        default=[],
        type=Path,
        dest="config_dirs",
        metavar="CONFIG_DIR",
        help="your own folder of YAML",
    )


def is_hydras(word: str) -> bool:
    """Whether an override configures Hydra's launcher or sweeper. hydra.searchpath is one of the jobs' own."""
    return word.lstrip("+~").startswith(("hydra.", "hydra/")) and not is_search_path(word)


def is_search_path(word: str) -> bool:
    """Whether an override is `hydra.searchpath=[...]`."""
    return word.lstrip("+~").partition("=")[0] == "hydra.searchpath"


def require_only(overrides: Sequence[str], allowed: Sequence[str], what: str, otherwise: str = "") -> None:
    """Raise `UserError` for an override whose group and key are not in `allowed`: the word, then `what`."""
    for word in overrides:
        key = word.lstrip("+~").partition("=")[0]
        if key not in allowed and key.split(".")[0] not in allowed:
            raise UserError(
                f"{word}{what}.",
                expected=f"overrides of {', '.join(allowed)}",
                origin=f"command line: {word}",
                fix=f"remove {key}{otherwise}",
            )
