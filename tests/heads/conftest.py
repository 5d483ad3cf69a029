"""The batch of the golden values, and one of every head."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

import kdface.heads
from kdface.config.paths import choices, conf_folder
from kdface.heads import (
    CRFIQA,
    ArcFace,
    CombinedMargin,
    CurricularFace,
    ElasticFaceArc,
    ElasticFaceCos,
    GASoftmax,
    Head,
    HeadOutput,
    MagFace,
    Softmax,
    SphereFace,
    SphereFace2,
    SphereFace2017,
    SphereFaceR,
)

MakeHead = Callable[[int, int], Head]


def _choice(name: str) -> MakeHead:
    values: dict[str, Any] = yaml.safe_load((conf_folder() / "head" / f"{name}.yaml").read_text("utf-8"))
    kind = getattr(kdface.heads, values.pop("_target_").rpartition(".")[2])
    return partial(kind, **values)


# every choice of conf/head, and options that take another path through a head
HEADS: dict[str, MakeHead] = {
    **{name: _choice(name) for name in choices("head") if name not in ("none", "partial_fc")},
    "softmax_no_bias": partial(Softmax, bias=False),
    "arcface_exact": partial(ArcFace, gradient="exact"),
    "sphereface_exact": partial(SphereFace, gradient="exact"),
    "sphereface2017_detached": partial(SphereFace2017, gradient="detached"),
    "ga_softmax_detached": partial(GASoftmax, gradient="detached"),
    "spherefacer_v0_none": partial(SphereFaceR, form="v0", feature_norm="none"),
    "spherefacer_v0_exact": partial(SphereFaceR, form="v0", gradient="exact"),
    "spherefacer_v1_soft_steps": partial(SphereFaceR, form="v1", feature_norm="soft", margin_steps=(0, 2)),
    "spherefacer_v2_exact": partial(SphereFaceR, gradient="exact", penalty="squared", feature_norm="soft"),
    "sphereface2_c_exact": partial(SphereFace2, gradient="exact"),
    "sphereface2_a_exact": partial(SphereFace2, margin_type="A", gradient="exact"),
    "sphereface2_m": partial(SphereFace2, margin_type="M", margin=1.7),
    "elasticface_arc_detached": partial(ElasticFaceArc, gradient="detached", monotone=True),
    "elasticface_arc_plus_monotone": partial(ElasticFaceArc, sigma=0.0175, plus_permutation="correct", monotone=True),
    "elasticface_cos_plus_official": partial(ElasticFaceCos, sigma=0.025, plus_permutation="official"),
    "magface_detached": partial(MagFace, gradient="detached"),
    "crfiqa_detached": partial(CRFIQA, gradient="detached"),
    "curricularface_fast": partial(CurricularFace, momentum=1.0),
    "combined_margin_filter": partial(CombinedMargin, m1=0.9, m2=0.4, m3=0.15, interclass_filter=0.5),
}


@pytest.fixture(params=list(HEADS.values()), ids=list(HEADS))
def make_head(request: pytest.FixtureRequest) -> MakeHead:
    made: MakeHead = request.param
    return made


@pytest.fixture
def heads() -> dict[str, MakeHead]:
    return HEADS


@pytest.fixture
def evaluate_golden() -> Callable[[Head], tuple[HeadOutput, Tensor, Tensor]]:
    """(output, d loss / d x, d loss / d w) of a head with D = 3, C = 4 on the batch of the golden values,
    in float64."""

    def evaluate(head: Head) -> tuple[HeadOutput, Tensor, Tensor]:
        head.double()
        with torch.no_grad():
            rows = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 1.0, 1.0]]
            head.weight.copy_(torch.tensor(rows))
        x = torch.tensor([[1.0, 2.0, 2.0], [0.0, -3.0, 4.0]], dtype=torch.float64, requires_grad=True)
        out = head(x, torch.tensor([2, 1]))
        x_grad, w_grad = torch.autograd.grad(out.loss, [x, head.weight])
        return HeadOutput(out.loss.detach(), out.logits.detach(), out.cosine), x_grad, w_grad

    return evaluate
