"""Light and camera for drawn faces: relief shading, background, exposure, blur and noise."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from kdface.datasets.toy_renderer.head import Head
from kdface.datasets.toy_renderer.person import Person
from kdface.datasets.toy_renderer.shot import Shot
from kdface.faces import Image

Scene = NDArray[np.float32]  # (H, W, 3), linear in the pixel values 0..255, not clipped


def _relief(head: Head, p: Person, s: Shot) -> NDArray[np.float64]:
    """The relief of the face as rows (x, y, width, height, amplitude) of Gaussian bumps, placed in the crop."""
    k, c = head.scale, head.curves
    grin = max(s.smile, 0.0)
    rows: list[tuple[float, float, float, float, float]] = []

    def add(points: NDArray[np.float64], width: float, height: float, amplitude: float) -> None:
        rows.extend((x, y, k * width, k * height, k * amplitude) for x, y in points.tolist())

    for point, t in zip(c["bridge"], (0.25, 0.5, 0.75, 0.9), strict=True):
        add(point[None], p.nose_bridge * (0.9 + 0.35 * t), 4.5, 0.46 * p.nose_depth * t)
    add(c["nose"], 0.62 * p.nose_width, 4.2, 0.4 * p.nose_depth)
    add(c["alae"], 0.36 * p.nose_width, 2.9, 2.8)
    for n in ("l", "r"):
        add(c[f"{n}_centre"], 9.5, 6.5, -4.2)
        add(c[f"{n}_centre"], 6.0, 3.6, 2.4)
        add(c[f"{n}_tear"], 3.5, 5.0, -1.8)
        add(c[f"{n}_brow"].mean(0)[None], 12.0, 4.0, 1.7 * p.brow_ridge)
        add(c[f"{n}_fold"][1:2], 3.5, 8.0, -1.0 - 0.8 * p.age - 0.8 * grin)
    add(c["cheeks"], 10.0, 8.5, 3.6 * p.cheekbone + 1.6 * grin)
    for point, amplitude in zip(c["lips"], (2.2, 2.8, -2.4), strict=True):
        add(point[None], 9.0, 2.6, amplitude)
    add(c["chin"], 9.0, 6.0, 4.0 * p.chin_relief)
    return np.array(rows)


def _tone(head: Head, p: Person, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """What living skin multiplies its colour by, (len(y), len(x), 3): red cheeks and nose, shadow round the eyes."""
    c, k = head.curves, head.scale
    red, dark = 0.13 * p.blush * np.array([0.15, 1.0, 0.9]), (p.socket + 0.05) * np.array([0.8, 1.0, 0.95])
    spots = [
        *((q, 9.0, 7.0, red) for q in c["cheeks"]),
        (c["nose"][0], 6.0, 5.0, red),
        *((c[f"{n}_centre"][0], 9.0, 5.5, dark) for n in ("l", "r")),
    ]
    across = np.stack([np.exp(-0.5 * ((x - q[0]) / (w * k)) ** 2)[:, None] * tint for q, w, _, tint in spots])
    down = np.stack([np.exp(-0.5 * ((y - q[1]) / (h * k)) ** 2) for q, _, h, _ in spots])
    return np.asarray(1 - (down.T @ across.reshape(len(spots), -1)).reshape(len(y), len(x), 3))


def illuminate(head: Head, p: Person, s: Shot, size: tuple[int, int]) -> tuple[Scene, Scene]:
    """The light on the face, a factor on its colours (blush and all), and the gloss that is added; both (H, W, 3).

    The relief is an ellipsoid plus Gaussian bumps, with normal n; the light is
    ambient * sky + strength * max(0, n . l + 0.2) / 1.2, in the colours of the two lights. Computed at half size:
    shading is smooth.
    """
    height, width = size
    x = np.linspace(0.5, width - 1.5, max(2, width // 2))
    y = np.linspace(0.5, height - 1.5, max(2, height // 2))
    cx, cy, w, h, amplitude = (column[:, None] for column in _relief(head, p, s).T)
    gx = np.exp(-0.5 * ((x - cx) / w) ** 2)
    gy = np.exp(-0.5 * ((y - cy) / h) ** 2) * amplitude
    dz_dx = (gy.T @ (gx * (cx - x) / w**2)).astype(np.float32)
    dz_dy = ((gy * (cy - y) / h**2).T @ gx).astype(np.float32)
    (middle_x, middle_y), k = head.curves["centre"][0], head.scale
    a, b, depth = 47 * k, 76 * k, 34 * k
    u, v = ((x - middle_x) / a).astype(np.float32)[None, :], ((y - middle_y) / b).astype(np.float32)[:, None]
    root = np.sqrt(np.maximum(1 - u**2 - v**2, 0.06))
    dz_dx -= depth / a * u / root
    dz_dy -= depth / b * v / root

    norm = 1 / np.sqrt(dz_dx**2 + dz_dy**2 + 1)
    lx, ly, lz = s.light.tolist()
    diffuse = np.maximum((lz - lx * dz_dx - ly * dz_dy) * norm + 0.2, 0) / 1.2
    # the nose throws a soft shadow away from the light
    nose_x, nose_y = head.curves["nose"][0] + k * np.array([-9.0 * lx, 2.0 - 5.0 * ly])
    blob_x = np.exp(-0.5 * ((x - nose_x) / (5.0 * k)) ** 2)[None, :]
    blob_y = np.exp(-0.5 * ((y - nose_y) / (5.5 * k)) ** 2)[:, None]
    diffuse *= 1 - (0.3 * np.hypot(lx, ly) * blob_x * blob_y).astype(np.float32)
    sky = 0.84 + 0.16 * dz_dy * norm  # what looks up sees more of the sky
    middle = np.array([lx, ly, lz + 1.0])
    hx, hy, hz = (middle / np.linalg.norm(middle)).tolist()
    gloss = np.maximum((hz - hx * dz_dx - hy * dz_dy) * norm, 0) ** 20

    key, fill = (s.strength * s.tint).astype(np.float32), (s.ambient * s.ambient_tint).astype(np.float32)
    light = cv2.merge([sky * a + diffuse * b for a, b in zip(fill.tolist(), key.tolist(), strict=True)])
    light *= _tone(head, p, x, y).astype(np.float32)
    shine = cv2.merge([gloss * (24 * b) for b in key.tolist()])
    full = (width, height)
    return (
        np.asarray(cv2.resize(light, full), dtype=np.float32),
        np.asarray(cv2.resize(shine, full), dtype=np.float32),
    )


def background(size: tuple[int, int], rng: np.random.Generator) -> Image:
    """A room out of focus: soft patches of colour and a few shapes (H, W, 3)."""
    height, width = size[0] // 4, size[1] // 4  # it is blurred anyway
    base = rng.uniform(30, 215) + rng.normal(0, 16, 3)
    cells = int(rng.integers(2, 6))
    spread = rng.uniform(5, 38)
    patches = base + rng.normal(0, spread, (cells, cells, 1)) + rng.normal(0, 0.35 * spread, (cells, cells, 3))
    canvas = cv2.resize(np.clip(patches, 0, 255).astype(np.uint8), (width, height), interpolation=cv2.INTER_CUBIC)
    for _ in range(int(rng.integers(0, 7))):
        color = (base + rng.normal(0, 45) + rng.normal(0, 18, 3)).tolist()
        x, y, w, h, turn = rng.uniform([0, 0, 0.05, 0.1, -20], [1, 1, 0.5, 0.9, 20]).tolist()
        box = ((x * width, y * height), (w * width, h * height), turn)
        if rng.random() < 0.6:
            cv2.fillPoly(canvas, [np.rint(cv2.boxPoints(box)).astype(np.int32)], color, cv2.LINE_AA)
        else:
            cv2.ellipse(canvas, box, color, -1, cv2.LINE_AA)
    canvas = cv2.GaussianBlur(canvas, (0, 0), float(rng.uniform(0.5, 2.5)) * height / 56)
    return np.asarray(cv2.resize(canvas, (size[1], size[0])), dtype=np.uint8)


def photograph(scene: Scene, s: Shot, rng: np.random.Generator) -> Image:
    """Take the picture: exposure, film curve, saturation, lost detail, lens blur, noise.

    The camera meters the middle of the face, so that dark rooms and dark skin both come out well exposed, and misses by
    `shot.exposure`. Above 0.7 the film curve bends towards white instead of clipping.
    """
    height, width = scene.shape[:2]
    metered = float(scene[height // 3 : -height // 12, width // 4 : -width // 4].mean()) / 255
    gain = (0.54 / max(metered, 0.02)) ** 0.8 * s.exposure
    x = np.linspace(0, 4, 2048, dtype=np.float32)
    over = np.maximum(x - 0.7, 0)
    film = (255 * (x - over + 0.3 * over / (over + 0.3)) ** s.gamma).astype(np.float32)
    steps = np.clip(scene * np.float32(gain / 255 * 2047 / 4), 0, 2047).astype(np.int16)
    grey = np.array([0.299, 0.587, 0.114])
    image = cv2.transform(np.take(film, steps), s.saturation * np.eye(3) + (1 - s.saturation) * grey)
    if s.detail < 1.0:
        small = (max(8, round(width * s.detail)), max(8, round(height * s.detail)))
        image = cv2.resize(cv2.resize(image, small, interpolation=cv2.INTER_AREA), (width, height))
    if s.blur > 0.3:
        image = cv2.GaussianBlur(image, (0, 0), s.blur * height / 112)
    grain = np.float32(s.noise) * rng.standard_normal((height, width), dtype=np.float32)
    image = image + cv2.cvtColor(grain, cv2.COLOR_GRAY2RGB)
    return np.asarray(np.clip(np.rint(image), 0, 255), dtype=np.uint8)
