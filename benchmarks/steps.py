"""A training step against the plain loop and against the steps as published code computes them: images a second.

Forward, backward, clipped gradients where the published loop clips, SGD; one thread. Ours runs in the precision and the
memory format of this machine's profile, as `kdface train` does; the plain loop and the published ones as they come,
float32 in torch's own layout. Limit: three forward passes' multiplications at the rate of a large float32 product.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from benchmarks import published
from benchmarks.gpu import forward_flops
from benchmarks.head import usual
from benchmarks.measure import LeftOut, Row, apart, importable, peak, peer, ratios, side_by_side, start_peak
from benchmarks.published import Pair
from kdface.backbones.iresnet import iresnet18
from kdface.hardware import detect, keep_freed_memory
from kdface.heads import ArcFace
from kdface.methods import SphereFaceR
from kdface.methods.networks import Views

REPEATS = 2
CLASSES = 10_000
BATCH = 16


def main() -> list[Row | LeftOut]:
    torch.set_num_threads(1)
    keep_freed_memory()  # as a training of kdface does, and for both sides
    what, plain = "iResNet-18 and ArcFace, 112 x 112", "the plain loop"
    rows: list[Row | LeftOut] = [_row(what, plain, plain_pair(), 2.5 if "bf16" in detect().precision else 1.3)]
    if "bf16" not in detect().precision and "avx512_bf16" in _processor():
        rows.append(_row(f"{what}, trainer.precision=bf16-mixed", plain, plain_pair("bf16-mixed"), 2.5))
    for name, code, build in published.STEPS:
        what = f"step of {name}"
        folder = None if code is None else peer(code)
        if code is not None and folder is None:
            rows.append(LeftOut(what, f"KDFACE_PEERS has no {code}"))
            continue
        try:
            pair = build() if folder is None else _imported(folder, build)
        except ImportError as error:
            rows.append(LeftOut(what, f"its code needs {error.name}"))
            continue
        rows.append(_row(what, "pytorch-metric-learning" if code is None else "the published step", pair, 2))
    return rows


def _imported(folder: Any, build: Callable[[], Pair]) -> Pair:
    with importable(folder):
        return build()


def _row(what: str, other: str, pair: Pair, wanted: float) -> Row:
    pair.theirs()
    mine, peers = side_by_side(pair.ours, pair.theirs, REPEATS)
    rates = [pair.images / statistics.median(seconds) for seconds in (mine, peers)]
    memory, limit = "", ""
    if "precision" not in what and other == "the plain loop":
        megabytes = [apart(memory_of, side) for side in ("ours", "theirs")]
        memory = f"{megabytes[0]:.0f} and {megabytes[1]:.0f} MiB"
        necessary = 3 * forward_flops(iresnet18(), ArcFace(512, CLASSES), 112) / _product_rate()
        limit = f"{1 / necessary:.3g} images/s: {rates[0] * necessary:.0%}"
    return Row(
        *(f"{what}, {pair.images} images", other, rates[0], rates[1], "images/s", ratios(mine, peers), wanted),
        *(memory, limit),
    )


def _processor() -> str:
    """What Linux lists of the processors; empty elsewhere."""
    file = Path("/proc/cpuinfo")
    return file.read_text() if file.is_file() else ""


def memory_of(side: str) -> float:
    """MiB above what a process with the networks and their optimiser's state holds, of one more step."""
    torch.set_num_threads(1)
    step = getattr(plain_pair(), side)
    step()
    before = start_peak()
    step()
    return peak() - before


def _product_rate() -> float:
    """FLOP a processor second of a large float32 product, by the faster of torch's two libraries."""
    left, right = torch.randn(2048, 2048), torch.randn(2048, 2048)
    spent = []
    for _ in range(4):
        for product in (torch.mm, _by_onednn):
            start = time.process_time()
            product(left, right)
            spent.append(time.process_time() - start)
    return 2 * 2048**3 / min(spent)


def _by_onednn(left: Tensor, right: Tensor) -> Tensor:
    """left right^T by the library of torch's convolutions, which is the faster one on AMD."""
    return nn.functional.linear(left.to_mkldnn(), right.to_mkldnn()).to_dense()


def plain_pair(precision: str | None = None) -> Pair:
    """The step of an ordinary margin head, ours and as one writes it."""
    images, label = published.drawn(BATCH, (112, 112), CLASSES)
    torch.manual_seed(0)
    method = SphereFaceR(iresnet18(), ArcFace(512, CLASSES), published.SEEN, Views("image"))
    optimizer = torch.optim.SGD(method.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    ours = published.step_of(method, {"image": images}, label, optimizer, True, precision)
    torch.manual_seed(0)
    network = nn.ModuleDict({"backbone": iresnet18()}).train()
    network.register_parameter("weight", nn.Parameter(0.01 * torch.randn(CLASSES, 512)))
    plain = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    pixels = published.floats(images)

    def theirs() -> None:
        weight = network.weight
        assert isinstance(weight, Tensor)
        usual(network["backbone"](pixels), weight, label).backward()  # type: ignore[no-untyped-call]
        clip_grad_norm_(network.parameters(), 5.0)
        plain.step()
        plain.zero_grad()

    return Pair(ours, theirs, BATCH)


if __name__ == "__main__":
    from benchmarks.measure import table

    print(table(main()))
