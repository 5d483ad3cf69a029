"""A network from an ONNX file, run by onnxruntime."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kdface.errors import UserError
from kdface.stored import read_bytes

_LARGEST = 8 << 30  # bytes of a file
_ELSEWHERE = b"\x0a\x08location"  # marks a tensor stored in another file (`external_data`)
_SILENT = 4  # of onnxruntime's own log


class OnnxNetwork(nn.Module):
    """(N, 3, H, W) float32 -> (N, D), run by onnxruntime.

    Args:
        session: an onnxruntime.InferenceSession with one input and one output, (N, 3, H, W) -> (N, D).
        path: of its file, for messages.
        fingerprint: SHA-256 of its file.

    Attributes:
        embedding_size: D.
        image_size: (height, width); null: the file does not fix it.
    """

    def __init__(self, session: Any, path: Path, fingerprint: str) -> None:
        super().__init__()
        self.session = session
        self.path = path
        self.fingerprint = fingerprint
        self.input = session.get_inputs()[0].name
        batch, _, *size = session.get_inputs()[0].shape
        self.batch = batch if isinstance(batch, int) else 0
        self.image_size = (size[0], size[1]) if all(isinstance(side, int) for side in size) else None
        last = session.get_outputs()[0].shape[-1]
        self.embedding_size = last if isinstance(last, int) else 0

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, D), on the device of the images.

        Raises `UserError` if the network fails or its output does not match its declaration.
        """
        given = images.float().cpu()
        if not self.batch:
            return self._run(given).to(images.device)
        parts = []  # a fixed batch size gets full batches
        for start in range(0, len(given), self.batch):
            part = given[start : start + self.batch]
            padding = part.new_zeros((self.batch - len(part), *part.shape[1:]))
            parts.append(self._run(torch.cat([part, padding]))[: len(part)])
        return torch.cat(parts).to(images.device)

    def _run(self, images: Tensor) -> Tensor:
        try:
            (found,) = self.session.run(None, {self.input: images.numpy()})
        except Exception as error:  # of onnxruntime's own kinds
            raise UserError(f"{self.path} cannot be computed: {str(error).splitlines()[0]}") from None
        if not isinstance(found, np.ndarray) or found.dtype != np.float32 or found.shape[:-1] != (len(images),):
            raise UserError(
                f"{self.path} gives {getattr(found, 'dtype', type(found).__name__)} {getattr(found, 'shape', '')} of "
                f"{len(images)} images.",
                expected="float32 embeddings (images, size)",
            )
        return torch.from_numpy(found)


def read_onnx(path: Path, device: str) -> tuple[OnnxNetwork, str | None]:
    """The network of an ONNX file, and the metadata from kdface export; null: exported by another program.

    Raises `UserError` if it cannot be read, stores values in other files, does not have one input of images and one
    output of embeddings, or onnxruntime is not installed. Opens no other files.
    """
    if not path.is_file():
        raise UserError(f"there is no file {path}.")
    if importlib.util.find_spec("onnxruntime") is None:
        raise UserError(f"{path}: ONNX files need onnxruntime.", expected='pip install "kdface[onnx]"')
    import onnxruntime

    content = read_bytes(path, _LARGEST)
    if _ELSEWHERE in content:
        raise UserError(
            f"{path} keeps weights in other files, which it names itself: they are not read.",
            expected="an ONNX file that holds its weights: torch.onnx.export(..., external_data=False)",
        )
    wanted = ["CUDAExecutionProvider"] if device.startswith("cuda") else []
    providers = [
        provider for provider in (*wanted, "CPUExecutionProvider") if provider in onnxruntime.get_available_providers()
    ]
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _SILENT
    # If a reference to another file goes undetected here, it is not resolved in the current folder.
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", os.devnull)
    try:
        with contextlib.redirect_stdout(None):  # it prints when it retries
            session = onnxruntime.InferenceSession(content, options, providers=providers)
        told: str | None = session.get_modelmeta().custom_metadata_map.get("kdface")
    except Exception as error:  # of onnxruntime's own kinds
        raise UserError(f"{path} cannot be read as ONNX: {str(error).splitlines()[0]}") from None
    inputs, outputs = session.get_inputs(), session.get_outputs()
    shapes = [value.shape for value in (*inputs, *outputs)]
    if len(shapes) != 2 or len(shapes[0]) != 4 or shapes[0][1] != 3 or len(shapes[1]) != 2:
        raise UserError(
            f"{path}: its inputs and outputs are {', '.join(str(shape) for shape in shapes)}.",
            expected="one input of images (N, 3, height, width) and one output of embeddings (N, D)",
        )
    return OnnxNetwork(session, path, hashlib.sha256(content).hexdigest()), told
