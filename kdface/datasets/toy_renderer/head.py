"""The head in three dimensions: control points of every feature, its pose, and its place in the aligned crop.

Coordinates before the pose: origin between the eyes, x right, y down, z towards the camera, in pixels of the 112 crop.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kdface.datasets.toy_renderer.curves import Curve
from kdface.datasets.toy_renderer.person import Person
from kdface.datasets.toy_renderer.shot import Shot
from kdface.faces import Points, similarity, template_points

XY = tuple[float, float]
XYZ = tuple[float, float, float]

_SIDES = ((-1, "l"), (1, "r"))


def surface(x: ArrayLike, y: ArrayLike) -> NDArray[np.float64]:
    """Depth of the smooth head at (x, y): an ellipsoid whose front passes near the eyes."""
    r = (np.asarray(x, dtype=float) / 44) ** 2 + ((np.asarray(y, dtype=float) - 5) / 110) ** 2
    return np.asarray(40 * (np.sqrt(np.maximum(1 - r, 0.05)) - 0.9))


class _Parts:
    """Named control points, gathered so that depth and projection are computed once for all."""

    def __init__(self) -> None:
        self.spans: dict[str, slice] = {}
        self._points: list[XYZ] = []
        self._laid: list[bool] = []

    def put(self, name: str, points: Iterable[XYZ], laid: bool = False) -> None:
        """Points in space."""
        start = len(self._points)
        self._points.extend(points)
        stop = len(self._points)
        self._laid.extend([laid] * (stop - start))
        self.spans[name] = slice(start, stop)

    def lay(self, name: str, points: Iterable[XY], rise: float = 0.0) -> None:
        """Points (x, y) on the surface of the head, lifted off it by `rise`."""
        self.put(name, [(x, y, rise) for x, y in points], laid=True)

    def stacked(self) -> NDArray[np.float64]:
        """All points (n, 3)."""
        stacked = np.array(self._points)
        stacked[:, 2] += np.where(self._laid, surface(stacked[:, 0], stacked[:, 1]), 0.0)
        return stacked


def _mirror(half: list[XY]) -> list[XY]:
    """Close a right half, given from top to bottom, with its mirror image."""
    return half + [(-x, y) for x, y in reversed(half) if x != 0]


def _behind(points: list[XY], at: Sequence[float], knots: list[float], depths: list[float]) -> Iterable[XYZ]:
    """Give each point the depth that a polyline through (knots, depths) has at `at`."""
    z = np.interp(at, knots, depths).tolist()
    return [(x, y, depth) for (x, y), depth in zip(points, z, strict=True)]


def _skull(parts: _Parts, p: Person, s: Shot) -> None:
    drop = 5.5 * s.jaw_open
    chin = p.chin_y + drop
    half = [
        (0.0, -65.0),
        (0.52 * p.temple, -60.5),
        (0.86 * p.temple, -46.0),
        (p.temple + 0.8, -24.0),
        (p.cheek + 0.3, -4.0),
        (p.cheek - 0.4, 13.0),
        (0.5 * p.cheek + 0.5 * p.jaw + 0.9, 29.0 + 0.2 * drop),
        (p.jaw - 2.2, 41.5 + 0.5 * drop),
        (0.52 * p.jaw + 0.48 * p.chin_width, chin - 8.0),
        (p.chin_width, chin - 1.8),
        (0.0, chin),
    ]
    # the silhouette lies behind the features, so that turning the head moves them across it
    outline = _mirror(half)
    parts.put("outline", _behind(outline, [y for _, y in outline], [-65, -40, 20, chin], [-22, -17, -17, -9]))
    parts.put("ears", [(k * (p.cheek + 1.2), y, -30.0) for k in (-1, 1) for y in (-3.0, 17.0)])
    parts.put("neck", [(-25, 40, -26), (25, 40, -26), (27, 110, -26), (-27, 110, -26)])
    parts.put("centre", [(0.0, 2.0, -14.0)])
    parts.lay("chin", [(0.0, chin - 5.0)])
    parts.lay("cheeks", [(-21.5, 15.0), (21.5, 15.0)])
    parts.lay("forehead", [(x, y) for y in (-20.0, -25.0, -30.0) for x in (-19.0, 0.0, 19.0)])
    parts.lay("frown", [(-3.0, -13.5), (-2.4, -7.5), (3.0, -13.5), (2.4, -7.5)])
    parts.lay("moles", [(x, y) for x, y, _ in p.moles])
    parts.lay("freckles", [(x, y) for x, y in p.freckles])
    parts.lay("scar", [(x, y) for x, y in p.scar])


def _eye(parts: _Parts, p: Person, s: Shot, side: int, name: str) -> None:
    w, x0, y0, tilt = p.eye_width, p.eye_x, p.eye_uneven * side, p.eye_tilt

    def lay(part: str, points: list[XY]) -> None:
        """Points relative to the eye's centre, x growing outwards."""
        parts.lay(f"{name}_{part}", [(side * (x0 + x), y0 + y) for x, y in points], 0.5)

    h = p.eye_height * s.eye_open * (1 - 0.12 * p.eye_round) * (1 + 0.1 * max(s.brow_raise, 0))
    low = h * (0.62 - 0.2 * max(s.smile, 0))  # a smile pushes the lower lid up
    inner, outer = (-w, 0.7 + 0.5 * tilt), (w, -tilt)
    lay("upper", [inner, (-0.55 * w, -0.74 * h), (0.02 * w, -h), (0.58 * w, -0.8 * h - 0.3 * tilt), outer])
    lay("lower", [outer, (0.6 * w, 0.72 * low - 0.4 * tilt), (0.05 * w, low), (-0.55 * w, 0.62 * low), inner])
    lay(
        "crease",
        [
            (-0.8 * w, -0.35 * h - 0.5 * p.lid),
            (-0.45 * w, -0.84 * h - 0.85 * p.lid),
            (0.05 * w, -1.02 * h - p.lid),
            (0.6 * w, -0.8 * h - 0.95 * p.lid - 0.3 * tilt),
            (1.06 * w, -0.4 * p.lid - tilt),
        ],
    )
    lay("bag", [(-0.6 * w, low + 2.0), (0.0, low + 3.4), (0.65 * w, low + 2.4)])
    lay("tear", [(-w - 0.3, 0.9 + 0.5 * tilt)])
    lay("iris", [(s.gaze[0] * 1.6 * side, -0.12 * p.eye_height + s.gaze[1])])
    lay("centre", [(0.0, 0.0)])
    crow = [(2.2, -1.6), (5.5, -3.2), (2.4, 0.2), (6.0, 0.6), (2.0, 2.0), (5.2, 4.2)]
    lay("crow", [(w + x, y) for x, y in crow])

    half, thick, arch, slope = p.brow_length, p.brow_thick, p.brow_arch, p.brow_tilt
    y = p.brow_y - 1.6 * s.brow_raise
    head = -half - 1.0 - 1.6 * s.brow_frown + p.brow_inner
    frown = 1.6 * s.brow_frown
    lay(
        "brow",
        [
            (head, y + frown - 0.7 * thick + slope),
            (-0.4 * half, y - 0.55 * arch - 0.9 * thick + 0.5 * frown + 0.3 * slope),
            (0.35 * half, y - arch - 0.8 * thick - 0.4 * slope),
            (half, y + 0.8 - slope),
            (0.4 * half, y - arch + 0.5 * thick - 0.4 * slope),
            (-0.35 * half, y - 0.45 * arch + 0.6 * thick + 0.5 * frown + 0.3 * slope),
            (head + 0.2, y + frown + 0.75 * thick + slope),
        ],
    )


def _nose(parts: _Parts, p: Person) -> None:
    x, y, w, d = p.nose_x, p.nose_y, p.nose_width, p.nose_depth
    parts.put("nose", [(x, y, d)])
    parts.put("bridge", [(x * 0.2, y * t, d * (0.06 + 0.94 * t**1.3)) for t in (0.0, 0.3, 0.6, 0.85)])
    parts.put("alae", [(x - 0.82 * w, y + 0.8, 4.5), (x + 0.82 * w, y + 0.8, 4.5)])
    parts.put("base", [(x - 0.62 * w, y + 3.4, 6.0), (x, y + 4.6, 0.7 * d), (x + 0.62 * w, y + 3.4, 6.0)])
    wing = [(0.92, -3.6, 3.5), (1.1, -0.4, 4.0), (0.98, 2.6, 4.0), (0.62, 3.4, 6.0)]
    for k, name in _SIDES:
        parts.put(f"{name}_nostril", [(x + k * 0.46 * w, y + 3.0, 0.62 * d)])
        parts.put(f"{name}_wing", [(x + k * a * w, y + b, z) for a, b, z in wing])


def _mouth(parts: _Parts, p: Person, s: Shot) -> None:
    smile, grin = s.smile, max(s.smile, 0.0)
    x, y, w = p.mouth_x, p.mouth_y + 0.5 * grin, p.mouth_width * (1 + 0.13 * smile)
    side_y = y - 2.0 * smile + 0.6 * p.corner
    gap = max(9.0 * s.jaw_open, 4.0 * min(max((smile - 0.5) / 0.25, 0.0), 1.0))
    up, down = p.upper_lip * (1 - 0.22 * grin), p.lower_lip * (1 - 0.14 * grin)
    top, low = y - 0.25 * gap, y + 0.75 * gap
    left, right = (x - w, side_y), (x + w, side_y)

    def curve(points: list[XY]) -> list[XY]:
        """From the left corner to the right one through points given for the left half and the middle."""
        inner = [(x + a * w, b) for a, b in points]
        mirrored = [(2 * x - a, b) for a, b in reversed(inner) if a != x]
        return [left, *inner, *mirrored, right]

    parts.lay("corners", [left, right], 1.0)
    upper = [(-0.55, y - 0.62 * up - 0.2 * gap - 0.9 * smile), (-0.2, top - up), (0.0, top - up + p.cupid)]
    parts.lay("upper_lip", curve(upper), 2.5)
    parts.lay("line_top", curve([(-0.5, top - 0.35 * smile), (0.0, top + 0.55)]), 1.5)
    parts.lay("line_low", curve([(-0.5, low - 0.35 * smile - 0.12 * gap), (0.0, low + 0.3)]), 1.5)
    parts.lay("lower_lip", curve([(-0.55, low + 0.66 * down - 0.4 * smile), (-0.22, low + down)]), 2.5)
    parts.lay("lips", [(x, y - 0.5 * up), (x, low + 0.55 * down), (x, low + down + 3.6)], 2.0)
    for k, name in _SIDES:
        nose_end = (k * (p.nose_width + 1.6), p.nose_y - 1.0)
        middle = (k * (0.62 * w + 8.5 + smile), y - 10.5)
        parts.lay(f"{name}_fold", [nose_end, middle, (k * (w + 4.8 + smile), side_y - 1.5)])


def _hair(parts: _Parts, p: Person, s: Shot) -> None:
    volume = max(1.0, p.volume + 0.8 * s.hair_shift[0])
    line = p.hairline + s.hair_shift[1]
    side, burn, recession = p.temple + 0.6, p.sideburn, p.recession
    fringe = p.fringe if p.style == "fringe" else 0.0
    lean = 0.35 * p.part

    def forehead(k: int) -> list[XY]:
        """The hairline of one side, from the ear to the middle."""
        return [
            (k * (side + 0.6), burn),
            (k * (side - 1.8), burn - 3.0),
            (k * (side - 3.4), -14.0),
            (k * (side - 6.5 + 0.25 * recession), -25.0),
            (k * 21.0, line + 5.0 - 1.1 * recession + fringe * (0.92 - k * lean)),
            (k * 9.0, line + 0.5 - 0.4 * recession + fringe * (1 - 0.5 * k * lean)),
        ]

    hairline = [*forehead(-1), (0.0, line + p.peak + fringe), *reversed(forehead(1))]
    across = [abs(x) for x, _ in hairline]
    parts.put("hairline", _behind(hairline, across, [0, 20, side - 4, side + 1], [2, -2, -13, -20]))
    wide = side + volume
    half = [
        (0.0, -67.0 - 1.3 * volume),
        (0.5 * wide, -62.5 - 1.2 * volume),
        (0.87 * wide, -47.0 - 0.8 * volume),
        (wide + 0.3, -28.0),
        (wide, -13.0),
        (wide - 1.2, burn - 8),
        (side + 2.0, burn + 0.5),
    ]
    mirrored = [(-x, y) for x, y in reversed(half[1:])]
    # as deep as the silhouette at the sides, so that it stays outside of it when the head turns
    parts.put("hair_back", [(x, y, -18.0 if y > -40 else -23.0) for x, y in mirrored + half])
    parts.put("crown", [(16.0 * p.part, -64.0, -14.0)])
    if p.style in ("long", "wavy"):
        _long_hair(parts, p, side, line, volume)


def _long_hair(parts: _Parts, p: Person, side: float, line: float, volume: float) -> None:
    """What falls beside the face: its near edge and its far one."""
    reach, part = 5.0 + volume, 11.0 * p.part
    for k, name in _SIDES:
        parts.put(
            f"{name}_edge",
            [
                (part, line - 4.0, 2.0),
                (part + k * 9, line + 1.0, 1.0),
                (k * 24.0, line + 9.0 * (1 + 0.25 * k * p.part), -4.0),
                (k * (side - 3.2), -10.0, -13.0),
                (k * (side - 2.2), 14.0, -14.0),
                (k * (side - 3.8), 40.0, -13.0),
                (k * (side - 1.0), 75.0, -13.0),
            ],
        )
        parts.put(
            f"{name}_far",
            [
                (part, -67.0 - volume, -10.0),
                (part + k * 0.48 * side, -63.0 - volume, -16.0),
                (k * (0.93 * side + 0.6 * reach), -46.0, -24.0),
                (k * (side + reach), -18.0, -26.0),
                (k * (side + 1.1 * reach + 1), 14.0, -26.0),
                (k * (side + 1.2 * reach + 2), 40.0, -26.0),
                (k * (side + 1.2 * reach + 3), 75.0, -26.0),
            ],
        )


def _glasses(parts: _Parts, p: Person, s: Shot) -> None:
    angle = np.linspace(0, 2 * np.pi, 28, endpoint=False)
    c, q = np.cos(angle), np.sin(angle)
    power = 2.0 / s.rim_round
    x = s.rim_width * np.sign(c) * np.abs(c) ** power
    y = s.rim_height * np.sign(q) * np.abs(q) ** power * np.where(q > 0, 1.08, 0.9) + 1.5
    apart = 17.4
    for k, name in _SIDES:
        rim_x = k * apart + x
        parts.put(f"{name}_rim", zip(rim_x.tolist(), y.tolist(), (8.0 - 0.08 * np.abs(rim_x)).tolist(), strict=True))
        hinge = (k * (apart + s.rim_width), -1.5, 5.5)
        parts.put(f"{name}_arm", [hinge, (k * (p.cheek + 1.0), -2.5, -26.0)])
    gap = apart - s.rim_width
    parts.put("nosepiece", [(-gap, -1.0, 8.0), (0.0, -2.8, 9.5), (gap, -1.0, 8.0)])


@dataclass(frozen=True)
class Head:
    """A posed head in the crop: each feature's control points and the five landmarks, in pixels of the crop."""

    curves: dict[str, Curve]
    landmarks: Points
    scale: float  # crop pixels per unit of the head


def place_head(person: Person, shot: Shot, size: tuple[int, int]) -> Head:
    """Pose the head, project it, and align it by its own exact landmarks, so that nothing is resampled.

    The pose rotates by yaw, then pitch, then roll; the projection divides by 1 - z / distance.
    """
    parts = _Parts()
    _skull(parts, person, shot)
    for side, name in _SIDES:
        _eye(parts, person, shot, side, name)
    _nose(parts, person)
    _mouth(parts, person, shot)
    _hair(parts, person, shot)
    if shot.glasses:
        _glasses(parts, person, shot)

    (cy, sy), (cp, sp), (cr, sr) = ((np.cos(a), np.sin(a)) for a in (shot.yaw, shot.pitch, shot.roll))
    yaw = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    pitch = np.array([[1, 0, 0], [0, cp, sp], [0, -sp, cp]])
    roll = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    turned = parts.stacked() @ (roll @ pitch @ yaw).T
    flat = turned[:, :2] / (1 - turned[:, 2:] / shot.distance)

    five = np.concatenate([flat[parts.spans[name]] for name in ("l_centre", "r_centre", "nose", "corners")])
    matrix = similarity(five.astype(np.float32), template_points(size))
    placed = flat @ matrix[:, :2].T + matrix[:, 2]
    landmarks = five @ matrix[:, :2].T + matrix[:, 2]
    curves = {name: placed[span] for name, span in parts.spans.items()}
    return Head(curves, landmarks.astype(np.float32), float(np.hypot(matrix[0, 0], matrix[0, 1])))
