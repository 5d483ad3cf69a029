"""A training step of iResNet-18 at 112 x 112, against the plain loop and against MaskInv's published step.

Forward, backward, clipped gradients, SGD with momentum; float32, one thread. The plain loop is the network and the head
as usually written (`benchmarks.head.usual`) in torch's own layout. Of the published MaskInv its network and its head
are used, from Masked-Face-Recognition-KD below KDFACE_PEERS; teacher and student are both iResNet-18.
"""

from __future__ import annotations

import importlib
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss, normalize
from torch.nn.utils import clip_grad_norm_

from benchmarks.head import usual
from benchmarks.measure import LeftOut, Row, peer, ratios, side_by_side
from kdface.backbones.iresnet import iresnet18
from kdface.datasets.loading import Batch
from kdface.faces import Preprocessing
from kdface.hardware import keep_freed_memory
from kdface.heads import ArcFace, ElasticFaceArc
from kdface.methods import MaskInv, SphereFaceR
from kdface.methods.base import Method
from kdface.methods.networks import Views
from kdface.teachers import Teacher

BATCH, CLASSES, REPEATS = 16, 10_000, 4
SEEN = Preprocessing("arcface", (112, 112), "rgb", 127.5, 127.5)
Step = Callable[[], Any]


def main() -> list[Row | LeftOut]:
    torch.set_num_threads(1)
    keep_freed_memory()  # as a training of kdface does, and for both sides
    rows: list[Row | LeftOut] = [_row("iResNet-18 and ArcFace, 112 x 112", "the plain loop", _arcface(), _plain(), 1.3)]
    folder = peer("Masked-Face-Recognition-KD")
    if folder is None:
        return [*rows, LeftOut("step of MaskInv", "KDFACE_PEERS has no Masked-Face-Recognition-KD")]
    return [*rows, _row("step of MaskInv", "the published step", _maskinv(), _published(folder), 2)]


def _row(what: str, other: str, ours: Step, theirs: Step, wanted: float) -> Row:
    theirs()
    mine, peers = side_by_side(ours, theirs, REPEATS)
    rates = [BATCH / statistics.median(each) for each in (mine, peers)]
    return Row(f"{what}, batch {BATCH}", other, rates[0], rates[1], "images/s", ratios(mine, peers), wanted)


def _images() -> tuple[Tensor, Tensor]:
    """(N, H, W, 3) uint8 and labels."""
    draw = torch.Generator().manual_seed(0)
    return (
        torch.randint(256, (BATCH, 112, 112, 3), generator=draw, dtype=torch.uint8),
        torch.randint(CLASSES, (BATCH,), generator=draw),
    )


def _step_of(method: Method, views: tuple[str, ...]) -> Step:
    images, label = _images()
    method.use_memory_format(True)
    method.train()
    batch = Batch(dict.fromkeys(views, images), label, [str(number) for number in range(BATCH)], [])
    return _stepped(method, lambda: sum(term.value * term.weight for term in method.terms(batch).values()), method)


def _stepped(trained: nn.Module, loss_of: Callable[[], Any], clipped: nn.Module) -> Step:
    optimizer = torch.optim.SGD(trained.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)

    def step() -> None:
        loss = loss_of()
        loss.backward()
        clip_grad_norm_(clipped.parameters(), 5.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def _arcface() -> Step:
    torch.manual_seed(0)
    return _step_of(SphereFaceR(iresnet18(), ArcFace(512, CLASSES), SEEN, Views("image")), ("image",))


def _plain() -> Step:
    torch.manual_seed(0)
    network = nn.ModuleDict({"backbone": iresnet18()}).train()
    weight = nn.Parameter(0.01 * torch.randn(CLASSES, 512))
    network.register_parameter("weight", weight)
    pixels, label = _pixels()
    return _stepped(network, lambda: usual(network["backbone"](pixels), weight, label), network)


def _maskinv() -> Step:
    torch.manual_seed(0)
    teacher = Teacher(iresnet18(), SEEN)
    head = ElasticFaceArc(512, CLASSES)
    return _step_of(MaskInv(iresnet18(), head, SEEN, Views("masked", "clean"), teacher), ("masked", "clean"))


def _published(folder: Path) -> Step:
    sys.path.insert(0, str(folder))
    networks, losses = (importlib.import_module(name) for name in ("backbones.iresnet", "utils.losses"))
    sys.path.remove(str(folder))
    torch.manual_seed(0)
    teacher = networks.iresnet18(num_features=512).eval()
    parts = nn.ModuleDict(
        {"student": networks.iresnet18(num_features=512), "header": losses.ElasticArcFace(512, CLASSES, s=64.0, m=0.5)}
    ).train()
    pixels, label = _pixels()

    def loss() -> Any:
        with torch.no_grad():
            target = normalize(teacher(pixels))
        embedding = normalize(parts["student"](pixels))
        first = nn.CrossEntropyLoss()(parts["header"](embedding, label), label)
        second = 100 * mse_loss(embedding, target)
        for each in (first + second, first, second):  # which it logs
            each.item()
        return first + second

    return _stepped(parts, loss, parts["student"])


def _pixels() -> tuple[Tensor, Tensor]:
    images, label = _images()
    return images.permute(0, 3, 1, 2).contiguous().float().sub(127.5).div(127.5), label


if __name__ == "__main__":
    from benchmarks.measure import table

    print(table(main()))
