"""Loose names: zeros before the last number do not count, all other digits do."""

from __future__ import annotations

from kdface.datasets.names import loose, matched


def _spelled(width: int, number: int) -> str:
    return "x/Ada_" + "0" * (width - len(str(number))) + str(number)


def test_numbers_stay_what_they_are() -> None:
    for number in range(2001):
        for width in range(1, 6):
            name = _spelled(width, number)
            assert loose(f"{name}.jpg") == f"x/Ada_{int(name.rpartition('_')[2])}", name
    assert loose("a0_b007c") == "a0_b007c"
    assert loose("0012") == "12"
    assert loose("1_2001_000") == "1_2001_0"


def test_names_that_share_digits_but_not_the_number_are_told_apart() -> None:
    there = ["Ada_1001.png", "Ada_0101.png", "Ada_0011.png"]
    wanted = {"Ada_101.jpg": "Ada_0101.png", "Ada_11.jpg": "Ada_0011.png", "Ada_01001.jpg": "Ada_1001.png"}
    assert matched(wanted, there) == wanted
    assert matched(["Ada_1.jpg"], there) == {"Ada_1.jpg": "Ada_1.jpg"}
