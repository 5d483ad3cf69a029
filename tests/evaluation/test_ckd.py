"""CKD's equal error rates against loops over pairs and scikit-learn's curve; the Davies-Bouldin index."""

from __future__ import annotations

import re

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import davies_bouldin_score, roc_curve

from kdface.config.compose import compose
from kdface.errors import UserError
from kdface.evaluation import EvaluationProtocol
from kdface.evaluation.ckd import (
    CKDVerification,
    ClusterSeparation,
    CrossModalVerification,
    davies_bouldin,
    images_each,
)
from tests.evaluation.faces import Given, Listed, noise


def people(counts: dict[str, int]) -> Listed:
    return Listed([(person, f"{person}/{i:02d}") for person, count in counts.items() for i in range(count)])


def cosine(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    a, b = a.astype(np.float32).astype(float), b.astype(np.float32).astype(float)  # as the embedder gives them
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def slow_eer(genuine: list[float], impostor: list[float]) -> float:
    """The rates at every score as threshold, joined by straight lines, where they meet."""
    before = (0.0, 1.0)
    same, different = np.array(genuine), np.array(impostor)
    for threshold in sorted({*genuine, *impostor}, reverse=True):
        far, fnmr = float((different >= threshold).mean()), float((same < threshold).mean())
        if far >= fnmr:
            gaps = before[1] - before[0], far - fnmr
            return before[0] + (far - before[0]) * gaps[0] / (gaps[0] + gaps[1])
        before = (far, fnmr)
    raise AssertionError("the rates never met")


def test_the_four_images_of_a_person() -> None:
    """At 0, o, 2o, 3o of the sorted names, o = floor(n / 4): for 11 images 0, 2, 4, 6."""
    dataset = people({"ada": 11, "bo": 3, "cy": 4, "di": 8})
    assert images_each(dataset, 4) == {
        "ada": ["ada/00", "ada/02", "ada/04", "ada/06"],
        "cy": ["cy/00", "cy/01", "cy/02", "cy/03"],
        "di": ["di/00", "di/02", "di/04", "di/06"],
    }
    backwards = Listed([(key.split("/")[0], key) for key in reversed(dataset.keys)], ["di", "cy", "bo", "ada"])
    assert images_each(backwards, 4) == images_each(dataset, 4)


def official(chosen: list[tuple[str, NDArray[np.float64]]]) -> float:
    """The full matrix through scikit-learn, as the official code computes it."""
    rows = np.array([row for _, row in chosen]).astype(np.float32).astype(float)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    matrix = rows @ rows.T
    np.fill_diagonal(matrix, 1.0)
    names = np.array([name for name, _ in chosen])
    fpr, tpr, _ = roc_curve((names[:, None] == names[None, :]).ravel(), np.clip(matrix, -1, 1).ravel())
    at = int(np.argmin(np.abs(fpr - (1 - tpr))))
    return float(fpr[at] + 1 - tpr[at]) / 2


@pytest.mark.parametrize(("seed", "spread"), [(0, 1.0), (1, 1.5), (2, 0.6)])
def test_both_error_rates_and_how_far_they_can_lie_apart(seed: int, spread: float) -> None:
    dataset = people({f"p{i:02d}": 4 + i % 9 for i in range(20)})
    rows = noise(dataset, seed, 0, spread)
    protocol = CKDVerification(dataset)
    assert isinstance(protocol, EvaluationProtocol)
    embed = Given((dataset, rows))
    outcome = protocol.evaluate(embed)
    chosen = [(person, rows[key]) for person, four in images_each(dataset, 4).items() for key in four]
    genuine = [cosine(a, b) for i, (x, a) in enumerate(chosen) for y, b in chosen[:i] if x == y]
    impostor = [cosine(a, b) for i, (x, a) in enumerate(chosen) for y, b in chosen[:i] if x != y]
    assert (len(genuine), len(impostor)) == (6 * 20, 8 * 20 * 19)
    assert sorted(outcome.scores) == pytest.approx(sorted(genuine + impostor), abs=1e-12)
    clean, theirs = outcome.metrics["eer"].value, outcome.metrics["eer_official"].value
    assert clean is not None and theirs is not None
    assert clean == pytest.approx(slow_eer(genuine, impostor), abs=1e-12)
    assert theirs == pytest.approx(official(chosen), abs=1e-12)
    assert 0.02 < clean < 0.4
    step = 1 / len(genuine)
    assert theirs - step <= clean <= 4 / 3 * theirs + step
    assert clean > 1.1 * theirs
    assert outcome.counts == {
        "images": 80,
        "images_embedded": 80,
        "people": 20,
        "people_left_out": 0,
        "pairs": 80 * 79 // 2,
    }
    assert embed.asked == [tuple(sorted(key for four in images_each(dataset, 4).values() for key in four))]
    assert outcome.symptoms == []


def test_both_error_rates_by_hand() -> None:
    """Eight images on axes of their own, but for two, of two people, on one: an impostor of 16 scores 1, the rest 0.

    Clean: no genuine pair scores 1. From (FAR, FNMR) = (1/16, 1) a line leads to (1, 0); it meets FAR = FNMR at 16/31.
    Official: 8 of 32 genuine scores are 1, so the vertex nearest to equal rates is (1/16, 3/4).
    """
    dataset = people({"ada": 4, "bo": 4})
    rows = {key: np.eye(8)[i] for i, key in enumerate(dataset.keys)}
    rows["bo/00"] = rows["ada/00"]
    outcome = CKDVerification(dataset).evaluate(Given((dataset, rows)))
    assert outcome.metrics["eer"].value == pytest.approx(16 / 31)
    assert outcome.metrics["eer_official"].value == pytest.approx((1 / 16 + 3 / 4) / 2)


def test_people_with_fewer_than_four_images() -> None:
    """The official matrix has their first image four times; the clean one leaves them out."""
    dataset = people({"ada": 4, "bo": 5, "cy": 3, "di": 1})
    rows = noise(dataset, 4, 0, 1.0)
    outcome = CKDVerification(dataset).evaluate(Given((dataset, rows)))
    assert outcome.counts == {
        "images": 10,
        "images_embedded": 10,
        "people": 2,
        "people_left_out": 2,
        "pairs": 28,
    }
    keys = [*images_each(dataset, 4)["ada"], *images_each(dataset, 4)["bo"], *["cy/00"] * 4, *["di/00"] * 4]
    assert outcome.metrics["eer_official"].value == pytest.approx(official([(key[:2], rows[key]) for key in keys]))
    assert len(outcome.scores) == 28 and int(outcome.same.sum()) == 12
    with pytest.raises(UserError, match="1 of 2 people have 4 images"):
        CKDVerification(people({"ada": 4, "bo": 3}))


def test_across_modalities_against_a_loop() -> None:
    faces = people({"ada": 4, "bo": 6, "cy": 9, "di": 2})
    eyes = Listed([(key.split("/")[0], key) for key in reversed(faces.keys)], ["di", "cy", "bo", "ada"], "periocular")
    left, right = noise(faces, 0, 1, 1.2), noise(eyes, 0, 2, 1.2)
    protocol = CrossModalVerification(faces, eyes)
    assert protocol.datasets == (faces, eyes)
    outcome = protocol.evaluate(Given((faces, left), (eyes, right)))
    keys = [key for four in images_each(faces, 4).values() for key in four]
    pairs = [(a, b) for a in keys for b in keys if a != b]
    genuine = [cosine(left[a], right[b]) for a, b in pairs if a[:2] == b[:2]]
    impostor = [cosine(left[a], right[b]) for a, b in pairs if a[:2] != b[:2]]
    assert (len(genuine), len(impostor)) == (3 * 12, 12 * 8)
    assert outcome.metrics["cross/eer"].value == pytest.approx(slow_eer(genuine, impostor))
    assert sorted(outcome.scores[outcome.same]) == pytest.approx(sorted(genuine))
    assert outcome.counts["pairs"] == 132 and outcome.counts["people_left_out"] == 1
    swapped = Given((faces, right), (eyes, left), logits=[(faces, left), (eyes, right)])
    logits = CrossModalVerification(faces, eyes, compare="logits").evaluate(swapped)
    assert logits.metrics == outcome.metrics and logits.choices["compare"] == "logits"
    with pytest.raises(UserError, match="are not in"):
        CrossModalVerification(faces, people({"ada": 4, "bo": 6}))
    with pytest.raises(UserError, match="compare=logits does not support mirror"):
        CrossModalVerification(faces, eyes, mirror=True, compare="logits")


@pytest.mark.parametrize("value", [0.0, float("nan")])
def test_a_dead_network_has_no_rates(value: float) -> None:
    dataset = people({"ada": 4, "bo": 4, "cy": 1})
    rows = noise(dataset, 0, 0, 0.5)
    rows["cy/00"] = np.full(6, value)  # even of someone whom only the official matrix has
    outcome = CKDVerification(dataset).evaluate(Given((dataset, rows)))
    assert outcome.symptoms and {metric.value for metric in outcome.metrics.values()} == {None}
    rows["ada/00"] = np.full(6, value)
    outcome = CrossModalVerification(dataset, dataset).evaluate(Given((dataset, rows)))
    assert outcome.symptoms and outcome.metrics["cross/eer"].value is None
    outcome = ClusterSeparation(dataset).evaluate(Given((dataset, rows)))
    assert outcome.symptoms and outcome.metrics["davies_bouldin"].value is None


def test_davies_bouldin() -> None:
    """By hand: two people at +-30 degrees around 0 and around 180: S = sin 30, M = 2 cos 30, index 2 S / M = tan 30."""
    angles = np.radians([30, -30, 150, 210])
    rows = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    assert davies_bouldin(7 * rows, ["ada", "ada", "bo", "bo"]) == pytest.approx(3**-0.5)
    rng = np.random.default_rng(0)
    names = [f"p{i % 7}" for i in range(40)]
    rows = rng.normal(size=(40, 5))
    units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    assert davies_bouldin(rows, names) == pytest.approx(davies_bouldin_score(units, names), rel=1e-12)
    assert davies_bouldin(np.ones((4, 3)), [0, 0, 1, 1]) == np.inf
    with pytest.raises(ValueError, match="1 people"):
        davies_bouldin(rows, ["ada"] * 40)


def test_cluster_separation_takes_every_image() -> None:
    dataset = people({"ada": 5, "bo": 2, "cy": 3})
    rows = noise(dataset, 3, 0, 0.7)
    outcome = ClusterSeparation(dataset).evaluate(Given((dataset, rows)))
    matrix = np.array([rows[key] for key in dataset.keys]).astype(np.float32).astype(float)
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    wanted = davies_bouldin_score(matrix, dataset.labels)
    assert outcome.metrics["davies_bouldin"].value == pytest.approx(wanted)
    assert outcome.counts == {"images": 10, "images_embedded": 10, "people": 3}
    with pytest.raises(UserError, match="one person"):
        ClusterSeparation(people({"ada": 5}))


VIDEO = r"_(\d)\d\.jpg$"  # of person/person_VIDEO_FRAME.jpg


def videos(counts: dict[str, int], frames: int = 2) -> Listed:
    """So many videos of each person, named person/person_VF.jpg for video V and frame F."""
    images = [
        (who, f"{who}/{who}_{v}{f}.jpg") for who, count in counts.items() for v in range(count) for f in range(frames)
    ]
    return Listed(images)


def test_of_a_video_one_frame_is_compared() -> None:
    """All frames of a video are one vector, and each video has an axis of its own: no genuine pair is alike."""
    dataset = videos({"ada": 3, "bo": 4, "cy": 2})
    assert images_each(dataset, 3, VIDEO) == {
        "ada": ["ada/ada_00.jpg", "ada/ada_10.jpg", "ada/ada_20.jpg"],
        "bo": ["bo/bo_00.jpg", "bo/bo_10.jpg", "bo/bo_20.jpg"],  # floor(4 / 3) = 1: every video, as far as they go
    }
    names = sorted({key[:-5] for key in dataset.keys})
    rows = {key: np.eye(9)[names.index(key[:-5])] for key in dataset.keys}
    given = Given((dataset, rows))
    plain = CKDVerification(dataset).evaluate(given)  # 0, o, 2o, 3o: of ada frames 0, 1, 2, 3 of six, two and two alike
    assert int(plain.same.sum()) == 18 and int((plain.scores[plain.same] > 0.99).sum()) == 2 + 0 + 2
    grouped = CKDVerification(dataset, images=3, group=VIDEO).evaluate(given)
    assert int(grouped.same.sum()) == 2 * 3 and not grouped.scores.any()
    assert grouped.counts["people"] == 2 and grouped.counts["people_left_out"] == 1
    chosen = [("ada", "ada_0"), ("ada", "ada_1"), ("ada", "ada_2"), ("bo", "bo_0"), ("bo", "bo_1"), ("bo", "bo_2")]
    matrix = [(who, rows[f"{who}/{video}0.jpg"]) for who, video in [*chosen, *[("cy", "cy_0")] * 3]]
    assert grouped.metrics["eer_official"].value == pytest.approx(official(matrix))
    cross = CrossModalVerification(dataset, dataset, images=3, group=VIDEO).evaluate(given)
    assert int(cross.same.sum()) == 2 * 6 and not cross.scores.any()
    with pytest.raises(UserError, match="1 of 3 people have 4 images that are not near copies"):
        CKDVerification(dataset, group=VIDEO)
    with pytest.raises(UserError, match="images=1"):
        CKDVerification(dataset, images=1)


def test_near_copies_do_not_make_people_compact() -> None:
    dataset = videos({"ada": 2, "bo": 3}, frames=4)
    names = sorted({key[:-5] for key in dataset.keys})
    rng = np.random.default_rng(0)
    of_video = {name: rng.normal(size=4) for name in names}
    rows = {key: of_video[key[:-5]] + 5 * int(key[-5]) for key in dataset.keys}  # the first frames alone are of_video
    outcome = ClusterSeparation(dataset, group=VIDEO).evaluate(Given((dataset, rows)))
    matrix = np.array([of_video[name] for name in names]).astype(np.float32).astype(float)
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    wanted = davies_bouldin_score(matrix, [name[:2] for name in names])
    assert outcome.metrics["davies_bouldin"].value == pytest.approx(wanted)
    assert outcome.counts == {"images": 5, "images_embedded": 5, "people": 2}


@pytest.mark.parametrize("mirror", [False, True])
def test_the_mirror_image_is_added_where_it_is_asked_for(mirror: bool) -> None:
    dataset = people({"ada": 4, "bo": 4})
    given = Given((dataset, noise(dataset, 0, 0, 0.5)))
    for protocol in (
        CKDVerification(dataset, mirror=mirror),
        CrossModalVerification(dataset, dataset, mirror=mirror),
        ClusterSeparation(dataset, mirror=mirror),
    ):
        assert protocol.evaluate(given).choices["mirror"] is mirror
    assert given.mirrored == [mirror] * 4


def test_the_official_protocols_embed_each_image_alone() -> None:
    """The official code embeds no mirror image (CKD sheet 5)."""
    dataset = people({"ada": 4, "bo": 4})
    given = Given((dataset, noise(dataset, 0, 0, 0.5)))
    outcomes = [protocol.evaluate(given) for protocol in (CKDVerification(dataset), ClusterSeparation(dataset))]
    assert given.mirrored == [False, False] and all(outcome.choices["mirror"] is False for outcome in outcomes)


@pytest.mark.parametrize("choice", ["periocular", "whole_faces", "eyes_and_faces"])
def test_shipped_choices_keep_the_frames_of_a_video_together(choice: str) -> None:
    """ytf347 names its frames person_VF.jpg: V the video, F the frame; frames of one video are near copies."""
    words = ["augmentation=periocular", "method.views.student=periocular"]
    tests = compose([f"evaluation={choice}", *words]).tree["evaluation"]
    found = {name: node for name, node in tests.items() if name.startswith("ytf_")}
    assert len(found) >= 2
    for node in found.values():
        video = [re.search(node["group"], f"Ann_Lee/Ann_Lee_{number}.jpg") for number in ("30", "32", "02")]
        assert [frame and frame[1] for frame in video] == ["3", "3", "0"]
        assert node["mirror"] is False
