"""Advice that works when typed: the fix that a message suggests is parsed, applied to the command and run.

A row is a command that makes a mistake. What its message says under `fix` and `nearest` is applied by rule alone:

- `KEY=VALUE ...` takes the place of the word that was wrong, or of the word with that key, or is added; `GROUP=none`
  takes the words `GROUP.KEY=VALUE` away;
- `write NEW in place of OLD` renames a key, on the command line or in the file and line that the message names;
- `remove KEY` takes the word away, `add ~KEY` adds one, `export NAME=VALUE` sets a variable for the command;
- `write the line 'LINE' at the top of FILE` and `save FILE as UTF-8 [without a byte-order mark]` change the file;
- `rm PATH` removes it, and `rm PATH; kdface ...` goes on with that command;
- `kdface ...` is run by itself and must succeed;
- a `nearest` that is a bare name takes the place of the quoted name in the message, on the command line or in a file of
  the current folder.

Alternatives are separated by commas or "or", and all of them are tried. Placeholders are words in capitals or `...`;
a row fills them. Advice in words ("fetch the lists anew") cannot be applied and is counted apart: it is advice in which
these rules find nothing, in any of the texts that the source can make of it (`applicable`).
"""

from __future__ import annotations

import ast
import contextlib
import functools
import importlib
import io
import os
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

import kdface
from kdface.cli import COMMANDS, main
from kdface.errors import UserError
from tests.conftest import TINY, UNTESTED, only_run

PACKAGE = Path(kdface.__file__).parent
_PLACEHOLDER = re.compile(r"\.\.\.|(?<![\w$])[A-Z][A-Z_]{2,}(?![\w(])")
_OVERRIDE = re.compile(r"[+~]{0,2}[A-Za-z_][\w./@]*=\S.*")
T = TypeVar("T")
_REMOVAL = re.compile(r"\brm (?:-r )?([^;,()]+)(?:; kdface ([^;,()]+))?")
_COMMAND = re.compile(rf"kdface (?=(?:{'|'.join(COMMANDS)}|--help)\b)")


@dataclass(frozen=True)
class Row:
    """One mistake.

    Attributes:
        words: the command line, `kdface` left out; or `python` and an expression, whose arguments are its overrides;
            or `sweep-check` and the words of a sweep, which is prepared up to its first job.
        told: text that the message must hold, so that it is this mistake that is fixed.
        set_up: prepares the current folder, an empty one.
        fill: placeholder -> value, or values with spaces between.
        build: `train` does what it does before it trains; by itself it is composed and checked only.
        run: the fixed command is run whole.
        apply: False where the fixed command cannot be tried here (it needs another machine); say why in a comment.
    """

    words: tuple[str, ...]
    told: str
    set_up: Callable[[Path], None] | None = None
    fill: Mapping[str, str] = field(default_factory=dict)
    build: bool = False
    run: bool = False
    apply: bool = True

    @property
    def name(self) -> str:
        return " ".join(word for word in self.words if word not in TINY)[:80]


def tiny(*words: str, told: str, **more: Any) -> Row:
    """A row of `kdface train` on the smallest run that there is."""
    return Row(("train", *TINY, *words), told, **more)


@functools.cache
def trained() -> Path:
    """A run of one step, made once for all rows."""
    runs = Path(tempfile.mkdtemp(prefix="kdface-advice-"))
    assert main(["train", *UNTESTED, "trainer.max_steps=1", f"paths.runs={runs}"]) == 0
    return only_run(runs)


def copied(folder: Path) -> None:
    """The run in run/."""
    shutil.copytree(trained(), folder / "run")


@dataclass
class Tried:
    """What became of a row's suggestions."""

    works: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    in_words: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Suggestion:
    """Attributes:
    kind: override, rename, remove, export, command, rm, swap, instead, or word (the command's own words, misspelt).
    words: what to put in, or the command.
    old: the key, name or paths that go.
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
    elif near and not found and (named := re.search(r"'([^']+)'|looked for at (\S+),", error.problem)):
        found.append(Suggestion("instead", (near,), named[1] or named[2]))
    if near and given:  # the fix of a wrong name takes its place
        key = near.partition("=")[0]
        found = [
            Suggestion("override", suggestion.words, given)
            if suggestion.kind == "override" and suggestion.words[0].lstrip("+").partition("=")[0] == key
            else suggestion
            for suggestion in found
        ]
    return list(dict.fromkeys(found))


def _parsed(text: str) -> Iterator[Suggestion]:
    if renamed := re.match(r"write (\S+) in place of (\S+)$", text):
        yield Suggestion("rename", (renamed[1],), renamed[2])
        return
    if swapped := re.match(r"(\S+=.*) in place of (\S+=.*)$", text):
        yield Suggestion("swap", tuple(swapped[1].split()), swapped[2])
        return
    if removed := re.match(r"remove ([\w.@/]+)(?:$|   |, or )", text):
        yield Suggestion("remove", (), removed[1])
        text = text[removed.end() :]
    if line := re.match(r"write the line '(.+)' at the top of (\S+)$", text):
        yield Suggestion("top", (line[1],), line[2])
        return
    if saved := re.match(r"save (\S+) as UTF-8", text):
        yield Suggestion("save", (), saved[1])
        return
    for gone in _REMOVAL.finditer(text):
        yield Suggestion("rm", tuple(_split(gone[2] or "")), gone[1])
    text = _REMOVAL.sub("", text)
    for number, part in enumerate(_COMMAND.split(text)):
        if number == 0:
            yield from _overrides(part)
            continue
        command = re.split(r"[;)]|,? or |, |   | (?:lists|shows|makes|writes|prints|calls|trains)\b", part)[0]
        yield Suggestion("command", tuple(_split(command)))
        yield from _overrides(part[len(command) :])


def _split(command: str) -> list[str]:
    """The words of a command; of a quote that does not end, as in "the run's", the words as they stand."""
    try:
        return shlex.split(command)
    except ValueError:
        return command.split()


def _overrides(text: str) -> Iterator[Suggestion]:
    """Runs of neighbouring KEY=VALUE words are one suggestion."""
    run: list[str] = []
    export = False
    for token in [*_tokens(text), ""]:
        word = token if token.startswith(("'", '"')) else re.sub(r"(?<!\.)\.$|[;)]+$", "", token.strip("("))
        ends = word.endswith(",")
        word = word.rstrip(",")
        plain = _split(word)[0] if word[:1] in "'\"" and len(word) > 1 else word
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
        case Suggestion("instead", (new,), old):
            for said in (old, Path(old).name):  # a path is said whole, and typed as the user likes
                if any(said in word for word in words):
                    return tuple(word.replace(said, new) for word in words)
            texts = {
                file: file.read_text(encoding="utf-8")
                for file in sorted(Path().rglob("*"))
                if file.suffix in (".yaml", ".csv", ".txt")
            }
            if not any(old in text for text in texts.values()):  # a key of a file, by its place in the tree
                old, new = old.rpartition(".")[2], new.rpartition(".")[2]
            for read, text in texts.items():
                read.write_text(text.replace(old, new), encoding="utf-8")
            return words
        case Suggestion("rm", goes_on, paths):
            for path in map(Path, _split(paths)):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            return goes_on or words
        case Suggestion("word", right, _):
            return (*right, *words[len(right) :])
        case Suggestion("remove", (), old):
            return tuple(word for word in words if word.lstrip("+~").partition("=")[0] != old)
        case Suggestion("override", new, old) if old in words:
            place = words.index(old)
            return (*words[:place], *new, *words[place + 1 :])
        case Suggestion("override", new, _):
            keys = {word.lstrip("+").partition("=")[0] for word in new}  # ~KEY is typed after what it takes away
            none = tuple(f"{word.removesuffix('=none')}." for word in new if word.endswith("=none"))
            kept = (word for word in words if word.lstrip("+~").partition("=")[0] not in keys)
            return (*(word for word in kept if not word.startswith(none)), *new)
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


def _outcome(row: Row, suggestion: Suggestion, said: UserError) -> str:
    """What is still wrong with a suggestion applied; empty: nothing."""
    try:
        if suggestion.kind == "command":
            code = _main(suggestion.words)
            return "" if code == 0 else f"exit code {code}"
        if suggestion.kind == "export":
            os.environ.update({word.partition("=")[0]: word.partition("=")[2] for word in suggestion.words})
            _call(row, row.words)
        else:
            _call(row, apply(row.words, suggestion, said))
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


def _call(row: Row, words: tuple[str, ...]) -> None:
    """A command without its last step, the printing of the error. `train` composes and checks."""
    if words[0] == "python":
        _evaluate(*words[1:])
        return
    if words[0] == "sweep-check":
        from kdface.commands.arguments import parse
        from kdface.commands.session import Session
        from kdface.config.compose import hydra_context

        arguments = parse("train", ["-m", *words[1:]], "")
        with hydra_context(arguments.config_dirs) as hydra:
            session = Session(hydra, arguments)
            session.check()
            jobs = [session.job(number, each) for number, each in enumerate(session.grid or [])]
            if jobs and session.ledger is not None:
                session.launcher.backend(session.ledger, max(job.devices for job in jobs))
        return
    if words[0] == "train" and not row.run:
        _prepare(words, row.build)
        return
    code = _main(words)
    assert code == 0, f"exit code {code}"


def _prepare(words: tuple[str, ...], build: bool) -> None:
    """What `train` does before it trains."""
    from kdface.commands.arguments import parse
    from kdface.config.compose import compose

    arguments = parse("train", list(words[1:]), "")
    tree = compose(arguments.overrides, arguments.config_dirs).tree
    if not build:
        return
    from kdface.config.assemble import assemble, settings_of
    from kdface.runs.ranks import require_launched
    from kdface.runs.trainer import require_trainable

    require_launched(settings_of(tree), tree["seed"])
    job = assemble(tree)
    require_trainable(job)
    job.method.before_training(job.data.training)


def _evaluate(expression: str, *overrides: str) -> None:
    """An expression of kdface's parts, with overrides of its arguments by name."""
    for override in overrides:
        full, _, value = override.partition("=")
        key = full.rpartition(".")[2]
        literal = {"null": "None", "true": "True", "false": "False"}.get(value)
        new = literal or (value if re.fullmatch(r"[\d.e-]+", value) else repr(value))
        expression = re.sub(rf"\b{key}=('[^']*'|\([^)]*\)|[^,)]+)", f"{key}={new}", expression)
    names: dict[str, Any] = {name: importlib.import_module(f"kdface.{name}") for name in _ROOMS}
    for module in ("evaluation.edc", "evaluation.pairs", "reports.claims", "reports.figures", "sweeps.slots"):
        importlib.import_module(f"kdface.{module}")
    parts = importlib.import_module("tests.advice.parts")
    eval(expression, {"np": np, "torch": torch, "Path": Path, "parts": parts, **names})


_ROOMS = ("augmentations", "backbones", "datasets", "evaluation", "faces", "reports", "sweeps")


def _main(words: tuple[str, ...]) -> int:
    """`kdface.cli.main`, with the message of a mistake raised instead of printed."""
    argv, printed = list(sys.argv), io.StringIO()
    with _raised() as raised:
        try:
            with contextlib.redirect_stderr(printed):
                code = main(words)
        finally:
            sys.argv = argv
        told = [error for error in raised if error.problem.splitlines()[0] in printed.getvalue()]
    if code and told:
        raise told[-1]
    return code


raised_at: set[tuple[str, int]] = set()  # (file in the package, line) of every message that was made


@contextlib.contextmanager
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


@dataclass(frozen=True)
class Site:
    """A place of the package that makes a message with a fix.

    Attributes:
        file: in the package.
        first, last: its lines.
        begins: how the message begins.
        applicable: a machine can apply what is suggested; otherwise it is advice in words.
    """

    file: str
    first: int
    last: int
    begins: str
    applicable: bool

    def __str__(self) -> str:
        return f"{self.file}:{self.first} {self.begins}"

    def reached(self, raised: Iterable[tuple[str, int]]) -> bool:
        """Whether one of these messages, by file and line, was made here."""
        return any(at == self.file and self.first <= line <= self.last for at, line in raised)


@functools.cache
def sites() -> list[Site]:
    """Every place that makes a message with a fix of its own. What another message said and is told again
    (`fix=error.fix`) is not counted twice."""
    found = []
    for file in sorted(PACKAGE.rglob("*.py")):
        text = file.read_text(encoding="utf-8")
        nodes = [*ast.walk(ast.parse(text))] if "Error(" in text else []
        values = {
            node.targets[0].id: node.value
            for node in nodes
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
        }
        for node in nodes:
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            given = {keyword.arg: keyword.value for keyword in node.keywords}
            fix = given.get("fix")
            retold = isinstance(fix, ast.Attribute) and fix.attr == "fix"
            if node.func.id not in ("UserError", "DataError") or retold or not given.keys() & {"fix", "nearest"}:
                continue
            texts = [] if fix is None else _texts(fix, values)
            applicable = "nearest" in given or any(text is None or [*_parsed(text)] for text in texts)
            name = file.relative_to(PACKAGE).as_posix()
            found.append(Site(name, node.lineno, node.end_lineno or node.lineno, _start(node), applicable))
    return found


def _texts(node: ast.expr, values: Mapping[str, ast.expr]) -> list[str | None]:
    """Every text that an expression may be, with X for what is only known when it runs; None: nothing is known."""
    match node:
        case ast.Constant():
            return [str(node.value)]
        case ast.IfExp():
            return [*_texts(node.body, values), *_texts(node.orelse, values)]
        case ast.BinOp():
            return _joined(_texts(node.left, values), _texts(node.right, values))
        case ast.JoinedStr():
            whole: list[str | None] = [""]
            for part in node.values:
                inner = part.value if isinstance(part, ast.FormattedValue) else part
                known = isinstance(inner, ast.IfExp | ast.Constant | ast.JoinedStr)
                whole = _joined(whole, _texts(inner, values) if known else ["X"])
            return whole
        case ast.Name() if node.id in values:
            return _texts(values[node.id], {name: each for name, each in values.items() if name != node.id})
    return [None]


def _joined(left: list[str | None], right: list[str | None]) -> list[str | None]:
    return [f"{'X' if one is None else one}{'X' if two is None else two}" for one in left for two in right]


def _start(node: ast.Call) -> str:
    """How a message begins."""
    return re.sub(r"^f?['\"]", "", ast.unparse(node.args[0]))[:70] if node.args else ""
