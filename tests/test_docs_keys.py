"""The pages of configuration keys say of each key in conf/ its value and the comment beside it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from docs.keys import Key, heading, keys, pages

CONF = Path(__file__).resolve().parent.parent / "conf"
WRITTEN = """\
# @package _global_
# What the file is
# in two lines
#
# kdface train -m

defaults: [a, b]
plain: 1 # one
text: "a # b" # a hash in quotes
none: # empty
flow: {a: 1, b: [2, 3]} # a mapping in one line
part: # parts
  inner:
    deep: null # nothing: null
    list: [1,
           2] # over two lines
bare: x
"""


def test_the_keys_of_a_file() -> None:
    assert keys(WRITTEN) == [
        Key("plain", "1", "one"),
        Key("text", '"a # b"', "a hash in quotes"),
        Key("none", "", "empty"),
        Key("flow", "{a: 1, b: [2, 3]}", "a mapping in one line"),
        Key("part", "", "parts"),
        Key("part.inner", "", ""),
        Key("part.inner.deep", "null", "nothing: null"),
        Key("part.inner.list", "[1, 2]", "over two lines"),
        Key("bare", "x", ""),
    ]
    assert heading(WRITTEN) == "What the file is in two lines"


def _flat(values: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in values.items():
        yield f"{prefix}{key}"
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")


@pytest.fixture(scope="module")
def written() -> dict[str, str]:
    return pages(CONF)


def test_no_key_is_left_out(written: dict[str, str]) -> None:
    """Against YAML's own loader, which knows nothing of comments and lines."""
    for file in CONF.rglob("*.yaml"):
        text = file.read_text(encoding="utf-8")
        loaded = yaml.safe_load(text) or {}
        known = {name for name in _flat(loaded) if not name.startswith("defaults")}
        found = {key.name: key for key in keys(text)}
        within = {name for name, key in found.items() if key.default.startswith(("{", "&"))}
        assert {name for name in known if not any(name.startswith(f"{outer}.") for outer in within)} == set(found), file
        for key in found.values():
            values = loaded
            for part in key.name.split("."):
                values = values[part]
            if key.default and "&" not in key.default and "*" not in key.default:
                assert yaml.safe_load(key.default) == values, (file, key)
            if key.comment and file.parent.name not in ("experiment", *(p.name for p in CONF.glob("experiment/*"))):
                assert key.comment.replace("|", "\\|") in written[_group(file)], (file, key)


def _group(file: Path) -> str:
    return "index" if file.parent == CONF else file.relative_to(CONF).parts[0]


def test_pages_name_each_choice(written: dict[str, str]) -> None:
    assert {"head", "method", "experiment", "hydra"} < set(written)
    assert "| `head.margin` | `0.5` | m in radians, added to the target's angle |" in written["head"]
    assert "## hydra/launcher=slurm" in written["hydra"]
    assert "- `experiment=demo`: Two minutes on two CPU cores" in written["experiment"]
