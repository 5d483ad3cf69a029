"""Gradient magnitudes of the BatchNorm discrepancy: Kolf et al., "GraFIQs" (CVPR Workshops 2024)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from kdface.backbones import Backbone
from kdface.errors import UserError, nearest
from kdface.faces import FaceSet
from kdface.precision import wide
from kdface.teachers.frozen import Teacher
from kdface.teachers.quality.source import Options, batches


@dataclass(frozen=True)
class GraFIQs(Options):
    """Gradient magnitude that would adapt the network to the image. One forward and one backward pass.

    Each of the B BatchNorm2d layers (C channels) compares mean mu and biased variance v of its input over the image
    with its running statistics, here m and s:

        L = 1/B sum over layers of [1/C sum (mu - m)^2 + 1/C sum (v - s)^2]
        q = -sum |d L / d y|,  y the image as the network sees it, or the output of a stage

    A large gradient indicates an unusual image; the released code omits the minus.

    Attributes:
        stage: y is the output of this stage of the backbone (stem, layer1, ...); None: y is the image.

    Raises:
        UserError: the network has no BatchNorm2d, no such stage, or no BatchNorm2d after it.
    """

    needs_network: ClassVar[bool] = True
    stage: str | None = None

    def __call__(self, teacher: Teacher, faces: FaceSet) -> NDArray[np.float64]:
        network = teacher.network
        norms = [
            module for module in network.modules() if isinstance(module, nn.BatchNorm2d) and module.track_running_stats
        ]
        if not norms:
            raise UserError(
                f"GraFIQs needs the running statistics of BatchNorm2d, but {type(network).__name__} has none.",
                fix="use another quality source",
            )
        observed = None if self.stage is None else _end_of(network, self.stage)
        found = np.empty(len(faces))
        for rows, images in batches(teacher, faces, "quality by GraFIQs"):
            pixels = teacher.pixels(images).requires_grad_()
            with torch.enable_grad(), _recorded(norms, observed) as (terms, outputs):
                network(pixels)
                loss = torch.stack(terms).mean(0).sum()  # images are independent in eval mode
                about = pixels if observed is None else outputs[0]
                (slope,) = torch.autograd.grad(loss, about, allow_unused=True)
            if slope is None:
                raise UserError(f"No BatchNorm2d comes after stage {self.stage!r}.", fix="use an earlier stage")
            found[rows] = -wide(slope).abs().flatten(1).sum(1).cpu().numpy()
        return found


@contextmanager
def _recorded(norms: list[nn.BatchNorm2d], observed: nn.Module | None) -> Iterator[tuple[list[Tensor], list[Tensor]]]:
    """Context in which forward passes record each layer's discrepancy (n,) and the output of `observed`."""
    terms: list[Tensor] = []
    outputs: list[Tensor] = []

    def compare(module: nn.BatchNorm2d, args: tuple[Tensor, ...]) -> None:
        assert module.running_mean is not None and module.running_var is not None
        variance, mean = torch.var_mean(args[0], dim=(2, 3), correction=0)
        off = (mean - module.running_mean).square() + (variance - module.running_var).square()
        terms.append(off.mean(1))

    def keep(module: nn.Module, args: Any, output: Tensor) -> None:
        outputs.append(output)

    handles = [norm.register_forward_pre_hook(compare) for norm in norms]
    if observed is not None:
        handles.append(observed.register_forward_hook(keep))
    try:
        yield terms, outputs
    finally:
        for handle in handles:
            handle.remove()


def _end_of(network: nn.Module, stage: str) -> nn.Module:
    """The last part of a stage."""
    stages = dict(network.layout) if isinstance(network, Backbone) else {}
    if stage not in stages:
        raise UserError(
            f"{type(network).__name__} has no stage {stage!r}.",
            expected=f"one of {', '.join(stages)}" if stages else "null, which stands for the image",
            nearest=nearest(stage, stages),
        )
    return network.get_submodule(stages[stage][-1])
