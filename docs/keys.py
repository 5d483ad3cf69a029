"""The pages of configuration keys, from conf/: each value with the comment beside it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

# An experiment sets keys that other groups explain, so its file is named by its first line alone.
NAMED_ONLY = "experiment"


@dataclass(frozen=True)
class Key:
    """Attributes:
    name: dotted, from the root of its file.
    default: as YAML writes it; empty for a key that holds further keys.
    comment: the comment on its line; empty if there is none.
    """

    name: str
    default: str
    comment: str


def heading(text: str) -> str:
    """The comment that opens a file, without the line that places it; one line."""
    lines = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith("# @package"):
            lines.append(line.lstrip("# ").rstrip())
    return " ".join(lines[: lines.index("") if "" in lines else None])


def keys(text: str) -> list[Key]:
    """The keys of a file in its order; `defaults`, which chooses among files, is left out."""
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    return list(_walk(node, "", text.splitlines())) if isinstance(node, yaml.MappingNode) else []


def _walk(node: yaml.MappingNode, prefix: str, lines: list[str]) -> Iterator[Key]:
    for key, value in node.value:
        name = f"{prefix}{key.value}"
        if name == "defaults":
            continue
        nested = isinstance(value, yaml.MappingNode) and bool(value.value) and not value.flow_style
        default = "" if nested else _source(value, lines)
        # A value ends on its own line; that of a mapping begins on the line after its key's comment.
        line = lines[key.start_mark.line if nested else value.end_mark.line - (value.end_mark.column == 0)]
        after = line[key.end_mark.column if nested else value.end_mark.column :]
        yield Key(name, default, after.partition("# ")[2].strip())
        if nested:
            yield from _walk(value, f"{name}.", lines)


def _source(value: yaml.Node, lines: list[str]) -> str:
    first, last = value.start_mark, value.end_mark
    if first.line == last.line:
        return lines[first.line][first.column : last.column]
    whole = [lines[first.line][first.column :], *lines[first.line + 1 : last.line], lines[last.line][: last.column]]
    return " ".join(line.split(" # ")[0].strip() for line in whole).strip()


def pages(conf: Path) -> dict[str, str]:
    """A page of Markdown for each config group, and an index, which has the keys of the root."""
    groups = {folder.name: _group(folder) for folder in sorted(conf.iterdir()) if folder.is_dir()}
    index = [
        "# Configuration keys",
        "Made from `conf/` when this site is built. On the command line `kdface list GROUP` prints the choices, "
        "`kdface config why KEY` says where a value was set, and `kdface train --cfg job` prints all of them. "
        "A value of `???` must be given.",
        "Groups: " + ", ".join(f"[{name}]({name}.md)" for name in groups) + ".",
        _table((conf / "config.yaml").read_text(encoding="utf-8"), ""),
    ]
    return {"index": "\n\n".join(index) + "\n", **groups}


def _group(folder: Path) -> str:
    parts = [f"# {folder.name}"]
    for file in sorted(folder.rglob("*.yaml")):
        if file.name.startswith("_"):
            continue
        text = file.read_text(encoding="utf-8")
        name = file.relative_to(folder).with_suffix("").as_posix()
        if folder.name == NAMED_ONLY:
            parts.append(f"- `{folder.name}={name}`: {heading(text)}")
        elif folder.name == "hydra":
            kind, _, choice = name.partition("/")
            parts += [f"## hydra/{kind}={choice}", heading(text), _table(text, f"hydra.{kind}.")]
        else:
            place = "" if text.startswith("# @package _global_") else f"{folder.name}."
            parts += [f"## {folder.name}={name}", heading(text), _table(text, place)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _table(text: str, prefix: str) -> str:
    rows = [
        f"| `{prefix}{key.name}` | {f'`{_cell(key.default)}`' if key.default else ''} | {_cell(key.comment)} |"
        for key in keys(text)
        if key.default or key.comment
    ]
    return "\n".join(["| key | default | meaning |", "|---|---|---|", *rows]) if rows else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
