"""Search spaces in Hydra's syntax, and random points of them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from kdface.config.compose import hydra_context
from kdface.errors import UserError
from kdface.sweeps.space import Space


@pytest.fixture(autouse=True)
def within_hydra() -> Iterator[None]:
    with hydra_context([]):
        yield


def test_every_form_of_a_sweep_is_read() -> None:
    space = Space.parse(
        [
            "experiment=demo",
            "head.margin=interval(1.2,1.6)",
            "optimizer.lr=tag(log,interval(0.001,0.1))",
            "trainer.max_epochs=int(interval(2,8))",
            "backbone.embedding_size=range(8,33,8)",
            "head=arcface,cosface",
            "seed=choice(0,1)",
        ]
    )
    assert space.fixed == ["experiment=demo"]
    margin, lr, epochs, size, head, seed = space.dimensions
    assert (margin.low, margin.high, margin.log, margin.integer, margin.step) == (1.2, 1.6, False, False, None)
    assert lr.log and (lr.low, lr.high) == (0.001, 0.1)
    assert epochs.integer and (epochs.low, epochs.high, epochs.step) == (2, 8, 1)
    assert size.integer and (size.low, size.high, size.step) == (8, 32, 8)  # Hydra's ranges leave out their end
    assert head.choices == ("arcface", "cosface") and seed.choices == ("0", "1")


def test_a_point_depends_on_seed_and_number_alone() -> None:
    space = Space.parse(["head.margin=interval(1.2,1.6)", "head=arcface,cosface"])
    points = [space.drawn(0, number) for number in range(20)]
    assert points[7] == space.drawn(0, 7)
    assert len({tuple(point) for point in points}) == 20
    assert space.drawn(1, 7) != points[7]


def test_draws_cover_their_range_evenly() -> None:
    space = Space.parse(["a=tag(log,interval(0.001,0.1))", "b=int(interval(1,3))", "c=range(0,10,5)"])
    drawn = [dict(point.split("=") for point in space.drawn(0, number)) for number in range(600)]
    a = np.log10([float(point["a"]) for point in drawn])
    assert a.min() >= -3 and a.max() <= -1
    assert abs(np.median(a) + 2) < 0.1  # uniform in log10 over (-3, -1)
    for key, values in (("b", ("1", "2", "3")), ("c", ("0", "5"))):
        counts = [sum(point[key] == value for point in drawn) for value in values]
        assert sum(counts) == 600 and min(counts) > 600 / len(values) * 0.8


def test_corners_hold_every_end_and_every_choice() -> None:
    space = Space.parse(["head=a,b,c", "x=interval(1,2)", "n=int(interval(4,8))"])
    held = {word for point in space.corners() for word in point}
    assert held == {"head=a", "head=b", "head=c", "x=1.0", "x=2.0", "n=4", "n=8"}


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["seed=0"], "search space is empty"),
        (["x=interval(2,1)"], "from 2 to 1"),
        (["x=tag(log,interval(0,1))"], "above 0"),
        (["x=range(3,3)"], "empty range"),
    ],
)
def test_an_impossible_space_is_told_of(words: list[str], part: str) -> None:
    with pytest.raises(UserError, match=part):
        Space.parse(words)
