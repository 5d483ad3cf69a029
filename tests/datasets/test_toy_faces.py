import inspect
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from omegaconf import OmegaConf
from pydantic import TypeAdapter, ValidationError

from kdface.datasets import toy_faces
from kdface.datasets.toy_faces import ToyFaces, toy_face
from kdface.datasets.toy_renderer import Person, Shot, draw_person, draw_shot, render
from kdface.datasets.toy_renderer.curves import spline
from kdface.errors import UserError
from kdface.faces import FaceSet, Points, Preprocessing, Sample, similarity, template_points
from kdface.randomness import generator

CONF = Path(__file__).parents[2] / "conf" / "dataset" / "toy_faces.yaml"


def studio(person: Person, **changes: Any) -> Shot:
    """A shot from the front in plain white light with a sharp, noiseless camera."""
    plain: dict[str, Any] = {
        **dict.fromkeys(
            ("yaw", "pitch", "roll", "smile", "jaw_open", "brow_raise", "brow_frown", "blur", "noise"), 0.0
        ),
        **dict.fromkeys(("exposure", "gamma", "saturation", "detail"), 1.0),
        "distance": 1e9,
        "eye_open": 1.3,
        "gaze": (0.0, 0.0),
        "light": np.array([0.0, 0.0, 1.0]),
        "ambient": 0.7,
        "strength": 0.4,
        "tint": np.ones(3),
        "ambient_tint": np.ones(3),
        "glasses": False,
        "hair_shift": np.zeros(2),
    }
    return replace(draw_shot(generator(0, "studio"), person), **{**plain, **changes})


def beardless(seed: int) -> Person:
    return replace(draw_person(generator(seed, "model")), beard="none", style="bald")


def points_of(sample: Sample) -> Points:
    assert sample.landmarks is not None
    return sample.landmarks


def test_is_a_face_set_of_so_many_people_and_pictures() -> None:
    faces = ToyFaces(people=3, images_per_person=2, size=(56, 48))
    assert isinstance(faces, FaceSet)
    assert (faces.name, len(faces)) == ("toy_faces", 6)
    assert faces.preprocessing == Preprocessing(template="arcface", size=(56, 48))
    assert list(faces.people) == ["person_0000", "person_0001", "person_0002"]
    assert faces.labels.dtype == np.int64
    assert faces.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert faces.keys[3] == "train/person_0001/001"
    samples = [faces[i] for i in range(len(faces))]
    assert [sample.key for sample in samples] == list(faces.keys)
    assert [sample.label for sample in samples] == faces.labels.tolist()
    for sample in samples:
        assert sample.image.shape == (56, 48, 3)
        assert sample.image.dtype == np.uint8
        assert points_of(sample).shape == (5, 2)
        assert points_of(sample).dtype == np.float32
    assert len({sample.image.tobytes() for sample in samples}) == 6


def test_a_picture_depends_on_seed_person_and_index_alone() -> None:
    few, many = ToyFaces(people=3, images_per_person=2, seed=5), ToyFaces(people=4, images_per_person=3, seed=5)
    last = few[5]
    for other in (many[many.keys.index(last.key)], pickle.loads(pickle.dumps(few))[5], few[-1], few[5]):
        assert other.key == last.key
        assert np.array_equal(other.image, last.image)
        assert np.array_equal(points_of(other), points_of(last))
    image, landmarks = toy_face(5, 2, 1)
    assert np.array_equal(image, last.image)
    assert np.array_equal(landmarks, points_of(last))
    assert not np.array_equal(ToyFaces(people=3, images_per_person=2, seed=6)[5].image, last.image)


def test_global_generators_change_nothing_and_are_not_changed() -> None:
    np.random.seed(1)
    cv2.setRNGSeed(1)
    first = toy_face(0, 7, 0)[0]
    after = np.random.random()
    np.random.seed(1)
    assert after == np.random.random()
    np.random.seed(2)
    cv2.setRNGSeed(2)
    assert np.array_equal(toy_face(0, 7, 0)[0], first)


def test_a_sample_is_the_callers_own() -> None:
    faces = ToyFaces(people=1, images_per_person=1)
    first = faces[0]
    kept = first.image.copy()
    first.image[:] = 0
    points_of(first)[:] = 0
    assert np.array_equal(faces[0].image, kept)
    assert (points_of(faces[0]) > 0).all()


def test_an_index_beyond_the_set_raises() -> None:
    faces = ToyFaces(people=2, images_per_person=2)
    for index in (4, -5):
        with pytest.raises(IndexError):
            faces[index]


def test_people_of_the_two_splits_differ_in_name_and_face() -> None:
    train, test = ToyFaces(people=5, images_per_person=1), ToyFaces(people=5, images_per_person=1, split="test")
    assert not set(train.people) & set(test.people)
    assert not set(train.keys) & set(test.keys)
    assert test.keys[0] == "test/person_1000000/000"
    assert not {train[i].image.tobytes() for i in range(5)} & {test[i].image.tobytes() for i in range(5)}
    # traits are continuous: no two people share one
    people = [toy_faces._person(0, number) for number in (*range(50), *range(1_000_000, 1_000_050))]
    for trait in ("age", "eye_x", "brow_y", "nose_width", "mouth_width", "jaw", "hairline"):
        assert len({getattr(person, trait) for person in people}) == 100


def test_the_crop_is_aligned_by_its_landmarks() -> None:
    for index in range(20):
        landmarks = toy_face(0, index, index)[1]
        # the least-squares similarity from them to the template is then the identity
        assert similarity(landmarks, template_points((112, 112))) == pytest.approx(np.eye(2, 3), abs=1e-4)


def test_landmarks_follow_the_size_of_the_crop_as_the_template_does() -> None:
    for person in range(5):
        _, base = toy_face(3, person, 0)
        assert toy_face(3, person, 0, (224, 224))[1] == pytest.approx(2 * base, abs=1e-3)
        assert toy_face(3, person, 0, (56, 56))[1] == pytest.approx(base / 2, abs=1e-3)
        assert toy_face(3, person, 0, (112, 96))[1] == pytest.approx(base - [8, 0], abs=1e-3)


@pytest.mark.parametrize("size", [(16, 16), (40, 16), (16, 60), (160, 160), (300, 200)])
def test_any_size_is_drawn(size: tuple[int, int]) -> None:
    image, landmarks = toy_face(1, 2, 3, size)
    assert image.shape == (*size, 3)
    assert landmarks[0, 0] < landmarks[1, 0]
    assert landmarks[3, 1] > landmarks[2, 1] > landmarks[0, 1]
    # shrunk to the smallest size by area, the picture is that of the smallest size, but for the camera's noise
    if size[0] == size[1]:
        small = cv2.resize(image, (16, 16), interpolation=cv2.INTER_AREA).astype(float).ravel()
        assert np.corrcoef(small, toy_face(1, 2, 3, (16, 16))[0].astype(float).ravel())[0, 1] > 0.9


@pytest.mark.parametrize("yaw", [0.0, -0.35, 0.35])
def test_eye_and_mouth_landmarks_lie_on_what_is_drawn(yaw: float) -> None:
    for seed in range(4):
        # paint irises blue and lips green, and find them again
        person = replace(
            beardless(seed), iris=np.array([0.0, 0.0, 255.0]), lip=np.array([0.0, 255.0, 0.0]), skin=np.full(3, 128.0)
        )
        image, points = render(person, studio(person, yaw=yaw), (224, 224), generator(seed, "noise"))
        red, green, blue = image.astype(int).transpose(2, 0, 1)
        row, column = np.mgrid[:224, :224]
        for x, y in points[:2]:
            near = (np.abs(column - x) < 20) & (np.abs(row - y) < 20) & (blue > green + 60) & (blue > red + 60)
            assert near.sum() > 20
            # the upper lid covers the top of the iris, and it sits a little above the middle of the eye
            assert column[near].mean() == pytest.approx(x, abs=2.0)
            assert row[near].mean() == pytest.approx(y, abs=3.5)
        painted = (green > red + 25) & (green > blue + 25)
        _, parts = cv2.connectedComponents(cv2.dilate(painted.astype(np.uint8), np.ones((5, 5))))
        x, y = np.rint(points[3:].mean(0)).astype(int)
        assert parts[y + 3, x] > 0
        lips = painted & (parts == parts[y + 3, x])  # a green wall is none
        columns = column[lips]
        assert columns.min() == pytest.approx(points[3, 0], abs=4.0)
        assert columns.max() == pytest.approx(points[4, 0], abs=4.0)
        ends = [row[lips & (column == columns.min())].mean(), row[lips & (column == columns.max())].mean()]
        assert ends == pytest.approx(points[3:, 1].tolist(), abs=4.0)


@pytest.mark.parametrize("yaw", [-0.4, 0.0, 0.25])
def test_the_nose_moves_with_the_yaw_by_its_depth(yaw: float) -> None:
    person = replace(beardless(1), eye_uneven=0.0, nose_depth=14.0, eye_x=17.0, nose_x=0.5)
    _, points = render(person, studio(person, yaw=yaw), (112, 112), generator(0))
    left, right, nose = points[:3].astype(float)
    along = (right - left) / np.linalg.norm(right - left)
    shift = (nose - (left + right) / 2) @ along / np.linalg.norm(right - left)
    # the eyes lie half a unit off an ellipsoid with half axes 44, 110 and 40 about (0, 5, -36); parallel projection
    eye_depth = 40 * (np.sqrt(1 - (17 / 44) ** 2 - (5 / 110) ** 2) - 0.9) + 0.5
    expected = ((14.0 - eye_depth) * np.sin(yaw) + 0.5 * np.cos(yaw)) / (2 * 17.0 * np.cos(yaw))
    assert shift == pytest.approx(expected, abs=1e-4)


def test_roll_is_undone_by_the_alignment() -> None:
    person = beardless(2)
    upright, rolled = (render(person, studio(person, roll=roll), (112, 112), generator(0)) for roll in (0.0, 0.3))
    assert rolled[1] == pytest.approx(upright[1], abs=1e-3)
    assert np.abs(rolled[0].astype(int) - upright[0]).mean() < 1


def test_light_comes_from_its_side() -> None:
    person = replace(beardless(3), skin=np.full(3, 150.0), moles=np.zeros((0, 3)))
    for side in (-1, 1):
        lit = studio(person, light=np.array([0.8 * side, 0.0, 0.6]), ambient=0.3, strength=0.9)
        image, _ = render(person, lit, (112, 112), generator(0))
        cheeks = image[60:75, 25:35].mean(), image[60:75, 77:87].mean()
        assert (cheeks[1] - cheeks[0]) * side > 15


def test_traits_and_circumstances_both_change_the_picture() -> None:
    faces = [draw_person(generator(0, number)) for number in range(3)]
    shots = [draw_shot(generator(1, number), faces[0]) for number in range(3)]
    images = {render(face, shot, (56, 56), generator(2))[0].tobytes() for face in faces for shot in shots}
    assert len(images) == 9


def test_dark_and_light_skin_are_both_well_exposed() -> None:
    base = beardless(4)
    for skin in ([72.0, 47.0, 36.0], [246.0, 214.0, 194.0]):
        person = replace(base, skin=np.array(skin))
        image, _ = render(person, studio(person), (112, 112), generator(0))
        assert 80 < image[40:100, 30:82].mean() < 200


def test_pixels_do_not_tell_people_apart() -> None:
    """The best threshold on the cosine of centred pixels, same and different weighted alike; chance is 0.5."""
    people, images = 24, 6
    faces = ToyFaces(people, images, "test", size=(32, 32))
    x = np.stack([faces[i].image.ravel() for i in range(len(faces))]).astype(float)
    x -= x.mean(0)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    scores = x @ x.T
    first, second = np.triu_indices(len(x), 1)
    same = faces.labels[first] == faces.labels[second]
    same_scores, other_scores = scores[first, second][same], scores[first, second][~same]
    accuracy = max(((same_scores >= t).mean() + (other_scores < t).mean()) / 2 for t in np.linspace(-1, 1, 401))
    assert 0.5 < accuracy < 0.72


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"people": 0}, "people=0"),
        ({"people": 1_000_001}, "people=1000001"),
        ({"images_per_person": 0}, "images_per_person=0"),
        ({"split": "val"}, "split='val'"),
        ({"size": (112, 8)}, "size=(112, 8)"),
    ],
)
def test_impossible_arguments_are_told(arguments: dict[str, Any], word: str) -> None:
    with pytest.raises(UserError) as caught:
        ToyFaces(**arguments)
    assert word in str(caught.value)
    name, value = next(iter(arguments.items()))
    annotation = inspect.signature(ToyFaces, eval_str=True).parameters[name].annotation
    with pytest.raises(ValidationError):
        TypeAdapter(annotation).validate_python(value)


def test_the_configuration_lists_every_parameter_with_its_default() -> None:
    config = OmegaConf.to_container(OmegaConf.load(CONF))
    assert isinstance(config, dict)
    assert config.pop("_target_") == "kdface.datasets.ToyFaces"
    parameters = inspect.signature(ToyFaces).parameters
    assert list(config) == list(parameters)
    for name, value in config.items():
        default = parameters[str(name)].default
        assert value == (list(default) if isinstance(default, tuple) else default)


def test_a_spline_passes_through_its_points_and_keeps_straight_lines() -> None:
    points = np.random.default_rng(0).normal(size=(7, 2))
    assert spline(points, steps=5)[::5] == pytest.approx(points)
    assert spline(points, closed=True, steps=4)[::4] == pytest.approx(points)
    line = np.stack([np.arange(6.0), 2 * np.arange(6.0) + 1], 1)
    drawn = spline(line)
    assert drawn[:, 1] == pytest.approx(2 * drawn[:, 0] + 1)
    # inside, evenly spaced points on a line come out evenly spaced
    assert drawn[6:-6, 0] == pytest.approx(1 + np.arange(len(drawn) - 12) / 6)
