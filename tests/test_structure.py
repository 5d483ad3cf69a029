"""Rooms import only from rooms below them, modules not in a circle, and private names of a dependency in one place."""

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


# Private names of a dependency -> the one module that uses them.
PRIVATE = {
    "hydra": "kdface.config.hydra_api",
    "Lightning's loops": "kdface.lightning.resume",
    "optuna": "kdface.sweeps.search",
    "torch's buffers": "kdface.precision",
    "torch's DistributedDataParallel": "kdface.heads.partial_fc",
    "torchmetrics": "kdface.metrics.gathered",
}
# Public all the same: of named tuples, the system, Hydra's resolvers and nodes; torch's base of every BatchNorm.
NOT_PRIVATE = {"_asdict", "_replace", "_exit", "_root_", "_target_", "_BatchNorm"}


def _defined(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.Name(id=name, ctx=ast.Store()):
                yield name
            case ast.Attribute(attr=name, ctx=ast.Store()):
                yield name


def test_private_names_of_a_dependency_are_used_in_one_module() -> None:
    own = {name for tree in TREES.values() for name in _defined(tree)} | NOT_PRIVATE
    found = set()
    for module, tree in TREES.items():
        for node in ast.walk(tree):
            match node:
                case ast.Attribute(attr=name):
                    names = [name]
                case ast.ImportFrom(module=str(path), names=aliases) if path != "__future__" and path not in MODULES:
                    names = [*path.split("."), *(alias.name for alias in aliases)]
                case _:
                    continue
            if any(name.startswith("_") and not name.startswith("__") and name not in own for name in names):
                found.add(module)
    assert found == set(PRIVATE.values())
