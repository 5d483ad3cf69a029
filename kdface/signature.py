"""Values held to type hints: one validator for what a YAML says and for what a caller passes."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

P = ParamSpec("P")


@functools.cache
def adapter(hint: Any) -> TypeAdapter[Any]:
    """The validator of a type hint; bounds of `annotated_types` are heeded, classes of any kind are taken."""
    try:
        return TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True))
    except Exception:  # a type that carries its own pydantic configuration
        return TypeAdapter(hint)


def fitted(owner: object, name: str, hint: Any, value: Any, *, strict: bool) -> Any:
    """The value as its type hint wants it: a list as a tuple, say, unless `strict`.

    Raises:
        ValueError: it does not fit; names the class, the argument and what was expected.
    """
    try:
        return adapter(hint).validate_python(value, strict=strict)
    except ValidationError as error:
        raise ValueError(f"{type(owner).__name__}: {name} is {value!r}. {error.errors()[0]['msg']}.") from None


def checked(init: Callable[P, None]) -> Callable[P, None]:
    """Hold a constructor's arguments to its annotations: what a YAML may not say, a call may not either.

    Raises:
        ValueError: an argument does not fit; see `fitted`.
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
