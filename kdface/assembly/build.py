"""Build the object named by the `_target_` of a checked node."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping, Set
from typing import Any, get_args

from kdface.config.check import EVERYWHERE, FRAMEWORK, INHERITED, INSTRUCTIONS, holds_part, item_hint
from kdface.config.locate import locate, parameters
from kdface.config.paths import groups
from kdface.config.renamed import WITHOUT_EFFECT
from kdface.errors import UserError
from kdface.signature import from_plain


def build(
    node: Mapping[str, Any], group: str = "", shared: dict[str, Any] | None = None, path: str = "", **known: Any
) -> Any:
    """Build a part and its nested parts.

    Args:
        node: a mapping with a `_target_`.
        group: its config group, which determines the keys reserved by the framework.
        shared: nested objects already built, by the text of their node: equal nodes become one object.
        path: its key, if it differs from the group.
        known: values known to the framework (`num_classes`, `image_size`, ...), passed to parts that have such
            parameters.
    """
    path = path or group
    part = locate(node["_target_"], path=path)
    takes = parameters(part)
    skip = {*INSTRUCTIONS, *FRAMEWORK.get(group or path, {}), *WITHOUT_EFFECT.get(node["_target_"], {})}
    anywhere = {name: value for name, value in known.items() if name in (*EVERYWHERE, *INHERITED.get(group, ()))}
    values = {
        key: _value(takes[key].hint if key in takes else Any, value, shared, anywhere, path and f"{path}.{key}")
        for key, value in node.items()
        if key not in skip
    }
    given = set(values)
    values |= {name: value for name, value in known.items() if name in takes}
    place = [_value(Any, argument, shared, anywhere, "") for argument in node.get("_args_", ())]
    if node.get("_partial_"):
        return functools.partial(part, *place, **values)
    try:
        made = part(*place, **values)
    except UserError as error:
        if path:
            error.fix = _by_full_keys(error.fix, path, given, set(takes) - known.keys())
        raise
    except (ValueError, TypeError) as error:  # incompatible values; not a UserError
        raise UserError(
            f"{group or node['_target_']} cannot be built: {error}.", fix=f"kdface config why {group}" if group else ""
        ) from None
    if group == "dataset":
        _require_faces(made, path)
    return made


def _require_faces(made: Any, path: str) -> None:
    """Raise `UserError` for a dataset that breaks its contract."""
    from kdface.datasets.contract import require_faces  # here, as commands that build nothing import this module too

    require_faces(made, path)


def _by_full_keys(fix: str, path: str, given: Set[str], takes: Set[str]) -> str:
    """Prefix the arguments that a part names in a fix with the part's key, as on the command line, where a + adds those
    that were not given."""
    names = "|".join(name for name in given | takes if name not in groups())

    def full(name: re.Match[str]) -> str:
        return f"{'' if name[1] in given else '+'}{path}.{name[1]}"

    return re.sub(rf"(?<![\w.,{{])({names})(?==)", full, fix) if names else fix


def _value(hint: Any, value: Any, shared: dict[str, Any] | None, anywhere: dict[str, Any], path: str) -> Any:
    if isinstance(value, Mapping) and "_target_" in value:
        return _nested(hint, value, shared, anywhere, path)
    inner = item_hint(hint, value) if holds_part(value) else None
    if inner is None:
        return from_plain(hint, value)
    items = value.items() if isinstance(value, Mapping) else enumerate(value)
    made = {key: _value(inner, item, shared, anywhere, path and f"{path}.{key}") for key, item in items}
    return made if isinstance(value, Mapping) else [*made.values()]


def _nested(
    hint: Any, node: Mapping[str, Any], shared: dict[str, Any] | None, anywhere: dict[str, Any], path: str
) -> Any:
    text = json.dumps(node, sort_keys=True)
    if shared is not None and text in shared:
        return shared[text]
    made = build(node, shared=shared, path=path, **anywhere)
    if any(getattr(kind, "__name__", "") == "FaceSet" for kind in (hint, *get_args(hint))):
        _require_faces(made, path or "dataset")
    if shared is not None:
        shared[text] = made
    return made
