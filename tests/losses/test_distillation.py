"""Distillation losses against loops over images, and their gradients where formulas divide by zero."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - its usual name

from kdface.losses.distillation import cosine_consistency, embedding_mse, tempered_kl
from kdface.losses.feature_maps import FitNetsHint, VariationalInformation, attention_transfer, same_extent
from kdface.losses.relational import probabilistic_transfer, rkd_angle, rkd_distance, similarity_preserving

Loss = Callable[[Tensor, Tensor], Tensor]


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def softened(row: list[float], temperature: float) -> list[float]:
    top = max(row)
    powers = [math.exp((value - top) / temperature) for value in row]
    return [power / sum(powers) for power in powers]


def huber(x: float, y: float) -> float:
    gap = abs(x - y)
    return gap * gap / 2 if gap < 1 else gap - 0.5


def distance(x: list[float], y: list[float]) -> float:
    return math.sqrt(sum((a - b) ** 2 for a, b in zip(x, y, strict=True)))


def cosine(x: list[float], y: list[float]) -> float:
    dot = sum(a * b for a, b in zip(x, y, strict=True))
    return dot / (distance(x, [0.0] * len(x)) * distance(y, [0.0] * len(y)))


# Predictions


@pytest.mark.parametrize("temperature", [1.0, 2.5, 4.0])
def test_tempered_kl_is_the_sum_over_classes_and_the_mean_over_the_batch(temperature: float) -> None:
    student, teacher = 3 * draw(4, 7), 3 * draw(4, 7, seed=1)
    slow = 0.0
    for learned, wanted in zip(student.tolist(), teacher.tolist(), strict=True):
        p, q = softened(learned, temperature), softened(wanted, temperature)
        slow += sum(b * (math.log(b) - math.log(a)) for a, b in zip(p, q, strict=True))
    assert float(tempered_kl(student, teacher, temperature)) == pytest.approx(temperature**2 * slow / 4, rel=1e-12)


def test_tempered_kl_of_two_classes_in_closed_form() -> None:
    """Teacher (3/4, 1/4), student (1/2, 1/2) at temperature 2: 4 (log 2 - H(3/4))."""
    teacher = torch.tensor([[2 * math.log(3), 0.0]], dtype=torch.float64)
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    found = tempered_kl(torch.zeros(1, 2, dtype=torch.float64), teacher, 2.0)
    assert float(found) == pytest.approx(4 * (math.log(2) - entropy), rel=1e-12)


def test_gradient_of_tempered_kl() -> None:
    """t (p_s - p_t) / N in the student's logits; the teacher's logits have a gradient too."""
    student, teacher = draw(5, 6).requires_grad_(), draw(5, 6, seed=1).requires_grad_()
    tempered_kl(student, teacher, 2.5).backward()  # type: ignore[no-untyped-call]
    assert student.grad is not None and teacher.grad is not None
    for row in range(5):
        p = softened(student[row].tolist(), 2.5)
        q = softened(teacher[row].tolist(), 2.5)
        wanted = [2.5 * (a - b) / 5 for a, b in zip(p, q, strict=True)]
        assert student.grad[row].tolist() == pytest.approx(wanted, abs=1e-14)
    assert float(teacher.grad.abs().max()) > 0


def test_label_smoothing_identity_of_ckd() -> None:
    """CE + t^2 KL(q || p^t) = (1 + t) H(w, p) + t^2 log sum_c p_c^(1/t) - t^2 H(q), where w = (y + t q) / (1 + t)."""
    t = 2.5
    logits, other, label = draw(1, 9), draw(1, 9, seed=2), torch.tensor([4])
    q, p = softened(other[0].tolist(), t), softened(logits[0].tolist(), 1.0)
    smooth = [((c == 4) + t * q[c]) / (1 + t) for c in range(9)]
    cross = -sum(a * math.log(b) for a, b in zip(smooth, p, strict=True))
    sparsity = t * t * math.log(sum(probability ** (1 / t) for probability in p))
    entropy = -sum(probability * math.log(probability) for probability in q)
    found = F.cross_entropy(logits, label) + tempered_kl(logits, other, t)
    assert float(found) == pytest.approx((1 + t) * cross + sparsity - t * t * entropy, rel=1e-12)


def test_half_precision_is_raised_and_extreme_logits_stay_finite() -> None:
    student, teacher = draw(4, 8), draw(4, 8, seed=1)
    found = tempered_kl(student.half(), teacher.half(), 2.0)
    assert found.dtype == torch.float32
    assert float(found) == pytest.approx(float(tempered_kl(student, teacher, 2.0)), rel=1e-2)
    far = torch.tensor([[1e4, -1e4]], requires_grad=True)
    value = tempered_kl(far, -far.detach(), 1.0)
    value.backward()  # type: ignore[no-untyped-call]
    assert float(value.detach()) == pytest.approx(2e4)
    assert far.grad is not None and far.grad.isfinite().all()


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan])
def test_a_temperature_that_is_none(temperature: float) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        tempered_kl(draw(2, 3), draw(2, 3), temperature)


# Embeddings


def test_embedding_losses_against_loops() -> None:
    student, teacher = draw(6, 10), 5 * draw(6, 10, seed=1)
    squares, cosines = 0.0, []
    for s, t in zip(student.tolist(), teacher.tolist(), strict=True):
        ns, nt = distance(s, [0.0] * 10), distance(t, [0.0] * 10)
        squares += sum((a / ns - b / nt) ** 2 for a, b in zip(s, t, strict=True))
        cosines.append(1 - cosine(s, t))
    assert float(embedding_mse(student, teacher)) == pytest.approx(squares / 60, rel=1e-12)
    assert float(cosine_consistency(student, teacher)) == pytest.approx(sum(cosines) / 6, rel=1e-12)
    assert float(embedding_mse(student, teacher)) == pytest.approx(2 / 10 * sum(cosines) / 6, rel=1e-12)


def test_range_of_the_embedding_losses() -> None:
    """Opposite embeddings: 4 / D and 2. A small angle a: 1 - cos a = a^2 / 2, where the cosine would round to 1."""
    points = draw(3, 512).float()
    assert float(embedding_mse(points, -2 * points)) == pytest.approx(4 / 512, rel=1e-6)
    assert float(cosine_consistency(points, -2 * points)) == pytest.approx(2, rel=1e-6)
    assert float(cosine_consistency(points, 3 * points)) == pytest.approx(0, abs=1e-12)
    near = cosine_consistency(torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 1e-4]]))
    assert float(near) == pytest.approx(0.5e-8, rel=1e-3)


# Relations


def slow_rkd_distance(student: Tensor, teacher: Tensor) -> float:
    rows = [student.tolist(), teacher.tolist()]
    n = len(rows[0])
    pairs = [(i, j) for i in range(n) for j in range(n) if i != j]
    means = [sum(distance(row[i], row[j]) for i, j in pairs) / len(pairs) for row in rows]
    apart = [
        huber(distance(rows[0][i], rows[0][j]) / means[0], distance(rows[1][i], rows[1][j]) / means[1])
        for i, j in pairs
    ]
    return sum(apart) / len(apart)


def slow_rkd_angle(student: Tensor, teacher: Tensor) -> float:
    apart = []
    n = len(student)
    for i in range(n):
        for j in range(n):
            for k in range(n):
                if len({i, j, k}) == 3:
                    cosines = [cosine((x[i] - x[j]).tolist(), (x[k] - x[j]).tolist()) for x in (student, teacher)]
                    apart.append(huber(*cosines))
    return sum(apart) / len(apart)


def slow_similarity_preserving(student: Tensor, teacher: Tensor) -> float:
    rows = [maps.flatten(1).tolist() for maps in (student, teacher)]
    n = len(rows[0])
    total = 0.0
    for i in range(n):
        grams = [[sum(a * b for a, b in zip(x[i], x[j], strict=True)) for j in range(n)] for x in rows]
        units = [[product / distance(gram, [0.0] * n) for product in gram] for gram in grams]
        total += distance(*units) ** 2
    return total / n**2


def slow_probabilistic_transfer(student: Tensor, teacher: Tensor) -> float:
    rows = [student.tolist(), teacher.tolist()]
    n = len(rows[0])
    total = 0.0
    for i in range(n):
        others = [j for j in range(n) if j != i]
        near = [[(cosine(x[i], x[j]) + 1) / 2 for j in others] for x in rows]
        p, q = ([value / sum(row) for value in row] for row in near)
        total += sum(b * math.log(b / a) for a, b in zip(p, q, strict=True))
    return total / n


RELATIONS: list[tuple[Loss, Callable[[Tensor, Tensor], float]]] = [
    (rkd_distance, slow_rkd_distance),
    (rkd_angle, slow_rkd_angle),
    (similarity_preserving, slow_similarity_preserving),
    (probabilistic_transfer, slow_probabilistic_transfer),
]


@pytest.mark.parametrize(("loss", "slow"), RELATIONS)
def test_relations_against_loops(loss: Loss, slow: Callable[[Tensor, Tensor], float]) -> None:
    """Embeddings of different sizes; one far point makes Huber's linear part count."""
    student, teacher = draw(6, 5), draw(6, 9, seed=1)
    teacher[0] *= 30
    wanted = slow(student, teacher)
    assert wanted > 1e-3
    assert float(loss(student, teacher)) == pytest.approx(wanted, rel=1e-9)


def test_similarity_preserving_of_feature_maps() -> None:
    student, teacher = draw(4, 2, 3, 3), draw(4, 5, 2, 2, seed=1)
    wanted = slow_similarity_preserving(student, teacher)
    assert float(similarity_preserving(student, teacher)) == pytest.approx(wanted, rel=1e-9)


def test_what_relations_do_not_see() -> None:
    """Distances and angles: a similarity transform. The others: the embeddings' scale and rotation."""
    points = draw(7, 4)
    turn, _ = torch.linalg.qr(draw(4, 4, seed=3))
    moved = 3 * points @ turn
    for loss, _ in RELATIONS:
        assert float(loss(moved, points)) == pytest.approx(0, abs=1e-12)
    for loss in (rkd_distance, rkd_angle):
        assert float(loss(moved + 5, points)) == pytest.approx(0, abs=1e-12)
    assert float(probabilistic_transfer(moved + 5, points)) > 1e-3


EVERY: list[Loss] = [
    lambda s, t: tempered_kl(s, t, 2.5),
    embedding_mse,
    cosine_consistency,
    attention_transfer,
    *(loss for loss, _ in RELATIONS),
]


@pytest.mark.parametrize("loss", EVERY)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("case", ["student is teacher", "two equal", "all equal", "opposite", "all zero"])
def test_gradients_are_finite_where_formulas_divide_by_zero(loss: Loss, dtype: torch.dtype, case: str) -> None:
    teacher = draw(5, 6).to(dtype)
    start = draw(5, 6, seed=1).to(dtype)
    if case == "student is teacher":
        start = teacher.clone()
    elif case == "two equal":
        start[1] = start[0]
        teacher[3] = teacher[2]
    elif case == "all equal":
        start = start[:1].repeat(5, 1)
    elif case == "opposite":
        start = start[:1] * torch.tensor([[1.0], [-1.0], [2.0], [-2.0], [1.0]], dtype=dtype)
    else:
        start = torch.zeros_like(start)
    student = start.requires_grad_()
    value = loss(student, teacher)
    value.backward()  # type: ignore[no-untyped-call]
    value = value.detach()
    assert value.isfinite() and student.grad is not None and student.grad.isfinite().all()
    assert float(student.grad.abs().max()) < 1e3  # no 1e12 of a guarded division
    if case == "student is teacher":
        assert float(value) == pytest.approx(0, abs=1e-6)
        assert student.grad.abs().max() < 1e-6


@pytest.mark.parametrize("loss", EVERY)
def test_gradients_against_differences(loss: Loss) -> None:
    student, teacher = draw(4, 3).requires_grad_(), draw(4, 3, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(loss, (student, teacher))


@pytest.mark.parametrize("loss", EVERY)
def test_autocast_and_half_precision_do_not_touch_the_losses(loss: Loss) -> None:
    student, teacher = draw(6, 16).bfloat16(), draw(6, 16, seed=1).bfloat16()
    wanted = loss(student.double(), teacher.double())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = loss(student, teacher)
    assert found.dtype == torch.float32
    assert float(found) == pytest.approx(float(wanted), rel=1e-5)


@pytest.mark.parametrize("loss", EVERY)
def test_other_batches_are_refused(loss: Loss) -> None:
    with pytest.raises(ValueError, match=r"must (both )?be"):
        loss(draw(4, 3), draw(5, 3))


def test_too_few_images_are_refused() -> None:
    for loss, count in ((rkd_distance, 1), (probabilistic_transfer, 1), (rkd_angle, 2)):
        with pytest.raises(ValueError, match=f"{count} images"):
            loss(draw(count, 3), draw(count, 3))


# Feature maps


def test_attention_transfer_against_a_loop() -> None:
    student, teacher = draw(2, 3, 4, 5), draw(2, 6, 4, 5, seed=1)
    for p in (1.0, 2.0, 3.0):
        total = 0.0
        for n in range(2):
            maps = []
            for side in (student, teacher):
                flat = [
                    sum(abs(float(side[n, c, y, x])) ** p for c in range(side.shape[1]))
                    for y in range(4)
                    for x in range(5)
                ]
                norm = math.sqrt(sum(value * value for value in flat))
                maps.append([value / norm for value in flat])
            total += distance(*maps) ** 2
        assert float(attention_transfer(student, teacher, p)) == pytest.approx(total / (2 * 4 * 5), rel=1e-12)


def test_maps_of_different_sizes_meet_at_the_smaller_one() -> None:
    """8x8 beside 4x16: blocks of 2x1 of the one, of 1x2 of the other, are averaged to 4x8."""
    student, teacher = draw(2, 3, 8, 8), draw(2, 3, 4, 16, seed=1)
    one, other = same_extent(student, teacher)
    assert one.shape == other.shape == (2, 3, 4, 8)
    assert torch.allclose(one[:, :, 1, 2], (student[:, :, 2, 2] + student[:, :, 3, 2]) / 2)
    assert torch.allclose(other[:, :, 1, 2], (teacher[:, :, 1, 4] + teacher[:, :, 1, 5]) / 2)
    with pytest.raises(ValueError, match="feature maps"):
        same_extent(draw(2, 3, 4), draw(2, 3, 4))


def test_fitnets_hint_against_a_loop() -> None:
    hint = FitNetsHint(2, 3).double()
    student, teacher = draw(2, 2, 2, 2), draw(2, 3, 2, 2, seed=1)
    assert hint.regressor.bias is not None
    weight, bias = hint.regressor.weight[:, :, 0, 0].detach(), hint.regressor.bias.detach()
    squares = [
        (float(teacher[n, c, y, x]) - sum(float(weight[c, d] * student[n, d, y, x]) for d in range(2)) - float(bias[c]))
        ** 2
        for n in range(2)
        for c in range(3)
        for y in range(2)
        for x in range(2)
    ]
    assert float(hint(student, teacher)) == pytest.approx(sum(squares) / len(squares), rel=1e-12)


def test_variational_information_against_the_normal_density() -> None:
    """Its value is the mean of -log N(t; m(s), v_c), less log(2 pi) / 2."""
    torch.manual_seed(0)
    vid = VariationalInformation(2, 3, initial_variance=2.0).double()
    assert vid.variance.tolist() == pytest.approx([2.0] * 3, rel=1e-6)
    with torch.no_grad():
        vid.scale.copy_(torch.tensor([-2.0, 0.5, 3.0]))
    student, teacher = draw(2, 2, 2, 2), draw(2, 3, 2, 2, seed=1)
    mean = vid.regressor(student)
    total = 0.0
    for n in range(2):
        for c, scale in enumerate((-2.0, 0.5, 3.0)):
            variance = math.log(1 + math.exp(scale)) + 1e-5
            for y in range(2):
                for x in range(2):
                    gap = float(teacher[n, c, y, x] - mean[n, c, y, x])
                    density = math.exp(-gap * gap / (2 * variance)) / math.sqrt(2 * math.pi * variance)
                    total += -math.log(density) - math.log(2 * math.pi) / 2
    assert float(vid(student, teacher)) == pytest.approx(total / 24, rel=1e-6)


def test_variational_information_is_least_at_the_mean_square() -> None:
    """Where the regressor cannot help (a student of zeros), the best variance of a channel is its mean square d.

    The gradient in a_c is (1 - d_c / v_c) / v_c sigmoid(a_c) / (2 C).
    """
    torch.manual_seed(0)
    vid = VariationalInformation(1, 2)
    teacher = draw(400, 2, seed=5).float() * torch.tensor([0.3, 2.0])
    student = torch.zeros(400, 1)
    squares = teacher.square().mean(0).tolist()
    for scales in ((-1.0, 0.7), tuple(math.log(math.expm1(square - 1e-5)) for square in squares)):
        with torch.no_grad():
            vid.scale.copy_(torch.tensor(scales))
        vid.zero_grad()
        vid(student, teacher).backward()
        assert vid.scale.grad is not None
        variances = [math.log1p(math.exp(scale)) + 1e-5 for scale in scales]
        wanted = [(1 - d / v) / v / (1 + math.exp(-a)) / 4 for a, v, d in zip(scales, variances, squares, strict=True)]
        assert vid.scale.grad.tolist() == pytest.approx(wanted, rel=1e-4, abs=1e-6)
    assert wanted == pytest.approx([0, 0], abs=1e-6)


@pytest.mark.parametrize("module", [FitNetsHint(4, 6), VariationalInformation(4, 6)])
def test_hints_train_student_and_regressor_in_full_precision(module: torch.nn.Module) -> None:
    student = draw(3, 4, 2, 2).float().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = module(student, draw(3, 6, 1, 2, seed=1).float())
    assert value.dtype == torch.float32
    value.backward()
    assert student.grad is not None and float(student.grad.abs().max()) > 0
    for parameter in module.parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all()
