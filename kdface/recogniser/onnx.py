"""An ONNX file as a network."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kdface.errors import UserError
from kdface.stored import read_bytes

_LARGEST = 8 << 30  # bytes of a file


class OnnxNetwork(nn.Module):
    """`images` (N, 3, H, W) float32 -> (N, D), computed by onnxruntime.

    Args:
        session: an onnxruntime.InferenceSession with one input and one output.
        fingerprint: SHA-256 of its file.
    """

    def __init__(self, session: Any, fingerprint: str) -> None:
        super().__init__()
        self.session = session
        self.fingerprint = fingerprint
        self.input = session.get_inputs()[0].name

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, D), computed by onnxruntime on the processor."""
        (found,) = self.session.run(None, {self.input: images.float().cpu().numpy()})
        return torch.from_numpy(found).to(images.device)


def read_onnx(path: Path, device: str) -> tuple[OnnxNetwork, dict[str, Any]]:
    """The network of an exported ONNX file, and what the file says of itself.

    Raises `UserError` if it is no such file, or onnxruntime is not installed.
    """
    from kdface.recogniser.load import about_in

    if importlib.util.find_spec("onnxruntime") is None:
        raise UserError(f"{path}: ONNX files need onnxruntime.", expected='pip install "kdface[onnx]"')
    import onnxruntime

    if not path.is_file():
        raise UserError(f"there is no file {path}.")
    wanted = ["CUDAExecutionProvider"] if device.startswith("cuda") else []
    providers = [each for each in (*wanted, "CPUExecutionProvider") if each in onnxruntime.get_available_providers()]
    content = read_bytes(path, _LARGEST)  # given to the session, so that it reads no file beside it
    try:
        session = onnxruntime.InferenceSession(content, providers=providers)
    except Exception as error:  # of onnxruntime's own kinds
        raise UserError(f"{path} cannot be read as ONNX: {str(error).splitlines()[0]}") from None
    about = about_in(session.get_modelmeta().custom_metadata_map.get("kdface"), path)
    if len(session.get_inputs()) != 1 or len(session.get_outputs()) != 1:
        raise UserError(f"{path} has not one input and one output.", expected="a file that kdface export wrote")
    return OnnxNetwork(session, hashlib.sha256(content).hexdigest()), about
