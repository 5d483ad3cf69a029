"""What is exported embeds as the run does, without the run; of CKD that is the periocular network alone."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from kdface.assembly.load import load_run
from kdface.backbones import iresnet_nano, load_weights
from kdface.cli import main
from kdface.commands import export
from tests.conftest import TINY, Kdface, only_run

PLAIN = [word for word in TINY if not word.startswith("evaluation")] + ["evaluation=none"]
CKD = ["method=ckd", "augmentation.size=[32,64]"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two steps."""
    runs = tmp_path_factory.mktemp("export")
    assert main(["train", *PLAIN, "trainer.max_steps=2", f"paths.runs={runs}"]) == 0
    return only_run(runs)


@pytest.mark.parametrize("words", [[], ["ema.decay=0.9"], CKD], ids=["plain", "averaged", "ckd"])
def test_the_exported_network_is_the_runs(kdface: Kdface, tmp_path: Path, words: list[str]) -> None:
    assert kdface("train", *PLAIN, *words, "trainer.max_steps=2", f"paths.runs={tmp_path}/runs").code == 0
    run = only_run(tmp_path / "runs")
    said = kdface("export", f"run={run}", "network.pt")
    assert said.code == 0, said.err
    content: dict[str, Any] = torch.load(tmp_path / "network.pt", weights_only=True)
    method = load_run(run).method
    height, width = method.preprocessing.size
    assert content["kdface"]["preprocessing"]["size"] == [height, width]
    alone = iresnet_nano(8, image_size=(height, width), channels=(8, 8, 8, 8), blocks=(1, 1, 1, 1)).eval()
    load_weights(alone, tmp_path / "network.pt")
    images = torch.randint(0, 256, (3, height, width, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(alone(method.pixels(images)), method.embed(images, method.preprocessing))


@pytest.mark.parametrize("suffix", [".pt", ".PTH", ".safetensors"])
def test_the_suffix_decides_the_format(kdface: Kdface, tmp_path: Path, run: Path, suffix: str) -> None:
    if suffix == ".safetensors":
        pytest.importorskip("safetensors")
    said = kdface("export", f"run={run}", f"network{suffix}")
    assert said.code == 0, said.err
    magic = (tmp_path / f"network{suffix}").read_bytes()[:2]
    assert (magic == b"PK") == (suffix != ".safetensors")
    method = load_run(run).method
    alone = iresnet_nano(8, image_size=(32, 32), channels=(8, 8, 8, 8), blocks=(1, 1, 1, 1)).eval()
    load_weights(alone, tmp_path / f"network{suffix}")
    images = torch.full((2, 32, 32, 3), 77, dtype=torch.uint8)
    with torch.no_grad():
        assert torch.equal(alone(method.pixels(images)), method.embed(images, method.preprocessing))


def test_insightface_and_torchscript(kdface: Kdface, tmp_path: Path, run: Path) -> None:
    method = load_run(run).method
    images = torch.randint(0, 256, (3, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        ours = method.embed(images, method.preprocessing)
    said = kdface("export", f"run={run}", "bare.pth", "--to", "insightface")
    assert said.code == 0, said.err
    state = torch.load(tmp_path / "bare.pth", weights_only=True)
    assert {"conv1.weight", "layer1.0.bn1.weight", "bn2.weight", "fc.weight", "features.weight"} <= state.keys()
    alone = iresnet_nano(8, image_size=(32, 32), channels=(8, 8, 8, 8), blocks=(1, 1, 1, 1)).eval()
    alone.load_state_dict(state)  # nothing around it
    said = kdface("export", f"run={run}", "network.ts")
    assert said.code == 0, said.err
    extra = {"kdface": ""}
    traced = torch.jit.load(tmp_path / "network.ts", _extra_files=extra)  # type: ignore[no-untyped-call]
    assert json.loads(extra["kdface"])["embedding_size"] == 8
    with torch.no_grad():
        assert torch.equal(alone(method.pixels(images)), ours)
        torch.testing.assert_close(traced(method.pixels(images)), ours, rtol=1e-4, atol=1e-4)
    said = kdface("export", f"run={run}", "x.pt", "--to", "onx")
    assert said.code == 2 and "nearest:   onnx" in said.err


def test_a_card_lies_beside(kdface: Kdface, tmp_path: Path, run: Path) -> None:
    assert kdface("export", f"run={run}", "network.pt").code == 0
    card = (tmp_path / "network.pt.md").read_text(encoding="utf-8")
    assert card.startswith("---\nlibrary_name: kdface") and 'kdface.load("network.pt")' in card


def test_safetensors_say_what_they_are_for(kdface: Kdface, tmp_path: Path, run: Path) -> None:
    safetensors = pytest.importorskip("safetensors")
    assert kdface("export", f"run={run}", "network.safetensors").code == 0
    with safetensors.safe_open(tmp_path / "network.safetensors", "pt") as file:
        about = json.loads(file.metadata()["kdface"])
    assert about["preprocessing"]["size"] == [32, 32] and about["embedding_size"] == 8


def test_an_onnx_file_embeds_as_the_run_does(kdface: Kdface, tmp_path: Path, run: Path) -> None:
    for package in ("onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    said = kdface("export", f"run={run}", "network.onnx")
    assert said.code == 0, said.err
    assert "differ by at most" in said.out
    net = cv2.dnn.readNetFromONNX(str(tmp_path / "network.onnx"))  # an independent reader
    method = load_run(run).method
    images = torch.randint(0, 256, (3, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    net.setInput(method.pixels(images).numpy())
    with torch.no_grad():
        ours = method.embed(images, method.preprocessing).numpy()
    np.testing.assert_allclose(net.forward(), ours, atol=1e-4 * np.abs(ours).max())


def test_an_onnx_file_that_embeds_otherwise_is_not_written(
    kdface: Kdface, tmp_path: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    monkeypatch.setattr(export, "_DIFFERENCE", -1.0)
    said = kdface("export", f"run={run}", "network.onnx")
    assert said.code == 2 and "does not reproduce" in said.err
    assert not list(tmp_path.glob("*network*"))


@pytest.mark.parametrize(("file", "near"), [("x.sftensors", "x.safetensors"), ("x.bin", ""), ("x", "")])
def test_an_unknown_suffix_is_an_error_that_says_what_works(
    kdface: Kdface, tmp_path: Path, run: Path, file: str, near: str
) -> None:
    said = kdface("export", f"run={run}", file)
    assert said.code == 2 and ".safetensors" in said.err and near in said.err
    assert not list(tmp_path.iterdir())
    fix = said.err.split("fix:")[1].split("\n")[0].split()[1:]
    pytest.importorskip("safetensors")
    assert kdface(*fix).code == 0


def test_onnx_without_its_packages_names_them(
    kdface: Kdface, tmp_path: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    said = kdface("export", f"run={run}", "x.onnx")
    assert said.code == 2 and "kdface[onnx]" in said.err
    assert not list(tmp_path.iterdir())


def test_what_is_not_clear_is_said(kdface: Kdface) -> None:
    said = kdface("export", "somewhere")
    assert said.code == 2 and "run=PATH" in said.err
    said = kdface("export", "run=a", "run=b", "x.pt")
    assert said.code == 2 and "run= is given more than once" in said.err
    said = kdface("export", "run=a", "x.pt", "--to", "onnx", "--to", "torch")
    assert said.code == 2 and "--to is given more than once" in said.err
    said = kdface("export", "rnu=a", "x.pt")
    assert said.code == 2 and "no key 'rnu'" in said.err and "run=..." in said.err and "one of" not in said.err


def test_a_file_name_may_hold_an_equals_sign(kdface: Kdface, tmp_path: Path, run: Path) -> None:
    assert kdface("export", f"run={run}", "epoch=3.pt").code == 0
    assert (tmp_path / "epoch=3.pt").is_file()


def test_a_damaged_or_false_exported_file_is_refused(kdface: Kdface, tmp_path: Path, run: Path) -> None:
    """A flipped bit in a weight, which safetensors themselves do not notice; and a file that says it is a network of
    10^11 weights, for which no memory is asked."""
    import kdface as public
    from kdface.errors import UserError

    for suffix in (".safetensors", ".pt"):
        assert kdface("export", f"run={run}", f"network{suffix}").code == 0
        file = tmp_path / f"network{suffix}"
        assert public.load(file, "cpu").embed(np.zeros((1, 32, 32, 3), np.uint8)).shape == (1, 8)
        weight = load_run(run).method.backbone.state_dict()["fc.weight"].numpy().tobytes()
        whole = file.read_bytes()
        at = whole.index(weight) + 3
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(UserError, match=r"checksum|cannot be read"):
            public.load(file, "cpu")
    file.write_bytes(whole)
    content = torch.load(file, weights_only=True)
    content["kdface"]["backbone"]["channels"] = [60_000, 60_000, 8, 8]
    torch.save(content, file)
    with pytest.raises(UserError, match="does not fit"):
        public.load(file, "cpu")
    content["kdface"]["backbone"]["_target_"] = ["os.system"]
    torch.save(content, file)
    with pytest.raises(UserError, match="a _target_ is"):
        public.load(file, "cpu")
    del content["kdface"]["backbone"]["_target_"]
    torch.save(content, file)
    with pytest.raises(UserError, match="there is no _target_"):
        public.load(file, "cpu")
