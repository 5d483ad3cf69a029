"""Seeded damage to one file: bytes, lines, fields, values of JSON and YAML, or the file itself."""

from __future__ import annotations

import copy
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import yaml

_DEEP = 300  # lists in each other
# What a field of a text may turn into.
FIELDS = (
    *("", " ", "nan", "NaN", "inf", "-inf", "-1", "0", "1", "1.5", "1e999", "1e308", "-0", "+7", "0x10", "1_000"),
    *("9" * 30, "9" * 5000, "2147483648", "9223372036854775808", "\u0663", "\u00b2", "\uff17", "\ufeff"),
    *('"', "'", ",", ",,,,", "\t", "\n", "\r", "a b", "\x00", "\x1b[2J", "\x1b]0;x\x07", "\u2028", "\u202e", "\ud800"),
    *("/", "//", "../../x", "/etc/passwd", "~", "C:\\x", "x" * 300, "x" * 70_000, "e\u0301", "=1+1", "@SUM(1)"),
    *("null", "true", "yes", "{}", "[]", "${oc.env:HOME}", "${x}", "{test}", "%s", "*", "&a", "!!python/object:os.x"),
)
# What a value of a tree may turn into.
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 1.5, -0.0, 10**30, -(10**30), 2**63, 2**31, 1e308, 1e-320),
    *(float("nan"), float("inf"), float("-inf"), "", "x", "nan", "\x1b[2J", "\x00", "../../x", "/etc/passwd", "=1+1"),
    *("x" * 70_000, [], {}, [[]], [None], {"": 0}, {"value": {}}, {"_target_": "os.system"}, [1, "x", None, []]),
)


def spoil(path: Path, rng: Random) -> str:
    """Damage a file in one of the ways that fit its kind; returns what was done, in words."""
    suffix = path.suffix
    ways: list[Callable[[Path, Random], str]] = [_bytes, _bytes]
    if suffix in (".json", ".yaml"):
        ways += [_tree, _tree, _tree, _lines, _field]
    elif suffix == ".jsonl":
        ways += [_json_line, _json_line, _lines, _field]
    elif suffix in (".csv", ".txt", ".idx", ".lst", "", ".lock"):
        ways += [_lines, _field, _field, _field]
    if rng.random() < 0.04:
        ways = [_itself]
    return rng.choice(ways)(path, rng)


def _bytes(path: Path, rng: Random) -> str:
    data = bytearray(path.read_bytes())
    if not data:
        path.write_bytes(b"\x00")
        return "a NUL in an empty file"
    at, length = rng.randrange(len(data)), rng.choice((1, 2, 4, 64, 1000))
    what = rng.choice(("bit", "bits", "cut", "empty", "zeros", "ones", "noise", "twice", "out", "tail", "start", "utf"))
    if what == "bit":
        data[at] ^= 1 << rng.randrange(8)
    elif what == "bits":
        for _ in range(rng.choice((2, 8, 100))):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif what == "cut":
        del data[at:]
    elif what == "empty":
        data.clear()
    elif what == "zeros":
        data[at : at + length] = bytes(len(data[at : at + length]))
    elif what == "ones":
        data[at : at + length] = b"\xff" * len(data[at : at + length])
    elif what == "noise":
        data[at:at] = rng.randbytes(length)
    elif what == "twice":
        data[at:at] = data[at : at + length]
    elif what == "out":
        del data[at : at + length]
    elif what == "tail":
        data += rng.choice((b"\n", b"\x00", b"\xff\xfe", b"}", b"x" * 5000))
    elif what == "start":
        data[:0] = rng.choice((b"\xef\xbb\xbf", b"\xff\xfe", b"\n\n", b"#", b"\x80"))
    else:
        data[at:at] = rng.choice((b"\xff", b"\xc3\x28", b"\xed\xa0\x80", b"\xe4"))
    path.write_bytes(bytes(data))
    return f"bytes: {what} at {at}, {length}"


def _lines(path: Path, rng: Random) -> str:
    lines = path.read_bytes().split(b"\n")
    at = rng.randrange(len(lines))
    what = rng.choice(("out", "twice", "swapped", "blank", "CRLF", "many", "joined", "cut", "first out"))
    if what == "out":
        del lines[at]
    elif what == "twice":
        lines.insert(at, lines[at])
    elif what == "swapped":
        other = rng.randrange(len(lines))
        lines[at], lines[other] = lines[other], lines[at]
    elif what == "blank":
        lines.insert(at, rng.choice((b"", b"   ", b"\t", b",", b"#")))
    elif what == "CRLF":
        lines = [line + b"\r" for line in lines]
    elif what == "many":
        lines[at:at] = [lines[at]] * 200
    elif what == "joined" and at + 1 < len(lines):
        lines[at : at + 2] = [lines[at] + lines[at + 1]]
    elif what == "cut":
        lines[at] = lines[at][: rng.randrange(len(lines[at]) + 1)]
    else:
        del lines[0]
    path.write_bytes(b"\n".join(lines))
    return f"lines: {what} at {at}"


def _field(path: Path, rng: Random) -> str:
    """Another word in the place of one, separators as they are."""
    text = path.read_text(encoding="utf-8", errors="surrogateescape")
    places = [at for at, letter in enumerate(text) if letter in ",\t \n:"]
    if not places:
        return _bytes(path, rng)
    start = rng.choice(places) + 1
    end = next((at for at in places if at >= start), len(text))
    new = rng.choice(FIELDS)
    path.write_bytes((text[:start] + new + text[end:]).encode("utf-8", "surrogatepass"))
    return f"field: {text[start:end][:20]!r} is {new[:20]!r}"


def _tree(path: Path, rng: Random) -> str:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".yaml" and rng.random() < 0.25:
        return _yaml_text(path, text, rng)
    tree, told = damaged_tree(json.loads(text) if path.suffix == ".json" else yaml.safe_load(text), rng)
    if path.suffix == ".json":
        path.write_bytes(json.dumps(tree).encode("utf-8", "surrogatepass"))
    else:
        header = "".join(line + "\n" for line in text.splitlines() if line.startswith("# @package"))
        path.write_text(header + yaml.safe_dump(tree), encoding="utf-8")
    return told


def _json_line(path: Path, rng: Random) -> str:
    lines = path.read_text(encoding="utf-8").splitlines()
    at = rng.randrange(len(lines))
    tree, told = damaged_tree(json.loads(lines[at]), rng)
    lines[at] = json.dumps(tree)
    path.write_bytes(("\n".join(lines) + "\n").encode("utf-8", "surrogatepass"))
    return f"line {at}: {told}"


def damaged_tree(tree: Any, rng: Random) -> tuple[Any, str]:
    """A copy of a tree with a value changed, taken out, renamed, doubled or put deep into lists, and what was done."""
    tree = {"root": copy.deepcopy(tree)}
    node, key, name = rng.choice(list(_places(tree, "")))
    what = rng.choice(("value", "value", "value", "out", "renamed", "deep", "in a list", "number", "wide"))
    if what == "out" and name != ".root":
        del node[key]
    elif what == "renamed" and isinstance(node, dict) and name != ".root":
        node[rng.choice(("", "x", "_target_", f"{key} ", "\x1b[2J"))] = node.pop(key)
    elif what == "deep":
        for _ in range(_DEEP):
            node[key] = [node[key]]
    elif what == "in a list":
        node[key] = [node[key]]
    elif what == "number" and isinstance(node[key], int | float):
        node[key] = rng.choice((-node[key], node[key] * 10**6, str(node[key]), node[key] + 0.5))
    elif what == "wide":
        node[key] = [node[key]] * 50
    else:
        node[key] = copy.deepcopy(rng.choice(VALUES))
        what = f"{what} {str(node[key])[:30]!r}"
    return tree["root"], f"tree{name}: {what}"


def _places(tree: Any, name: str) -> Iterator[tuple[Any, Any, str]]:
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
        yield tree, key, f"{name}.{key}"
        if isinstance(value, dict | list):
            yield from _places(value, f"{name}.{key}")


def _yaml_text(path: Path, text: str, rng: Random) -> str:
    """What only YAML has: tags, aliases, dates, other numbers, keys that are no texts, tabs, several documents."""
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
    bomb += "".join(f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]\n" for k in range(1, 10))
    more = rng.choice(
        (
            *(bomb, "x: !!python/object/apply:os.system [ls]\n", "x: !foo 1\n", "x: 2020-01-01\n", "x: !!binary aaa\n"),
            *("? [1, 2]\n: 3\n", "1: 2\n", "null: 3\n", "x: 1_0\n", "x: 0o17\n", "x: 12:30:45\n", "\tx: 1\n", "---\n"),
            *("x: &x [*x]\n", "x: *none\n", "<<: *none\n", "<<: 3\n", "x: {a: 1, a: 2}\n", "x: [" * 400 + "\n"),
            *("x: [1, 2\n", "x: 'a\n", "%TAG ! x\n", "x: .nan\n", "x: ${y}\n", "x: ???\n", "x: !!float x\n", "@x: 1\n"),
            *("x: !!set {a, b}\n", "x: !!int a\n", "x: 2020-99-99\n", f"x: {'9' * 5000}\n", "x: !!timestamp a\n"),
        )
    )
    lines = text.splitlines(keepends=True)
    at = rng.randrange(len(lines) + 1)
    if rng.random() < 0.3 and ": " in text:  # in the place of a value
        head, _, tail = text.partition(": ")
        path.write_text(f"{head}: {more.partition(': ')[2] or 'x'}{tail.partition(chr(10))[2]}", encoding="utf-8")
    else:
        path.write_text("".join([*lines[:at], more, *lines[at:]]), encoding="utf-8")
    return f"YAML: {more[:30]!r} at line {at}"


def _itself(path: Path, rng: Random) -> str:
    """Something else in the place of the file."""
    what = rng.choice(
        ("nothing", "folder", "pipe", "dangling link", "link to itself", "link to zeros", "link to a folder")
    )
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    if what == "folder":
        path.mkdir()
    elif what == "pipe":
        os.mkfifo(path)
    elif "link" in what:
        target = {"dangling link": "nowhere", "link to itself": path.name, "link to zeros": "/dev/zero"}.get(what, "/")
        path.symlink_to(target)
    return f"in its place: {what}"
