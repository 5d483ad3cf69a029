"""From a checked node to the object its `_target_` names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kdface.config.check import FRAMEWORK, convert
from kdface.config.locate import locate, parameters


def build(node: Mapping[str, Any], group: str = "", **known: Any) -> Any:
    """Build a part and the parts nested in it.

    Args:
        node: a mapping with a `_target_`.
        group: the config group it belongs to, for the keys that are the framework's own.
        known: what the framework knows (`num_classes`, `image_size`, ...); a part is given those it has parameters for.
    """
    part = locate(node["_target_"])
    takes = parameters(part)
    skip = {"_target_", *FRAMEWORK.get(group, {})}
    values = {key: _value(takes[key].hint, value) for key, value in node.items() if key not in skip}
    return part(**values, **{name: value for name, value in known.items() if name in takes})


def _value(hint: Any, value: Any) -> Any:
    if isinstance(value, Mapping) and "_target_" in value:
        return build(value)
    return convert(hint, value)
