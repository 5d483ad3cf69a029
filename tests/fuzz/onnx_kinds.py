"""ONNX files: as networks that onnxruntime computes, and as detectors that OpenCV computes."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from kdface.faces import Preprocessing
from tests.fuzz.damage import spoil
from tests.fuzz.kinds import Kind, tried

_SIDE, _SIZE = 32, 8
_NOTE = "weights.bin"  # beside the file; another one lies in the folder above
_ABOUT = {
    "backbone": {"_target_": "kdface.backbones.iresnet_nano"},
    "preprocessing": Preprocessing(size=(_SIDE, _SIDE)).to_dict(),
}


def network(changed: str = "", location: str = "") -> onnx.ModelProto:
    """Means of the colours times a matrix: (N, 3, 32, 32) -> (N, 8), or a hostile form of it.

    Args:
        changed: what is otherwise.
        location: file of the matrix, in place of the file itself.
    """
    matrix = numpy_helper.from_array(np.random.default_rng(0).normal(size=(3, _SIZE)).astype(np.float32), "matrix")
    if location:
        matrix = TensorProto(
            name="matrix", data_type=TensorProto.FLOAT, dims=[3, _SIZE], data_location=TensorProto.EXTERNAL
        )
        for key, value in {"location": location, "offset": "0", "length": str(3 * _SIZE * 4)}.items():
            matrix.external_data.add(key=key, value=value)
    if changed == "huge matrix":
        matrix.dims[:] = [1 << 40, 1 << 40]
    nodes = [
        helper.make_node("ReduceMean", ["images", "axes"], ["means"], keepdims=0),
        helper.make_node("MatMul", ["means", "matrix"], ["product"]),
    ]
    weights = [matrix, numpy_helper.from_array(np.array([2, 3]), "axes")]
    kind, outputs, last = TensorProto.FLOAT, ["embeddings"], "Identity"
    if changed == "huge constant":
        weights.append(numpy_helper.from_array(np.array([1 << 20, 1 << 20]), "shape"))
        one = helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0])
        nodes.append(helper.make_node("ConstantOfShape", ["shape"], ["constant"], value=one))
        nodes.append(helper.make_node("ReduceMax", ["constant"], ["largest"], keepdims=0))
        nodes.append(helper.make_node("Add", ["product", "largest"], ["embeddings"]))
    elif changed == "one row":
        nodes.append(helper.make_node("ReduceMean", ["product"], ["embeddings"], keepdims=1))
    elif changed == "doubles":
        kind = TensorProto.DOUBLE
        nodes.append(helper.make_node("Cast", ["product"], ["embeddings"], to=kind))
    elif changed == "no numbers":
        nodes.append(helper.make_node("Log", ["product"], ["embeddings"]))
    elif changed == "two outputs":
        outputs.append("product")
        nodes.append(helper.make_node(last, ["product"], ["embeddings"]))
    else:
        nodes.append(helper.make_node(last, ["product"], ["embeddings"]))
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", 3, _SIDE, _SIDE])
    made = [
        helper.make_tensor_value_info(name, kind if name == "embeddings" else TensorProto.FLOAT, ["N", _SIZE])
        for name in outputs
    ]
    model = helper.make_model(
        helper.make_graph(nodes, "network", [images], made, weights),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=9,
    )
    model.metadata_props.add(key="kdface", value=json.dumps(_ABOUT))
    return model


def _make_onnx(folder: Path) -> None:
    (folder / "given").mkdir()
    (folder / "given" / "network.onnx").write_bytes(network().SerializeToString())
    for place in (folder, folder / "given"):
        (place / _NOTE).write_bytes(np.ones(3 * _SIZE, np.float32).tobytes())


def _spoil(path: Path, rng: Random) -> str:
    """Half of the time a whole file of another network, or one with its weights elsewhere."""
    if rng.random() < 0.5:
        return spoil(path, rng)
    beside = (_NOTE, f"../{_NOTE}", f"./{_NOTE}", str(path.parent / _NOTE), "/dev/zero", "/etc/hostname", "")
    other: Any = rng.choice(
        [
            *(("", file) for file in beside),
            *(
                (change, "")
                for change in ("huge matrix", "huge constant", "one row", "doubles", "no numbers", "two outputs")
            ),
        ]
    )
    path.write_bytes(network(*other).SerializeToString())
    return f"network {other}"


def _embeddings(folder: Path) -> object:
    import kdface

    pixels = np.random.default_rng(1).integers(0, 256, (2, _SIDE, _SIDE, 3), dtype=np.uint8)
    return tried(lambda: kdface.load(folder / "given" / "network.onnx", "cpu").embed(pixels))


def _make_detector(folder: Path) -> None:
    _make_onnx(folder)


def _detector(folder: Path) -> object:
    from kdface.datasets.detector import YuNet

    return tried(partial(YuNet, folder / "given" / "network.onnx"))


KINDS = [
    Kind("detector", _make_detector, ("given/*.onnx",), _detector, spoil=_spoil),
    Kind("onnx", _make_onnx, ("given/*.onnx",), _embeddings, spoil=_spoil, share=2),
]
