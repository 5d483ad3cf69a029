"""The command lines of embed, verify, identify, cluster and pack: files, run=PATH and KEY=VALUE."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from kdface.commands.arguments import Parser
from kdface.errors import UserError, nearest

if TYPE_CHECKING:
    from kdface.recogniser import Recogniser


@dataclass(frozen=True)
class Given:
    """Attributes:
    things: positional files and folders.
    output: -o; null: not given.
    values: key -> converted value.
    """

    things: list[Path]
    output: Path | None
    values: dict[str, Any]

    @property
    def run(self) -> str:
        """The run named by `run=`."""
        return str(self.values["run"])


def read(
    command: str,
    words: list[str],
    about: str,
    things: tuple[str, ...],
    keys: Mapping[str, Any],
    output: str = "",
    needs: tuple[str, ...] = ("run",),
) -> Given:
    """Parse a command line.

    Args:
        about: description of the command.
        things: names of the positional files and folders.
        keys: key -> type.
        output: name of the -o argument; empty: the command has no output.
        needs: required keys.

    Raises:
        UserError: a word, key or value is invalid, or an argument is missing.
    """
    parser = Parser(prog=f"kdface {command}", description=about)
    listed = " ".join(f"{key}=..." for key in keys)
    parser.add_argument("words", nargs="*", metavar="WORD", help=f"{' '.join(things)} {listed}")
    if output:
        parser.add_argument("-o", "--output", type=Path, default=None, metavar=output.upper(), help=f"the {output}")
    found = parser.parse_intermixed_args(words)
    pairs = [word.partition("=") for word in found.words if "=" in word and word.partition("=")[0].isidentifier()]
    plain = [word for word in found.words if not ("=" in word and word.partition("=")[0].isidentifier())]
    values: dict[str, Any] = {}
    for key, _, text in pairs:
        if key not in keys:
            near = nearest(key, keys)
            raise UserError(
                f"kdface {command} has no key {key!r}.",
                expected=f"one of {', '.join(keys)}",
                nearest=near,
                origin=f"command line: {key}={text}",
            )
        try:
            values[key] = TypeAdapter(keys[key]).validate_python(_plain(text))
        except ValidationError as error:
            raise UserError(
                f"{key} = {text!r}: {error.errors()[0]['msg'].lower()}.", origin=f"command line: {key}={text}"
            ) from None
    missing = [f"{key}=PATH" for key in needs if key not in values]
    if len(plain) != len(things) or missing:
        raise UserError(
            f"kdface {command} {' '.join(words)}: invalid arguments.",
            expected=f"kdface {command} {' '.join([*things, *(f'{key}=PATH' for key in needs)])}"
            + (f" [-o {output.upper()}]" if output else ""),
            fix=f"kdface {command} --help",
        )
    where = found.output.expanduser() if output and found.output is not None else None
    return Given([Path(word).expanduser() for word in plain], where, values)


def _plain(text: str) -> Any:
    """Parse lists written [112,112]; anything else is text for the key's type to convert."""
    return [part.strip() for part in text[1:-1].split(",")] if text[:1] == "[" and text[-1:] == "]" else text


def recogniser_of(given: Given) -> Recogniser:
    """The recogniser named by `run=`: a run, a pack or an exported file."""
    from kdface.recogniser.load import load

    return load(given.run)
