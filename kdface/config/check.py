"""Check the composed tree against the signatures of its parts: unknown keys, wrong types, invalid values.

There is no separate schema: it follows from the type hints of `Configuration` and of each `_target_`.
"""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import is_dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from kdface.config.advice import ALIASES, CLOSE, LIKELY, among, typed
from kdface.config.locate import Parameter, fields, require_targets
from kdface.config.origin import Origins, comment
from kdface.config.paths import choices
from kdface.config.renamed import WITHOUT_EFFECT
from kdface.config.schema import Configuration, Part, TrainerArguments
from kdface.config.source import signature
from kdface.config.trainer import arguments, require_sense, usable
from kdface.config.unsupported import require_concrete
from kdface.errors import UserError, alike, nearest
from kdface.signature import from_plain

# Parameters set by the framework, from the data or another part.
INJECTED: dict[str, tuple[str, ...]] = {
    "backbone": ("image_size",),
    "head": ("embedding_size", "num_classes"),
    "augmentation": ("image_size",),
    "optimizer": ("params",),
    "scheduler": ("optimizer", "total_steps", "steps_per_epoch"),
    "method": ("backbone", "head", "networks", "heads", "inputs", "teacher", "preprocessing"),
    "hydra.launcher": ("ledger", "devices"),
    "hydra.sweeper": ("ledger", "space", "make", "base"),
}
# Passed to every part that has a parameter of this name.
EVERYWHERE = ("load_network", "training_faces")
# Also passed to the nested parts of a group.
INHERITED: dict[str, tuple[str, ...]] = {
    "head": INJECTED["head"],
    "method": ("embedding_size",),
    "scheduler": ("optimizer",),
}
# Keys of Hydra's `instantiate`, in any node with a `_target_`.
INSTRUCTIONS: dict[str, Parameter] = {
    "_target_": Parameter(str, required=True),
    "_partial_": Parameter(bool, required=False),
    "_args_": Parameter(list[Any], required=False),
    "_convert_": Parameter(Literal["none", "partial", "object", "all"], required=False),
    "_recursive_": Parameter(bool, required=False),
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
    "hydra.sweeper": {"params": Parameter(Mapping[str, str] | None, required=False)},
}
_PLAIN = (str, int, float, bool, type(None), Path)  # types without parts
_WHENCE = {
    "image_size": "the dataset",
    "num_classes": "the dataset",
    "embedding_size": "the backbone",
}


class UnknownKeyError(UserError):
    """An unknown key; `key` is the dotted one."""

    key = ""


def check_tree(tree: Mapping[str, Any], origins: Origins | None = None) -> None:
    """Check every node of a resolved tree. Raises `UserError` naming the first key that does not fit."""
    _Checker(origins).keys(fields(Configuration), tree, "")


def check_part(node: Mapping[str, Any], path: str, origins: Origins | None = None) -> None:
    """Check a `_target_` node and its nested nodes against their signatures."""
    _Checker(origins).part(node, path)


def fits(hint: Any, value: Any) -> bool:
    """Whether a plain value matches a parameter's type."""
    try:
        _Checker().value(hint, value, "")
    except UserError:
        return False
    return True


def given_by_framework(path: str, value: object, origin: str) -> UserError:
    """The error for a key that is set from the data or another part."""
    source = _WHENCE.get(path.rpartition(".")[2], "the other parts")
    return UserError(
        f"{path} = {value!r} cannot be set: it is read from {source}.", origin=origin, fix=f"remove {path}"
    )


class _Checker:
    """Checks nodes, each with its dotted path. Every method raises `UserError`."""

    def __init__(self, origins: Origins | None = None) -> None:
        self.origins = origins or Origins()

    def keys(
        self, known: Mapping[str, Parameter], node: Mapping[str, Any], path: str, injected: tuple[str, ...] = ()
    ) -> None:
        """Check a node's keys and values against named parameters, of which the framework sets the injected ones."""
        for key, value in node.items():
            full = _join(path, str(key))
            origin = self.origins.of(full)
            if key in injected:
                raise given_by_framework(full, value, origin)
            if key not in known:
                valid = {name: known[name] for name in sorted(known.keys() - {*injected, *INSTRUCTIONS})}
                raise _unknown(full, value, path, valid, origin)
            self.value(known[key].hint, value, full)
        for name, parameter in known.items():
            if parameter.required and name not in node and name not in injected:
                raise UserError(
                    f"{_join(path, name)} is required by {path or 'the configuration'} and has no value.",
                    expected=_describe(parameter.hint, _join(path, name)),
                    fix=f"add {'+' * bool(self.origins.where)}{_join(path, name)}=...",
                )

    def part(self, node: Mapping[str, Any], path: str) -> None:
        """Check a `_target_` node and its nested nodes."""
        group, _, nested = (path, "", "") if path in INJECTED else path.partition(".")
        target, origin = node["_target_"], self.origins.of(f"{path}._target_")
        takes = signature(target, origin=origin, path=path)
        require_concrete(target, path, origin)
        known = {**INSTRUCTIONS, **takes, **({} if nested else FRAMEWORK.get(group, {}))}
        positional = bool(node.get("_partial_") or node.get("_args_"))  # others may be given by position, or later
        for name in known if positional else FILLED_IN.get(group, ()):
            if name in known:
                known[name] = replace(known[name], required=False)
        if takes.any_key:
            known |= {str(key): Parameter(Any, required=False) for key in node if key not in known}
        idle = WITHOUT_EFFECT.get(target, {})
        for key in idle.keys() & node.keys():
            full = f"{path}.{key}"
            if origin := self.origins.of(full):  # no origin in the folder of an earlier run: ignore it
                raise UserError(
                    f"{full} = {node[key]!r} has no effect on {target}: {idle[key]}.",
                    origin=origin,
                    fix=_rename(full, "", origin, node[key]),
                )
        injected = (INHERITED if nested else INJECTED).get(group, ())
        self.keys(known, {key: node[key] for key in node if key not in idle}, path, (*EVERYWHERE, *injected))

    def value(self, hint: Any, value: Any, path: str) -> None:
        """Check a value of any kind against its type."""
        origin = self.origins.of(path)
        if isinstance(value, str) and value == "???":
            meaning = comment(origin)
            raise UserError(
                f"{path} has no value yet.",
                expected=f"{_describe(hint, path)}{f': {meaning}' if meaning else ''}",
                origin=origin,
                fix=f"add {path}=...",
            )
        optional = type(None) in _members(hint)
        mapping = any(typing.get_origin(member) in (dict, Mapping) for member in _members(hint))
        nested = _dataclass_in(hint)
        if isinstance(value, Mapping) and "_target_" in value:
            self.part(value, path)
        elif value == {} and optional and not mapping:  # an interpolation of a group whose choice is `none`
            raise UserError(
                f"{path} refers to a group whose choice is none.",
                origin=origin,
                fix="method=distillation teacher.run=FOLDER, or another test (kdface list evaluation)",
            )
        elif hint is TrainerArguments:
            self.keys(arguments(), usable(value, path, self.origins), path)
            require_sense(value, path, self.origins)
        elif nested is not None and isinstance(value, Mapping):
            self.keys(fields(nested), value, path)
        elif any(member is Part or Part in typing.get_args(member) for member in _members(hint)):
            if value == {} or (value is None and optional):  # the choice `none`
                return
            if not isinstance(value, Mapping) or hint in (Part, Part | None):
                raise UserError(
                    f"{path} = {value!r} is not a part.",
                    expected=_describe(Part, path),
                    origin=origin,
                )
            self._parts(value, path)
        elif holds_part(value) and (inner := item_hint(hint, value)) is not None:
            for key, item in value.items() if isinstance(value, Mapping) else enumerate(value):
                self.value(inner, item, _join(path, str(key)))
        else:
            self._type(hint, value, path)

    def _parts(self, parts: Mapping[str, Any], path: str) -> None:
        """Check the parts of a group by their names."""
        for name, child in parts.items():
            if not re.fullmatch(r"[A-Za-z0-9][\w.@-]*", str(name)):
                raise UserError(
                    f"{path}: {name!r} is not a valid name for a test set, since files are named after it.",
                    expected="letters, digits and . _ - @",
                    origin=self.origins.of(path),
                )
            if isinstance(child, Mapping) and "_target_" not in child:
                raise self._without_target(str(name), path, list(parts))
            self.value(Part, child, f"{path}.{name}")

    def _without_target(self, name: str, path: str, names: list[str]) -> UserError:
        """`logger.wandb.group=x` without logger=wandb: values of a part that was not chosen."""
        known = choices(path)
        chosen = [name for name in names if name in known]
        near = among(name, list(known))[0]
        own = f"{path}.{name}._target_=package.Class"
        return UserError(
            f"{path}.{name} has values but no _target_: it is not chosen.",
            expected="" if name in known else f"{own}, or {path}={near} with {path}.{near}.*" if near else own,
            origin=next((self.origins.of(key) for key in self.origins.under(f"{path}.{name}")), ""),
            fix="" if name not in known else f"{path}={name}" if len(chosen) == 1 else f"{path}=[{','.join(chosen)}]",
        )

    def _type(self, hint: Any, value: Any, path: str) -> None:
        """Check a value against its type, and the names of parts in a value that is not checked as a part."""
        if isinstance(value, Mapping | list):
            require_targets(value, self.origins.of, path)
        try:
            from_plain(hint, value)
        except ValidationError as error:
            first = error.errors()[0]
            said = str(first["msg"]).removeprefix("Input should be ")
            valid = [str(arg) for arg in typing.get_args(_plain(hint)) if isinstance(arg, str)]
            near = nearest(str(value), valid) if valid else ""
            inner, item = "", value
            for place in first["loc"]:  # without the members of unions
                if isinstance(place, int) or (isinstance(item, Mapping) and place in item):
                    inner, item = _join(inner, str(place)), item[place]
            other = next(iter(ALIASES.get(path, ())), "") if isinstance(value, str) else ""
            if isinstance(value, float) and value.is_integer() and fits(hint, int(value)):  # 1e3
                near = str(int(value))
            key = path if near else other
            raise UserError(
                f"{path} = {value!r} is invalid{f' (item {inner})' if inner else ''}.",
                expected=said if len(error.errors()) == 1 else _describe(hint, path),
                nearest=f"{key}={near or value}" if key else "",  # `data` is a node here but a dataset elsewhere
                origin=self.origins.of(_join(path, inner)),
                fix=f"{other}={value}" if other and not near else "",
            ) from None


def holds_part(value: Any) -> bool:
    """Whether a value is a node with a `_target_`, or a list or mapping that holds one at any depth."""
    if isinstance(value, Mapping):
        return "_target_" in value or any(map(holds_part, value.values()))
    return isinstance(value, list) and any(map(holds_part, value))


def item_hint(hint: Any, value: Mapping[str, Any] | list[Any]) -> Any:
    """The type of the items of a list or mapping, of a type that may hold parts; null: it may not."""
    kinds = (dict, Mapping) if isinstance(value, Mapping) else (list, tuple, Sequence, Iterable)
    for member in _members(hint):
        inner = [arg for arg in typing.get_args(member) if arg is not ...]
        if member is Any or member in kinds:
            return Any
        if typing.get_origin(member) in kinds and any(map(_takes_part, _members(inner[-1]))):
            return inner[-1]
    return None


def _takes_part(hint: Any) -> bool:
    """Whether a value of a type may be a part, or a list of parts."""
    if typing.get_origin(hint) in (list, tuple, Sequence, Iterable):
        return any(_takes_part(member) for arg in typing.get_args(hint) for member in _members(arg))
    return hint is Any or (isinstance(hint, type) and hint not in _PLAIN and not is_dataclass(hint))


def _unknown(full: str, value: Any, path: str, valid: Mapping[str, Parameter], origin: str) -> UnknownKeyError:
    """The error for an unknown key, with the most similar sibling that accepts its value."""
    key = full.removeprefix(f"{path}.")
    ours = [alias for alias in ALIASES.get(key, ()) if "=" not in alias]
    siblings = [alias.rpartition(".")[2] for alias in ours if alias.rpartition(".")[0] == path]
    fitting = (near for near in (*siblings, *alike(key, valid, 0.6, LIKELY)[:3]) if near in valid)
    near = next((_join(path, near) for near in fitting if fits(valid[near].hint, value)), "")
    near = near or next(iter(ours), "") * (not path)
    unfit = "" if near else nearest(key, valid, CLOSE)  # of the wrong kind for the value
    error = UnknownKeyError(
        f"unknown key {full!r}, and {_join(path, unfit)} = {value!r} cannot be used."
        if unfit
        else f"unknown key {full!r} (value {value!r}).",
        expected=f"one of {', '.join(valid)}" if valid else "no keys here",
        nearest=near,
        origin=origin,
        fix=_rename(full, near, origin, value),
    )
    error.key = full
    return error


def _plain(hint: Any) -> Any:
    return typing.get_args(hint)[0] if typing.get_origin(hint) is typing.Annotated else hint


def _members(hint: Any) -> tuple[Any, ...]:
    plain = _plain(hint)
    if typing.get_origin(plain) in (typing.Union, types.UnionType):
        return typing.get_args(plain)
    return (plain,)


def _dataclass_in(hint: Any) -> type | None:
    return next((member for member in _members(hint) if isinstance(member, type) and is_dataclass(member)), None)


_SIGNS = (("ge", ">="), ("gt", ">"), ("le", "<="), ("lt", "<"))  # attributes of the bounds of annotated_types


def _describe(hint: Any, path: str) -> str:
    """Describe the type of a key for users: `float > 0 or [float > 0, float > 0]`."""
    kind, args = typing.get_origin(hint), typing.get_args(hint)
    if kind is typing.Annotated:
        bounds = [f"{sign} {getattr(arg, name)}" for arg in args[1:] for name, sign in _SIGNS if hasattr(arg, name)]
        return " ".join([_describe(args[0], path), *bounds])
    if kind in (typing.Union, types.UnionType):
        return " or ".join(_describe(arg, path) for arg in args)
    if kind is typing.Literal:
        return " or ".join(map(str, args))
    if kind in (tuple, list):
        return f"[{', '.join('...' if arg is ... else _describe(arg, path) for arg in args)}]"
    if kind is dict:
        return f"NAME: {_describe(args[1], path)}"
    if hint is Part:
        return f"a choice of its group (kdface list {path.partition('.')[0]})"
    if hint is type(None):
        return "null"
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path and key else path or key


def _rename(given: str, near: str, origin: str, value: object) -> str:
    typed_in = re.match(r"command line: [+~]*([^=]*)", origin)
    if typed_in and typed_in[1] != given:  # within the value of a word
        parent, _, leaf = given.rpartition(".")
        return f"write {near} in place of {given}" if near else f"remove {leaf} from {parent}"
    if near and typed_in and not isinstance(value, Mapping | list):
        return f"{near}={typed(value)}"
    if near and near.rpartition(".")[0] != given.rpartition(".")[0]:
        return f"set {near} instead, and remove {given}"
    if near:
        return f"write {near} in place of {given}"
    # Without an origin it is not from a command line but was set from Python, or in the folder of a run.
    return f"remove {given}" if typed_in or not origin else f"add ~{given} to the command line"
