"""Files with a network: published state dicts and ONNX with a card are used wherever a run is, and run nothing."""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import kdface as package
from kdface.assembly.load import load_network
from kdface.backbones import iresnet_nano
from kdface.backbones.iresnet import IResNet
from kdface.errors import UserError
from tests.conftest import UNTESTED, Kdface, only_run
from tests.evaluation.test_stored import TOY

CARD = "preprocessing: {template: arcface, size: [32, 32], color: %s, mean: 127.5, std: 128.0}\n"


def network() -> IResNet:
    torch.manual_seed(0)
    return iresnet_nano(8, image_size=(32, 32), channels=(8, 8, 8, 8), blocks=(1, 1, 1, 1)).eval()


def write_onnx(path: Path, batch: int | str = "n", location: str = "") -> np.ndarray[Any, Any]:
    """y = x W with x the flat image: a network that no program of ours wrote. Returns W."""
    onnx = pytest.importorskip("onnx")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    weight = np.random.default_rng(0).normal(size=(3 * 32 * 32, 4)).astype(np.float32) / 50
    tensor = onnx.numpy_helper.from_array(weight, "weight")
    if location:
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location)
    nodes = [helper.make_node("Flatten", ["x"], ["flat"]), helper.make_node("MatMul", ["flat", "weight"], ["y"])]
    ends = [
        helper.make_tensor_value_info(name, kind, [batch, *shape]) for name, shape in (("x", (3, 32, 32)), ("y", (4,)))
    ]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [tensor])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    return weight


@pytest.mark.parametrize("suffix", [".pth", ".bin", ".safetensors", ".ckpt"])
def test_a_published_state_dict_with_its_card(tmp_path: Path, suffix: str) -> None:
    net, file = network(), tmp_path / f"backbone{suffix}"
    if suffix == ".safetensors":
        from safetensors.torch import save_file

        save_file(net.state_dict(), file)
    else:
        torch.save({"state_dict": {f"module.{key}": value for key, value in net.state_dict().items()}}, file)
    if suffix != ".ckpt":  # one without a card is of a run
        with pytest.raises(UserError, match="does not state how to preprocess images") as told:
            package.load(file)
        assert f"> {file}.yaml" in told.value.fix
    (tmp_path / f"{file.name}.yaml").write_text(CARD % "bgr")
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    seen = (torch.from_numpy(images[..., ::-1].copy()).permute(0, 3, 1, 2).float() - 127.5) / 128
    with torch.no_grad():
        expected = net(seen).numpy()
    np.testing.assert_allclose(package.load(file, "cpu").embed(images, mirror=False), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(load_network(file).embed(torch.from_numpy(images)), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("batch", ["n", 1, 4])
def test_an_onnx_file_of_another_program_is_evaluated_teaches_and_embeds(
    kdface: Kdface, tmp_path: Path, batch: int | str
) -> None:
    pytest.importorskip("onnxruntime")
    weight, file = write_onnx(tmp_path / "model.onnx", batch), tmp_path / "model.onnx"
    (tmp_path / "model.onnx.yaml").write_text(CARD % "rgb")
    images = np.random.default_rng(1).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    expected = ((images.transpose(0, 3, 1, 2).astype(np.float64) - 127.5) / 128).reshape(3, -1) @ weight
    teacher = load_network(file)
    np.testing.assert_allclose(teacher.embed(torch.from_numpy(images)), expected, rtol=1e-3, atol=1e-4)
    assert teacher.embedding_size == 4 and len(teacher.fingerprint) == 64
    if batch != "n":
        return
    said = kdface("evaluate", f"run={file}", "evaluation=toy_pairs", *TOY)
    assert said.code == 0, said.err
    assert list(tmp_path.glob("runs/files/model-*/toy_pairs/results.json"))
    said = kdface(
        "evaluate", f"run={file}", "evaluation=toy_pairs", *TOY[:-1], "evaluation.toy_pairs.dataset.size=[16,16]"
    )
    assert said.code == 2 and "size: [32, 32]" in said.err
    words = ["method=distillation", "teacher=file", f"teacher.file={file}", "trainer.max_steps=1", "paths.runs=there"]
    said = kdface("train", *UNTESTED, *words)
    assert said.code == 0, said.err
    from kdface.runs.folder import RunFolder

    assert RunFolder(only_run(tmp_path / "there")).read_data()["teacher"]["fingerprint"]


def test_an_onnx_file_recognises_in_a_test_of_quality(kdface: Kdface, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    write_onnx(tmp_path / "model.onnx")
    (tmp_path / "model.onnx.yaml").write_text(CARD % "rgb")
    words = [*UNTESTED, "head=magface", "trainer.max_steps=1", "paths.runs=graded"]
    assert kdface("train", *words).code == 0
    toy = [word.replace("toy_pairs", "toy_quality.test") for word in TOY if "fars" not in word]
    recogniser = "evaluation.toy_quality.recognition={_target_:kdface.teachers.from_file,file:model.onnx}"
    words = ["evaluation=toy_quality", "~evaluation.toy_quality_p6", *toy, recogniser]
    words.append("evaluation.toy_quality.policy.fmr=0.25")
    said = kdface("evaluate", f"run={only_run(tmp_path / 'graded')}", *words)
    assert said.code == 0, said.err


def test_what_is_wrong_with_a_file_is_said(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    write_onnx(tmp_path / "model.onnx")
    card = tmp_path / "model.onnx.yaml"
    for text, told in (
        ((CARD % "rgb").replace("32, 32", "48, 48"), "takes images of 32x32, but its card states 48x48"),
        ("preprocessing: {template: arcface}", "how to preprocess images: preprocessing"),
        ("name: adaface", "no entry 'adaface'"),
        (f"{CARD % 'rgb'}backbone: {{_target_: os.system, command: touch ran}}", ""),
    ):
        card.write_text(text)
        if told:
            with pytest.raises(UserError, match=told):
                package.load(tmp_path / "model.onnx")
    net = {key: value for key, value in network().state_dict().items() if "layer" in key}
    torch.save(net, tmp_path / "part.pth")
    shutil.copy(card, tmp_path / "part.pth.yaml")
    with pytest.raises(UserError, match="outside the packages"):
        package.load(tmp_path / "part.pth")
    (tmp_path / "part.pth.yaml").write_text(CARD % "rgb")
    with pytest.raises(UserError, match="no backbone of kdface"):
        package.load(tmp_path / "part.pth")


class Payload:
    """Unpickling this would make a folder."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.path,)


def _pickled(file: Path, ran: Path) -> None:
    file.write_bytes(pickle.dumps(Payload(str(ran))))


def _saved(file: Path, ran: Path) -> None:
    torch.save({"state_dict": {"fc.weight": Payload(str(ran))}}, file)


def _array(file: Path, ran: Path) -> None:
    with open(file, "wb") as target:
        np.savez(target, keys=np.array(["a"]), embeddings=np.array([Payload(str(ran))], dtype=object))


@pytest.mark.parametrize("write", [_pickled, _saved], ids=["pickle", "torch"])
@pytest.mark.parametrize("name", ["evil.pth", "evil.pt", "evil.bin", "evil.ckpt", "evil.safetensors", "evil.onnx"])
def test_payloads_are_refused_wherever_a_network_is_read(
    kdface: Kdface, tmp_path: Path, name: str, write: Callable[[Path, Path], None]
) -> None:
    if name.endswith("onnx"):
        pytest.importorskip("onnxruntime")
    ran, file = tmp_path / "ran", tmp_path / name
    write(file, ran)
    (tmp_path / f"{name}.yaml").write_text(CARD % "rgb")
    lines = [
        ["evaluate", f"run={file}", "evaluation=toy_pairs", *TOY],
        ["embed", str(tmp_path), f"run={file}"],
        ["weights", "inspect", str(file)],
        ["train", *UNTESTED, "weights=file", f"weights.file={file}"],
        ["train", *UNTESTED, "method=distillation", "teacher=file", f"teacher.file={file}"],
    ]
    for words in lines:
        said = kdface(*words)
        assert said.code == 2 and said.err.startswith("error: ") and "cannot be read as" in said.err, (words, said.err)
    with pytest.raises(UserError, match="cannot be read as"):
        load_network(file)
    assert not ran.exists()


def test_payloads_in_arrays_and_configurations_are_refused(kdface: Kdface, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    _array(tmp_path / "evil.npz", ran)
    said = kdface("evaluate", "embeddings=evil.npz", "evaluation=toy_pairs")
    assert said.code == 2 and "not such a file" in said.err
    said = kdface("train", *UNTESTED, "method=distillation", "teacher=embeddings", "teacher.file=evil.npz")
    assert said.code == 2 and "not such a file" in said.err
    for word in ("backbone", "dataset", "head"):
        said = kdface("train", *UNTESTED, f"{word}={{_target_:os.system,command:'mkdir {ran}'}}")
        assert said.code == 2 and "os.system" in said.err, said.err
    own = tmp_path / "conf" / "head"
    own.mkdir(parents=True)
    (own / "evil.yaml").write_text(f"_target_: os.system\ncommand: mkdir {ran}\n")
    said = kdface("train", *UNTESTED, "--config-dir", "conf", "head=evil")
    assert said.code == 2 and "os.system" in said.err
    assert not ran.exists()


@pytest.mark.parametrize("location", ["/etc/hostname", "../weight.bin", "weight.bin"])
def test_an_onnx_file_that_names_other_files_is_refused(kdface: Kdface, tmp_path: Path, location: str) -> None:
    """Absolute, above, and beside: none of them is opened."""
    pytest.importorskip("onnxruntime")
    (tmp_path / "model").mkdir()
    weight = write_onnx(tmp_path / "model" / "model.onnx", location=location)
    for place in (tmp_path / "weight.bin", tmp_path / "model" / "weight.bin"):
        place.write_bytes(weight.tobytes())
    (tmp_path / "model" / "model.onnx.yaml").write_text(CARD % "rgb")
    for words in (
        ["evaluate", "run=model/model.onnx", "evaluation=toy_pairs"],
        ["weights", "inspect", "model/model.onnx"],
    ):
        said = kdface(*words)
        assert said.code == 2 and "keeps weights in other files" in said.err
