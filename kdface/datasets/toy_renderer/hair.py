"""Hair, curls, strands and beards."""

from __future__ import annotations

import numpy as np

from kdface.datasets.toy_renderer.canvas import Canvas, Ink
from kdface.datasets.toy_renderer.curves import Curve, spline
from kdface.datasets.toy_renderer.head import Head
from kdface.datasets.toy_renderer.person import Color, Person, mix

_TONES = 5  # shades of the hair that strands are drawn in


def _shade(hair: Color, tone: float) -> Color:
    """Hair `tone` times as bright; lighter strands also catch some white light."""
    return hair * tone + max(0.0, tone - 1) * 45


def draw_back(canvas: Canvas, flesh: Canvas, head: Head, p: Person) -> None:
    """Hair behind the face; its area is marked on `flesh`."""
    c = head.curves
    if p.style == "bald":
        return
    area = spline(c["hair_back"])
    if p.style in ("long", "wavy"):
        area = np.concatenate([spline(c["l_far"])[::-1], spline(c["r_far"])])
    canvas.fill(area, p.hair * (0.62 if p.style in ("long", "wavy") else 0.8))
    flesh.fill(area, 255.0)


def draw_front(
    canvas: Canvas, head: Head, p: Person, rng: np.random.Generator, flesh: Canvas, skin_planes: list[Canvas]
) -> None:
    """Hair before the face; its area is marked on `flesh` and wiped from the planes that hold marks of the skin."""

    def cover(area: Curve, ink: Ink) -> None:
        canvas.fill(area, ink)
        flesh.fill(area, 255.0)
        for plane in skin_planes:
            plane.fill(area, 0.0)

    if p.style in ("long", "wavy"):
        for name in ("l", "r"):
            edge, far = spline(head.curves[f"{name}_edge"]), spline(head.curves[f"{name}_far"])
            if p.style == "wavy":
                t = np.linspace(0, 1, len(edge))
                wave = np.stack([t * np.sin(15 * t + rng.uniform(0, 6)), 0 * t], 1) * canvas.unit
                edge, far = edge + 1.5 * wave, far + 2.4 * wave
            cover(np.concatenate([edge, far[::-1]]), p.hair)
            share = rng.uniform(0, 1, (28, 1, 1))
            _strands(canvas, edge + (far - edge) * share, p.hair, rng)
            canvas.stroke([edge], p.hair * 0.72, 0.5)
        return
    if p.style == "bald":
        return
    inner, outer = spline(head.curves["hairline"]), spline(head.curves["hair_back"])
    inward = inner - outer
    inward /= np.linalg.norm(inward, axis=1, keepdims=True) + 1e-6
    ragged = 0.35 if p.style in ("buzz", "tied") else 0.9
    edge = inner + inward * rng.normal(0, ragged * canvas.unit, (len(inner), 1))
    if p.style == "buzz":
        stubble = mix(p.skin, p.hair, 0.6)
        cover(np.concatenate([outer, (edge + inward * 1.2 * canvas.unit)[::-1]]), mix(p.skin, stubble, 0.5))
        cover(np.concatenate([outer, edge[::-1]]), stubble)
        return
    cover(np.concatenate([outer, edge[::-1]]), p.hair)
    if p.style == "curly":
        _curls(canvas, flesh, edge, outer, p.hair, rng)
        return
    at = rng.uniform(0, len(edge) - 1.01, 48)
    i, f = at.astype(int), (at % 1)[:, None]
    tip, root = edge[i] * (1 - f) + edge[i + 1] * f, outer[i] * (1 - f) + outer[i + 1] * f
    # strands spring from the parting at the top and from the rim of the head at the sides
    side = np.clip(np.abs(at / (len(edge) - 1) - 0.5) * 3 - 0.3, 0, 1)[:, None]
    crown = head.curves["crown"]
    root = (crown + 0.35 * (root - crown)) * (1 - side) + root * side
    bend = (tip + root) / 2 + rng.normal(0, 1.2 * canvas.unit, tip.shape)
    _strands(canvas, spline(np.stack([root, bend, tip], 1), steps=4), p.hair, rng)


def _strands(canvas: Canvas, lines: Curve, hair: Color, rng: np.random.Generator) -> None:
    """Draw lines (count, n, 2), each in a tone of the hair."""
    tones = np.linspace(0.72, 1.28, _TONES)
    drawn = np.clip(np.rint(rng.normal((_TONES - 1) / 2, 1.1, len(lines))), 0, _TONES - 1)
    for k, tone in enumerate(tones):
        canvas.stroke(lines[drawn == k], _shade(hair, float(tone)), 0.5)


def _curls(canvas: Canvas, flesh: Canvas, edge: Curve, outer: Curve, hair: Color, rng: np.random.Generator) -> None:
    unit = canvas.unit
    rims = np.concatenate([edge[::2] + rng.normal(0, unit, edge[::2].shape), outer[::2]])
    for point, radius in zip(rims, rng.uniform(2.5, 4.5, len(rims)).tolist(), strict=True):
        canvas.disc(point, radius, hair)
        flesh.disc(point, radius, 255.0)
    count = 80
    i, t = rng.integers(len(edge), size=count), rng.uniform(0, 1, (count, 1))
    centres = edge[i] * (1 - t) + outer[i] * t + rng.normal(0, 1.5 * unit, (count, 2))
    radii, starts = rng.uniform(1.2, 2.6, count).tolist(), rng.uniform(0, 360, count).tolist()
    tones = rng.normal(1.05, 0.26, count).tolist()
    for centre, radius, start, tone in zip(centres, radii, starts, tones, strict=True):
        canvas.arc(centre, radius, start, 230, _shade(hair, tone))


def mark_beard(plane: Canvas, head: Head, p: Person) -> None:
    """Mark where the beard grows."""
    if p.beard == "none":
        return
    c, u = head.curves, head.scale
    left, right = c["corners"]
    nose_l, nose_r = c["l_wing"][3], c["r_wing"][3]
    lip, under, chin = c["upper_lip"], c["lower_lip"][2:4].mean(0), c["outline"]

    def off(point: Curve, dx: float, dy: float) -> Curve:
        return np.asarray(point + u * np.array([dx, dy]))

    moustache = [
        off(nose_l, 0, 0.8),
        off((nose_l + nose_r) / 2, 0, 1.6),
        off(nose_r, 0, 0.8),
        off(right, 3.0, 0.2),
        off(right, 2.2, 3.5),
        *lip[4:1:-1],
        off(left, -2.2, 3.5),
        off(left, -3.0, 0.2),
    ]
    plane.fill(spline(np.array(moustache), closed=True), 255.0)
    if p.beard in ("full", "stubble"):
        jaw = chin[5:16]  # from one cheek over the chin to the other
        cheeks = [
            off(jaw[-1], 5.0, 2.0),
            off(c["l_fold"][1], -8.0, 4.5),
            off(nose_l, -2.5, 4.0),
            off(nose_r, 2.5, 4.0),
            off(c["r_fold"][1], 8.0, 4.5),
            off(jaw[0], -5.0, 2.0),
        ]
        plane.fill(spline(np.concatenate([off(jaw, 0, 1.0), cheeks]), closed=True), 255.0)
    elif p.beard == "goatee":
        ring = [
            off(right, 3.2, -1.0),
            off(right, 3.0, 8.0),
            off(chin[9], 2.0, 0.0),
            off(chin[10], 0.0, 1.0),
            off(chin[11], -2.0, 0.0),
            off(left, -3.0, 8.0),
            off(left, -3.2, -1.0),
            off(under, -5.0, 3.0),
            off(under, 0.0, 1.5),
            off(under, 5.0, 3.0),
        ]
        plane.fill(spline(np.array(ring), closed=True), 255.0)
    plane.fill(np.concatenate([spline(lip), spline(c["lower_lip"])[::-1]]), 0.0)
