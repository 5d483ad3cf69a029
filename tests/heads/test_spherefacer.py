"""SphereFace-R against golden values of OpenSphere's classes (float64), the closed-form gradients, and its
properties."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Literal

import pytest
import torch
from torch import Tensor

from kdface.heads import Head, HeadOutput, NormFace, SphereFaceR

Evaluate = Callable[[Head], tuple[HeadOutput, Tensor, Tensor]]
Form = Literal["v0", "v1", "v2"]
FORMS: tuple[Form, ...] = ("v0", "v1", "v2")

# form, feature_norm, scale, margin, loss weight, loss, gradient with respect to x1 and x2
GOLDEN: list[tuple[Form, Literal["none", "hard", "soft"], float, float, float, float, list[list[float]]]] = [
    (
        "v0",
        "hard",
        4,
        1.5,
        4,
        5.187609231,
        [[0.2597608, 0.3219835, -0.4518639], [0.0282464, -0.0671367, -0.0503525]],
    ),
    (
        "v1",
        "hard",
        4,
        1.5,
        4,
        5.155370137,
        [[0.2597608, 0.3219835, -0.4518639], [0.0282452, -0.0671338, -0.0503504]],
    ),
    (
        "v2",
        "hard",
        4,
        1.5,
        4,
        4.222637880,
        [[0.2503529, 0.3166753, -0.4418517], [0.0938987, -0.0780453, -0.0585339]],
    ),
    (
        "v0",
        "none",
        4,
        1.5,
        1,
        5.818203512,
        [[0.2695430, 0.4014963, -0.1787033], [0.0176738, -0.6158106, 0.6511071]],
    ),
    (
        "v1",
        "none",
        4,
        1.5,
        1,
        5.777882836,
        [[0.2695430, 0.4014963, -0.1787033], [0.0176736, -0.6109665, 0.6446499]],
    ),
    (
        "v2",
        "none",
        4,
        1.5,
        1,
        4.831993656,
        [[0.2190591, 0.2910107, -0.2654726], [0.0888170, -0.5186517, 0.4993337]],
    ),
    (
        "v0",
        "soft",
        4,
        1.5,
        4,
        5.828203512,
        [[0.2678763, 0.3981630, -0.1820366], [0.0176738, -0.6188106, 0.6551071]],
    ),
    (
        "v2",
        "soft",
        4,
        1.5,
        4,
        4.841993656,
        [[0.2173924, 0.2876773, -0.2688060], [0.0888170, -0.5216517, 0.5033337]],
    ),
    ("v2", "hard", 60, 1.4, 50, 45.2556393953, [[3.98983798, 3.16957072, -5.16448971], [0.0, -0.8, -0.6]]),
]


def assert_close(tensor: Tensor, rows: list[list[float]], atol: float = 1e-7) -> None:
    torch.testing.assert_close(tensor, torch.tensor(rows, dtype=torch.float64), atol=atol, rtol=0.0)


@pytest.mark.parametrize(("form", "feature_norm", "scale", "margin", "weight", "loss", "x_grad"), GOLDEN)
def test_golden(
    evaluate_golden: Evaluate,
    form: Form,
    feature_norm: Literal["none", "hard", "soft"],
    scale: float,
    margin: float,
    weight: float,
    loss: float,
    x_grad: list[list[float]],
) -> None:
    head = SphereFaceR(3, 4, form=form, feature_norm=feature_norm, scale=scale, margin=margin, loss_weight=weight)
    out, gradient, _ = evaluate_golden(head)
    assert out.loss.item() == pytest.approx(loss, abs=1e-9)
    assert_close(gradient, x_grad)


def test_golden_weight_gradient(evaluate_golden: Evaluate) -> None:
    _, _, gradient = evaluate_golden(SphereFaceR(3, 4, scale=4.0, margin=1.5, loss_weight=4.0))
    rows = [
        [0.0923863, 0.0237638, 0.3994511],
        [0.1788363, 1.5556959, -1.2396916],
        [-0.5796907, -1.9873595, -0.0554105],
        [0.308468, 0.4078998, 0.8956511],
    ]
    assert_close(gradient, rows)


@pytest.mark.parametrize(("form", "loss"), [("v0", 61.8523731313), ("v1", 61.4491208838), ("v2", 45.6610038919)])
def test_golden_at_scale_30(evaluate_golden: Evaluate, form: Form, loss: float) -> None:
    out, _, _ = evaluate_golden(SphereFaceR(3, 4, form=form, scale=30.0, margin=1.5))
    assert out.loss.item() == pytest.approx(loss, abs=1e-8)


@pytest.mark.parametrize(
    ("form", "row", "gradient"),
    [
        ("v0", 0, [0.3889191, 0.5803001, -0.7747596]),
        ("v0", 1, [0.0282464, 0.1028907, 0.0771680]),
        ("v1", 1, [0.0282452, 0.1886934, 0.1415200]),
        ("v2", 0, [0.1878275, 0.2854200, -0.3793337]),
    ],
)
def test_golden_without_detachment(evaluate_golden: Evaluate, form: Form, row: int, gradient: list[float]) -> None:
    make = partial(SphereFaceR, 3, 4, form=form, scale=4.0, margin=1.5, loss_weight=4.0)
    out, detached, _ = evaluate_golden(make())
    out_exact, exact, _ = evaluate_golden(make(gradient="exact"))
    assert_close(exact[row : row + 1], [gradient])
    assert out.loss.item() == pytest.approx(float(out_exact.loss), abs=1e-9)
    assert (detached[row] - exact[row]).abs().max() > 1e-2


@pytest.mark.parametrize(
    ("margin", "degrees", "psi_0", "psi_1", "eta_2"),
    [
        (1.4, 60, 0.104528, 0.104528, 0.733052),
        (1.4, 90, -0.587785, -0.587785, 0.433884),
        (1.4, 150, -1.133975, -1, -0.294755),
        (1.5, 45, 0.382683, 0.382683, 0.866025),
        (1.5, 60, 0, 0, 0.766044),
        (1.5, 135, -1.076120, -1, 0),
        (1.5, 165, -1.617317, -1, -0.342020),
        (1.5, 180, -2, -1, -0.5),
        (1.7, 90, -0.891007, -0.891007, 0.602635),
        (1.7, 120, -1.086455, -1, 0.332355),
        (1.7, 180, -2.587785, -1, -0.273663),
        (4, 15, 0.5, 0.5, 0.997859),
        (4, 60, -1.5, -1, 0.965926),
        (4, 90, -3, -1, 0.923880),
        (4, 120, -4.5, -1, 0.866025),
        (4, 180, -7, -1, 0.707107),
    ],
)
def test_angular_functions(margin: float, degrees: float, psi_0: float, psi_1: float, eta_2: float) -> None:
    cosine = torch.tensor([[math.cos(math.radians(degrees))]], dtype=torch.float64)
    v0, v1, v2 = (SphereFaceR(3, 4, form=form, margin=margin) for form in FORMS)
    for value, expected in ((v0.psi(cosine), psi_0), (v1.psi(cosine), psi_1), (v2.eta(cosine), eta_2)):
        assert value is not None and value.item() == pytest.approx(expected, abs=5.1e-7)
    assert v0.eta(cosine) is None and v1.eta(cosine) is None and v2.psi(cosine) is None


@pytest.mark.parametrize(
    ("form", "margin", "slopes"),
    [
        ("v0", 1.5, [2.2499, 2.1213, 1.7321, 1.0607, 0, 2.1213, 85.92]),
        ("v1", 1.5, [2.2499, 2.1213, 1.7321, 1.0607, 0, 0, 0]),
        ("v2", 1.5, [0.4445, 0.4560, 0.4948, 0.5774, 0.7581, 1.3131, 33.30]),
        ("v0", 4.0, [15.988, 6.928, 4.0, 0, 4.0, 6.928, 15.988]),
    ],
)
def test_slopes_without_detachment(form: Form, margin: float, slopes: list[float]) -> None:
    head = SphereFaceR(3, 4, form=form, margin=margin, gradient="exact")
    for degrees, slope in zip((1, 30, 60, 90, 120, 150, 179), slopes, strict=True):
        if form != "v2" and degrees == 120 and margin == 1.5:
            continue  # the kink at theta = pi / m: the slope depends on the side of a rounding error
        cosine = torch.tensor([[math.cos(math.radians(degrees))]], dtype=torch.float64, requires_grad=True)
        value = head.eta(cosine) if form == "v2" else head.psi(cosine)
        assert value is not None
        (gradient,) = torch.autograd.grad(value, cosine)
        assert gradient.item() == pytest.approx(slope, abs=0.006 if slope > 30 else 6e-4)


def closed_form(
    x: Tensor, w: Tensor, y: Tensor, form: Form, margin: float, scale: float | None, weight: float
) -> tuple[float, Tensor]:
    """Loss and d loss / d x of the detached heads, term by term; scale None: rho is the norm of x."""
    loss, gradient = 0.0, torch.zeros_like(x)
    for i in range(len(x)):
        norm = math.sqrt(float(x[i] @ x[i]))
        direction = x[i] / norm
        rho = norm if scale is None else scale
        cosine = [float(direction @ row) for row in w]
        f = []
        for j, c in enumerate(cosine):
            theta = math.acos(c)
            if form == "v2":
                f.append(c if j == y[i] else math.cos(theta / margin))
            elif j != y[i]:
                f.append(c)
            elif form == "v1":
                f.append(math.cos(min(margin * theta, math.pi)))
            else:
                k = math.floor(margin * theta / math.pi)
                f.append((-1) ** k * math.cos(margin * theta) - 2 * k)
        total = sum(math.exp(rho * v) for v in f)
        loss += weight * (math.log(total) - rho * f[int(y[i])]) / len(x)
        for j, row in enumerate(w):
            g = (math.exp(rho * f[j]) / total - float(j == y[i])) / len(x)
            if scale is None:
                gradient[i] += weight * g * (row + (f[j] - cosine[j]) * direction)
            else:
                gradient[i] += weight * g * scale / norm * (row - cosine[j] * direction)
    return loss, gradient


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("feature_norm", ["none", "hard"])
def test_closed_form_gradients(form: Form, feature_norm: Literal["none", "hard"]) -> None:
    draw = torch.Generator().manual_seed(5)
    head = SphereFaceR(6, 5, form=form, feature_norm=feature_norm, scale=8.0, margin=2.3, loss_weight=3.0)
    head.double()
    x = torch.randn(12, 6, generator=draw, dtype=torch.float64, requires_grad=True)
    y = torch.randint(5, (12,), generator=draw)
    out = head(x, y)
    (gradient,) = torch.autograd.grad(out.loss, x)
    scale, weight = (8.0, 3.0 / 8.0) if feature_norm == "hard" else (None, 3.0)
    loss, expected = closed_form(x.detach(), head.weight.detach(), y, form, 2.3, scale, weight)
    assert out.loss.item() == pytest.approx(loss, rel=1e-12)
    torch.testing.assert_close(gradient, expected, atol=1e-12, rtol=0.0)
    if feature_norm == "hard":  # a hard norm leaves nothing to gain along x
        assert (gradient * x.detach()).sum(1).abs().max() < 1e-12


@pytest.mark.parametrize("form", FORMS)
def test_exact_is_the_true_gradient(form: Form) -> None:
    draw = torch.Generator().manual_seed(6)
    head = SphereFaceR(4, 5, form=form, feature_norm="soft", scale=2.0, margin=1.7, gradient="exact").double()
    x = torch.randn(6, 4, generator=draw, dtype=torch.float64, requires_grad=True)
    y = torch.randint(5, (6,), generator=draw)
    assert torch.autograd.gradcheck(lambda v: head(v, y).loss, x)


def test_v0_and_v1_are_one_where_the_target_is_within_pi_over_m(evaluate_golden: Evaluate) -> None:
    draw = torch.Generator().manual_seed(7)
    v0, v1 = (SphereFaceR(6, 5, form=form, margin=1.7).double() for form in ("v0", "v1"))
    v1.load_state_dict(v0.state_dict())
    y = torch.arange(5)
    noise = torch.randn(5, 6, generator=draw, dtype=torch.float64)
    near = (v0.weight.detach() / v0.weight.detach().norm(dim=1, keepdim=True) + 0.3 * noise).requires_grad_()
    a, b = v0(near, y), v1(near, y)
    assert torch.rad2deg(torch.acos(a.cosine.diagonal())).max() < 180 / 1.7
    assert torch.equal(torch.autograd.grad(a.loss, near)[0], torch.autograd.grad(b.loss, near)[0])
    # and beyond they are not: the golden batch has a target at 126.9 degrees
    at, bt = (evaluate_golden(SphereFaceR(3, 4, form=form, margin=1.5)) for form in ("v0", "v1"))
    assert float(at[0].loss) > float(bt[0].loss) + 0.1


def test_margin_one_is_normface(evaluate_golden: Evaluate) -> None:
    out, x_grad, w_grad = evaluate_golden(NormFace(3, 4, scale=8.0))
    for form in FORMS:
        head = SphereFaceR(3, 4, form=form, scale=8.0, margin=1.0, loss_weight=8.0)
        same, same_x_grad, same_w_grad = evaluate_golden(head)
        torch.testing.assert_close(same.logits, out.logits, atol=1e-12, rtol=0.0)
        torch.testing.assert_close(same_x_grad, x_grad, atol=1e-12, rtol=0.0)
        torch.testing.assert_close(same_w_grad, w_grad, atol=1e-12, rtol=0.0)


@pytest.mark.parametrize(("penalty", "mean"), [("l1", 2.0), ("squared", 5.0)])
def test_soft_is_none_plus_the_penalty(
    evaluate_golden: Evaluate, penalty: Literal["l1", "squared"], mean: float
) -> None:
    # The norms are 3 and 5, so with s = 2 the distances are 1 and 3.
    make = partial(SphereFaceR, 3, 4, margin=1.5, scale=2.0, penalty=penalty, penalty_weight=0.1)
    soft = make(feature_norm="soft", loss_weight=4.0)
    out, _, _ = evaluate_golden(soft)
    none, _, _ = evaluate_golden(make(feature_norm="none", loss_weight=2.0))
    assert (out.loss - none.loss).item() == pytest.approx(0.1 * mean, abs=1e-12)
    assert soft.loss_scale == 2.0


@pytest.mark.parametrize(
    ("feature_norm", "scale", "loss_scale"),
    # OpenSphere: NFN lw = 1; HFN's one configuration s = 60, lw = 50; SFN's class s = 30, lw = 50
    [("none", None, 1.0), ("hard", 60.0, 50 / 60), ("soft", 30.0, 50 / 30)],
)
def test_each_regime_starts_with_its_published_loss_scale(
    feature_norm: Literal["none", "hard", "soft"], scale: float | None, loss_scale: float
) -> None:
    head = SphereFaceR(8, 5, feature_norm=feature_norm)
    assert head.loss_scale == pytest.approx(loss_scale, rel=1e-12)
    assert head.scale == (scale if feature_norm == "hard" else None)
    if scale is not None:
        assert head.target_norm == scale
    given = SphereFaceR(8, 5, feature_norm=feature_norm, scale=20.0, loss_weight=5.0)
    assert given.loss_scale == (5.0 if feature_norm == "none" else 0.25)


@pytest.mark.parametrize(
    ("build", "name"),
    [
        (lambda: SphereFaceR(8, 5, margin=0.99), "margin"),
        (lambda: SphereFaceR(8, 5, scale=0), "scale"),
        (lambda: SphereFaceR(8, 5, form="v3"), "form"),  # type: ignore[arg-type]
        (lambda: SphereFaceR(8, 5, feature_norm="firm"), "feature_norm"),  # type: ignore[arg-type]
        (lambda: SphereFaceR(8, 5, penalty="l2"), "penalty"),  # type: ignore[arg-type]
        (lambda: SphereFaceR(8, 5, penalty_weight=-1), "penalty_weight"),
        (lambda: SphereFaceR(8, 5, loss_weight=0), "loss_weight"),
        (lambda: SphereFaceR(8, 5, margin_steps=(-1,)), "margin_steps"),
    ],
)
def test_impossible_parameters(build: Callable[[], Head], name: str) -> None:
    with pytest.raises(ValueError, match=name):
        build()
