"""The steps of MaskInv, CKD, AI-KD and FaceNet beside ours: same networks, same batch.

Of the published code its networks, heads and, where they are functions, its loops run (`helper.loops.train_distill` of
periocular_CKD, `train_and_validate` of AI-KD), on a processor: what they send to a GPU stays. MaskInv's loop is part of
its program and is written here as it computes. FaceNet has no official code; its peer is pytorch-metric-learning.

MaskInv's teacher and student are iResNet-18, AI-KD's iResNet-50, of which it trains the last hundred parameters as
published; FaceNet's batch is the paper's 1,800, on a small network.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss, normalize
from torch.nn.utils import clip_grad_norm_

from kdface.backbones import ckd_resnet18, iresnet18, iresnet50, iresnet_nano
from kdface.datasets.loading import Batch
from kdface.faces import Preprocessing
from kdface.hardware import forward_context, profile_for
from kdface.heads import ElasticFaceArc, Softmax
from kdface.losses import SemiHard
from kdface.methods import AIKD, CKD, FaceNet, MaskInv
from kdface.methods.aikd import BackboneGroup
from kdface.methods.base import Method
from kdface.methods.networks import Views
from kdface.teachers import Teacher

SEEN = Preprocessing("arcface", (112, 112), "rgb", 127.5, 127.5)
Step = Callable[[], Any]


class Pair(NamedTuple):
    """A step of ours and theirs, and how many images both see."""

    ours: Step
    theirs: Step
    images: int


def drawn(count: int, size: tuple[int, int], classes: int) -> tuple[Tensor, Tensor]:
    """(N, H, W, 3) uint8 and labels."""
    draw = torch.Generator().manual_seed(0)
    images = torch.randint(256, (count, *size, 3), generator=draw, dtype=torch.uint8)
    return images, torch.randint(classes, (count,), generator=draw)


def floats(images: Tensor) -> Tensor:
    """(N, H, W, 3) uint8 -> (N, 3, H, W) as published code normalises."""
    return images.permute(0, 3, 1, 2).contiguous().float().sub(127.5).div(127.5)


def step_of(
    method: Method, views: dict[str, Tensor], label: Tensor, optimizer: Any, clipped: bool, precision: str | None = None
) -> Step:
    """A step of ours in the profile of this machine, or in a precision that is asked for."""
    profile = profile_for("auto", precision=precision)
    method.use_memory_format(profile.channels_last)
    method.train()
    batch = Batch(views, label, [str(number) for number in range(len(label))], [])

    def step() -> None:
        with forward_context(profile):
            loss = torch.stack([term.value * term.weight for term in method.terms(batch).values()]).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        if clipped:
            clip_grad_norm_(method.parameters(), 5.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def maskinv() -> Pair:
    """MaskInv with ElasticFace-Arc over 10,000 people."""
    count, classes = 16, 10_000
    images, label = drawn(count, (112, 112), classes)
    torch.manual_seed(0)
    head = ElasticFaceArc(512, classes)
    method = MaskInv(iresnet18(), head, SEEN, Views("masked", "clean"), Teacher(iresnet18(), SEEN))
    settings: dict[str, Any] = {"lr": 0.01, "momentum": 0.9, "weight_decay": 5e-4}
    ours = step_of(
        *(method, {"masked": images, "clean": images}, label, torch.optim.SGD(method.parameters(), **settings), True)
    )
    networks, losses = (importlib.import_module(name) for name in ("backbones.iresnet", "utils.losses"))
    teacher = networks.iresnet18(num_features=512).eval()
    student = networks.iresnet18(num_features=512).train()
    header = losses.ElasticArcFace(512, classes, s=64.0, m=0.5).train()
    optimizers = [torch.optim.SGD(part.parameters(), **settings) for part in (student, header)]
    pixels = floats(images)

    def theirs() -> None:
        with torch.no_grad():
            target = normalize(teacher(pixels))
        embedding = normalize(student(pixels))
        first = nn.CrossEntropyLoss()(header(embedding, label), label)
        second = 100 * mse_loss(embedding, target)
        loss = first + second
        loss.backward()
        clip_grad_norm_(student.parameters(), max_norm=5)
        for optimizer in optimizers:
            optimizer.step()
        for optimizer in optimizers:
            optimizer.zero_grad()
        for logged in (loss, first, second):
            logged.item()

    return Pair(ours, theirs, count)


def ckd() -> Pair:
    """CKD on its batch of 16 pairs, 1,054 people."""
    count, classes = 16, 1054
    sizes = {"teacher": (128, 128), "student": (48, 128)}
    (face, label), (eyes, _) = (drawn(count, size, classes) for size in sizes.values())
    inputs = {role: Preprocessing(size=size) for role, size in sizes.items()}
    settings: dict[str, Any] = {"lr": 0.01, "momentum": 0.9, "weight_decay": 5e-4}
    torch.manual_seed(0)
    method = CKD(
        {role: ckd_resnet18(image_size=size) for role, size in sizes.items()},
        {role: Softmax(512, classes) for role in sizes},
        inputs["student"],
        inputs,
        Views("periocular", "face"),
    )
    optimizer = torch.optim.SGD(method.parameters(), **settings)
    ours = step_of(method, {"face": face, "periocular": eyes}, label, optimizer, False)
    network = importlib.import_module("models.ckdnet").CKDNetwork()
    loop = importlib.import_module("helper.loops").train_distill
    cfg = types.SimpleNamespace(network="CKDNetwork", tau=2.5, face_distill=True, ocular_distill=True)
    loader = [(floats(face), floats(eyes), label, nn.functional.one_hot(label, classes))]
    criteria = nn.CrossEntropyLoss(), nn.KLDivLoss(reduction="batchmean")
    published = torch.optim.SGD(network.parameters(), **settings)

    def theirs() -> None:
        with _on_the_processor():
            loop(1, loader, network, *criteria, published, cfg)

    return Pair(ours, theirs, count)


def aikd() -> Pair:
    """AI-KD with SGD as published: a momentum of 0.1 for the last hundred parameters of the backbone."""
    count = 8
    images, _ = drawn(count, (112, 112), 2)
    torch.manual_seed(0)
    backbone = iresnet50()
    method = AIKD(
        *(backbone, SEEN, Views("perturbed", "aligned"), Teacher(iresnet50(), SEEN)),
        trainable=tuple(name for name, _ in backbone.named_parameters())[-100:],
        backbone_group=BackboneGroup(momentum=0.1, weight_decay=0.0),
    )
    method.labels = {str(number): 0.5 for number in range(count)}
    optimizer = torch.optim.SGD(method.parameter_groups(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    views = {"perturbed": images, "aligned": images}
    ours = step_of(method, views, torch.zeros(count, dtype=torch.int64), optimizer, True)
    sys.modules.setdefault("wandb", types.ModuleType("wandb"))  # which it logs to only if asked
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # names that torch will do without
        loop = importlib.import_module("train_main").train_and_validate
        build, wrapper, grader = (
            getattr(importlib.import_module(f"model.{module}"), name)
            for module, name in (("iresnet", "iresnet50"), ("ai_kd", "WrapperModel"), ("mlp", "MLP"))
        )
    student, teacher = wrapper(build(), grader()), build()
    groups = [
        {"params": student.quality_head.parameters(), "lr": 0.05, "weight_decay": 5e-4, "momentum": 0.9},
        {"params": list(student.feature_extractor.parameters())[-100:], "lr": 0.05, "momentum": 0.1},
    ]
    pixels = floats(images)
    args = types.SimpleNamespace(
        base=types.SimpleNamespace(device="cpu", epochs=1, verbose=0), wandb=types.SimpleNamespace(use=0)
    )
    given: dict[str, Any] = {
        **{"args": args, "epoch": 0, "student_model": student, "teacher_model": teacher},
        **{"train_dataloader": [(pixels, pixels, torch.full((count,), 0.5))], "val_dataloader": []},
        **{"optimizer": torch.optim.SGD(groups), "loss_fn_quality": nn.SmoothL1Loss(beta=0.5)},
        **{"loss_fn_consistency": nn.CosineEmbeddingLoss(), "grad_scaler": None, "wandb_logger": None},
        **{"ema_func": None, "ema_scheduler": None, "ema_model": None, "pretrain_end": 0, "warmup_end": 0},
        **{"best_val_loss": 0.0, "total_steps": 0, "val_every": 2, "scheduler_pretrain": None},
    }

    def theirs() -> None:
        with _on_the_processor():
            loop(**given)

    return Pair(ours, theirs, count)


def facenet() -> Pair:
    """Triplets of 45 people x 40 images; ours takes the hardest semi-hard negative of each pair, theirs all of them."""
    miners, losses, distances = (
        importlib.import_module(f"pytorch_metric_learning.{name}") for name in ("miners", "losses", "distances")
    )
    people, each, size = 45, 40, (64, 64)
    images, _ = drawn(people * each, size, people)
    label = torch.arange(people).repeat_interleave(each)
    settings: dict[str, Any] = {"lr": 0.01, "momentum": 0.9, "weight_decay": 5e-4}
    torch.manual_seed(0)
    method = FaceNet(iresnet_nano(128, image_size=size), None, Preprocessing(size=size), Views("image"), SemiHard())
    ours = step_of(method, {"image": images}, label, torch.optim.SGD(method.parameters(), **settings), False)
    network = iresnet_nano(128, image_size=size).train()
    optimizer = torch.optim.SGD(network.parameters(), **settings)
    distance = distances.LpDistance(power=2)
    miner = miners.TripletMarginMiner(margin=0.2, type_of_triplets="semihard", distance=distance)
    loss = losses.TripletMarginLoss(margin=0.2, distance=distance)
    pixels = floats(images)

    def theirs() -> None:
        embedding = network(pixels)
        loss(embedding, label, miner(embedding, label)).backward()
        optimizer.step()
        optimizer.zero_grad()

    return Pair(ours, theirs, people * each)


# name, the peer's folder (None: a package), and the pair of steps, built while its modules can be imported
STEPS: tuple[tuple[str, str | None, Callable[[], Pair]], ...] = (
    ("MaskInv", "Masked-Face-Recognition-KD", maskinv),
    ("CKD", "periocular_CKD", ckd),
    ("AI-KD", "AI-KD", aikd),
    ("FaceNet", None, facenet),
)


@contextlib.contextmanager
def _on_the_processor() -> Iterator[None]:
    """`.cuda()` leaves a tensor where it is, and nothing is printed."""
    kept = torch.Tensor.cuda
    torch.Tensor.cuda = lambda self, *_, **__: self  # type: ignore[method-assign]
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.Tensor.cuda = kept  # type: ignore[method-assign]
