"""FaceQAN and FROQ against loops in float64 over single images."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from kdface.faces import Preprocessing
from kdface.randomness import generator
from kdface.teachers import Teacher
from kdface.teachers.quality import FROQ, FaceQAN, QualitySource
from tests.teachers.quality.stand_ins import Linear, cosine, faces_of, flat_teacher, random_faces

SCALED = Preprocessing(size=(4, 6), mean=100.0, std=50.0)


def slow_faceqan(
    weight: NDArray[np.float64], image: NDArray[np.uint8], key: str, source: FaceQAN, look: Preprocessing
) -> float:
    """f(I) = W (255 I - mean) / std; d cos(a, b) / d b = (a / |a| - cos b / |b|) / |b|."""

    def embed(y: NDArray[np.float64]) -> NDArray[np.float64]:
        return weight @ ((255 * y - look.mean) / look.std).ravel()

    clean = image.transpose(2, 0, 1) / 255
    target = embed(clean)
    noise = generator(source.seed, "faceqan", key).random((source.copies, *clean.shape), np.float32)
    found = []
    for draw in noise:
        y = np.clip(clean + source.epsilon * (2 * draw.astype(np.float64) - 1), 0, 1)
        for _ in range(source.iterations):
            b = embed(y)
            c = cosine(target, b)
            found.append(c)
            towards = (target / np.linalg.norm(target) - c * b / np.linalg.norm(b)) / np.linalg.norm(b)
            slope = (weight.T @ towards).reshape(y.shape) * 255 / look.std
            y = np.clip(y + source.epsilon * np.sign(-slope), 0, 1)  # of 1 - cos
    base = (1 + np.mean(found)) / 2 * np.clip(1 - np.std(found), 0, 1) * cosine(target, embed(clean[:, :, ::-1]))
    return float(base**source.exponent)


@pytest.mark.parametrize("source", [FaceQAN(epsilon=0.02), FaceQAN(0.1, iterations=1, copies=3, exponent=1, seed=4)])
def test_faceqan(source: FaceQAN) -> None:
    faces = random_faces(2, 4, (4, 6))
    faces.images[0, :2] = 255  # where the clip acts
    faces.images[1, :2] = 0
    network = Linear((4, 6))
    found = source(Teacher(network, SCALED), faces)
    weight = network.weight.detach().double().numpy()
    expected = [
        slow_faceqan(weight, image, key, source, SCALED) for image, key in zip(faces.images, faces.keys, strict=True)
    ]
    assert found.tolist() == pytest.approx(expected, abs=2e-5)
    assert np.ptp(expected) > 0.01


def test_the_attack_lowers_the_cosine() -> None:
    faces = random_faces(1, 4, (4, 6))
    teacher = Teacher(Linear((4, 6)), SCALED)
    quiet, attacked = (FaceQAN(epsilon=0.05, iterations=count, exponent=1)(teacher, faces) for count in (1, 6))
    assert (np.abs(attacked) < np.abs(quiet)).all()


def test_an_even_power_keeps_the_sign() -> None:
    # opposite halves: the mirror image has the cosine -1
    faces = faces_of([[90, -90, 90, -90, 90, -90]], ["a"])
    odd, even = (FaceQAN(epsilon=1e-6, exponent=exponent)(flat_teacher(), faces).item() for exponent in (1, 2))
    assert odd == pytest.approx(-1.0, abs=1e-6) and even == pytest.approx(-1.0, abs=1e-6)


@pytest.mark.parametrize("look", [SCALED, Preprocessing(size=(4, 6)), Preprocessing(size=(4, 6), mean=0.0, std=255.0)])
def test_froq(look: Preprocessing) -> None:
    faces = random_faces(2, 2, (4, 6))
    network, source = Linear((4, 6)), FROQ(noise=0.3, masks=3, grid=2, seed=6)
    found = source(Teacher(network, look), faces)
    weight = network.weight.detach().double().numpy()

    def embed(y: NDArray[np.float64]) -> NDArray[np.float64]:  # of an image in [-1, 1]
        return weight @ ((127.5 * (y + 1) - look.mean) / look.std).ravel()

    masks = generator(6, "froq").standard_normal((3, 3, 4, 6), np.float32).astype(np.float64)
    for image, score in zip(faces.images, found, strict=True):
        x = image.transpose(2, 0, 1) / 127.5 - 1
        mirror = cosine(embed(x), embed(x[:, :, ::-1]))
        noise = np.mean([cosine(embed(x), embed(0.7 * x + 0.3 * mask)) for mask in masks])
        covered = []
        for top in (0, 2):
            for left in (0, 3):
                black = x.copy()
                black[:, top : top + 2, left : left + 3] = -1
                covered.append(cosine(embed(x), embed(black)))
        assert score == pytest.approx((mirror + noise + np.mean(covered)) / 3, abs=1e-5)


def test_the_squares_of_the_released_code() -> None:
    squares = FROQ()._squares(112, 112)
    assert len(squares) == 64
    assert all(rows.stop - rows.start == columns.stop - columns.start == 14 for rows, columns in squares)


@pytest.mark.parametrize(("height", "width"), [(112, 96), (50, 33), (16, 16)])
def test_the_squares_cover_the_image_once(height: int, width: int) -> None:
    covered = np.zeros((height, width), dtype=int)
    for rows, columns in FROQ()._squares(height, width):
        covered[rows, columns] += 1
    assert (covered == 1).all()


@pytest.mark.parametrize("source", [FaceQAN(epsilon=0.02), FROQ(noise=0.1, grid=1)], ids=repr)
def test_determinism_and_direction(source: QualitySource) -> None:
    """A faint image drowns in the noise that a strong one bears."""
    strong, faint = [100, 100, 80, 80, -90, -90], [5, 5, 4, 4, -4, -4]
    faces = faces_of([strong, faint, faint, strong], list("abcd"))
    first = source(flat_teacher(), faces)
    assert np.array_equal(source(flat_teacher(), faces), first)
    assert min(first[0], first[3]) > max(first[1], first[2])
    order = [2, 0, 3, 1]
    assert source(flat_teacher(), faces.taken(order)).tolist() == pytest.approx(first[order].tolist(), abs=1e-6)
