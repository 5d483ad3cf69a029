"""Draws an invented face: skin, eyes, nose, mouth and glasses, straight into the aligned crop."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from kdface.datasets.toy_renderer import hair
from kdface.datasets.toy_renderer.canvas import Canvas
from kdface.datasets.toy_renderer.curves import Curve, spline
from kdface.datasets.toy_renderer.head import Head, place_head
from kdface.datasets.toy_renderer.light import Scene, background, illuminate, photograph
from kdface.datasets.toy_renderer.person import Color, Person, mix
from kdface.datasets.toy_renderer.shot import Shot
from kdface.faces import Image, Points

_RING = np.linspace(0, 2 * np.pi, 18, endpoint=False)
_CIRCLE = np.stack([np.cos(_RING), np.sin(_RING)], 1)


def _rgb(*values: float) -> Color:
    return np.array(values, dtype=np.float64)


def _below(points: Curve, distance: float) -> Curve:
    return np.asarray(points + np.array([0.0, distance]))


def _draw_head(canvas: Canvas, flesh: Canvas, head: Head, p: Person, rng: np.random.Generator) -> None:
    c, k = head.curves, head.scale
    canvas.fill(c["neck"], p.skin * 0.72)
    flesh.fill(c["neck"], 255.0)
    for top, bottom in c["ears"].reshape(2, 2, 2):
        middle, half = (top + bottom) / 2, np.linalg.norm(bottom - top) / 2
        ear = _CIRCLE * np.array([4.6 * k, half]) * p.ear
        canvas.fill(middle + ear, p.skin * _rgb(0.93, 0.84, 0.82))
        canvas.fill(middle + 0.55 * ear, p.skin * _rgb(0.74, 0.62, 0.6))
        flesh.fill(middle + ear, 255.0)
    outline = spline(c["outline"], closed=True)
    canvas.fill(outline, p.skin)
    flesh.fill(outline, 255.0)
    for spot in c["freckles"]:
        canvas.disc(spot, float(rng.uniform(0.35, 0.7)), mix(p.skin, _rgb(150, 92, 60), 0.45))
    if len(c["scar"]):
        canvas.stroke([c["scar"]], mix(p.skin, _rgb(226, 176, 168), 0.6), 0.8)


def _draw_eye(canvas: Canvas, head: Head, p: Person, name: str) -> None:
    c, unit = head.curves, canvas.unit
    upper, lower = spline(c[f"{name}_upper"]), spline(c[f"{name}_lower"])
    layer, mask = canvas.cutout(np.concatenate([upper, lower]))
    white = mix(_rgb(222, 216, 210), p.skin, 0.15)
    layer.pixels[...] = np.rint(white)
    layer.disc(c[f"{name}_tear"][0], 1.2, mix(p.skin, _rgb(200, 110, 110), 0.5))
    centre, r = c[f"{name}_iris"][0], p.iris_radius * head.scale / unit
    layer.disc(centre, r, p.iris * 0.45)
    layer.disc(centre, 0.84 * r, p.iris)
    layer.disc(_below(centre, 0.3 * unit), 0.6 * r, p.iris * 1.25 + 6)
    layer.disc(centre, 0.46 * r, _rgb(10, 8, 8))
    layer.stroke([_below(upper, 0.5 * unit)], mix(white, p.skin * 0.25, 0.55), 1.0)  # the lid's shadow
    layer.disc(centre + np.array([-0.9, -1.1]) * unit, 0.22 * r, _rgb(250, 250, 250))
    canvas.paste(layer, mask)
    canvas.stroke([lower[3:-3]], p.skin * 0.72, 0.5)
    lash = mix(p.skin * 0.42, _rgb(18, 14, 14), 0.35 + 0.4 * p.lash)
    raised = _below(upper, -(0.5 + 0.7 * p.lash) * unit)
    canvas.fill(np.concatenate([upper, raised[:3:-1]]), lash)


def _draw_brow(canvas: Canvas, head: Head, p: Person, name: str) -> None:
    curve = spline(head.curves[f"{name}_brow"], closed=True)
    canvas.fill(curve, mix(p.skin, p.brow, 0.5))
    canvas.fill(curve + (curve.mean(0) - curve) * [0.08, 0.26], mix(p.skin, p.brow, 0.8))


def _draw_nostrils(canvas: Canvas, head: Head, p: Person, s: Shot) -> None:
    # a raised head shows more of them
    size = p.nostril * head.scale * np.array([0.26 * p.nose_width, 1.1 * min(max(1 - 1.6 * s.pitch, 0.5), 1.5)])
    for name in ("l_nostril", "r_nostril"):
        canvas.fill(head.curves[name][0] + _CIRCLE * size, p.skin * _rgb(0.45, 0.35, 0.34))


def _draw_mouth(canvas: Canvas, head: Head, p: Person) -> None:
    c, k = head.curves, head.scale
    top, low = spline(c["line_top"]), spline(c["line_low"])
    inside = np.concatenate([top, low[::-1]])
    gap = float(c["line_low"][2, 1] - c["line_top"][2, 1])
    canvas.fill(inside, _rgb(74, 30, 32))
    if gap > 1.5 * k:
        layer, mask = canvas.cutout(inside)
        layer.disc(_below(low.mean(0), 0.6 * k), 5.5 * k / canvas.unit, _rgb(150, 72, 72))
        # the teeth hang from the upper lip, longest in the middle
        across = top.mean(0) + (top - top.mean(0)) * [0.88, 1.0]
        drop = min(0.75 * gap, 4.2 * k) * np.sin(np.linspace(0.3, np.pi - 0.3, len(top)))
        layer.fill(np.concatenate([across, (across + drop[:, None] * [0, 1])[::-1]]), _rgb(214, 206, 194))
        canvas.paste(layer, mask)
    canvas.fill(np.concatenate([spline(c["upper_lip"]), top[::-1]]), p.lip * 0.9)
    canvas.fill(np.concatenate([low, spline(c["lower_lip"])[::-1]]), p.lip)
    canvas.stroke([top], p.lip * 0.45, 0.5)


def _draw_creases(plane: Canvas, head: Head, p: Person, s: Shot) -> None:
    """Lines in the skin, on a plane that darkens it."""
    c, grin = head.curves, max(s.smile, 0.0)

    def line(points: Curve, depth: float, width: float) -> None:
        if depth > 4:
            plane.stroke([spline(points, steps=4)], float(depth), width)

    for n in ("l", "r"):
        line(c[f"{n}_fold"], 25 + 90 * p.lines + 80 * grin, 1.2)
        line(c[f"{n}_bag"], 15 + 90 * p.lines + 35 * grin, 1.0)
        line(c[f"{n}_crease"], 140, 0.8)
        line(c[f"{n}_wing"], 110, 1.0)
        for crow in c[f"{n}_crow"].reshape(3, 2, 2):
            line(crow, 140 * p.lines * (0.4 + 0.6 * grin) - 15, 0.6)
    line(c["base"], 90, 1.2)
    for furrow in c["forehead"].reshape(3, 3, 2):
        line(furrow, 120 * p.lines * (0.55 + 0.45 * max(s.brow_raise, 0)) - 10, 0.8)
    for furrow in c["frown"].reshape(2, 2, 2):
        line(furrow, 110 * (0.3 * p.lines + 0.6 * s.brow_frown) - 20, 0.8)


def _draw_glasses(canvas: Canvas, head: Head, s: Shot) -> None:
    c = head.curves
    for n in ("l", "r"):
        layer, mask = canvas.cutout(c[f"{n}_rim"])
        layer.pixels[...] = np.rint(s.lens)
        canvas.paste(layer, mask, s.lens_opacity)
        canvas.stroke([c[f"{n}_rim"]], s.rim, s.rim_thick, closed=True)
    canvas.stroke([spline(c["nosepiece"])], s.rim, s.rim_thick)


def render(p: Person, s: Shot, size: tuple[int, int], rng: np.random.Generator) -> tuple[Image, Points]:
    """Draw one picture, (H, W, 3) RGB, and its exact landmarks (5, 2).

    `rng` draws what no parameter names: strands of hair, the background, noise.
    """
    height, width = size
    unit = height / 112.0
    factor = max(2, -(-224 // height))
    full = (width, height)
    head = place_head(p, s, size)

    canvas = Canvas(background((height * factor, width * factor), rng), factor, unit)
    flesh, crease, beard = (Canvas(np.zeros(size, np.uint8), 1, unit) for _ in range(3))
    hair.draw_back(canvas, flesh, head, p)
    _draw_head(canvas, flesh, head, p, rng)
    _draw_nostrils(canvas, head, p, s)
    _draw_mouth(canvas, head, p)
    for name in ("l", "r"):
        _draw_eye(canvas, head, p, name)
        _draw_brow(canvas, head, p, name)
    for spot, (_, _, radius) in zip(head.curves["moles"], p.moles.tolist(), strict=True):
        canvas.disc(spot, radius, p.skin * _rgb(0.5, 0.4, 0.36))
    _draw_creases(crease, head, p, s)
    hair.mark_beard(beard, head, p)
    if s.glasses:
        for sign, name in ((-1, "l"), (1, "r")):
            if sign * s.yaw < 0.12:  # the head hides the far arm
                canvas.stroke([head.curves[f"{name}_arm"]], s.rim * 0.8, s.rim_thick)
    hair.draw_front(canvas, head, p, rng, flesh, [crease, beard])
    if s.glasses:
        _draw_glasses(canvas, head, s)

    scene = cv2.resize(canvas.pixels, full, interpolation=cv2.INTER_AREA).astype(np.float32)
    scene *= 1 - _deep(_soften(crease, 0.75)) * np.float32(0.42 / 255)
    if p.beard != "none":
        _grow_beard(scene, beard, p, rng)
    light, shine = illuminate(head, p, s, size)
    scene += ((light - 1) * scene + shine) * (_deep(flesh.pixels) * np.float32(1 / 255))
    return photograph(scene, s, rng), head.landmarks


def _soften(plane: Canvas, sigma: float) -> NDArray[np.uint8]:
    return np.asarray(cv2.GaussianBlur(plane.pixels, (0, 0), sigma * plane.unit), dtype=np.uint8)


def _deep(plane: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A plane (H, W) in three channels: far faster than broadcasting over a last axis of three."""
    return np.asarray(cv2.cvtColor(plane, cv2.COLOR_GRAY2RGB), dtype=np.uint8)


def _grow_beard(scene: Scene, beard: Canvas, p: Person, rng: np.random.Generator) -> None:
    stubble = p.beard == "stubble"
    soft = _deep(_soften(beard, 1.6 if stubble else 1.0))
    density = 0.4 * p.beard_density if stubble else 0.5 + 0.42 * p.beard_density
    grain = 1 + 0.1 * rng.standard_normal(beard.pixels.shape, dtype=np.float32)
    color = cv2.merge([grain * np.float32(0.9 * v) for v in p.hair.tolist()])
    scene += (color - scene) * (soft * np.float32(density / 255))
