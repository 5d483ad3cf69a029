"""What a message says under `fix` and `nearest`, applied to the command by rule alone.

- `KEY=VALUE ...` takes the place of the word that was wrong, or of the word with that key, or is added; `GROUP=none`
  takes the words `GROUP.KEY=VALUE` away;
- `write NEW in place of OLD` renames a key, on the command line or in the file and line that the message names;
- `remove KEY` takes the word away, `add ~KEY` and `add -m` add one, `export NAME=VALUE` sets a variable;
- `write the line 'LINE' at the top of FILE` and `save FILE as UTF-8 [without a byte-order mark]` change the file;
- `rm PATH` removes it, and `rm PATH; kdface ...` goes on with that command;
- `kdface ...` is run by itself and must succeed;
- a `nearest` that is a bare name takes the place of the quoted name in the message, on the command line or in a file of
  the current folder.

Alternatives are separated by commas or "or", and all of them are tried. Placeholders are words in capitals or `...`;
a row fills them. Advice in words ("fetch the lists anew") cannot be applied and is counted apart: it is advice in which
these rules find nothing, in any of the texts that the source can make of it (`Site.applicable`).
"""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kdface.cli import COMMANDS
from kdface.errors import UserError

_OVERRIDE = re.compile(r"[+~]{0,2}[A-Za-z_][\w./@]*=\S.*")
_REMOVAL = re.compile(r"\brm (?:-r )?([^;,()]+)(?:; kdface ([^;,()]+))?")
_COMMAND = re.compile(rf"kdface (?=(?:{'|'.join(COMMANDS)}|--help)\b)")


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
    found = [*parsed(error.fix)]
    near = error.nearest
    given = error.origin.removeprefix("command line: ") if error.origin.startswith("command line: ") else ""
    if near.startswith("kdface "):
        found.append(Suggestion("word", tuple(shlex.split(near)[1:])))
    elif _OVERRIDE.fullmatch(near) or near.startswith("~"):
        found.append(Suggestion("override", (near,), given))
    elif near and (named := re.search(r"'([^']+)'", error.problem)) and named[1] in given.partition("=")[2]:
        found.append(Suggestion("instead", (near,), named[1]))
    elif near and given and "=" in given:
        whole = given.lstrip("+~").partition("=")[0]
        within = re.match(rf"unknown key '({re.escape(whole)}\.[^']+)'", error.problem)
        found.append(Suggestion("rename", (near,), within[1] if within else whole))
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


def parsed(text: str) -> Iterator[Suggestion]:
    if renamed := re.match(r"write (\S+) in place of (\S+)$", text):
        yield Suggestion("rename", (renamed[1],), renamed[2])
        return
    if swapped := re.match(r"(\S+=.*) in place of (.+)$", text):
        yield Suggestion("swap", tuple(swapped[1].split()), swapped[2])
        return
    if replaced := re.match(r"remove ([\w.@/]+), and add (.+?)(?:   |$)", text):
        yield Suggestion("remove", tuple(_split(replaced[2])), replaced[1])
        return
    if removed := re.match(r"remove ~?([\w.@/]+)(?:$|   |, or )", text):
        yield Suggestion("remove", (), removed[1])
        text = text[removed.end() :]
    if line := re.match(r"write the line '(.+)' at the top of (\S+)$", text):
        yield Suggestion("top", (line[1],), line[2])
        return
    if saved := re.match(r"save (\S+) as UTF-8", text):
        yield Suggestion("save", (), saved[1])
        return
    if "add -m " in text:
        yield Suggestion("override", ("-m",))
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
            typed = error.origin.removeprefix("command line: ")
            if typed in words:  # a key within its value
                leaf, other = (key.rpartition(".")[2] for key in (old, new))
                return tuple(word.replace(leaf, other) if word == typed else word for word in words)
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
        case Suggestion("remove", more, old):  # with the keys below it
            kept = (word for word in words if not f"{word.lstrip('+~').partition('=')[0]}.".startswith(f"{old}."))
            return (*kept, *more)
        case Suggestion("override", new, old) if old in words:
            place = words.index(old)
            return (*words[:place], *new, *words[place + 1 :])
        case Suggestion("override", new, _):
            keys = {word.lstrip("+").partition("=")[0] for word in new}  # ~KEY is typed after what it takes away
            none = tuple(f"{word.removesuffix('=none')}." for word in new if word.endswith("=none"))
            kept = (word for word in words if word.lstrip("+~").partition("=")[0] not in keys)
            return (*(word for word in kept if not word.startswith(none)), *new)
    raise AssertionError(suggestion)
