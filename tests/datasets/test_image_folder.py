import inspect
import os
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from omegaconf import DictConfig, OmegaConf

from kdface.datasets.folders import images_below
from kdface.datasets.image_folder import ImageFolder
from kdface.datasets.images import decode
from kdface.datasets.raw_folder import RawFolder
from kdface.datasets.recordio import RecordIO
from kdface.datasets.resized import Resized
from kdface.errors import DataError, UserError
from kdface.faces import ARCFACE_112, FaceSet, Preprocessing

CONF = Path(__file__).parents[2] / "conf" / "dataset"


def picture(seed: int, height: int = 112, width: int = 112) -> np.ndarray:
    """A smooth random RGB image whose channels differ."""
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 3)
    low, high = smooth.min(), smooth.max()
    return np.asarray((smooth - low) * (255 / (high - low)), dtype=np.uint8)


def encoded(rgb: np.ndarray, suffix: str = ".png", *parameters: int) -> bytes:
    pixels = rgb[..., ::-1] if rgb.ndim == 3 and rgb.shape[2] == 3 else rgb
    return cv2.imencode(suffix, pixels, list(parameters))[1].tobytes()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """ada: 3 images, bo: 1, cy: 2."""
    seed = 0
    for person, files in (("cy", "2.png 1.png"), ("ada", "b.jpg a.png c.BMP"), ("bo", "x.webp")):
        (tmp_path / "faces" / person).mkdir(parents=True)
        for file in files.split():
            path = tmp_path / "faces" / person / file
            path.write_bytes(encoded(picture(seed), path.suffix.lower()))
            seed += 1
    return tmp_path / "faces"


def test_people_and_files_are_sorted_and_pixels_are_rgb(root: Path) -> None:
    faces = ImageFolder(root)
    assert isinstance(faces, FaceSet)
    assert faces.name == "faces"
    assert faces.preprocessing == Preprocessing(size=(112, 112))
    assert list(faces.people) == ["ada", "bo", "cy"]
    assert list(faces.keys) == ["ada/a.png", "ada/b.jpg", "ada/c.BMP", "bo/x.webp", "cy/1.png", "cy/2.png"]
    assert faces.labels.tolist() == [0, 0, 0, 1, 2, 2]
    assert len(faces) == 6
    sample = faces[4]
    assert (sample.key, sample.label) == ("cy/1.png", 2)
    np.testing.assert_array_equal(sample.image, picture(1))  # PNG is lossless; cy/1.png was written second
    np.testing.assert_array_equal(sample.landmarks, ARCFACE_112)
    assert [sample.key for sample in iter(faces)] == list(faces.keys)


def test_landmarks_of_a_sample_are_its_own(root: Path) -> None:
    faces = ImageFolder(root)
    landmarks = faces[0].landmarks
    assert landmarks is not None
    landmarks[:] = 0
    np.testing.assert_array_equal(faces[0].landmarks, ARCFACE_112)


def test_what_is_no_image_is_passed_over_and_said(root: Path) -> None:
    (root / "notes.txt").write_text("x")
    (root / ".cache").mkdir()
    (root / "ada" / "readme.txt").write_text("x")
    (root / "ada" / ".DS_Store").write_text("x")
    (root / "empty").mkdir()
    faces = ImageFolder(root)
    assert list(faces.people) == ["ada", "bo", "cy"]
    assert faces.passed_over == [".cache/", "ada/.DS_Store", "ada/readme.txt", "empty/", "notes.txt"]


def test_one_rule_says_what_a_folder_holds(root: Path) -> None:
    """Linked folders and files are followed; what other systems leave behind is passed over, and all of it is said."""
    image = encoded(picture(9), ".jpg")
    for name in (
        "ada/._a.jpg",
        "ada/.ipynb_checkpoints/a.jpg",
        "ada/nested/a.jpg",
        "__MACOSX/ada/a.jpg",
        "bo/Thumbs.db",
        "loose.jpg",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(image)
    elsewhere = root.parent / "elsewhere"
    (elsewhere / "dee").mkdir(parents=True)
    (elsewhere / "dee" / "1.jpg").write_bytes(image)
    (root / "dee").symlink_to(elsewhere / "dee")
    (root / "ada" / "z.jpg").symlink_to(elsewhere / "dee" / "1.jpg")
    (root / "eve").symlink_to(root.parent / "gone")
    faces = ImageFolder(root)
    assert list(faces.people) == ["ada", "bo", "cy", "dee"]
    assert [key for key in faces.keys if key.startswith(("ada", "dee"))] == [
        "ada/a.png",
        "ada/b.jpg",
        "ada/c.BMP",
        "ada/z.jpg",
        "dee/1.jpg",
    ]
    said = ["__MACOSX/", "ada/._a.jpg", "ada/.ipynb_checkpoints/", "ada/nested/", "bo/Thumbs.db", "eve", "loose.jpg"]
    assert faces.passed_over == said
    assert list(Resized(faces, (56, 56)).passed_over) == said

    (root / "bo" / "loop").symlink_to(root)
    files, others = images_below(root)
    keys = {file.relative_to(root).as_posix() for file in files}
    assert keys == {*faces.keys, "ada/nested/a.jpg", "loose.jpg"}
    assert sorted(others) == sorted({*said, "bo/loop/"} - {"ada/nested/", "loose.jpg"})


def test_names_that_are_not_utf_8_and_folders_that_cannot_be_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkdir(os.path.join(os.fsencode(root), b"Jos\xe9"))
    with pytest.raises(DataError, match=r"Jos\\xe9' in it is not UTF-8"):
        ImageFolder(root)
    monkeypatch.setattr(os, "listdir", lambda path: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
    with pytest.raises(DataError, match=r"faces: the folder cannot be read \(Permission denied\)"):
        ImageFolder(root)


def test_a_file_given_as_root_is_said_to_be_one(root: Path) -> None:
    (root / "faces.zip").write_bytes(b"PK")
    with pytest.raises(UserError, match=r"faces.zip is a file, not a folder") as error:
        ImageFolder(root / "faces.zip")
    assert "unpack it" in error.value.fix
    with pytest.raises(UserError, match=r"ada is a folder, not a file"):
        RawFolder(root, root / "ada")
    with pytest.raises(UserError, match=r"does not exist") as error:
        ImageFolder(root.parent / "facse")
    assert error.value.nearest == str(root)


def test_people_and_min_images(root: Path) -> None:
    assert list(ImageFolder(root, min_images=2).people) == ["ada", "cy"]
    some = ImageFolder(root, people=["cy", "bo"], name="some")
    assert (some.name, list(some.people), some.labels.tolist()) == ("some", ["bo", "cy"], [0, 1, 1])
    with pytest.raises(UserError, match=r"no person 'adda'") as error:
        ImageFolder(root, people=["adda"])
    assert error.value.nearest == "ada"
    with pytest.raises(UserError, match=r"nobody is left of 3 people with min_images=4") as error:
        ImageFolder(root, min_images=4)
    assert "at most 3" in error.value.expected


def test_missing_root_says_where_to_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KDFACE_DATA", "/somewhere")
    with pytest.raises(UserError) as error:
        ImageFolder(tmp_path / "data" / "pins90")
    text = str(error.value)
    for part in (
        str(tmp_path / "data" / "pins90"),
        str(tmp_path),
        "paths.data=",
        "KDFACE_DATA=",
        "/somewhere",
        "one folder per person",
    ):
        assert part in text
    monkeypatch.delenv("KDFACE_DATA")
    with pytest.raises(UserError, match="not set"):
        ImageFolder(tmp_path / "data" / "pins90")


def test_folder_without_images(tmp_path: Path) -> None:
    (tmp_path / "someone").mkdir()
    with pytest.raises(DataError, match=r"no image in any folder here \(found: someone\)"):
        ImageFolder(tmp_path)


def test_other_size_is_not_resized(root: Path) -> None:
    (root / "ada" / "a.png").write_bytes(encoded(picture(0, 112, 96)))
    with pytest.raises(DataError, match=r"a\.png: the crop is 112 high, 96 wide") as error:
        ImageFolder(root)[0]
    assert error.value.expected == "112 high, 112 wide"
    narrow = ImageFolder(root, size=(112, 96), people=["ada"])[0]
    assert narrow.image.shape == (112, 96, 3)
    assert narrow.landmarks is not None
    np.testing.assert_allclose(narrow.landmarks, ARCFACE_112 - [8, 0], atol=1e-5)  # the older template


def test_file_that_vanished(root: Path) -> None:
    faces = ImageFolder(root)
    (root / "ada" / "a.png").unlink()
    with pytest.raises(DataError, match=r"ada/a\.png: cannot be read \(No such file"):
        faces[0]


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".webp"])
def test_cut_files_are_refused_and_trailing_bytes_are_not(suffix: str) -> None:
    data = encoded(picture(3), suffix)
    whole = decode(data, "f")
    np.testing.assert_array_equal(decode(data + b"\xff\xd8trailing\0", "f"), whole)
    for length in [*range(0, len(data), max(1, len(data) // 50)), len(data) - 2, len(data) - 1]:
        with pytest.raises(DataError, match=r"^the file, record 7: "):
            decode(data[:length], "the file, record 7")


@pytest.mark.parametrize(
    "parameters",
    [(cv2.IMWRITE_JPEG_PROGRESSIVE, 1), (cv2.IMWRITE_JPEG_RST_INTERVAL, 2), (cv2.IMWRITE_JPEG_QUALITY, 100)],
)
def test_jpeg_variants_are_whole(parameters: tuple[int, ...]) -> None:
    data = encoded(picture(4), ".jpg", *parameters)
    assert decode(data, "f").shape == (112, 112, 3)
    with pytest.raises(DataError, match="cut short"):
        decode(data[: len(data) * 2 // 3], "f")


def test_fill_bytes_may_stand_before_a_marker() -> None:
    """ITU-T T.81, B.1.1.2: any marker may be preceded by any number of bytes FF."""
    plain = encoded(picture(4), ".jpg")
    filled = plain[:2] + b"\xff\xff" + plain[2:-2] + b"\xff\xff\xff" + plain[-2:]
    np.testing.assert_array_equal(decode(filled, "f", (112, 112)), decode(plain, "f"))
    with pytest.raises(DataError, match="cut short"):
        decode(filled[:-1], "f")


def exif(orientation: int, thumbnail: bytes = b"") -> bytes:
    """An APP1 segment with one tag, the orientation, and bytes behind it as a thumbnail has them."""
    tiff = b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    body = b"Exif\0\0" + tiff + thumbnail
    return b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body


def test_the_end_of_a_thumbnail_is_not_the_end_of_the_image() -> None:
    plain = encoded(picture(5), ".jpg")
    data = plain[:2] + exif(1, encoded(picture(6, 16, 16), ".jpg")) + plain[2:]
    np.testing.assert_array_equal(decode(data, "f"), decode(plain, "f"))
    with pytest.raises(DataError, match="cut short"):
        decode(data[: len(data) - len(plain) // 2], "f")


def test_exif_orientation_is_ignored() -> None:
    plain = encoded(picture(7, 40, 60), ".jpg")
    turned = plain[:2] + exif(6) + plain[2:]
    obeyed = cv2.imdecode(np.frombuffer(turned, np.uint8), cv2.IMREAD_COLOR)
    assert obeyed is not None
    assert obeyed.shape == (60, 40, 3)
    np.testing.assert_array_equal(decode(turned, "f"), decode(plain, "f"))
    assert decode(turned, "f").shape == (40, 60, 3)


def test_gray_alpha_and_sixteen_bits() -> None:
    rgb = picture(8)
    gray = rgb[..., 0]
    np.testing.assert_array_equal(decode(encoded(gray), "f"), np.repeat(gray[..., None], 3, axis=2))
    with_alpha = np.dstack([rgb[..., ::-1], gray])
    np.testing.assert_array_equal(decode(encoded(with_alpha), "f"), rgb)
    np.testing.assert_array_equal(decode(encoded(rgb.astype(np.uint16) * 257), "f"), rgb)


def test_damage_inside_a_png_is_found() -> None:
    data = bytearray(encoded(picture(9)))
    data[len(data) // 2] ^= 0x55
    with pytest.raises(DataError, match="damaged: a checksum"):
        decode(bytes(data), "f")


@pytest.mark.parametrize(
    ("data", "said"),
    [(b"", "empty"), (b"GIF89a...", "47 49 46 38"), (b"<html>no</html>", "not an image file")],
)
def test_what_is_no_image(data: bytes, said: str) -> None:
    with pytest.raises(DataError, match=said):
        decode(data, "f")


@pytest.mark.parametrize(
    ("choice", "reader"),
    [
        ("image_folder", ImageFolder),
        ("pins90", ImageFolder),
        ("ytf347", ImageFolder),
        ("lfw", RawFolder),
        ("recordio", RecordIO),
    ],
)
def test_choices_give_every_parameter(
    choice: str, reader: type[ImageFolder | RawFolder | RecordIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = CONF / f"{choice}.yaml"
    lines = path.read_text().splitlines()
    assert lines[0].startswith("# ")
    assert all("#" in line for line in lines[2:])
    node = OmegaConf.load(path)
    assert isinstance(node, DictConfig)
    assert node["_target_"] == f"kdface.datasets.{reader.__name__}"
    parameters = inspect.signature(reader).parameters
    assert [key for key in node if key != "_target_"] == list(parameters)
    tree = OmegaConf.create({"paths": {"data": "/d"}, "dataset": node})
    container = OmegaConf.to_container(tree, resolve=True)
    assert isinstance(container, dict)
    values = container["dataset"]
    own = {"root", "landmarks", "name", "terms"}
    for key, parameter in parameters.items():
        given = tuple(values[key]) if isinstance(values[key], list) else values[key]
        assert key in own or given == parameter.default
    assert values["root"] == "???" or values["root"].startswith("/d/")
