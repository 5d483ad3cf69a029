"""Images per second and memory of drawing a mask on an aligned crop, against the way of the published MaskInv code.

Theirs, stated anew from its description: one large template with transparency, five points of it matched to the five
landmarks by `findHomography`, the whole template warped to the crop, and a blend in floating point. The template is
drawn here. Both draw on the same crops with a generator made for each image, on one thread, each in a process of its
own so that peaks of memory do not mix, and interleaved. `python -m benchmarks.masking [FOLDER]` takes the crops of a
folder with one folder per person; without it, generated faces are taken.
"""

from __future__ import annotations

import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from kdface.augmentations.synthetic_mask import draw_mask
from kdface.datasets import ImageFolder, ToyFaces
from kdface.faces import Image, Sample, template_points
from kdface.randomness import generator

CROPS = 1000
REPEATS = 7
AIM = 3.0  # times as fast as theirs
NAMES = ("kdface", "five-point template")

Masker = Callable[[Sample, np.random.Generator], Image]


def main(folder: str | None = None) -> None:
    print(f"masks on {CROPS} crops of {folder or 'generated faces'}, one thread, {REPEATS} interleaved repeats")
    context = multiprocessing.get_context("spawn")
    sides = []
    for name in NAMES:
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(name, folder, theirs))
        process.start()
        sides.append((process, ours))
        size, first = ours.recv()
        print(f"  {name:<20} first pass over {size[0]}x{size[1]} crops, with all that is made once: {first:.2f} s")
    rates: list[list[float]] = [[], []]
    for repeat in range(REPEATS):
        for number in (0, 1) if repeat % 2 else (1, 0):  # each goes first as often as the other
            sides[number][1].send(repeat)
            rates[number].append(CROPS / sides[number][1].recv())
    for name, (process, pipe), rate in zip(NAMES, sides, rates, strict=True):
        pipe.send(None)
        print(f"  {name:<20} {statistics.median(rate):7.0f} images/s  {pipe.recv():6.1f} MiB above the crops")
        process.join()
    ratio = statistics.median(a / b for a, b in zip(*rates, strict=True))
    print(f"{NAMES[0]}: {ratio:.1f} times as fast (median ratio; the aim is {AIM:.0f})")


def _serve(name: str, folder: str | None, pipe: Connection) -> None:
    """Mask the crops once a message, answer with the seconds; at the end with the peak of memory in MiB."""
    cv2.setNumThreads(0)
    faces = ImageFolder(folder) if folder else ToyFaces(people=50, images_per_person=CROPS // 50)
    order = np.random.default_rng(0).permutation(len(faces))[:CROPS]
    if len(order) < CROPS:
        raise SystemExit(f"{folder} holds {len(order)} crops: at least {CROPS} are needed")
    samples = [faces[index] for index in order]
    before, start = _start_peak(), time.perf_counter()
    mask = _kdface if name == NAMES[0] else _FivePointTemplate()
    _pass(mask, samples, -1)
    pipe.send((samples[0].image.shape[:2], time.perf_counter() - start))
    while (repeat := pipe.recv()) is not None:
        start = time.perf_counter()
        _pass(mask, samples, repeat)
        pipe.send(time.perf_counter() - start)
    pipe.send(_peak() - before)


def _pass(mask: Masker, samples: list[Sample], repeat: int) -> None:
    for sample in samples:
        mask(sample, generator(repeat, sample.key))


def _kdface(sample: Sample, rng: np.random.Generator) -> Image:
    landmarks = template_points(sample.image.shape[:2]) if sample.landmarks is None else sample.landmarks
    return draw_mask(sample.image, landmarks, rng)


class _FivePointTemplate:
    """The published way, on a template of its size (1627x1085) and with the same five correspondences."""

    def __init__(self) -> None:
        self.template = _template()
        # nose, right and left mouth corner, left and right eye as seen in the image; the template is laid on mirrored
        self.points = np.array([[678, 464], [548, 614], [991, 664], [1009, 64], [557, 64]], np.float32)
        self.order = [2, 4, 3, 0, 1]

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Image:
        height, width = sample.image.shape[:2]
        shift = np.array([rng.integers(-10, 10), rng.integers(-40, 40)])
        target = template_points((height, width))[self.order]
        homography, _ = cv2.findHomography((self.points + shift).astype(np.float32), target)
        warped = cv2.warpPerspective(self.template, homography, (width, height)).astype(np.float32)
        opacity = warped[..., 3:] / 255
        color = np.clip(warped[..., :3] + rng.integers(-150, 1, 3), 0, 255)
        return np.asarray(opacity * color + (1 - opacity) * sample.image, np.uint8)


def _template() -> NDArray[np.uint8]:
    """A white mask with pleats, (1085, 1627, 4): as large as the published one, and opaque where that is."""
    y, x = np.mgrid[:1085, :1627].astype(np.float32)
    inside = ((np.abs(x - 787) / 543) ** 4 + (np.abs(y - 583) / 398) ** 4) < 1
    grey = 225 + 18 * np.sin(y / 40)
    template = np.dstack([grey, grey, grey, np.where(inside, 255, 0)])
    return cv2.GaussianBlur(template, (5, 5), 0).astype(np.uint8)


def _start_peak() -> float:
    """Forget the peak so far and return what is held now, in MiB (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")
    return _peak()


def _peak() -> float:
    """The most memory this process has held since `_start_peak`, in MiB."""
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM:")).split()[1]) / 1024


if __name__ == "__main__":
    main(*sys.argv[1:2])
