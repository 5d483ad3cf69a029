"""Colours of cloth."""

from __future__ import annotations

from typing import Literal

from kdface.augmentations.masks.paint import Color

Dye = Literal["random", "white", "blue", "green", "pink", "grey", "black"]

NAMED: dict[str, Color] = {
    "white": (240, 240, 237),
    "blue": (150, 195, 222),
    "green": (158, 205, 190),
    "pink": (236, 184, 196),
    "grey": (150, 152, 156),
    "black": (44, 44, 48),
}

# As worn in practice: disposable masks in few colours, cloth in any.
DISPOSABLE: tuple[Color, ...] = (
    *(NAMED["blue"], NAMED["blue"], NAMED["white"], NAMED["white"], NAMED["green"], NAMED["black"], NAMED["pink"]),
    (176, 212, 232), (120, 172, 208), (208, 200, 226), (196, 198, 200),
)  # fmt: skip
RESPIRATOR: tuple[Color, ...] = (
    *(NAMED["white"], NAMED["white"], NAMED["white"], NAMED["grey"], NAMED["black"], NAMED["blue"]),
    (226, 224, 214), (232, 214, 190),
)  # fmt: skip
CLOTH: tuple[Color, ...] = (
    *NAMED.values(), NAMED["black"], NAMED["white"],
    (40, 54, 96), (158, 42, 48), (206, 180, 148), (70, 92, 62), (94, 60, 110), (214, 172, 66), (60, 120, 168),
    (110, 76, 56), (224, 130, 92), (28, 96, 92),
)  # fmt: skip


def pick(colors: tuple[Color, ...], choice: float, brightness: float, tint: tuple[float, float]) -> Color:
    """One of the colours, up to 8 % brighter or darker and a little redder or bluer, from four draws in [0, 1)."""
    red, green, blue = colors[int(choice * len(colors))]
    factor = 0.92 + 0.16 * brightness
    return (red * factor * (0.96 + 0.08 * tint[0]), green * factor, blue * factor * (0.96 + 0.08 * tint[1]))
