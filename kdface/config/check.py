"""Check the composed tree against the signatures of its parts: unknown keys, wrong types, invalid values.

There is no separate schema: it follows from the type hints of `Configuration` and of each `_target_`.
"""

from __future__ import annotations

import dataclasses
import json
import re
import types
import typing
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from pydantic import ValidationError

from kdface.config.advice import ALIASES, CLOSE, LIKELY, among
from kdface.config.locate import Parameter, require_targets
from kdface.config.origin import Origins, comment
from kdface.config.paths import choices
from kdface.config.renamed import WITHOUT_EFFECT, old_name
from kdface.config.source import signature
from kdface.config.trainer import arguments, require_sense, usable
from kdface.errors import UserError, alike, nearest
from kdface.signature import adapter

# Parameters set by the framework, from the data or another part.
INJECTED: dict[str, tuple[str, ...]] = {
    "backbone": ("image_size",),
    "head": ("embedding_size", "num_classes"),
    "augmentation": ("image_size",),
    "optimizer": ("params",),
    "scheduler": ("optimizer", "total_steps", "steps_per_epoch"),
    "method": ("backbone", "head", "networks", "heads", "inputs", "teacher", "preprocessing"),
}
# Passed to every part that has a parameter of this name.
EVERYWHERE = ("load_network", "training_faces")
# Also passed to the nested parts of a group.
INHERITED: dict[str, tuple[str, ...]] = {"head": INJECTED["head"], "method": ("embedding_size",)}
# Keys of Hydra's `instantiate`, in any node with a `_target_`.
INSTRUCTIONS: dict[str, Any] = {
    "_target_": str,
    "_partial_": bool,
    "_args_": list[Any],
    "_convert_": Literal["none", "partial", "object", "all"],
    "_recursive_": bool,
}
# Set by the framework in the nested parts of a group unless given.
FILLED_IN: dict[str, tuple[str, ...]] = {"logger": ("save_dir",)}
# Keys of a group that the framework reads itself; they are not parameters of the part.
FRAMEWORK: dict[str, dict[str, Parameter]] = {
    "dataset": {"on_error": Parameter(Literal["raise", "skip"], required=True)},
    "augmentation": {
        "before": Parameter(list[dict[str, Any]], required=False),
        "after": Parameter(dict[str, list[dict[str, Any]]], required=False),
    },
}
_WHENCE = {
    "image_size": "the dataset",
    "num_classes": "the dataset",
    "embedding_size": "the backbone",
}


class UnknownKeyError(UserError):
    """An unknown key. `key` is the dotted key."""

    def __init__(self, key: str, problem: str, **more: str) -> None:
        super().__init__(problem, **more)
        self.key = key

    def __reduce__(self) -> tuple[object, ...]:
        plain = UserError(self.problem, expected=self.expected, nearest=self.nearest, origin=self.origin, fix=self.fix)
        return plain.__reduce__()


def check_tree(tree: Mapping[str, Any], schema: type, origins: Origins) -> None:
    """Check every node of a resolved tree. Raises `UserError` naming the first key that does not fit."""
    require_targets(tree, origins.of)
    _check_dataclass(schema, tree, "", origins)


def _check_dataclass(schema: type, node: Mapping[str, Any], path: str, origins: Origins) -> None:
    hints = typing.get_type_hints(schema, include_extras=True)
    fields = {
        field.name: Parameter(
            hints[field.name],
            field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING,
        )
        for field in dataclasses.fields(schema)
    }
    check_parameters(fields, node, path, origins, injected=())


def check_parameters(
    known: Mapping[str, Parameter],
    node: Mapping[str, Any],
    path: str,
    origins: Origins,
    injected: tuple[str, ...],
) -> None:
    """Check a node's keys and values against named parameters."""
    for key, value in node.items():
        if key in INSTRUCTIONS:
            continue
        full = f"{path}.{key}" if path else str(key)
        if key in injected:
            raise given_by_framework(full, value, origins.of(full))
        if key not in known:
            if renamed := old_name(full, value, origins.of(full)):
                raise renamed
            valid = {name: known[name] for name in sorted(set(known) - set(injected))}
            near = _meant(str(key), value, path, valid)
            unfit = "" if near else next(iter(alike(str(key), valid, CLOSE)), "")  # of the wrong kind for the value
            raise UnknownKeyError(
                full,
                f"unknown key {full!r}, and {_join(path, unfit)} = {value!r} cannot be used."
                if unfit
                else f"unknown key {full!r} (value {value!r}).",
                expected=f"one of {', '.join(valid)}" if valid else "no keys here",
                nearest=near,
                origin=origins.of(full),
                fix=_rename(full, near, origins.of(full), value),
            )
        _check_value(known[str(key)].hint, value, full, origins)
    missing = [
        name for name, parameter in known.items() if parameter.required and name not in node and name not in injected
    ]
    if missing:
        raise UserError(
            f"{_join(path, missing[0])} is required by {path or 'the configuration'} and has no value.",
            expected=_describe(known[missing[0]].hint),
            fix=f"add +{_join(path, missing[0])}=...",
        )


def _meant(key: str, value: Any, path: str, valid: Mapping[str, Parameter]) -> str:
    """The most similar sibling key that accepts the value; empty if there is none."""
    ours = [alias for alias in ALIASES.get(key, ()) if alias.rpartition(".")[0] == path and "=" not in alias]
    for near in (*(name.rpartition(".")[2] for name in ours), *alike(key, valid, 0.6, LIKELY)[:3]):
        if near in valid and fits(valid[near].hint, value):
            return _join(path, near)
    return next((alias for alias in ALIASES.get(key, ()) if not path and "=" not in alias), "")


def fits(hint: Any, value: Any) -> bool:
    """Whether a plain value matches a parameter's type."""
    try:
        _check_value(hint, value, "", Origins())
    except UserError:
        return False
    return True


def given_by_framework(path: str, value: object, origin: str) -> UserError:
    """The error for a key that is set from the data or another part."""
    source = _WHENCE.get(path.rpartition(".")[2], "the other parts")
    return UserError(
        f"{path} = {value!r} cannot be set: it is read from {source}.", origin=origin, fix=f"remove {path}"
    )


def _check_value(hint: Any, value: Any, path: str, origins: Origins) -> None:
    if isinstance(value, str) and value == "???":
        meaning = comment(origins.of(path))
        raise UserError(
            f"{path} has no value yet.",
            expected=f"{_describe(hint)}{f': {meaning}' if meaning else ''}",
            origin=origins.of(path),
            fix=f"add {path}=...",
        )
    if isinstance(value, Mapping) and "_target_" in value:
        check_part(value, path, origins)
        return
    if value == {} and type(None) in _members(hint):  # an interpolation of a group whose choice is `none`
        raise UserError(
            f"{path} refers to a group whose choice is none.",
            origin=origins.of(path),
            fix="method=distillation teacher.run=FOLDER, or another test (kdface list evaluation)",
        )
    if hint is TrainerArguments:
        check_parameters(arguments(), usable(value, path, origins), path, origins, injected=())
        require_sense(value, path, origins)
        return
    nested = _dataclass_in(hint)
    if nested is not None and isinstance(value, Mapping):
        _check_dataclass(nested, value, path, origins)
        return
    if _is_part(hint):
        if isinstance(value, Mapping) and not value:
            return  # an empty group: the choice `none`
        if isinstance(value, Mapping) and any(typing.get_origin(member) is dict for member in _members(hint)):
            for name, child in value.items():
                if not re.fullmatch(r"[A-Za-z0-9][\w.@-]*", str(name)):
                    raise UserError(
                        f"{path}: {name!r} is not a valid name for a test set, since files are named after it.",
                        expected="letters, digits and . _ - @",
                        origin=origins.of(path),
                    )
                if isinstance(child, Mapping) and "_target_" not in child:
                    raise _without_target(str(name), path, list(value), origins)
                _check_value(Part, child, f"{path}.{name}", origins)
            return
        if value is None and type(None) in typing.get_args(_plain(hint)):
            return
        raise UserError(
            f"{path} = {value!r} is not a part.",
            expected=f"a choice of its group (kdface list {path.split('.')[0]})",
            origin=origins.of(path),
        )
    _validate(hint, value, path, origins)


def _without_target(name: str, path: str, names: list[str], origins: Origins) -> UserError:
    """`logger.wandb.group=x` without logger=wandb: values of a part that was not chosen."""
    known = choices(path)
    chosen = [name for name in names if name in known]
    near = among(name, list(known))[0]
    own = f"{path}.{name}._target_=package.Class"
    return UserError(
        f"{path}.{name} has values but no _target_: it is not chosen.",
        expected="" if name in known else f"{own}, or {path}={near} with {path}.{near}.*" if near else own,
        origin=next((origins.of(key) for key in origins.under(f"{path}.{name}")), ""),
        fix="" if name not in known else f"{path}={name}" if len(chosen) == 1 else f"{path}=[{','.join(chosen)}]",
    )


def check_part(node: Mapping[str, Any], path: str, origins: Origins) -> None:
    """Check a `_target_` node and its nested nodes against their signatures."""
    group = path.split(".")[0] if path.count(".") == 0 else ""
    takes = signature(node["_target_"], origin=origins.of(f"{path}._target_"))
    _check_instructions(node, path, origins)
    known = {**takes, **FRAMEWORK.get(group, {})}
    if node.get("_partial_") or node.get("_args_"):  # other parameters may be given by position, or later
        known = {name: replace(parameter, required=False) for name, parameter in known.items()}
    if takes.any_key:
        known |= {str(key): Parameter(Any, required=False) for key in node if key not in known}
    for name in FILLED_IN.get(path.split(".")[0], ()):
        if name in known:
            known[name] = replace(known[name], required=False)
    given = INJECTED.get(group, ()) if group else INHERITED.get(path.split(".")[0], ())
    idle = WITHOUT_EFFECT.get(node["_target_"], {})
    for key in idle.keys() & node.keys():
        full = f"{path}.{key}"
        if origin := origins.of(full):  # no origin in the folder of an earlier run: ignore it
            raise UserError(
                f"{full} = {node[key]!r} has no effect on {node['_target_']}: {idle[key]}.",
                origin=origin,
                fix=_rename(full, "", origin, node[key]),
            )
    check_parameters(known, {key: node[key] for key in node if key not in idle}, path, origins, (*EVERYWHERE, *given))


def _check_instructions(node: Mapping[str, Any], path: str, origins: Origins) -> None:
    """Check the keys that Hydra's `instantiate` reads in addition to `_target_`."""
    for key, hint in INSTRUCTIONS.items():
        if key in node:
            _validate(hint, node[key], f"{path}.{key}", origins)


def convert(hint: Any, value: Any) -> Any:
    """Convert a checked value to its parameter's type: list to tuple, string to Path, mapping to dataclass."""
    nested = _dataclass_in(hint)
    if nested is not None and isinstance(value, Mapping):
        hints = typing.get_type_hints(nested, include_extras=True)
        return nested(**{key: convert(hints[key], item) for key, item in value.items()})
    return adapter(hint).validate_json(json.dumps(value), strict=True)


class Part:
    """Marks a schema field whose value is a node with a `_target_`."""


class TrainerArguments:
    """Marks the schema field whose keys are arguments of `pl.Trainer`."""


def _validate(hint: Any, value: Any, path: str, origins: Origins) -> None:
    try:
        adapter(hint).validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        said = str(first["msg"]).removeprefix("Input should be ")
        valid = [str(arg) for arg in typing.get_args(_plain(hint)) if isinstance(arg, str)]
        near = nearest(str(value), valid) if valid else ""
        inner = ".".join(str(place) for place in first["loc"] if isinstance(place, int))
        other = next(iter(ALIASES.get(path, ())), "") if isinstance(value, str) else ""
        key = path if near else other
        raise UserError(
            f"{path} = {value!r} is invalid{f' (item {inner})' if inner else ''}.",
            expected=said if len(error.errors()) == 1 else _describe(hint),
            nearest=f"{key}={near or value}" if key else "",  # `data` is a node here but means a dataset elsewhere
            origin=origins.of(path),
            fix=f"{other}={value}" if other and not near else "",
        ) from None


def _plain(hint: Any) -> Any:
    return typing.get_args(hint)[0] if typing.get_origin(hint) is typing.Annotated else hint


def _members(hint: Any) -> tuple[Any, ...]:
    plain = _plain(hint)
    if typing.get_origin(plain) in (typing.Union, types.UnionType):
        return typing.get_args(plain)
    return (plain,)


def _dataclass_in(hint: Any) -> type | None:
    for member in _members(hint):
        if dataclasses.is_dataclass(member) and isinstance(member, type):
            return member
    return None


def _is_part(hint: Any) -> bool:
    return any(member is Part or Part in typing.get_args(member) for member in _members(hint))


_SIGNS = (("ge", ">="), ("gt", ">"), ("le", "<="), ("lt", "<"))  # attributes of the bounds of annotated_types


def _describe(hint: Any) -> str:
    """Describe a type for users: `float > 0 or [float > 0, float > 0]`."""
    kind, args = typing.get_origin(hint), typing.get_args(hint)
    if kind is typing.Annotated:
        bounds = [f"{sign} {getattr(arg, name)}" for arg in args[1:] for name, sign in _SIGNS if hasattr(arg, name)]
        return " ".join([_describe(args[0]), *bounds])
    if kind in (typing.Union, types.UnionType):
        return " or ".join(_describe(arg) for arg in args)
    if kind is typing.Literal:
        return " or ".join(map(str, args))
    if kind in (tuple, list):
        return f"[{', '.join('...' if arg is ... else _describe(arg) for arg in args)}]"
    if hint is type(None):
        return "null"
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")


def _join(path: str, key: str) -> str:
    if not key:
        return ""
    return f"{path}.{key}" if path else key


def _rename(given: str, near: str, origin: str, value: object) -> str:
    if near and origin.startswith("command line") and not isinstance(value, Mapping | list):
        return f"{near}={value}"
    if near and near.rpartition(".")[0] != given.rpartition(".")[0]:
        return f"set {near} instead, and remove {given}"
    if near:
        return f"write {near} in place of {given}"
    return f"remove {given}" if origin.startswith("command line") else f"add ~{given} to the command line"
