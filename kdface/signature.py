"""Validate values against type hints: the same validator for YAML and for Python callers."""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable
from typing import Any, ParamSpec, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

P = ParamSpec("P")


@functools.cache
def adapter(hint: Any) -> TypeAdapter[Any]:
    """The validator of a type hint; supports bounds of `annotated_types` and arbitrary classes."""
    try:
        return TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True))
    except Exception:  # a type with its own pydantic configuration
        return TypeAdapter(hint)


def from_plain(hint: Any, value: Any) -> Any:
    """A value of a configuration converted to its type hint: list to tuple, string to Path, mapping to dataclass.

    Raises:
        ValidationError: it is invalid, such as text in the place of a number.
    """
    return adapter(hint).validate_json(json.dumps(value), strict=True)


def fitted(owner: object, name: str, hint: Any, value: Any, *, strict: bool) -> Any:
    """The value converted to its type hint, such as a list to a tuple, unless `strict`.

    Raises:
        ValueError: it is invalid; names the class, the argument and the expected value.
    """
    try:
        return adapter(hint).validate_python(value, strict=strict)
    except ValidationError as error:
        raise ValueError(f"{type(owner).__name__}: {name} is {value!r}. {error.errors()[0]['msg']}.") from None


def checked(init: Callable[P, None]) -> Callable[P, None]:
    """Validate a constructor's arguments against its annotations: calls are checked like YAML.

    Raises:
        ValueError: an argument is invalid; see `fitted`.
    """
    signature = inspect.signature(init)

    @functools.wraps(init)
    def checked_init(*args: P.args, **kwargs: P.kwargs) -> None:
        bound = signature.bind(*args, **kwargs)
        for name, hint in get_type_hints(init, include_extras=True).items():
            if name in bound.arguments:
                bound.arguments[name] = fitted(args[0], name, hint, bound.arguments[name], strict=False)
        init(*bound.args, **bound.kwargs)

    return checked_init
