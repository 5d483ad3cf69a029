"""Distillation of relations within a batch, independent of the two embedding sizes.

These losses depend on which images share a batch: with several GPUs each rank compares only its own images, so the
per-rank batch size is part of the method.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - its usual name

from kdface.losses.numerics import direction, exact, one_batch, products

_LEAST = 1e-12  # minimum mean distance to divide by, so that equal points give 0 instead of NaN
_LEAST_AFFINITY = 1e-7  # of opposite vectors, to avoid log 0


def rkd_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Distance-wise relational distillation: (N, D_s), (N, D_t) -> scalar.

    mean over i != j of huber(d^s_ij / mean d^s, d^t_ij / mean d^t), d_ij = ||x_i - x_j||, means over i != j and Huber's
    threshold 1 (Park, Kim, Lu, Cho, "Relational Knowledge Distillation", CVPR 2019, equations 5 to 8, with weight 25).
    The paper sums over the pairs. Its code averages over all N^2 entries, of which the N on the diagonal are always 0:
    (N - 1) / N of this. Embeddings are not normalised.

    Raises:
        ValueError: fewer than two images, or batch sizes differ.
    """
    count = one_batch(student, teacher, 2)
    student, teacher = exact(student, teacher)
    apart = F.smooth_l1_loss(_relative_distances(student), _relative_distances(teacher), reduction="sum")
    return apart / (count * (count - 1))


def rkd_angle(student: Tensor, teacher: Tensor) -> Tensor:
    """Angle-wise relational distillation: (N, D_s), (N, D_t) -> scalar.

    mean over triplets of different images of huber(cos^s_ijk, cos^t_ijk), the cosine of the angle at j between i and k,
    and Huber's threshold 1 (Park et al. 2019, equations 9 and 10, with weight 50). The paper sums over the triplets.
    Its code averages over all N^3 entries, including degenerate ones, which are equal for student and teacher:
    (N - 1)(N - 2) / N^2 of this. If two points coincide, the cosine is 0 without a gradient.

    Allocates (N, N, D) and (N, N, N) tensors for each network.

    Raises:
        ValueError: fewer than three images, or batch sizes differ.
    """
    count = one_batch(student, teacher, 3)
    student, teacher = exact(student, teacher)
    apart = F.smooth_l1_loss(_angles(student), _angles(teacher), reduction="none")
    triplets = _distinct_triplets(count, apart.device)
    return apart.masked_fill(~triplets, 0).sum() / (count * (count - 1) * (count - 2))


def similarity_preserving(student: Tensor, teacher: Tensor) -> Tensor:
    """Similarity-preserving distillation: (N, ...) twice, each flattened to (N, D) -> scalar.

    ||G_t - G_s||_F^2 / N^2, where G is the (N, N) matrix of dot products with L2-normalised rows (Tung, Mori,
    "Similarity-Preserving Knowledge Distillation", ICCV 2019, equations 1 to 4). Common code does the same.

    Raises:
        ValueError: batch sizes differ.
    """
    count = one_batch(student, teacher, 1)
    student, teacher = exact(student, teacher)
    rows = [direction(products(side.flatten(1))) for side in (student, teacher)]
    return (rows[0] - rows[1]).square().sum() / count**2


def probabilistic_transfer(student: Tensor, teacher: Tensor) -> Tensor:
    """Probabilistic knowledge transfer (PKT): (N, D_s), (N, D_t) -> scalar.

    1 / N sum_i KL(p^t_i || p^s_i), p_i(j) = K_ij / sum_{k != i} K_ik over j != i, K_ij = (cos(x_i, x_j) + 1) / 2
    (Passalis, Tefas, "Learning Deep Representations with Probabilistic Knowledge Transfer", ECCV 2018, equations 1 to
    6). The paper sums over i. The authors' code counts each image as its own neighbour, with K = 1, and averages
    over N^2 entries. K is at least 1e-7, so that opposite vectors stay finite.

    Raises:
        ValueError: fewer than two images, or batch sizes differ.
    """
    one_batch(student, teacher, 2)
    student, teacher = exact(student, teacher)
    return F.kl_div(_log_neighbours(student), _log_neighbours(teacher), reduction="batchmean", log_target=True)


def _relative_distances(points: Tensor) -> Tensor:
    """(N, D) -> (N, N) distances divided by their mean, from differences: the gradient at equal points is 0."""
    distances = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")
    count = len(points)
    return distances / (distances.sum() / (count * (count - 1))).clamp_min(_LEAST)


def _angles(points: Tensor) -> Tensor:
    """(N, D) -> (N, N, N), entry [j, i, k] the cosine of the angle at j between i and k."""
    return products(direction(points[None, :, :] - points[:, None, :]))


def _distinct_triplets(count: int, device: torch.device) -> Tensor:
    """(N, N, N), True if the three indices differ."""
    other = ~torch.eye(count, dtype=torch.bool, device=device)
    return other[:, :, None] & other[:, None, :] & other[None, :, :]


def _log_neighbours(points: Tensor) -> Tensor:
    """(N, D) -> (N, N - 1) log p_i(j), excluding i itself."""
    count = len(points)
    affinity = ((products(direction(points)) + 1) / 2).clamp_min(_LEAST_AFFINITY)
    others = ~torch.eye(count, dtype=torch.bool, device=points.device)
    return affinity[others].view(count, count - 1).log().log_softmax(dim=1)
