"""Embedding of face crops, uint8 to embeddings, against onnxruntime on the exported network: images a second.

iResNet-18 at 112 x 112, one thread, as `kdface export` writes it. Ours is the network in evaluation, in the precision
and memory format of this machine's profile, as every protocol computes it; onnxruntime has the pixels normalised by the
same code.
"""

from __future__ import annotations

import contextlib
import io
import statistics
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from benchmarks.measure import LeftOut, Row, ratios, side_by_side
from benchmarks.published import SEEN, drawn
from kdface.backbones import iresnet18
from kdface.commands.export import write_onnx
from kdface.hardware import detect, forward_context, keep_freed_memory
from kdface.pixels import normalised

BATCH, REPEATS = 32, 3
WHAT = "embedding, iResNet-18, 112 x 112"


def main() -> list[Row | LeftOut]:
    missing = [name for name in ("onnxscript", "onnxruntime") if find_spec(name) is None]
    if missing:
        return [LeftOut(WHAT, f"pip install {' '.join(missing)}")]
    import onnxruntime

    torch.set_num_threads(1)
    keep_freed_memory()
    torch.manual_seed(0)
    network = iresnet18().eval()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        file = Path(folder) / "network.onnx"
        write_onnx(network, {"preprocessing": SEEN.to_dict()}, file)  # which compares what both give
        session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    images, profile = drawn(BATCH, SEEN.size, 1)[0], detect()
    layout = torch.channels_last if profile.channels_last else torch.contiguous_format
    network.to(memory_format=layout)  # type: ignore[call-overload]

    def ours() -> Any:
        with torch.no_grad(), forward_context(profile):
            return network(normalised(images, SEEN, layout))

    def theirs() -> Any:
        return session.run(None, {"images": normalised(images, SEEN).numpy()})

    theirs()
    mine, other = side_by_side(ours, theirs, REPEATS)
    rates = [BATCH / statistics.median(seconds) for seconds in (mine, other)]
    return [Row(f"{WHAT}, batch {BATCH}", "onnxruntime", rates[0], rates[1], "images/s", ratios(mine, other), 1.0)]


if __name__ == "__main__":
    from benchmarks.measure import table

    print(table(main()))
