"""Resolve a `_target_` to its callable and parameters.

A configuration may come from an untrusted folder, so it may name only allowed callables. One policy applies to every
`_target_` of a tree, including Hydra's own node:

- the exports (`__all__`) of kdface's packages of parts (`PART_ROOMS`),
- common classes of the ecosystem, by package and base class (`ECOSYSTEM`), and the functions of `FUNCTIONS`,
- anything defined in the packages listed by the user in `$KDFACE_PLUGINS` (comma-separated), which are installed, on
  PYTHONPATH, or in the current folder. Nothing else is imported from there, so that data in it never runs as code,
- as `hydra.launcher` and `hydra.sweeper`: those of `HYDRA_PARTS`, and nothing else in Hydra's own node.

None of these runs a program or loads a pickle when built. `require_targets(tree)` checks the names of a whole tree
without importing anything. The check of a configuration (`kdface.config.check`), before anything is built, checks those
of its parts with their signatures, and those below any other value in this way. `locate(target)` checks and imports one
name, and is the only way to get from a `_target_` to a callable.
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass
from dataclasses import fields as fields_of
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

from kdface.errors import UserError, nearest

PART_ROOMS = (
    "kdface.augmentations",
    "kdface.backbones",
    "kdface.datasets",
    "kdface.evaluation",
    "kdface.heads",
    "kdface.losses",
    "kdface.methods",
    "kdface.methods.schedules",
    "kdface.methods.start",
    "kdface.lightning",
    "kdface.teachers",
    "kdface.teachers.quality",
)
# A package with its submodules -> the allowed base classes.
ECOSYSTEM: dict[str, tuple[str, ...]] = {
    "torch.optim.lr_scheduler": ("torch.optim.lr_scheduler.LRScheduler",),
    "torch.optim": ("torch.optim.Optimizer",),
    "torch.nn": ("torch.nn.Module",),
    "pytorch_lightning.callbacks": ("pytorch_lightning.Callback",),
    "pytorch_lightning.loggers": ("pytorch_lightning.loggers.Logger",),
    "pytorch_lightning.profilers": ("pytorch_lightning.profilers.Profiler",),
    "pytorch_lightning.strategies": ("pytorch_lightning.strategies.Strategy",),
    "pytorch_lightning.plugins": (
        "pytorch_lightning.plugins.Precision",
        "pytorch_lightning.plugins.CheckpointIO",
        "pytorch_lightning.plugins.LayerSync",
        "lightning_fabric.plugins.ClusterEnvironment",
    ),
    "torchmetrics": ("torchmetrics.Metric", "torchmetrics.MetricCollection"),
    "albumentations": (
        "albumentations.BasicTransform",
        "albumentations.BaseCompose",
        "albumentations.KeypointParams",
        "albumentations.BboxParams",
    ),
}
FUNCTIONS = ("timm.create_model",)
PROCESSES = "kdface.sweeps.process.Processes"
BASIC_SWEEPER = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"  # marks a grid; not built
# A node of Hydra's own -> what it may name.
HYDRA_PARTS: dict[str, tuple[str, ...]] = {
    "hydra.launcher": (PROCESSES, "kdface.sweeps.slurm.Slurm", "kdface.sweeps.ray.Ray"),
    "hydra.sweeper": (BASIC_SWEEPER, "kdface.sweeps.space.random_points", "kdface.sweeps.search.Search"),
}


def plugins() -> list[str]:
    """The packages trusted by the user: `$KDFACE_PLUGINS`."""
    return [name.strip() for name in os.environ.get("KDFACE_PLUGINS", "").split(",") if name.strip()]


class CurrentFolder(MetaPathFinder):
    """Finds the user's packages in the current folder if they are not available elsewhere."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find modules of the user's packages, and no others, in the current folder."""
        if path is not None or fullname not in plugins():
            return None
        return PathFinder.find_spec(fullname, [os.getcwd()], target)


sys.meta_path.append(CurrentFolder())


@dataclass(frozen=True)
class Parameter:
    """A parameter of a callable: its type hint, whether it has a default, and its value (null: none, or made by a
    factory)."""

    hint: Any
    required: bool
    default: Any = None


class Parameters(dict[str, Parameter]):
    """The named parameters of a callable. `any_key`: it accepts additional keywords."""

    def __init__(self, named: Mapping[str, Parameter], any_key: bool) -> None:
        super().__init__(named)
        self.any_key = any_key


def locate(target: object, *, origin: str = "", path: str = "") -> Callable[..., Any]:
    """The callable named by `target` ("package.module.Name"), of the node at a dotted path.

    Raises:
        UserError: it is not a dotted name, is not allowed, or does not exist.
    """
    module_name, name = require_target(target, origin=origin, path=path)
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in plugins():
            where = "a module or package in the current folder, on PYTHONPATH, or installed"
            raise UserError(f"_target_ {target!r}: {error}.", expected=where, origin=origin) from error
        install = f"pip install {missing}" if missing and missing == module_name.partition(".")[0] else ""
        raise UserError(f"_target_ {target!r}: {error}.", origin=origin, fix=install) from error
    require_exported(name, module_name, _exported(module), origin)
    return typing.cast(Callable[..., Any], getattr(module, name))


def require_exported(name: str, module: str, exported: list[str], origin: str) -> None:
    """Raise `UserError` for a name that a module does not export."""
    if name not in exported:
        raise UserError(
            f"_target_ '{module}.{name}': {module} exports no {name!r}.",
            nearest=f"{module}.{near}" if (near := nearest(name, exported)) else "",
            origin=origin,
        )


def require_target(target: object, *, origin: str = "", path: str = "") -> tuple[str, str]:
    """Split an allowed `_target_` of the node at a dotted path into module and name, without importing it.

    Raises:
        UserError: it is not a dotted name, or is not allowed.
    """
    names = target.split(".") if isinstance(target, str) else []
    if len(names) < 2 or not all(name.isidentifier() for name in names):
        raise UserError(
            f"_target_ is {target!r}.", expected="a dotted name such as kdface.heads.CosFace", origin=origin
        )
    module = ".".join(names[:-1])
    if path.startswith("hydra."):
        if target in HYDRA_PARTS.get(path, ()):
            return module, names[-1]
        raise UserError(
            f"{path}._target_ = {target!r} is not allowed here.",
            expected="hydra/launcher=process, slurm or ray; hydra/sweeper=basic, random or optuna",
            nearest=nearest(str(target), HYDRA_PARTS.get(path, ())),
            origin=origin,
            fix="" if path in HYDRA_PARTS else "remove it; training callbacks belong in the group callbacks",
        )
    if module in PART_ROOMS or _within(module, (*ECOSYSTEM, *plugins())) or target in FUNCTIONS:
        return module, names[-1]
    twin = ".".join(names).replace("lightning.pytorch.", "pytorch_lightning.", 1)
    raise UserError(
        f"_target_ {target!r} is outside the packages that a configuration may name.",
        expected=f"something exported by {', '.join([*PART_ROOMS, *ECOSYSTEM, *plugins()])}, or {', '.join(FUNCTIONS)}",
        nearest=twin if _within(twin.rpartition(".")[0], ECOSYSTEM) else "",
        origin=origin,
        fix=f"export KDFACE_PLUGINS={','.join([*plugins(), names[0]])}   (only if you trust that package)",
    )


def require_targets(tree: Any, origin_of: Callable[[str], str] = lambda path: "", path: str = "") -> None:
    """Check every `_target_` in a tree of plain containers, without importing anything.

    Args:
        tree: a composed, resolved configuration; may include Hydra's own node.
        origin_of: dotted path -> where its value was set.
        path: dotted path of the tree's root.

    Raises:
        UserError: for the first `_target_` that is not allowed.
    """
    for where, target in _targets(tree, path):
        require_target(target, origin=origin_of(where), path=where.rpartition(".")[0])


def _targets(tree: Any, path: str) -> Iterator[tuple[str, object]]:
    if not isinstance(tree, Mapping | list | tuple):
        return
    for key, value in tree.items() if isinstance(tree, Mapping) else enumerate(tree):
        where = f"{path}.{key}" if path else str(key)
        if key == "_target_":
            yield where, value
        else:
            yield from _targets(value, where)


def _within(module: str, packages: typing.Iterable[str]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def _exported(module: ModuleType) -> list[str]:
    """The names of an allowed module that a configuration may use."""
    name = module.__name__
    if _within(name, plugins()):
        return _defined(module)
    if name in PART_ROOMS:
        return [
            attribute
            for attribute in getattr(module, "__all__", None) or _defined(module)
            if callable(getattr(module, attribute, None))
        ]
    bases = next((ECOSYSTEM[package] for package in ECOSYSTEM if _within(name, [package])), ())
    kinds = tuple(_resolved(base) for base in bases)
    classes = [
        class_name for class_name, value in vars(module).items() if inspect.isclass(value) and issubclass(value, kinds)
    ]
    named = (*FUNCTIONS, *(target for targets in HYDRA_PARTS.values() for target in targets))
    return classes + [target.rpartition(".")[2] for target in named if target.rpartition(".")[0] == name]


def _resolved(name: str) -> type:
    module, _, attribute = name.rpartition(".")
    return typing.cast(type, getattr(importlib.import_module(module), attribute))


def _defined(module: ModuleType) -> list[str]:
    """The public callables defined by a module, or by a package's own modules; imported ones are excluded."""
    root = module.__name__.split(".")[0]
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and callable(value) and str(getattr(value, "__module__", "")).split(".")[0] == root
    ]


def parameters(part: Callable[..., Any]) -> Parameters:
    """The named parameters of a part with type hints."""
    function = part.__init__ if inspect.isclass(part) else part
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except (NameError, TypeError):  # a hint imported for type checking only, or a builtin without hints
        hints = {}
    found: dict[str, Parameter] = {}
    any_key = False
    for name, given in inspect.signature(part).parameters.items():
        if given.kind is given.VAR_KEYWORD:
            any_key = True
        elif given.kind is not given.VAR_POSITIONAL:
            required = given.default is given.empty
            found[name] = Parameter(hints.get(name, Any), required, None if required else given.default)
    return Parameters(found, any_key)


def fields(schema: type) -> dict[str, Parameter]:
    """The fields of a dataclass."""
    hints = typing.get_type_hints(schema, include_extras=True)
    found = {}
    for field in fields_of(schema):
        required = field.default is MISSING and field.default_factory is MISSING
        default = None if field.default is MISSING else field.default
        found[field.name] = Parameter(hints[field.name], required, default)
    return found
