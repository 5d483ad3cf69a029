"""Check from source, without heavy imports, that parts fit together by their declared attributes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from omegaconf import OmegaConf

from kdface.config.advice import typed
from kdface.config.check import FRAMEWORK
from kdface.config.origin import Origins
from kdface.config.source import attribute, signature
from kdface.errors import UserError, nearest

_PLACES = {"first": 0, "last": -1}


def check_parts(tree: dict[str, Any], origins: Origins) -> None:
    """Check views, head and teacher of the parts against each other, and that a run has the tags it must have.

    Reads no data, so all jobs of a sweep can be checked before the first one starts. Raises `UserError`.
    """
    method, augmentation = tree["method"]["_target_"], tree["augmentation"]["_target_"]
    takes = signature(method)
    makes: tuple[str, ...] = attribute(augmentation, "views", ())
    if not makes:
        raise _no_views(tree["augmentation"], origins)
    for role, view in (tree["method"].get("views") or {}).items():
        if view is not None and view not in makes:
            near = nearest(view, makes)
            raise UserError(
                f"method.views.{role} = {view!r}: {augmentation} has no such view.",
                expected=f"one of the augmentation's views: {', '.join(makes)}",
                nearest=f"method.views.{role}={near}" if near else "",
                fix=f"method.views.{role}={makes[0]}, or another augmentation (kdface list augmentation)",
            )
    takes_head = bool({"head", "heads"} & set(takes))
    if tree["head"] is None and takes_head and attribute(method, "needs_head", False):
        raise UserError(f"{method} requires a head, but head is none.", fix="kdface list head")
    if tree["head"] is not None and not takes_head:
        raise UserError(f"{method} uses no head, but head is {tree['head']['_target_']}.", fix="head=none")
    if tree["teacher"] is not None and "teacher" not in takes:
        raise UserError(
            f"{method} uses no teacher, but teacher is {tree['teacher']['_target_']}.",
            fix="teacher=none, or a distillation method (kdface list method)",
        )
    if tree["teacher"] is None and attribute(method, "needs_teacher", False):
        raise UserError(
            f"{method} requires a teacher, but teacher is none.",
            fix="teacher=run teacher.run=FOLDER_OF_A_RUN   (kdface list teacher)",
        )
    if tree["extras"]["enforce_tags"] and not tree.get("tags"):
        raise UserError(
            "the run has no tags, but extras.enforce_tags requires them.",
            expected="labels to find it by",
            origin=origins.of("extras.enforce_tags"),
            fix="tags=[dev]",
        )


def require_transfer(method: Any, choice: str, origins: Origins) -> None:
    """Raise `UserError` for a distillation loss that the method, a `_target_`, does not support."""
    if choice != "none" and method and "transfer" not in signature(method, origin=origins.of("method._target_")):
        raise UserError(
            f"transfer = {choice} is not supported by {method}.",
            expected="a method with the parameter transfer",
            fix="transfer=none, or method=distillation teacher.run=FOLDER",
        )


def register_views() -> None:
    """Register the interpolations `${view:first}` and `${view:last}`, views of the chosen augmentation by position, and
    `${if_any:teacher}`, the part of a group, null if its choice is none.

    An augmentation lists its views from the unchanged face to the hardest one, so a method whose student sees the hard
    view works with any augmentation.
    """
    OmegaConf.register_new_resolver("view", _view, replace=True)
    OmegaConf.register_new_resolver("if_any", _if_any, replace=True)


def _view(place: str, *, _root_: Any) -> str:
    if place not in _PLACES:
        raise UserError(f"${{view:{place}}} is not a view.", expected="${view:first} or ${view:last}")
    target = _root_.augmentation._target_
    views: tuple[str, ...] = attribute(target, "views", ())
    if not views:
        raise _no_views({"_target_": target})
    return views[_PLACES[place]]


def _no_views(node: Mapping[str, Any], origins: Origins | None = None) -> UserError:
    """The error for an augmentation without views, such as a transform of albumentations."""
    target = node["_target_"]
    own = {key: value for key, value in node.items() if key not in FRAMEWORK["augmentation"]}
    transform = f"augmentation.before={typed([own])}"
    word = (origins or Origins()).of("augmentation._target_").removeprefix("command line: ")
    return UserError(
        f"{target} is not an augmentation: it declares no views.",
        expected="a class with the attribute views, their names, or a transform within another augmentation",
        origin=word and f"command line: {word}",
        fix=f"{transform} in place of {word}" if target.startswith("albumentations.") else "kdface list augmentation",
    )


def _if_any(group: str, *, _root_: Any) -> Any:
    return _root_[group] or None
