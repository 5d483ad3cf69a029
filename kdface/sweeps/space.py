"""A search space in Hydra's own syntax: a,b,c  choice(...)  range(...)  interval(...)  int(...)  tag(log, ...)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep

from kdface.errors import UserError
from kdface.randomness import generator


@dataclass(frozen=True)
class Dimension:
    """One searched key.

    Attributes:
        key: the key as on the command line.
        choices: values to choose from, as text; empty for a numeric range.
        low, high: inclusive bounds of the range.
        step: spacing of the values; None: continuous.
        log: sample uniformly on a log scale.
        integer: integers only.
    """

    key: str
    choices: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 0.0
    step: float | None = None
    log: bool = False
    integer: bool = False

    def draw(self, rng: np.random.Generator) -> str:
        """Draw a value as text. Integers are drawn directly, not rounded."""
        if self.choices:
            return self.choices[int(rng.integers(len(self.choices)))]
        if self.step is not None and not self.log:
            steps = math.floor((self.high - self.low) / self.step + 1e-9)
            return self.text(self.low + int(rng.integers(steps + 1)) * self.step)
        if not self.log:
            return self.text(rng.uniform(self.low, self.high))
        if self.integer:
            drawn = math.exp(rng.uniform(math.log(self.low - 0.5), math.log(self.high + 0.5)))
            return self.text(min(self.high, max(self.low, round(drawn))))
        return self.text(math.exp(rng.uniform(math.log(self.low), math.log(self.high))))

    def text(self, value: Any) -> str:
        """A value as written in an override."""
        if self.choices:
            return str(value)
        return str(round(value)) if self.integer else repr(float(value))


@dataclass(frozen=True)
class Space:
    """Fixed overrides and searched dimensions."""

    fixed: list[str]
    dimensions: list[Dimension]

    @classmethod
    def parse(cls, arguments: list[str]) -> Space:
        """Parse a command line; the last override of a key wins."""
        parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
        fixed: dict[str, str] = {}
        dimensions: dict[str, Dimension] = {}
        for override in parser.parse_overrides(arguments):
            key = override.get_key_element()
            fixed.pop(key, None)
            dimensions.pop(key, None)
            if override.is_sweep_override():
                dimensions[key] = _dimension(key, override)
            else:
                fixed[key] = f"{key}={override.get_value_element_as_str()}" if not override.is_delete() else key
        if not dimensions:
            raise UserError(
                "the search space is empty.",
                expected="Hydra's sweeps: KEY=interval(0,1), KEY=tag(log,interval(1e-4,1e-1)), KEY=int(interval(2,8)), "
                "KEY=range(1,5), KEY=choice(a,b)",
                fix="'optimizer.lr=tag(log,interval(0.001,0.1))'",
            )
        return cls(list(fixed.values()), list(dimensions.values()))

    @property
    def keys(self) -> list[str]:
        """The searched keys."""
        return [dimension.key.lstrip("+") for dimension in self.dimensions]

    def drawn(self, seed: int, number: int) -> list[str]:
        """Point `number` of a random search, a pure function of (seed, number)."""
        rng = generator(seed, "random search", number)
        return self.job({dimension.key: dimension.draw(rng) for dimension in self.dimensions})

    def job(self, values: dict[str, Any]) -> list[str]:
        """The overrides of one point."""
        return [*self.fixed, *(f"{key}={value}" for key, value in values.items())]

    def corners(self) -> list[list[str]]:
        """A few points that cover every bound and choice, to be checked before the first job starts."""
        longest = max(len(dimension.choices) or 2 for dimension in self.dimensions)
        points = []
        for i in range(longest):
            values = {}
            for dimension in self.dimensions:
                ends = dimension.choices or (dimension.low, dimension.high)
                values[dimension.key] = dimension.text(ends[i % len(ends)])
            points.append(self.job(values))
        return points


def random_points(space: Space, n_trials: Annotated[int, Ge(1)] = 20, seed: int = 0) -> list[list[str]]:
    """Random search: the overrides of each point."""
    return [space.drawn(seed, number) for number in range(n_trials)]


def _dimension(key: str, override: Override) -> Dimension:
    given = override.value()
    if isinstance(given, IntervalSweep):
        assert given.start is not None and given.end is not None
        integer = isinstance(given.start, int) and isinstance(given.end, int)
        found = Dimension(
            key,
            low=given.start,
            high=given.end,
            step=1.0 if integer else None,
            log="log" in given.tags,
            integer=integer,
        )
    elif isinstance(given, RangeSweep):
        values = list(given.range())
        if not values:
            raise UserError(f"{override.input_line}: an empty range.", expected="range(START, STOP, STEP)")
        integer = all(isinstance(value, int) for value in values)
        step = abs(float(given.step))
        found = Dimension(key, (), min(values), max(values), step, "log" in given.tags, integer)
    else:
        found = Dimension(key, tuple(dict.fromkeys(override.sweep_string_iterator())))
    if not found.choices and (found.low > found.high or (found.log and found.low <= 0)):
        raise UserError(
            f"{override.input_line}: from {found.low:g} to {found.high:g}{' on a log scale' if found.log else ''}.",
            expected="a lower bound below the upper one, and above 0 on a log scale",
        )
    return found
