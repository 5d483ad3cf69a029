"""A recogniser embeds as the evaluation of its run does, and says what is wrong with what it is given."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import kdface
from kdface.assembly.load import load_run
from kdface.assembly.shipped import shipped
from kdface.cli import main
from kdface.errors import DataError, UserError
from kdface.recogniser import Recogniser
from kdface.recogniser.points import OperatingPoint
from kdface.runs.opened import open_run
from tests.recogniser.conftest import SIZE, trained

CKD = ["method=ckd", "augmentation.size=[32,64]"]
AIKD = ["method=aikd", "teacher=quality/embedding_norm", "method.hidden=4"]


@pytest.fixture(scope="module")
def recogniser(run: Path) -> Recogniser:
    return kdface.load(run, device="cpu")


def _pictures(faces: Path) -> tuple[list[Path], NDArray[np.uint8]]:
    files = sorted(faces.rglob("*.png"))
    found = [cv2.imread(str(file)) for file in files]
    return files, np.stack([picture[..., ::-1] for picture in found if picture is not None]).astype(np.uint8)


@pytest.mark.parametrize(
    "words", [[], ["ema.decay=0.9"], CKD, ["head=crfiqa"]], ids=["plain", "averaged", "ckd", "crfiqa"]
)
def test_the_network_is_what_the_method_ships(tmp_path: Path, words: list[str]) -> None:
    run = trained(tmp_path / "runs", *words)
    method, alone = load_run(run).method, shipped(open_run(run))
    theirs, ours = method.embedder.state_dict(), alone.network.state_dict()
    assert theirs.keys() == ours.keys() and all(torch.equal(ours[key], value) for key, value in theirs.items())
    assert alone.preprocessing == method.preprocessing and (alone.grade is not None) == method.grades
    images = torch.randint(0, 256, (3, *method.preprocessing.size, 3), dtype=torch.uint8)
    recogniser = kdface.load(run, device="cpu")
    with torch.no_grad():
        both = method.embed(images, method.preprocessing) + method.embed(images.flip(2), method.preprocessing)
        np.testing.assert_array_equal(recogniser.embed(images), both.numpy())
        if method.grades:
            np.testing.assert_array_equal(recogniser.quality(images), method.quality(images, method.preprocessing))


def test_a_run_of_aikd_grades(tmp_path: Path, run: Path) -> None:
    student = trained(tmp_path / "runs", *AIKD, f"teacher.run={run}")
    method, recogniser = load_run(student).method, kdface.load(student, device="cpu")
    images = torch.randint(0, 256, (3, *SIZE, 3), dtype=torch.uint8)
    with torch.no_grad():
        np.testing.assert_array_equal(recogniser.quality(images), method.quality(images, method.preprocessing))
    for suffix in (".pt", ".safetensors"):
        assert main(["export", f"run={student}", str(tmp_path / f"network{suffix}")]) == 0
        again = kdface.load(tmp_path / f"network{suffix}", device="cpu")
        np.testing.assert_array_equal(again.quality(images), recogniser.quality(images))
        np.testing.assert_array_equal(again.embed(images), recogniser.embed(images))


def test_arrays_files_and_folders_are_one(recogniser: Recogniser, run: Path, faces: Path) -> None:
    files, pixels = _pictures(faces)
    method = load_run(run).method
    images = torch.from_numpy(pixels)
    with torch.no_grad():  # the sum that protocols compare
        expected = method.embed(images, method.preprocessing) + method.embed(images.flip(2), method.preprocessing)
    recogniser.batch_size = 5  # the last batch is smaller
    for given in (pixels, images, files, [str(file) for file in files], faces, list(pixels)):
        np.testing.assert_allclose(recogniser.embed(given), expected.numpy(), rtol=1e-5, atol=1e-6)
    assert recogniser.embed(files[0]).shape == recogniser.embed(pixels[0]).shape == (1, 8)
    np.testing.assert_allclose(
        recogniser.embed(pixels, mirror=False), method.embed(images, method.preprocessing).detach()
    )
    with torch.no_grad():
        norms = method.embed(images, method.preprocessing).norm(dim=1)  # MagFace's quality
    np.testing.assert_allclose(recogniser.quality(faces), norms, rtol=1e-5)


def test_pairs_and_people(recogniser: Recogniser, faces: Path) -> None:
    files, pixels = _pictures(faces)
    rows = recogniser.embed(pixels).astype(np.float64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    cosines = rows @ rows.T
    one = recogniser.verify(files[0], files[5], threshold=0.2)
    assert one.score == pytest.approx(cosines[0, 5], abs=1e-6)
    assert one.same == (cosines[0, 5] >= 0.2) and one.threshold == 0.2
    several = recogniser.verify(files[:3], files[3:6], threshold=one.score)
    assert [candidate.score for candidate in several] == pytest.approx(np.diag(cosines[:3, 3:6]), abs=1e-6)
    people = [file.parent.name for file in files]
    found = recogniser.identify(faces, pixels, top=3, threshold=0.5)
    for row, answer in enumerate(found):  # the slow way: every image of every person
        best = {name: max(cosines[row, k] for k in range(len(files)) if people[k] == name) for name in set(people)}
        assert [candidate.name for candidate in answer.candidates] == sorted(best, key=lambda name: -best[name])
        assert answer.candidates[0].name == people[row] and answer.candidates[0].score == pytest.approx(1)
        assert answer.known is True and answer.probe == str(row)
    assert recogniser.identify({"ada": pixels[:2]}, [files[0]])[0].known is None


def test_a_threshold_is_tested_or_asked_for(recogniser: Recogniser, faces: Path) -> None:
    files, _ = _pictures(faces)
    made = Recogniser(recogniser.network, recogniser.preprocessing, points={"lfw": [OperatingPoint(1e-2, 0.4)]})
    assert made.verify(files[0], files[0], far=1e-2).threshold == 0.4
    for given, told in (
        ({}, "needs a threshold"),
        ({"far": 1e-5}, "too few for it"),
        ({"far": 1e-2, "test": "cfp"}, "no thresholds"),
    ):
        with pytest.raises(UserError, match=told) as raised:
            made.verify(files[0], files[1], **given)
        assert "far=1e-2" in raised.value.expected or "lfw" in raised.value.expected
    made.points = {"lfw": [OperatingPoint(1e-2, 0.4)], "cfp": [OperatingPoint(1e-2, 0.3)]}
    with pytest.raises(UserError, match="2 test sets") as raised:
        made.verify(files[0], files[1], far=1e-2)
    assert (
        raised.value.expected == "test=lfw or test=cfp"
        and made.verify(files[0], files[1], far=1e-2, test="lfw").threshold == 0.4
    )


def test_what_is_no_crop_is_one_clear_error(recogniser: Recogniser, faces: Path, tmp_path: Path) -> None:
    files, pixels = _pictures(faces)
    with pytest.raises(UserError, match=r"float32 of shape \(32, 32, 3\)"):
        recogniser.embed(pixels.astype(np.float32))
    with pytest.raises(UserError, match=r"uint8 of shape \(16, 32, 3\)") as raised:
        recogniser.embed(pixels[:, :16])
    assert "kdface data align" in raised.value.expected
    cv2.imwrite(str(tmp_path / "large.png"), np.zeros((64, 48, 3), np.uint8))
    with pytest.raises(DataError, match="64 high, 48 wide"):
        recogniser.embed(tmp_path / "large.png")
    with pytest.raises(UserError, match="no images"):
        recogniser.embed([])
    with pytest.raises(UserError, match="3 and 2 crops"):
        recogniser.verify(files[:3], files[:2], threshold=0.1)
    with pytest.raises(UserError, match="is a folder"):
        recogniser.verify(faces, files[0], threshold=0.1)
    with pytest.raises(UserError, match="gallery is empty"):
        recogniser.identify({}, files)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors", ".onnx"])
def test_an_exported_file_embeds_as_its_run(
    recogniser: Recogniser, run: Path, faces: Path, tmp_path: Path, suffix: str
) -> None:
    if suffix == ".onnx":
        pytest.importorskip("onnxscript")
    file = tmp_path / f"network{suffix}"
    assert main(["export", f"run={run}", str(file)]) == 0
    again = kdface.load(file, device="cpu")
    np.testing.assert_allclose(again.embed(faces), recogniser.embed(faces), rtol=1e-3, atol=1e-4)
    assert again.preprocessing == recogniser.preprocessing
    assert not again.grades
    with pytest.raises(UserError, match="no face-image quality"):
        again.quality(faces)


def test_files_that_are_none_of_ours(tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> tuple[Any, ...]:
            return open, (str(tmp_path / "written"), "w")

    torch.save({"a": torch.zeros(1)}, tmp_path / "bare.pt")
    kind = {"template": "arcface", "size": [32, 32], "color": "rgb", "mean": 127.5, "std": 127.5}
    about = {"backbone": {"_target_": "os.system", "command": "true"}, "preprocessing": kind}
    torch.save({"state_dict": {}, "kdface": about}, tmp_path / "other.pt")
    torch.save({"state_dict": [1], "kdface": about}, tmp_path / "empty.pt")
    wide = {**about, "preprocessing": {**kind, "size": [10**9, 32]}}
    torch.save({"state_dict": {}, "kdface": wide}, tmp_path / "wide.pt")
    torch.save({"state_dict": Payload(), "kdface": {}}, tmp_path / "payload.pt")
    (tmp_path / "text.onnx").write_text("no model")
    (tmp_path / "text.safetensors").write_text("no model")
    for name, told in (
        ("bare.pt", "does not state how to preprocess images"),
        ("wide.pt", "preprocessing.size.0"),
        ("other.pt", "outside the packages"),
        ("empty.pt", "contains no weights"),
        ("payload.pt", "cannot be read as plain tensors"),
        ("text.safetensors", "cannot be read as safetensors"),
        ("gone.pt", "no weight file"),
    ):
        with pytest.raises(UserError, match=told):
            kdface.load(tmp_path / name)
    pytest.importorskip("onnxruntime")
    with pytest.raises(UserError, match="cannot be read as ONNX"):
        kdface.load(tmp_path / "text.onnx")
    assert not (tmp_path / "written").exists()


def test_importing_is_light() -> None:
    """What takes the time: torch for kdface itself, Lightning and albumentations for loading."""
    code = (
        "import sys, kdface; assert kdface.__dir__(); assert 'torch' not in sys.modules and 'numpy' not in sys.modules;"
        "import kdface.recogniser.load; kdface.load;"
        "heavy = {'pytorch_lightning', 'albumentations', 'torchmetrics', 'scipy', 'matplotlib', 'wandb', 'hydra'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert said.returncode == 0, said.stderr
    assert said.stdout.strip() == "[]"


def test_loading_draws_nothing_from_the_generator_of_the_user(run: Path) -> None:
    torch.manual_seed(7)
    kdface.load(run)
    drawn = torch.rand(3)
    torch.manual_seed(7)
    assert torch.equal(drawn, torch.rand(3))
