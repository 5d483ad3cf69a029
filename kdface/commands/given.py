"""The command lines of commands that take files, run=PATH and KEY=VALUE."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from kdface.commands.arguments import Parser
from kdface.errors import UserError, nearest
from kdface.signature import adapter

if TYPE_CHECKING:
    from kdface.recogniser import Recogniser


@dataclass(frozen=True)
class Given:
    """Attributes:
    things: positional files and folders.
    output: -o; null: not given.
    values: key or --option -> converted value.
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
    wants: str = "",
    optional: int = 0,
    options: Mapping[str, str] | None = None,
) -> Given:
    """Parse a command line.

    Args:
        command: its name.
        words: its arguments.
        about: description of the command.
        things: names of the positional files and folders.
        keys: key -> type.
        output: name of the -o argument; empty: the command has no output.
        needs: required keys.
        wants: what to give, in words, for the message.
        optional: how many of the last things may be left out.
        options: further flags with a value -> what it is.

    Raises:
        UserError: a word, key or value is invalid, repeated or missing.
    """
    parser = Parser(prog=f"kdface {command}", description=about)
    names = [*things[: len(things) - optional], *(f"[{name}]" for name in things[len(things) - optional :])]
    parser.add_argument("words", nargs="*", metavar="WORD", help=" ".join([*names, *(f"{key}=..." for key in keys)]))
    if output:
        parser.add_argument("-o", "--output", type=Path, metavar=output.upper(), help=f"the {output}")
    for option, meaning in (options or {}).items():
        parser.add_argument(f"--{option}", action="append", default=[], help=meaning)
    found = vars(parser.parse_intermixed_args(words))
    given = [(option, f"--{option}", text) for option in options or () for text in found[option]]
    plain = []
    for word in found["words"]:
        key, is_pair, text = word.partition("=")
        if is_pair and key.isidentifier() and (key in keys or not _is_file(word, keys)):
            given.append((key, f"{key}=", _value(command, keys, key, text)))
        else:
            plain.append(Path(word).expanduser())
    values: dict[str, Any] = {}
    for key, written, value in given:
        if key in values:
            raise UserError(f"kdface {command} {' '.join(words)}: {written} is given more than once.")
        values[key] = value
    if not len(things) - optional <= len(plain) <= len(things) or any(key not in values for key in needs):
        usage = " ".join([*names, *(f"{key}=PATH" for key in needs), *([f"[-o {output.upper()}]"] if output else [])])
        raise UserError(
            f"kdface {command} {' '.join(words)}: {f'give {wants}' if wants else 'invalid arguments'}.",
            expected=f"kdface {command} {usage}",
            fix=f"kdface {command} --help",
        )
    where = found.get("output")
    return Given(plain, where and where.expanduser(), values)


def _is_file(word: str, keys: Mapping[str, Any]) -> bool:
    """Whether KEY=TEXT with an unknown key is a file, such as epoch=3.pt, rather than a misspelt key."""
    named = re.search(r"\.[A-Za-z]\w*$", word) and not nearest(word.partition("=")[0], keys)
    return bool(named) or Path(word).expanduser().exists()


def _value(command: str, keys: Mapping[str, Any], key: str, text: str) -> Any:
    """The converted value of `KEY=TEXT`. Raises `UserError` for an unknown key or invalid value."""
    origin = f"command line: {key}={text}"
    if key not in keys:
        raise UserError(
            f"kdface {command} has no key {key!r}.",
            expected=f"one of {', '.join(keys)}" if len(keys) > 1 else "".join(f"{known}=..." for known in keys),
            nearest=nearest(key, keys),
            origin=origin,
        )
    try:
        return adapter(keys[key]).validate_python(_plain(text))
    except ValidationError as error:
        raise UserError(f"{key} = {text!r}: {error.errors()[0]['msg'].lower()}.", origin=origin) from None


def _plain(text: str) -> Any:
    """Parse lists written [112,112]; anything else is text for the key's type to convert."""
    return [part.strip() for part in text[1:-1].split(",")] if text[:1] == "[" and text[-1:] == "]" else text


def tell_passed_over(entries: Sequence[str]) -> None:
    """Print the entries of a folder that are not images."""
    if entries:
        more = ", ..." if len(entries) > 3 else ""
        print(f"skipped  {len(entries)} entries that are not images: {', '.join(entries[:3])}{more}")


def recogniser_of(given: Given) -> Recogniser:
    """The recogniser named by `run=`: a run, a pack or an exported file."""
    from kdface.recogniser.load import load

    return load(given.run)
