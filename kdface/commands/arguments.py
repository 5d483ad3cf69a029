"""Command lines: each command declares its words, KEY=VALUE words and flags once, for parsing and for --help."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn

from kdface.errors import UserError, nearest

# Hydra's flags that kdface lacks -> what to do instead.
_OWN_FILE = "-cd FOLDER experiment=NAME, of your own FOLDER/experiment/NAME.yaml"
_HYDRAS = {
    **{"--config-name": _OWN_FILE, "-cn": _OWN_FILE, "--config-path": _OWN_FILE, "-cp": _OWN_FILE},
    **dict.fromkeys(("--shell-completion", "-sc"), "kdface completion"),
    **dict.fromkeys(("--run", "-r"), "leave it out: one run is what a command without -m trains"),
    "--experimental-rerun": "type the same command again, or kdface run FOLDER",
    "--hydra-help": "kdface train --help",
    "-i": "--info",
}


@dataclass
class Arguments:
    """What was given.

    Attributes:
        overrides: Hydra's words.
        config_dirs: folders of --config-dir.
        things: the other words, such as files.
        words: all words but flags, in order.
        values: key or flag -> its converted value, if given.
    """

    overrides: list[str] = field(default_factory=list)
    config_dirs: list[Path] = field(default_factory=list)
    things: list[str] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)

    @property
    def paths(self) -> list[Path]:
        """The things as paths."""
        return [Path(thing) for thing in self.things]


def is_override(word: str) -> bool:
    """Whether a word is Hydra's: KEY=VALUE or ~KEY."""
    return "=" in word or word.startswith("~")


def no_override(word: str) -> bool:
    """For commands that do not compose: no word is Hydra's."""
    return False


class Parser(argparse.ArgumentParser):
    """A command. Flags are added by `flag` and `config_dir`.

    Args:
        command: its name and action.
        about: what it does.
        things: positional words: `FILE`, `[FILE]` if it may be left out, `RUN ...` for one or more, `[RUN ...]`.
        keys: key -> type of its value.
        needs: required keys.
        overrides: which words are Hydra's.
        output: what -o names; empty: no output.
    """

    def __init__(
        self,
        command: str,
        about: str | None,
        *things: str,
        keys: Mapping[str, Any] = MappingProxyType({}),
        needs: Sequence[str] = (),
        overrides: Callable[[str], bool] = no_override,
        output: str = "",
    ) -> None:
        optional = [f"[{key}=...]" for key in keys if key not in needs]
        hydras = [] if overrides is no_override else ["[OVERRIDE ...]"]
        own = [*things, *(f"{key}=PATH" for key in needs), *optional, *hydras, *([f"[-o {output}]"] if output else [])]
        self.call = " ".join([f"kdface {command}", *own])
        super().__init__(prog=f"kdface {command}", description=about, usage=self.call)
        self.things, self.keys, self.needs, self.is_override = things, keys, needs, overrides
        self.flags = {"-h", "--help"}
        self.add_argument("words", nargs="*", help=argparse.SUPPRESS)
        if output:
            self.flag("--output", "-o", metavar=output, type=Path, help=f"the {output.lower()} to write")

    def flag(self, *names: str, **options: Any) -> Parser:
        """Add a flag, which may be given once, as for `add_argument`."""
        self.add_argument(*names, **{"action": _Once, **options})
        self.flags.update(names)
        return self

    def config_dir(self) -> Parser:
        """Add `--config-dir`, which may be repeated."""
        known = {"type": Path, "dest": "config_dirs", "metavar": "FOLDER", "default": [], "help": "your own YAML"}
        return self.flag("--config-dir", "-cd", action="append", **known)

    def error(self, message: str, expected: str = "") -> NoReturn:
        """Raise `UserError` instead of exiting."""
        raise UserError(f"{self.prog}: {message}.", expected=expected, fix=f"{self.prog} --help")

    def read(self, words: Sequence[str]) -> Arguments:
        """Parse a command line. Raises `UserError` if a word, key, value or flag is invalid, repeated or missing."""
        if self.is_override is not no_override:
            self._require_known(words)
        flags = vars(self.parse_intermixed_args(words))
        given = Arguments(config_dirs=flags.pop("config_dirs", []), words=flags.pop("words"))
        for word in given.words:
            key, is_pair, text = word.lstrip("+").partition("=")
            if is_pair and key in self.keys:
                if key in given.values:
                    self.error(f"{key}= is given more than once")
                given.values[key] = self._value(key, text)
            elif self.is_override(word):
                given.overrides.append(word)
            else:
                if self.is_override is no_override and is_pair and re.fullmatch(r"[A-Za-z_][\w.]*", key):
                    self._require_file(word, key)
                given.things.append(word)
        given.values |= {name: value for name, value in flags.items() if value not in (None, False)}
        self._require_count(given)
        return given

    def _require_known(self, words: Sequence[str]) -> None:
        """Raise `UserError` for a flag of Hydra's that argparse may misread, or an override written as a flag."""
        for word in words:
            name, is_pair, value = word.partition("=")
            if name in self.flags or not (name in _HYDRAS or (is_pair and name.startswith("--"))):
                continue
            override = "" if name in _HYDRAS else f"{name[2:].replace('-', '_')}={value}"
            raise UserError(
                f"{self.prog} has no {name}.",
                nearest=override,
                origin=f"command line: {word}",
                fix=override or _HYDRAS[name],
            )

    def _require_count(self, given: Arguments) -> None:
        """Raise `UserError` for a word or key that is missing, or a word too many."""
        found = len(given.things)
        missing = [thing for thing in self.things[found:] if not thing.startswith("[")]
        missing += [f"{key}=" for key in self.needs if key not in given.values]
        if found > len(self.things) and not any("..." in thing for thing in self.things):
            self.error(f"{given.things[len(self.things)]} is one word too many", self.call)
        if missing:
            self.error(f"{missing[0].removesuffix(' ...')} is missing", self.call)

    def _require_file(self, word: str, key: str) -> None:
        """Raise `UserError` if KEY=TEXT with an unknown key is no file, such as epoch=3.pt, but a misspelt key."""
        near = nearest(key, self.keys)
        if Path(word).exists() or (re.search(r"\.[A-Za-z]\w*$", word) and not near):
            return
        one = "".join(f"{known}=..." for known in self.keys)
        raise UserError(
            f"{self.prog} has no key {key!r}.",
            expected=f"one of {', '.join(self.keys)}" if len(self.keys) > 1 else one,
            nearest=near,
            origin=f"command line: {word}",
            fix="" if self.keys else f"{self.prog} --help",
        )

    def _value(self, key: str, text: str) -> Any:
        """The converted value of KEY=TEXT. Raises `UserError` for an invalid one."""
        from pydantic import ValidationError  # here: `kdface list` starts without it

        from kdface.signature import adapter

        is_list = text[:1] == "[" and text[-1:] == "]"  # [112,112]; the type converts all other text
        plain = [part.strip() for part in text[1:-1].split(",")] if is_list else text
        try:
            return adapter(self.keys[key]).validate_python(plain)
        except ValidationError as error:
            told = error.errors()[0]["msg"].lower()
            raise UserError(f"{key} = {text!r}: {told}.", origin=f"command line: {key}={text}") from None


class _Once(argparse.Action):
    """Stores a value, once."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        if getattr(namespace, self.dest) is not None:
            parser.error(f"{option_string} is given more than once")
        setattr(namespace, self.dest, values)


def act(
    command: str, about: str | None, words: Sequence[str], **actions: tuple[Parser, Callable[[Arguments], int]]
) -> int:
    """Run the action that the first word names, or print what there is for --help. Returns the exit code.

    Args:
        actions: name -> its parser, and what it does.
    """
    if words and words[0] in actions:
        parser, run = actions[words[0]]
        return run(parser.read(words[1:]))
    if words and words[0] in ("-h", "--help"):
        print("\n".join([*(f"usage: {parser.call}" for parser, _ in actions.values()), "", (about or "").strip()]))
        return 0
    near = nearest(words[0], actions) if words else ""
    raise UserError(
        f"{' '.join(['kdface', command, *words])}: invalid arguments.",
        expected=", ".join(parser.call for parser, _ in actions.values()),
        nearest=f"kdface {command} {near}" if near else "",
        fix=f"kdface {command} --help",
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
