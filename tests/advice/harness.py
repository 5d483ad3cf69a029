"""Advice that works when typed: the fix that a message suggests is parsed, applied to the command and run.

A row is a command that makes a mistake. What its message says under `fix` and `nearest` is applied by rule alone:

- `KEY=VALUE ...` takes the place of the word that was wrong, or of the word with that key, or is added;
- `write NEW in place of OLD` renames a key, on the command line or in the file and line that the message names;
- `remove KEY` takes the word away, `add ~KEY` adds one, `export NAME=VALUE` sets a variable for the command;
- `write the line 'LINE' at the top of FILE` and `save FILE as UTF-8 [without a byte-order mark]` change the file;
- `kdface ...` is run by itself and must succeed.

Alternatives are separated by commas or "or", and all of them are tried. Placeholders are words in capitals or `...`;
a row fills them. Advice in words ("fetch the lists anew") cannot be applied and is counted apart.
"""

from __future__ import annotations

import ast
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import kdface
from kdface.cli import COMMANDS, main
from kdface.errors import UserError
from tests.conftest import TINY

PACKAGE = Path(kdface.__file__).parent
_PLACEHOLDER = re.compile(r"\.\.\.|(?<![\w$])[A-Z][A-Z_]{2,}(?![\w(])")
_OVERRIDE = re.compile(r"[+~]{0,2}[A-Za-z_][\w./@]*=\S.*")
T = TypeVar("T")
_COMMAND = re.compile(rf"kdface (?=(?:{'|'.join(COMMANDS)}|--help)\b)")


@dataclass(frozen=True)
class Row:
    """One mistake.

    Attributes:
        words: the command line, `kdface` left out.
        told: text that the message must hold, so that it is this mistake that is fixed.
        set_up: prepares the current folder, an empty one.
        fill: placeholder -> value.
        run: the fixed command is run whole; otherwise `train` is composed and checked only.
        apply: False where the fixed command cannot be tried here (it needs another machine); say why in a comment.
    """

    words: tuple[str, ...]
    told: str
    set_up: Callable[[Path], None] | None = None
    fill: Mapping[str, str] = field(default_factory=dict)
    run: bool = False
    apply: bool = True

    @property
    def name(self) -> str:
        return " ".join(word for word in self.words if word not in TINY)[:80]


def tiny(*words: str, told: str, **more: Any) -> Row:
    """A row of `kdface train` on the smallest run that there is."""
    return Row(("train", *TINY, *words), told, **more)


@dataclass
class Tried:
    """What became of a row's suggestions."""

    works: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    in_words: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Suggestion:
    """Attributes:
    kind: override, rename, remove, export, command, or word (the command's own words, misspelt).
    words: what to put in, or the command.
    old: the key that goes.
    """

    kind: str
    words: tuple[str, ...]
    old: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {' '.join(self.words)} {self.old}".rstrip()


def suggestions(error: UserError) -> list[Suggestion]:
    """What a message suggests, as far as it can be applied by rule."""
    found = [*_parsed(error.fix)]
    near = error.nearest
    given = error.origin.removeprefix("command line: ") if error.origin.startswith("command line: ") else ""
    if near.startswith("kdface "):
        found.append(Suggestion("word", tuple(shlex.split(near)[1:])))
    elif _OVERRIDE.fullmatch(near) or near.startswith("~"):
        found.append(Suggestion("override", (near,), given))
    elif near and given and "=" in given:
        found.append(Suggestion("rename", (near,), given.lstrip("+~").partition("=")[0]))
    if near and given:  # the fix of a wrong name takes its place
        key = near.partition("=")[0]
        found = [
            Suggestion("override", each.words, given)
            if each.kind == "override" and each.words[0].lstrip("+").partition("=")[0] == key
            else each
            for each in found
        ]
    return list(dict.fromkeys(found))


def _parsed(text: str) -> Iterator[Suggestion]:
    if renamed := re.match(r"write (\S+) in place of (\S+)$", text):
        yield Suggestion("rename", (renamed[1],), renamed[2])
        return
    if swapped := re.match(r"(\S+=.*) in place of (\S+=.*)$", text):
        yield Suggestion("swap", tuple(swapped[1].split()), swapped[2])
        return
    if removed := re.match(r"remove ([\w.@/]+)(?:$|   )", text):
        yield Suggestion("remove", (), removed[1])
        text = text[removed.end() :]
    if line := re.match(r"write the line '(.+)' at the top of (\S+)$", text):
        yield Suggestion("top", (line[1],), line[2])
        return
    if saved := re.match(r"save (\S+) as UTF-8", text):
        yield Suggestion("save", (), saved[1])
        return
    for number, part in enumerate(_COMMAND.split(text)):
        if number == 0:
            yield from _overrides(part)
            continue
        command = re.split(r"[;)]|,? or |, |   | (?:lists|shows|makes|writes|prints|calls)\b", part)[0]
        yield Suggestion("command", tuple(shlex.split(command)))
        yield from _overrides(part[len(command) :])


def _overrides(text: str) -> Iterator[Suggestion]:
    """Runs of neighbouring KEY=VALUE words are one suggestion."""
    run: list[str] = []
    export = False
    for token in [*_tokens(text), ""]:
        word = token if token.startswith(("'", '"')) else re.sub(r"(?<!\.)\.$|[;)]+$", "", token.strip("("))
        ends = word.endswith(",")
        word = word.rstrip(",")
        plain = shlex.split(word)[0] if word[:1] in "'\"" and len(word) > 1 else word
        if _OVERRIDE.fullmatch(plain) or (run == [] and re.fullmatch(r"~[\w.@/]+", plain)):
            run.append(plain)
            if not ends:
                continue
        if run:
            yield Suggestion("export" if export else "override", tuple(run))
            run = []
        export = word == "export"


def _tokens(text: str) -> list[str]:
    return re.findall(r"'[^']*'|\"[^\"]*\"|\S*\[[^\]]*\]\S*|\S*\{[^}]*\}\S*|\S+", text)


def apply(words: tuple[str, ...], suggestion: Suggestion, error: UserError) -> tuple[str, ...]:
    """The command with a suggestion applied; a file that the message names is edited where it lies."""
    match suggestion:
        case Suggestion("rename", (new,), old):
            given = next((word for word in words if word.lstrip("+~").partition("=")[0] == old), None)
            if given is not None:
                return tuple(f"{new}={word.partition('=')[2]}" if word == given else word for word in words)
            file, _, number = error.origin.rpartition(":")
            lines = Path(file).read_text(encoding="utf-8").splitlines()
            lines[int(number) - 1] = lines[int(number) - 1].replace(old.rpartition(".")[2], new.rpartition(".")[2], 1)
            Path(file).write_text("\n".join([*lines, ""]), encoding="utf-8")
            return words
        case Suggestion("swap", new, old):
            return (*(word for word in words if word not in old.split()), *new)
        case Suggestion("top", (line,), file):
            Path(file).write_text(f"{line}\n{Path(file).read_text(encoding='utf-8')}", encoding="utf-8")
            return words
        case Suggestion("save", (), file):
            raw = Path(file).read_bytes()
            marked = raw.startswith(b"\xef\xbb\xbf")
            Path(file).write_text(raw.decode("utf-8-sig" if marked else "latin-1"), encoding="utf-8")
            return words
        case Suggestion("word", right, _):
            return (*right, *words[len(right) :])
        case Suggestion("remove", (), old):
            return tuple(word for word in words if word.lstrip("+~").partition("=")[0] != old)
        case Suggestion("override", new, old) if old in words:
            place = words.index(old)
            return (*words[:place], *new, *words[place + 1 :])
        case Suggestion("override", new, _):
            keys = {word.lstrip("+~").partition("=")[0] for word in new}
            return (*(word for word in words if word.lstrip("+~").partition("=")[0] not in keys), *new)
    raise AssertionError(suggestion)


def mistake(row: Row) -> UserError:
    """The message that a row's command gives."""
    with _raised() as raised:
        try:
            _call(row, row.words)
        except UserError as error:
            return error
    raise AssertionError(f"no mistake: {row.name} ({raised})")


def attempt(row: Row, folder: Path) -> Tried:
    """Make the mistake and try each suggestion of its message from a fresh folder."""
    tried = Tried()
    error = _afresh(row, folder / "mistake", lambda: mistake(row))
    assert row.told in str(error), f"told another mistake:\n{error}"
    found = suggestions(error)
    if not found and (error.fix or error.nearest):
        tried.in_words.append(error.fix or error.nearest)
    for number, suggestion in enumerate(found):
        filled = _filled(suggestion, row)
        if filled is None or not row.apply:
            tried.in_words.append(str(suggestion))
            continue

        def fixed(number: int = number) -> str:
            said = mistake(row)
            suggestion = _filled(suggestions(said)[number], row)
            assert suggestion is not None
            try:
                if suggestion.kind == "command":
                    code = _main(suggestion.words)
                    return "" if code == 0 else f"exit code {code}"
                if suggestion.kind == "export":
                    os.environ.update({word.partition("=")[0]: word.partition("=")[2] for word in suggestion.words})
                    _call(row, row.words)
                else:
                    _call(row, apply(row.words, suggestion, said))
            except UserError as again:
                return str(again)
            return ""

        before = dict(os.environ)
        try:
            problem = _afresh(row, folder / f"suggestion{number}", fixed)
        finally:
            os.environ.clear()
            os.environ.update(before)
        if problem:
            tried.wrong.append(f"{filled}\n--- mistake\n{error}\n--- after it\n{problem}")
        else:
            tried.works.append(str(filled))
    return tried


def _filled(suggestion: Suggestion, row: Row) -> Suggestion | None:
    words = []
    for word in suggestion.words:
        for name, value in row.fill.items():
            word = word.replace(name, value)
        if _PLACEHOLDER.search(word):
            return None
        words.append(word)
    return Suggestion(suggestion.kind, tuple(words), suggestion.old)


def _afresh(row: Row, folder: Path, act: Callable[[], T]) -> T:
    folder.mkdir(parents=True)
    before = Path.cwd()
    os.chdir(folder)
    try:
        if row.set_up is not None:
            row.set_up(folder)
        return act()
    finally:
        os.chdir(before)


def _call(row: Row, words: tuple[str, ...]) -> None:
    """A command without its last step, the printing of the error. `train` composes and checks."""
    if words[0] == "train" and not row.run:
        from kdface.commands.arguments import parse
        from kdface.config.compose import compose

        arguments = parse("train", list(words[1:]), "")
        compose(arguments.overrides, arguments.config_dirs)
        return
    code = _main(words)
    assert code == 0, f"exit code {code}"


def _main(words: tuple[str, ...]) -> int:
    """`kdface.cli.main`, with the message of a mistake raised instead of printed."""
    argv, caught = list(sys.argv), []
    with _raised() as raised:
        try:
            code = main(words)
        finally:
            sys.argv = argv
        caught = list(raised)
    if code == 2 and caught:
        raise caught[-1]
    return code


raised_at: set[tuple[str, int]] = set()  # (file in the package, line) of every message that was made


@contextmanager
def _raised() -> Iterator[list[UserError]]:
    """The messages made meanwhile, in their order; where they were made is kept in `raised_at`."""
    made: list[UserError] = []
    original = UserError.__init__

    def noting(self: UserError, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        made.append(self)
        frame = sys._getframe(1)
        file = Path(frame.f_code.co_filename)
        if file.is_relative_to(PACKAGE):
            raised_at.add((file.relative_to(PACKAGE).as_posix(), frame.f_lineno))

    UserError.__init__ = noting  # type: ignore[method-assign]
    try:
        yield made
    finally:
        UserError.__init__ = original  # type: ignore[method-assign]


def sites() -> dict[str, tuple[str, int, int]]:
    """Every place of the package that makes a message with a fix: name -> (file, first line, last line)."""
    found = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        name = file.relative_to(PACKAGE).as_posix()
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            if node.func.id in ("UserError", "DataError") and {key.arg for key in node.keywords} & {"fix", "nearest"}:
                end = node.end_lineno or node.lineno
                found[f"{name}:{node.lineno} {_start(node)}"] = (name, node.lineno, end)
    return found


def _start(node: ast.Call) -> str:
    """How a message begins."""
    return re.sub(r"^f?['\"]", "", ast.unparse(node.args[0]))[:70] if node.args else ""


def untried() -> list[str]:
    """The places that no row has reached so far in this process."""
    return [
        place
        for place, (file, first, last) in sites().items()
        if not any(at == file and first <= line <= last for at, line in raised_at)
    ]
