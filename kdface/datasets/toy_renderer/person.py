"""Who is drawn: the continuous traits of an invented person.

Lengths are in pixels of the aligned 112x112 crop, where the average eyes are 35 pixels apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Color = NDArray[np.float64]  # (3,), RGB, 0..255
HairStyle = Literal["short", "fringe", "long", "wavy", "tied", "curly", "buzz", "bald"]
BeardStyle = Literal["none", "stubble", "moustache", "goatee", "full"]

# Ramps through natural tones, light to dark for skin and dark to light for hair; chosen by eye.
_SKIN = np.array(
    [
        [246, 214, 194],
        [238, 196, 168],
        [224, 176, 140],
        [203, 150, 112],
        [172, 119, 84],
        [133, 88, 60],
        [96, 62, 44],
        [72, 47, 36],
    ],
    dtype=np.float64,
)
_HAIR = np.array(
    [
        [26, 22, 22],
        [44, 32, 28],
        [72, 48, 34],
        [104, 68, 42],
        [142, 100, 62],
        [186, 148, 96],
        [222, 194, 146],
    ],
    dtype=np.float64,
)
_RED_HAIR = np.array([142.0, 66.0, 34.0])
_GREY_HAIR = np.array([196.0, 192.0, 188.0])
_IRIS = np.array(
    [[44, 28, 20], [70, 44, 26], [104, 76, 42], [92, 108, 74], [92, 122, 148], [132, 154, 172]], dtype=np.float64
)


def ramp(colors: NDArray[np.float64], t: float) -> Color:
    """The colour at `t` in 0..1 along a row of colours, linearly interpolated."""
    x = np.linspace(0.0, 1.0, len(colors))
    return np.array([np.interp(t, x, colors[:, c]) for c in range(3)])


def clip(value: float, low: float, high: float) -> float:
    """The value, or the bound that it passes."""
    return min(max(value, low), high)


def bell(rng: np.random.Generator) -> float:
    """A standard normal draw, bent so that it stays within 2.5: no face should be a caricature."""
    return float(2.5 * np.tanh(rng.standard_normal() / 2.5))


def mix(a: Color, b: Color, t: float) -> Color:
    """a for t = 0, b for t = 1, linear between."""
    return a + (b - a) * t


@dataclass(frozen=True, eq=False)
class Person:
    """The traits that stay: all continuous but the two style names."""

    age: float  # 0 young adult .. 1 old
    # colours
    skin: Color
    hair: Color
    brow: Color
    lip: Color
    iris: Color
    blush: float
    # outline of the head: half widths, chin and hairline heights
    temple: float
    cheek: float
    jaw: float
    chin_width: float
    chin_y: float
    ear: float
    # eyes and brows
    eye_x: float
    eye_width: float
    eye_height: float
    eye_tilt: float
    eye_round: float
    eye_uneven: float
    iris_radius: float
    lid: float
    lash: float
    socket: float
    brow_y: float
    brow_thick: float
    brow_arch: float
    brow_tilt: float
    brow_length: float
    brow_inner: float
    # nose
    nose_x: float
    nose_y: float
    nose_width: float
    nose_depth: float
    nose_bridge: float
    nostril: float
    # mouth
    mouth_x: float
    mouth_y: float
    mouth_width: float
    upper_lip: float
    lower_lip: float
    cupid: float
    corner: float
    # relief
    cheekbone: float
    brow_ridge: float
    chin_relief: float
    # hair and beard
    style: HairStyle
    hairline: float
    recession: float
    peak: float
    part: float
    volume: float
    fringe: float
    sideburn: float
    beard: BeardStyle
    beard_density: float
    # marks and habits
    moles: NDArray[np.float64]  # (n, 3): x, y, radius
    freckles: NDArray[np.float64]  # (n, 2): x, y
    scar: NDArray[np.float64]  # (2, 2), or (0, 2) for none
    lines: float
    glasses_habit: float


def _freckles(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    x, y = rng.normal(0, 17, count), rng.normal(14, 7, count)
    keep = np.abs(x) < 32
    return np.stack([x, y], 1)[keep]


class _Colors(NamedTuple):
    skin: Color
    hair: Color
    brow: Color
    lip: Color
    iris: Color


def _draw_colors(rng: np.random.Generator, age: float, bold: float, melanin: float) -> _Colors:
    skin = ramp(_SKIN, melanin) * (1 + np.array([0.012, 0.0, -0.03]) * rng.standard_normal())
    skin = np.clip(skin * (1.0 + 0.025 * bell(rng)), 25, 250)

    fair = clip((1 - melanin) ** 2 * rng.uniform(0, 1.25), 0, 1)
    hair = ramp(_HAIR, fair)
    if melanin < 0.4 and rng.random() < 0.16:
        hair = mix(hair, _RED_HAIR, rng.uniform(0.5, 0.95))
    grey = clip((age - 0.5) * 2.6 * rng.uniform(0.2, 1.3), 0, 1)
    brow = mix(ramp(_HAIR, fair * 0.75), _GREY_HAIR * 0.8, grey * 0.6)
    brow = mix(brow, skin * 0.55, 0.15)
    hair = mix(hair, _GREY_HAIR, grey)
    lip = mix(
        skin * np.array([0.86, 0.62, 0.62]), np.array([176.0, 70.0, 78.0]), rng.uniform(0.0, 0.45) * (1 - 0.4 * bold)
    )
    iris = ramp(_IRIS, clip((1 - melanin) ** 1.6 * rng.uniform(0, 1.5) - 0.1, 0, 1))
    return _Colors(skin, hair, brow, lip, iris)


def _draw_styles(rng: np.random.Generator, age: float, bold: float, melanin: float) -> tuple[HairStyle, BeardStyle]:
    bald = rng.random() < 0.45 * bold * (0.25 + age)
    names: list[HairStyle] = ["short", "fringe", "long", "wavy", "tied", "curly", "buzz"]
    weights = np.array(
        [
            0.4 + 1.6 * bold,
            0.6,
            1.7 * (1 - bold) * (1.2 - age),
            1.5 * (1 - bold) * (1.2 - age),
            0.8 * (1 - bold) + 0.1,
            0.3 + 1.3 * melanin,
            (0.2 + 0.7 * melanin) * bold,
        ]
    )
    style: HairStyle = "bald" if bald else names[int(rng.choice(len(names), p=weights / weights.sum()))]
    beards: list[BeardStyle] = ["none", "stubble", "moustache", "goatee", "full"]
    hairy = bold > 0.55
    beard: BeardStyle = beards[int(rng.choice(len(beards), p=[0.36, 0.24, 0.08, 0.12, 0.2]))] if hairy else "none"
    return style, beard


def draw_person(rng: np.random.Generator) -> Person:
    """Invent a person. Traits that go together in people (age and grey hair, brow and jaw) are drawn together."""

    def n(mean: float, sd: float) -> float:
        return mean + sd * bell(rng)

    age = float(rng.beta(1.3, 1.7))
    bold = clip(rng.normal(0.5, 0.32), 0, 1)  # soft .. strong features
    melanin = float(rng.beta(1.0, 1.5))
    colors = _draw_colors(rng, age, bold, melanin)
    style, beard = _draw_styles(rng, age, bold, melanin)
    scarred = rng.random() < 0.06
    start = np.array([rng.uniform(-28, 28), rng.uniform(10, 30)])
    return Person(
        age=age,
        skin=colors.skin,
        hair=colors.hair,
        brow=colors.brow,
        lip=colors.lip,
        iris=colors.iris,
        blush=n(0.5, 0.25) * (1 - 0.5 * melanin),
        temple=n(37.5, 1.5),
        cheek=n(38.5, 2.0),
        jaw=n(31.5 + 2.5 * bold, 2.2),
        chin_width=n(10 + 4 * bold, 2.2),
        chin_y=n(59.5 + 2.5 * bold, 2.4),
        ear=n(1.0, 0.14),
        eye_x=n(17.6, 0.9),
        eye_width=n(8.6, 0.9),
        eye_height=n(4.0 - 0.6 * bold, 0.65),
        eye_tilt=n(0.5, 1.1),
        eye_round=n(0.0, 1.0),
        eye_uneven=n(0.0, 0.35),
        iris_radius=n(3.7, 0.22),
        lid=n(2.6, 1.0),
        lash=clip(1.25 - bold + rng.normal(0, 0.15), 0.1, 1.3),
        socket=float(rng.uniform(0.0, 0.16)),
        brow_y=n(-10.5 + 1.2 * bold, 1.5),
        brow_thick=max(0.6, n(1.3 + 1.1 * bold, 0.55)),
        brow_arch=n(2.4 - 1.2 * bold, 1.0),
        brow_tilt=n(-0.1 - 0.3 * bold, 0.9),
        brow_length=n(10.2, 1.0),
        brow_inner=n(0.0, 1.1),
        nose_x=n(0.0, 0.6),
        nose_y=n(20.4, 1.5),
        nose_width=n(7.6 + 1.6 * melanin, 1.0),
        nose_depth=n(13.0, 1.5),
        nose_bridge=n(3.8, 0.6),
        nostril=n(1.0, 0.2),
        mouth_x=n(0.0, 0.6),
        mouth_y=n(40.6, 1.3),
        mouth_width=n(14.4, 1.3),
        upper_lip=n(3.1 - 0.9 * bold - 0.6 * age + 1.0 * melanin, 0.55),
        lower_lip=n(4.5 - 0.8 * bold - 0.6 * age + 0.8 * melanin, 0.7),
        cupid=n(1.0, 0.4),
        corner=n(0.0, 0.7),
        cheekbone=n(1.0, 0.35),
        brow_ridge=n(0.6 + 0.9 * bold, 0.3),
        chin_relief=n(1.0, 0.35),
        style=style,
        hairline=n(-35.0, 3.0),
        recession=max(0.0, n(3.0 * bold + 3.0 * age * bold, 2.0)),
        peak=n(0.5, 1.6),
        part=float(rng.uniform(-1, 1)),
        volume=n(3.6, 1.6),
        fringe=float(rng.uniform(10, 24)),
        sideburn=n(3.0 + 6.0 * bold, 4.0),
        beard=beard,
        beard_density=float(rng.uniform(0.6, 1.0)),
        moles=np.stack([rng.uniform(-29, 29, 3), rng.uniform(6, 52, 3), rng.uniform(0.55, 1.15, 3)], 1)[
            : int(rng.choice(4, p=[0.45, 0.3, 0.17, 0.08]))
        ],
        freckles=_freckles(rng, int(rng.integers(18, 60)) if melanin < 0.35 and rng.random() < 0.35 else 0),
        scar=np.stack([start, start + rng.normal(0, 5, 2)]) if scarred else np.zeros((0, 2)),
        lines=clip((age - 0.25) * 1.5 + rng.normal(0, 0.12), 0, 1),
        glasses_habit=float(rng.beta(0.4, 0.9)),
    )
