"""From a `_target_` to the callable it names, and to the parameters that callable takes.

A configuration may come from a folder that somebody else made, so it can name only what is meant to be named. One
policy holds for every `_target_` of a tree, Hydra's own node included:

- what the rooms of kdface export (`PART_ROOMS`, by `__all__`),
- classes of the ecosystem that configurations usually name, by package and base class (`ECOSYSTEM`), and the single
  functions of `FUNCTIONS`,
- whatever is defined in the packages that the user lists in `$KDFACE_PLUGINS` (comma-separated),
- under `hydra.launcher` and `hydra.sweeper`: those of kdface and of Hydra (`HYDRA_ROOMS`). Hydra's callbacks are not
  used, and refused.

None of these runs a program or loads a pickle when it is built. `require_targets(tree)` checks the names of a whole
tree and imports nothing; it runs before anything is built. `locate(target)` checks one name, imports it, and is the
only way from a `_target_` to a callable.
"""

from __future__ import annotations

import importlib
import inspect
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from kdface.config.own_parts import plugins
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
# A package, with the modules below it -> the base classes of what may be named there.
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
HYDRA_ROOMS = (
    "hydra_plugins.kdface",
    "hydra._internal.core_plugins.basic_launcher",
    "hydra._internal.core_plugins.basic_sweeper",
)


@dataclass(frozen=True)
class Parameter:
    """One parameter of a callable: its name, type hint, and whether it has a default."""

    name: str
    hint: Any
    required: bool
    default: Any = None


class Parameters(dict[str, Parameter]):
    """The named parameters of a callable. `any_key`: it takes further keywords too."""

    def __init__(self, named: Mapping[str, Parameter], any_key: bool) -> None:
        super().__init__(named)
        self.any_key = any_key


def locate(target: object, *, origin: str = "") -> Callable[..., Any]:
    """The callable that `target` ("package.module.Name") names.

    Raises:
        UserError: where it is not a dotted name, may not be named, or does not exist.
    """
    module_name, name = require_target(target, origin=origin)
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in plugins():
            where = "a module or package in the current folder, on PYTHONPATH, or installed"
            raise UserError(f"_target_ {target!r}: {error}.", expected=where, origin=origin) from error
        install = f"pip install {missing}" if missing and missing == module_name.partition(".")[0] else ""
        raise UserError(f"_target_ {target!r}: {error}.", origin=origin, fix=install) from error
    exported = _exported(module)
    if name not in exported:
        raise UserError(
            f"_target_ {target!r}: {module_name} exports no {name!r}.",
            nearest=f"{module_name}.{near}" if (near := nearest(name, exported)) else "",
            origin=origin,
        )
    return typing.cast(Callable[..., Any], getattr(module, name))


def require_target(target: object, *, origin: str = "") -> tuple[str, str]:
    """The module and the name in it of a `_target_` that may be named; nothing is imported.

    Raises:
        UserError: where it is not a dotted name, or lies outside the policy.
    """
    names = target.split(".") if isinstance(target, str) else []
    if len(names) < 2 or not all(name.isidentifier() for name in names):
        raise UserError(
            f"_target_ is {target!r}.", expected="a dotted name such as kdface.heads.CosFace", origin=origin
        )
    module = ".".join(names[:-1])
    if module in PART_ROOMS or _within(module, (*ECOSYSTEM, *plugins())) or target in FUNCTIONS:
        return module, names[-1]
    twin = ".".join(names).replace("lightning.pytorch.", "pytorch_lightning.", 1)
    raise UserError(
        f"_target_ {target!r} lies outside the packages that a configuration may name.",
        expected=f"something exported by {', '.join([*PART_ROOMS, *ECOSYSTEM, *plugins()])}, or {', '.join(FUNCTIONS)}",
        nearest=twin if _within(twin.rpartition(".")[0], ECOSYSTEM) else "",
        origin=origin,
        fix=f"export KDFACE_PLUGINS={','.join([*plugins(), names[0]])}   (only if you trust that package)",
    )


def require_targets(tree: Any, origin_of: Callable[[str], str] = lambda path: "", path: str = "") -> None:
    """Check the name of every `_target_` in a tree of plain containers; nothing is imported.

    Args:
        tree: a composed configuration, its interpolations resolved; Hydra's own node may be in it.
        origin_of: dotted path -> where its value was set.
        path: of the tree's root.

    Raises:
        UserError: for the first `_target_` that may not be named.
    """
    for where, target in _targets(tree, path):
        if not where.startswith("hydra."):
            require_target(target, origin=origin_of(where))
        elif str(target).rpartition(".")[0] not in HYDRA_ROOMS:
            raise UserError(
                f"{where} = {target!r}: a configuration may not name it there.",
                expected="hydra/launcher=process, slurm or ray; hydra/sweeper=basic, random or optuna",
                origin=origin_of(where),
                fix="remove it; callbacks of training stand in the group callbacks",
            )


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
    """The names in an allowed module that a configuration may use."""
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
    return classes + [function.rpartition(".")[2] for function in FUNCTIONS if function.rpartition(".")[0] == name]


def _resolved(name: str) -> type:
    module, _, attribute = name.rpartition(".")
    return typing.cast(type, getattr(importlib.import_module(module), attribute))


def _defined(module: ModuleType) -> list[str]:
    """The public callables that a module defines or a package takes from its own modules; nothing that it imports."""
    root = module.__name__.split(".")[0]
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and callable(value) and str(getattr(value, "__module__", "")).split(".")[0] == root
    ]


def parameters(part: Callable[..., Any]) -> Parameters:
    """The named parameters of a part with their type hints."""
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
            found[name] = Parameter(name, hints.get(name, Any), required, None if required else given.default)
    return Parameters(found, any_key)
