"""Distillation losses on predictions and embeddings. None of them detaches the teacher; that is up to the caller.

Methods add them to the head's loss as weighted terms. Knowledge distillation (Hinton et al. 2015) is cross-entropy plus
`tempered_kl` of the logits.
"""

from __future__ import annotations

from typing import Annotated

from annotated_types import Gt
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - its usual name

from kdface.losses.numerics import alike, direction, exact

Temperature = Annotated[float, Gt(0)]


def tempered_kl(student: Tensor, teacher: Tensor, temperature: Temperature) -> Tensor:
    """t^2 / N sum_n KL(softmax(teacher_n / t) || softmax(student_n / t)): two (N, C) logits -> scalar.

    The soft-target term of Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015. The gradient
    with respect to the student's logits is t (softmax(student / t) - softmax(teacher / t)) / N; the factor t^2
    compensates for the 1 / t^2 by which it would otherwise shrink. Computed at least in float32.

    PyTorch's `kl_div` divides by N C by default: code that keeps this default is C times weaker.

    Args:
        student, teacher: (N, C) logits. The gradient flows into both; detach the teacher's to stop it.
        temperature: t.

    Raises:
        ValueError: shapes differ, or the temperature is not positive.
    """
    alike(student, teacher)
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, got {temperature}")
    student, teacher = exact(student, teacher)
    learned = F.log_softmax(student / temperature, dim=1)
    wanted = F.log_softmax(teacher / temperature, dim=1)
    return temperature**2 * F.kl_div(learned, wanted, reduction="batchmean", log_target=True)


def embedding_mse(student: Tensor, teacher: Tensor) -> Tensor:
    """1 / (N D) sum_n ||s_n / |s_n| - t_n / |t_n| ||^2 of (N, D) embeddings -> scalar.

    The template-level distillation of MaskInv (Huber et al. 2021). Equals (2 / D) mean(1 - cos), so its range is
    [0, 4 / D] and its strength decreases with the embedding size: retune the weight if D changes.
    """
    return cosine_consistency(student, teacher) * (2 / student.shape[1])


def cosine_consistency(student: Tensor, teacher: Tensor) -> Tensor:
    """1 / N sum_n (1 - cos(s_n, t_n)) of (N, D) embeddings -> scalar in [0, 2].

    The embedding term of AI-KD. Computed as half the squared distance of the unit vectors, which stays exact when the
    cosine rounds to 1. All-zero embeddings stay zero and get a gradient of 0.
    """
    alike(student, teacher)
    student, teacher = exact(student, teacher)
    return (direction(student) - direction(teacher)).square().sum(dim=1).mean() / 2
