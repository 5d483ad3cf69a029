"""CKD's folders: pairs by file name, what is unpaired, and the two modalities as sets of their own."""

from __future__ import annotations

import inspect
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from kdface.augmentations import Standard
from kdface.augmentations.periocular import PairedSample, StoredPeriocular
from kdface.datasets.checks import fingerprint
from kdface.datasets.ckd_folders import CKDFolders
from kdface.errors import DataError, UserError
from kdface.faces import FaceSet, Image, Preprocessing
from kdface.randomness import generator
from tests.datasets.test_image_folder import encoded, picture

CONF = Path(__file__).parents[2] / "conf" / "dataset" / "ckd_folders.yaml"
FILES = {"cy": ("2.png", "10.png"), "ada": ("a.png",), "bo": ("x.png", "y.png", "z.png")}


def seed_of(person: str, file: str) -> int:
    return sum(f"{person}/{file}".encode())


def face_of(person: str, file: str) -> Image:
    return picture(seed_of(person, file), 160, 160)


def eyes_of(person: str, file: str) -> Image:
    return picture(seed_of(person, file) + 1000, 40, 100)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for person, files in FILES.items():
        for file in files:
            for kind, image in (("face", face_of(person, file)), ("periocular", eyes_of(person, file))):
                path = tmp_path / "db" / "train" / person / kind / file
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(encoded(image))
    return tmp_path / "db"


def test_pairs_by_name_and_labels_by_name(root: Path) -> None:
    faces = CKDFolders(root, "train")
    assert isinstance(faces, FaceSet)
    assert (faces.name, len(faces)) == ("db/train", 6)
    assert faces.preprocessing == Preprocessing("ckd", (128, 128))
    assert list(faces.people) == ["ada", "bo", "cy"]
    assert list(faces.keys) == ["ada/a.png", "bo/x.png", "bo/y.png", "bo/z.png", "cy/10.png", "cy/2.png"]
    assert faces.labels.tolist() == [0, 1, 1, 1, 2, 2]
    for index, key in enumerate(faces.keys):
        sample = faces[index]
        assert isinstance(sample, PairedSample) and sample.landmarks is None
        assert (sample.key, sample.label) == (key, faces.labels[index])
        assert np.array_equal(
            sample.image, cv2.resize(face_of(*key.split("/")), (128, 128), None, 0, 0, cv2.INTER_AREA)
        )
        assert sample.periocular is not None and np.array_equal(sample.periocular, eyes_of(*key.split("/")))


def test_one_modality(root: Path) -> None:
    eyes = CKDFolders(root, "train", "periocular", size=(40, 100), name="eyes")
    assert eyes.name == "eyes"
    assert eyes.preprocessing == Preprocessing("periocular-ckd", (40, 100))
    assert np.array_equal(eyes[4].image, eyes_of("cy", "10.png"))
    assert CKDFolders(root, "train", "periocular")[0].image.shape == (48, 128, 3)
    faces = CKDFolders(root, "train", "face", size=(160, 160))
    assert np.array_equal(faces[5].image, face_of("cy", "2.png")) and not isinstance(faces[5], PairedSample)
    assert list(faces.keys) == list(eyes.keys)
    assert len({fingerprint(dataset) for dataset in (eyes, faces, CKDFolders(root, "train"))}) == 3


def test_the_stored_views_are_what_a_periocular_test_set_shows(root: Path) -> None:
    """Training on pairs and testing on one modality see the same pixels under the same preprocessing."""
    pairs, eyes = CKDFolders(root, "train"), CKDFolders(root, "train", "periocular")
    augment = StoredPeriocular()
    assert augment.preprocessing("periocular", pairs.preprocessing) == eyes.preprocessing
    for index in range(len(pairs)):
        assert np.array_equal(augment(pairs[index], generator(0))["periocular"], eyes[index].image)
    mirrored = StoredPeriocular(standard=Standard(flip=1.0))(pairs[0], generator(0))
    assert np.array_equal(mirrored["periocular"], eyes[0].image[:, ::-1])
    assert np.array_equal(mirrored["face"], pairs[0].image[:, ::-1])


def test_a_missing_half_is_told_and_shifts_nothing(root: Path) -> None:
    """The official pairing by position would go on with x beside y."""
    (root / "train" / "bo" / "face" / "x.png").unlink()
    (root / "train" / "ada" / "periocular" / "a.png").rename(root / "train" / "ada" / "periocular" / "b.png")
    with pytest.raises(DataError, match=r"3 images have no counterpart with the same file name") as error:
        CKDFolders(root, "train")
    assert "ada/face/a.png, ada/periocular/b.png, bo/periocular/x.png" in error.value.problem
    assert "unpaired=leave_out" in error.value.fix
    some = CKDFolders(root, "train", unpaired="leave_out")
    assert list(some.people) == ["bo", "cy"]
    assert list(some.keys) == ["bo/y.png", "bo/z.png", "cy/10.png", "cy/2.png"]
    assert some.labels.tolist() == [0, 0, 1, 1]
    assert some.passed_over == ["ada/face/a.png", "ada/periocular/b.png", "bo/periocular/x.png"]
    sample = some[0]
    assert isinstance(sample, PairedSample) and sample.periocular is not None
    assert np.array_equal(sample.periocular, eyes_of("bo", "y.png"))
    assert len(CKDFolders(root, "train", "periocular")) == 6
    assert list(CKDFolders(root, "train", "face").keys)[:2] == ["ada/a.png", "bo/y.png"]


def test_only_the_first_unpaired_images_are_listed(root: Path) -> None:
    for file in FILES["bo"]:
        (root / "train" / "bo" / "face" / file).unlink()
    (root / "train" / "cy" / "face" / "2.png").unlink()
    with pytest.raises(
        DataError, match=r"4 images .*: bo/periocular/x.png, bo/periocular/y.png, bo/periocular/z.png, \.\.\."
    ):
        CKDFolders(root, "train")


def test_other_files_are_passed_over(root: Path) -> None:
    (root / "train" / "list.txt").write_text("x")
    (root / "train" / "bo" / "face" / "Thumbs.db").write_text("x")
    (root / "train" / "bo" / "periocular" / ".hidden.png").write_text("x")
    (root / "train" / "nobody" / "face").mkdir(parents=True)
    faces = CKDFolders(root, "train")
    assert len(faces) == 6
    assert faces.passed_over == ["bo/face/Thumbs.db", "bo/periocular/.hidden.png", "list.txt", "nobody/"]


def test_what_is_not_there_is_told(root: Path) -> None:
    with pytest.raises(UserError, match="test/gallery, which does not exist"):
        CKDFolders(root, "test/gallery")
    (root / "empty" / "ada").mkdir(parents=True)
    with pytest.raises(DataError, match="no pair is left"):
        CKDFolders(root, "empty")
    with pytest.raises(DataError, match="no periocular is left"):
        CKDFolders(root, "empty", "periocular")
    with pytest.raises(UserError, match="modality='eyes' is unknown"):
        CKDFolders(root, "train", "eyes")  # type: ignore[arg-type]


def test_a_face_that_would_be_distorted_and_a_broken_image_are_told(root: Path) -> None:
    (root / "train" / "ada" / "face" / "a.png").write_bytes(encoded(picture(0, 160, 120)))
    with pytest.raises(DataError, match=r"ada/face/a\.png: the face is 160 high, 120 wide"):
        CKDFolders(root, "train")[0]
    (root / "train" / "ada" / "periocular" / "a.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"ada/periocular/a\.png: the image is empty"):
        CKDFolders(root, "train", "periocular")[0]


def test_raw_bytes_are_those_of_what_a_sample_is_made_of(root: Path) -> None:
    face, eyes = (root / "train" / "ada" / kind / "a.png" for kind in ("face", "periocular"))
    assert CKDFolders(root, "train").raw_bytes(0) == face.read_bytes() + eyes.read_bytes()
    assert CKDFolders(root, "train", "periocular").raw_bytes(0) == eyes.read_bytes()


def test_the_choice_gives_every_parameter_with_its_default() -> None:
    lines = CONF.read_text().splitlines()
    assert lines[0].startswith("# ") and all("#" in line for line in lines[2:])
    node = yaml.safe_load(CONF.read_text())
    assert node.pop("_target_") == "kdface.datasets.CKDFolders"
    parameters = inspect.signature(CKDFolders).parameters
    assert list(node) == list(parameters)
    assert node.pop("root") == "???"
    assert all(parameters[key].default == value for key, value in node.items())
