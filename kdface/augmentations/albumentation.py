"""Use of albumentations (MIT): landmarks as keypoints, and pipelines from YAML nodes."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import albumentations as alb

from kdface.config.locate import locate
from kdface.errors import UserError, nearest

__all__ = ["Node", "alb", "build", "compose"]

Node = dict[str, Any]  # a transform: its `_target_` and arguments


def compose(transforms: Sequence[Any]) -> Any:
    """An `alb.Compose` of uint8 images with landmarks as keypoints (x, y), kept even outside the image."""
    with warnings.catch_warnings():  # landmarks are always passed, even if no transform moves them
        warnings.filterwarnings("ignore", message="Got processor for keypoints")
        return alb.Compose(transforms, keypoint_params=alb.KeypointParams(format="xy", remove_invisible=False))


def build(nodes: Sequence[Node], where: str) -> Any:
    """Build a pipeline from nodes, each `{_target_: albumentations.X, ...}` or a transform of kdface or a plug-in.

    Args:
        nodes: in order of application; arguments that are nodes (as in OneOf) are built too.
        where: the key of the list, for messages.

    Raises:
        UserError: an unknown transform or argument, an invalid value, or a transform that needs other images.
    """
    return compose([_transform(node, f"{where}.{place}") for place, node in enumerate(nodes)])


def _transform(node: Any, where: str) -> Any:
    if not isinstance(node, Mapping) or "_target_" not in node:
        raise UserError(f"{where} = {node!r} is no transform.", expected="{_target_: albumentations.NAME, p: 0.5, ...}")
    target = node["_target_"]
    kind = locate(target, origin=where)
    if not (inspect.isclass(kind) and issubclass(kind, alb.BasicTransform | alb.BaseCompose)):
        raise UserError(f"{where}: {target} is no transform of albumentations.", expected="one of its transforms")
    takes = [name for name in inspect.signature(kind).parameters if name != "strict"]
    for key in node:
        if key not in ("_target_", *takes):
            near = nearest(str(key), takes)
            raise UserError(
                f"{where}: {target} has no argument {key!r}.",
                expected=f"one of {', '.join(takes)}",
                nearest=near,
                fix=f"in that list, {near} for {key}" if near else "see the transform's documentation",
            )
    if "metadata_key" in takes or "reference_images" in takes:
        raise UserError(
            f"{where}: {target} needs other images or texts.",
            expected="a transform of the image itself",
            fix="remove it from the list",
        )
    values = {key: _value(value, f"{where}.{key}") for key, value in node.items() if key != "_target_"}
    # Otherwise albumentations only warns of invalid arguments and uses its defaults.
    strict = {"strict": True} if issubclass(kind, alb.BasicTransform) and hasattr(kind, "InitSchema") else {}
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=".*(not valid|[Ii]nvalid|must be).*")
            return kind(**values, **strict)
    except (TypeError, ValueError, UserWarning) as error:
        said = " ".join(line.strip() for line in str(error).splitlines() if "errors.pydantic.dev" not in line)
        raise UserError(f"{where}: {target} cannot be built: {said}", fix="see the transform's documentation") from None


def _value(value: Any, where: str) -> Any:
    if isinstance(value, Mapping) and "_target_" in value:
        return _transform(value, where)
    if isinstance(value, list) and any(isinstance(item, Mapping) and "_target_" in item for item in value):
        return [_transform(part, f"{where}.{place}") for place, part in enumerate(value)]
    return value
