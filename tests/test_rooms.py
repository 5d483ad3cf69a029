"""Rooms import only from rooms below them, also inside functions; modules do not import each other in a circle."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import kdface

PACKAGE = Path(kdface.__file__).parent
# From the bottom to the top; a room may use those before it. BASE and FACE are the modules beside the rooms.
ROOMS = (
    *("BASE", "config", "augmentations", "datasets", "losses", "heads", "backbones", "teachers", "evaluation"),
    *("metrics", "methods", "runs", "lightning", "assembly", "recogniser", "training", "sweeps", "reports"),
    *("commands", "FACE"),
)
BESIDE = {"kdface": "BASE", "kdface.cli": "commands", "kdface.__main__": "FACE", "kdface.api": "FACE"}
MODULES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
TREES = {module: ast.parse(path.read_text(encoding="utf-8")) for module, path in MODULES.items()}


def _room(module: str) -> str:
    if module in BESIDE:
        return BESIDE[module]
    name = module.split(".")[1]
    return name if (PACKAGE / name).is_dir() else "BASE"


def _imports(nodes: Iterator[ast.AST] | list[ast.stmt]) -> Iterator[str]:
    """Modules of kdface that are imported by some nodes of a file, other than for type checking."""
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module in MODULES:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in MODULES else node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)


def _everywhere(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
            yield node
            yield from _everywhere(node)


def test_rooms_import_only_from_rooms_below() -> None:
    upwards = [
        f"{module} ({_room(module)}) imports {used} ({_room(used)})"
        for module, tree in TREES.items()
        for used in _imports(_everywhere(tree))
        if ROOMS.index(_room(used)) > ROOMS.index(_room(module))
    ]
    assert not upwards


def test_no_modules_import_each_other() -> None:
    graph = {module: set(_imports(tree.body)) - {module} for module, tree in TREES.items()}
    assert len(list(TopologicalSorter(graph).static_order())) == len(MODULES)  # raises CycleError
