"""Distillation losses on feature maps: attention transfer, FitNets' hint, variational information.

Maps are (N, C, H, W); (N, C) vectors are maps of one pixel. If heights or widths differ, the larger is reduced to the
smaller by adaptive average pooling, as in widely used comparison code; the papers only pair equal sizes.
"""

from __future__ import annotations

import math
from typing import Annotated

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - its usual name

from kdface.losses.numerics import direction, exact, one_batch, raised

Channels = Annotated[int, Ge(1)]

_LEAST_VARIANCE = 1e-5


def attention_transfer(student: Tensor, teacher: Tensor, p: Annotated[float, Ge(1)] = 2.0) -> Tensor:
    """Attention transfer: (N, C_s, H, W), (N, C_t, H, W) -> scalar.

    1 / (N H W) sum_n ||Q^s_n / |Q^s_n| - Q^t_n / |Q^t_n| ||^2, Q_n the map sum_c |a_nc|^p as a vector (Zagoruyko,
    Komodakis, "Paying More Attention to Attention", ICLR 2017, equation 2). The paper writes the norm without the
    square, times beta / 2 with beta = 1000 / (N H W); the square and the mean follow the authors' code, as other code
    does. All-zero maps stay zero.

    Raises:
        ValueError: the maps differ in batch size.
    """
    one_batch(student, teacher, 1)
    student, teacher = same_extent(*exact(student, teacher))
    maps = [direction(side.abs().pow(p).sum(dim=1).flatten(1)) for side in (student, teacher)]
    return (maps[0] - maps[1]).square().mean()


class FitNetsHint(nn.Module):
    """FitNets' hint: mean squared difference of the teacher's map and a 1x1 convolution r of the student's.

    1 / (N C H W) sum (t - r(s))^2 (Romero et al., "FitNets: Hints for Thin Deep Nets", ICLR 2015, equation 3). The
    paper uses half the sum over all elements, a regressor kernel that matches the two sizes, and a first training stage
    with this loss alone; other code adds batch normalisation and ReLU to r.

    Args:
        student_channels, teacher_channels: of the two maps.
    """

    def __init__(self, student_channels: Channels, teacher_channels: Channels) -> None:
        super().__init__()
        self.regressor = nn.Conv2d(student_channels, teacher_channels, 1)

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """(N, C_s, H, W), (N, C_t, H, W) -> scalar."""
        one_batch(student, teacher, 1)
        student, teacher = same_extent(student, teacher)
        predicted, wanted = exact(self.regressor(student), teacher)
        return F.mse_loss(predicted, wanted)


class VariationalInformation(nn.Module):
    """Variational information distillation (VID): the teacher's map as a Gaussian around a function of the student's.

    1 / (N C H W) sum [ (t - m(s))^2 / v_c + log v_c ] / 2, the negative log-likelihood without its constant; one
    variance per channel, v_c = log(1 + exp a_c) + 1e-5, and m three 1x1 convolutions with ReLU in between (Ahn et al.,
    "Variational Information Distillation for Knowledge Transfer", CVPR 2019, equations 4 to 6). The paper sums over
    the elements; code takes the mean. As a log density it can be negative.

    Args:
        student_channels, teacher_channels: of the two maps.
        initial_variance: initial v_c; 5 in the authors' code.
    """

    def __init__(
        self, student_channels: Channels, teacher_channels: Channels, initial_variance: Annotated[float, Gt(1e-5)] = 5.0
    ) -> None:
        super().__init__()
        if initial_variance <= _LEAST_VARIANCE:
            raise ValueError(f"initial_variance must be above {_LEAST_VARIANCE}, got {initial_variance}")
        self.regressor = nn.Sequential(
            nn.Conv2d(student_channels, teacher_channels, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(teacher_channels, teacher_channels, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(teacher_channels, teacher_channels, 1, bias=False),
        )
        start = math.log(math.expm1(initial_variance - _LEAST_VARIANCE))
        self.scale = nn.Parameter(torch.full((teacher_channels,), start))

    @property
    def variance(self) -> Tensor:
        """(C,) v_c."""
        return F.softplus(raised(self.scale)) + _LEAST_VARIANCE

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """(N, C_s, H, W), (N, C_t, H, W) -> scalar."""
        one_batch(student, teacher, 1)
        student, teacher = same_extent(student, teacher)
        predicted, wanted = exact(self.regressor(student), teacher)
        variance = self.variance[:, None, None]
        return ((wanted - predicted).square() / variance + variance.log()).mean() / 2


def same_extent(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Both as maps (N, C, H, W) of the smaller height and width; see the module docstring."""
    maps = [side[:, :, None, None] if side.ndim == 2 else side for side in (student, teacher)]
    if any(features.ndim != 4 for features in maps):
        raise ValueError(f"feature maps are (N, C, H, W) or (N, C), got {tuple(student.shape)}, {tuple(teacher.shape)}")
    height, width = (min(features.shape[axis] for features in maps) for axis in (2, 3))
    return _pooled(maps[0], height, width), _pooled(maps[1], height, width)


def _pooled(maps: Tensor, height: int, width: int) -> Tensor:
    return maps if maps.shape[2:] == (height, width) else F.adaptive_avg_pool2d(maps, (height, width))
