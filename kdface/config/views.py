"""The interpolations `${view:first}` and `${view:last}`: views of the chosen augmentation by position.

`${if_any:teacher}` is the part of a group, or null if its choice is none.

An augmentation lists its views from the unchanged face to the hardest one, so a method whose student sees the hard
view works with any augmentation.
"""

from __future__ import annotations

from typing import Any

from omegaconf import OmegaConf

from kdface.config.source import attribute
from kdface.errors import UserError

_PLACES = {"first": 0, "last": -1}


def register() -> None:
    """Register the interpolations with OmegaConf."""
    OmegaConf.register_new_resolver("view", _view, replace=True)
    OmegaConf.register_new_resolver("if_any", _if_any, replace=True)


def _view(place: str, *, _root_: Any) -> str:
    if place not in _PLACES:
        raise UserError(f"${{view:{place}}} is not a view.", expected="${view:first} or ${view:last}")
    target = _root_.augmentation._target_
    views: tuple[str, ...] = attribute(target, "views", ())
    if not views:
        raise UserError(f"{target} declares no views.")
    return views[_PLACES[place]]


def _if_any(group: str, *, _root_: Any) -> Any:
    return _root_[group] or None
