"""What holds for every head: shapes, precision, poles, zero embeddings, projected weights, compilation."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize, softmax

from kdface.heads import (
    CRFIQA,
    ArcFace,
    Classifier,
    CosFace,
    ElasticFaceArc,
    GASoftmax,
    Head,
    HeadOutput,
    MagFace,
    MarginSoftmax,
    NormFace,
    PartialFC,
    Softmax,
    SphereFace,
    SphereFace2,
    SphereFace2017,
    SphereFaceR,
)
from kdface.heads.frame import angle, polar, straight_through

MakeHead = Callable[[int, int], Head]


def batch(n: int, size: int, num_classes: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return 3.0 * torch.randn(n, size, generator=draw), torch.randint(num_classes, (n,), generator=draw)


def seeded(make_head: MakeHead, size: int, num_classes: int, seed: int = 0) -> Head:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return make_head(size, num_classes)


def outcome(
    head: Callable[[Tensor, Tensor], HeadOutput], weight: Tensor, x: Tensor, y: Tensor, autocast: bool = False
) -> tuple[Tensor, ...]:
    """Loss, logits and gradients, the draws of margins seeded. Backward runs outside autocast, as in
    training loops."""
    x = x.clone().requires_grad_()
    with torch.random.fork_rng(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        torch.manual_seed(7)
        out = head(x, y)
    return out.loss.detach(), out.logits.detach(), *torch.autograd.grad(out.loss, [x, weight])


def test_straight_through_has_the_value_of_one_and_the_gradient_of_the_other() -> None:
    value = torch.tensor([0.1, 1e30, -7.0], requires_grad=True)
    source = torch.tensor([3.0, 1e-8, 1e9], requires_grad=True)
    out = straight_through(value, source)
    assert torch.equal(out, value)
    to_value, to_source = torch.autograd.grad(
        (out * torch.tensor([1.0, 2.0, 3.0])).sum(), [value, source], allow_unused=True
    )
    assert to_value is None and to_source.tolist() == [1.0, 2.0, 3.0]


def test_angle_is_acos_with_a_finite_derivative() -> None:
    degrees = [0.0, 0.1, 1.0, 37.0, 90.0, 150.0, 179.0, 180.0]
    cosine = torch.tensor([math.cos(math.radians(d)) for d in degrees], dtype=torch.float64).requires_grad_()
    theta = angle(cosine)
    assert theta.tolist() == pytest.approx([math.radians(d) for d in degrees], abs=1e-12)
    (slope,) = torch.autograd.grad(theta.sum(), cosine)
    expected = [-1.0 / max(math.sin(math.radians(d)), 4.47e-3) for d in degrees]
    assert slope.tolist() == pytest.approx(expected, rel=1e-9)
    # Rounding can push a cosine past 1.
    assert angle(torch.tensor([1.0 + 1e-6, -1.0 - 1e-6])).tolist() == pytest.approx([0.0, math.pi], abs=1e-6)


def test_polar() -> None:
    norm, direction = polar(torch.tensor([[3.0, 4.0], [0.0, 0.0], [1e-12, 0.0]]))
    assert norm.tolist() == [[5.0], [0.0], [pytest.approx(1e-12)]]
    assert direction.tolist() == [[pytest.approx(0.6), pytest.approx(0.8)], [0.0, 0.0], [0.0, 0.0]]


def test_output(make_head: MakeHead) -> None:
    head = seeded(make_head, 8, 5)
    x, y = batch(6, 8, 5)
    out = head(x, y)
    assert out.loss.shape == () and torch.isfinite(out.loss)
    assert out.logits.shape == (6, 5) and out.cosine.shape == (6, 5)
    assert not out.cosine.requires_grad
    centers = head.weight.detach().view(5, -1, 8)
    naive = [
        [max(float(a @ b) / math.sqrt(float(a @ a) * float(b @ b)) for b in center) for center in centers] for a in x
    ]
    torch.testing.assert_close(out.cosine, torch.tensor(naive), atol=1e-6, rtol=0.0)


def test_an_output_takes_its_fields_by_position_and_by_name() -> None:
    loss, logits, cosine = torch.rand(()), torch.rand(2, 3), torch.rand(2, 3)
    for out in (HeadOutput(loss, logits, cosine), HeadOutput(loss=loss, kept=logits, cosine=cosine)):
        assert isinstance(out._replace(sampled=True), HeadOutput)
        assert out._replace(cosine=logits).cosine is logits and out._asdict()["cosine"] is out.cosine is cosine


@pytest.mark.parametrize(
    ("make_head_of", "scale"),
    [
        (Softmax, None),
        (CosFace, 64.0),
        (SphereFace2017, "norm"),
        (MagFace, 64.0),
        (CRFIQA, 64.0),
        (partial(SphereFaceR, scale=20.0), 20.0),
    ],
    ids=lambda made: getattr(made, "__name__", ""),
)
def test_logits_have_no_margin(make_head_of: MakeHead, scale: float | str | None) -> None:
    """By loops over classes, in eval mode, where the weights may be off the sphere."""
    head = seeded(make_head_of, 8, 5).eval()
    with torch.no_grad():
        head.weight.mul_(1.5)
        if scale is None:
            nn.init.normal_(head.bias)  # type: ignore[arg-type]
    x, _ = batch(6, 8, 5)
    assert isinstance(head, Classifier)
    found = softmax(head.logits(x), 1)
    for row, probabilities in zip(x.tolist(), found.tolist(), strict=True):
        length = math.sqrt(sum(value * value for value in row))
        logits = []
        for place, weight in enumerate(head.weight.tolist()):
            product = sum(a * b for a, b in zip(row, weight, strict=True))
            cosine = product / length / math.sqrt(sum(value * value for value in weight))
            factor = length if scale == "norm" else scale
            logits.append(product + head.bias[place].item() if scale is None else factor * cosine)  # type: ignore
        total = sum(math.exp(logit - max(logits)) for logit in logits)
        assert probabilities == pytest.approx([math.exp(logit - max(logits)) / total for logit in logits], abs=1e-5)


@pytest.mark.parametrize(
    "make_head_of",
    [
        partial(ArcFace, margin=0.0),
        partial(CosFace, margin=0.0),
        partial(GASoftmax, margin=1.0),
        partial(SphereFace, margin=1.0),
        *(partial(SphereFaceR, form=form, margin=1.0, feature_norm="none") for form in ("v0", "v1", "v2")),
        partial(ElasticFaceArc, margin=0.0, sigma=0.0),
    ],
)
def test_without_a_margin_its_logits_are_those_of_the_loss(make_head_of: MakeHead) -> None:
    head = seeded(make_head_of, 8, 5).eval()
    x, y = batch(6, 8, 5)
    assert isinstance(head, Classifier)
    torch.testing.assert_close(head.logits(x), head(x, y).logits, atol=1e-5, rtol=1e-6)


def test_binary_classifiers_and_samples_of_classes_are_no_classifiers() -> None:
    assert not isinstance(SphereFace2(8, 5), Classifier)
    assert not isinstance(PartialFC(CosFace(8, 5)), Classifier)


def test_loss_is_loss_scale_times_cross_entropy_of_the_logits() -> None:
    x, y = batch(6, 8, 5)
    for head, scale in (
        (Softmax(8, 5), 1.0),
        (ArcFace(8, 5), 1.0),
        (SphereFaceR(8, 5), 50.0 / 60.0),
        (SphereFaceR(8, 5, feature_norm="none", loss_weight=2.0), 2.0),
        (ElasticFaceArc(8, 5), 1.0),
    ):
        assert head.loss_scale == pytest.approx(scale, rel=1e-12)
        out = head(x, y)
        torch.testing.assert_close(out.loss, scale * cross_entropy(out.logits, y))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_finite_at_the_poles(make_head: MakeHead, dtype: torch.dtype) -> None:
    head = seeded(make_head, 8, 5).to(dtype)
    weight = head.weight.detach()
    # cos = 1 and cos = -1 with the target and with another class
    x = torch.cat([weight[:2], -weight[:2], weight[:2], -weight[:2]]) * 4.0
    y = torch.tensor([0, 1, 0, 1, 2, 3, 2, 3])
    for tensor in outcome(head, head.weight, x, y):
        assert torch.isfinite(tensor).all()


def test_gradient_is_bounded_at_the_target_pole() -> None:
    """|d logit / d x| = s |psi'| sin / (|x| max(sin, floor)) <= s m / |x|: finite is not enough, it must
    be small."""
    for m in (1.5, 4.0):
        head = SphereFaceR(4, 3, form="v0", margin=m, scale=30.0, gradient="exact").double()
        for tilt in (0.0, 1e-9, 1e-5, 1e-3):
            x = head.weight.detach()[:1] + tilt * torch.tensor([[1.0, -1.0, 2.0, 0.5]], dtype=torch.float64)
            x.requires_grad_()
            (gradient,) = torch.autograd.grad(head(x, torch.tensor([0])).logits[0, 0], x)
            assert gradient.norm() <= 1.01 * 30.0 * m / x.detach().norm()


def test_zero_embedding_gives_a_finite_loss_and_no_gradient(make_head: MakeHead) -> None:
    head = seeded(make_head, 8, 5)
    x, y = batch(6, 8, 5)
    x[2] = 0.0
    loss, logits, x_grad, w_grad = outcome(head, head.weight, x, y)
    assert all(torch.isfinite(t).all() for t in (loss, logits, x_grad, w_grad))
    assert torch.equal(head(x, y).cosine[2], torch.zeros(5))
    if not isinstance(head, Softmax | CRFIQA):  # these also look at the embedding itself, not at its direction
        assert torch.equal(x_grad[2], torch.zeros(8))
        assert x_grad[1].norm() > 0


def test_embeddings_without_a_direction_are_counted(make_head: MakeHead) -> None:
    head = seeded(make_head, 8, 5)
    x, y = batch(6, 8, 5)
    assert int(head(x, y).metrics(y)["zero_embeddings"]) == 0
    x[2], x[4] = 0.0, 1e-9 / math.sqrt(8)
    assert int(head(x, y).metrics(y)["zero_embeddings"]) == 2


def test_autocast_does_not_reach_the_head(make_head: MakeHead) -> None:
    head = seeded(make_head, 32, 10)
    x, y = batch(12, 32, 10)
    half = x.to(torch.bfloat16)  # what a backbone hands over under autocast
    state = copy.deepcopy(head.state_dict())
    expected = outcome(head, head.weight, half.float(), y)
    head.load_state_dict(state)
    got = outcome(head, head.weight, half, y, autocast=True)
    assert got[1].dtype == torch.float32 and got[2].dtype == torch.bfloat16
    assert torch.equal(got[0], expected[0]) and torch.equal(got[1], expected[1])
    assert torch.equal(got[2], expected[2].to(torch.bfloat16)) and torch.equal(got[3], expected[3])


def test_a_bfloat16_embedding_costs_no_more_than_its_own_rounding() -> None:
    # Each component is off by at most 2^-8 of itself (8 significant bits), so the direction by at most
    # 2^-8 in length,
    # and renormalising can double that: |delta logit| <= s 2^-7.
    head = NormFace(32, 10, scale=30.0)
    x, y = batch(64, 32, 10)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = head(x.to(torch.bfloat16), y).logits
    gap = (half - head(x, y).logits).abs().max()
    assert 0.0 < gap <= 30.0 * 2.0**-7


def test_float64_is_kept(make_head: MakeHead) -> None:
    head = seeded(make_head, 8, 5)
    x, y = batch(6, 8, 5)
    assert head(x.double(), y).logits.dtype == torch.float64
    assert head.double()(x, y).loss.dtype == torch.float64


def test_training_projects_the_weights_in_place_and_eval_leaves_them(make_head: MakeHead) -> None:
    head = seeded(make_head, 8, 5)
    x, y = batch(6, 8, 5)
    with torch.no_grad():
        head.weight.mul_(3.0)
    before = head.weight.detach().clone()
    address = head.weight.data_ptr()

    head.eval()
    in_eval = head(x, y)
    assert torch.equal(head.weight, before)

    head.train()
    head(x, y)
    assert head.weight.data_ptr() == address
    if head.projected and not isinstance(head, Softmax):
        torch.testing.assert_close(head.weight.detach(), normalize(before))
    else:
        assert torch.equal(head.weight, before)

    if not isinstance(head, Softmax):  # the norm of the stored weights never shows
        with torch.no_grad():
            head.weight.mul_(0.2)
        torch.testing.assert_close(head.eval()(x, y).cosine, in_eval.cosine)


def test_training_equals_the_published_projected_sgd() -> None:
    """The loop of OpenSphere by hand: w <- w / |w| in place, gradient with respect to that w, then
    momentum SGD."""
    s, m, lr, momentum, decay = 30.0, 0.5, 0.1, 0.9, 5e-4
    head = ArcFace(6, 4, scale=s, margin=m).double()
    w = head.weight.detach().clone()
    velocity = torch.zeros_like(w)
    optimizer = torch.optim.SGD(head.parameters(), lr=lr, momentum=momentum, weight_decay=decay)
    for step in range(4):
        x, y = batch(5, 6, 4, seed=step)
        x = x.double()
        optimizer.zero_grad()
        head(x, y).loss.backward()
        optimizer.step()

        w = w / w.norm(dim=1, keepdim=True)
        direction = x / x.norm(dim=1, keepdim=True)
        logits = torch.zeros(5, 4, dtype=torch.float64)
        for i in range(5):
            for j in range(4):
                c = float(direction[i] @ w[j])
                logits[i, j] = s * (math.cos(min(math.acos(c) + m, math.pi)) if j == y[i] else c)
        p = logits.softmax(1)
        p[torch.arange(5), y] -= 1.0
        gradient = s * p.T @ direction / 5.0
        velocity = momentum * velocity + gradient + decay * w
        w = w - lr * velocity
    torch.testing.assert_close(head.weight.detach(), w, atol=1e-12, rtol=0.0)


def test_unprojected_weights_are_differentiated_through_the_norm() -> None:
    head = ElasticFaceArc(6, 4).double().eval()
    x, y = batch(5, 6, 4)
    (gradient,) = torch.autograd.grad(head(x.double(), y).loss, head.weight)
    radial = (gradient * head.weight).sum(1)
    assert radial.abs().max() < 1e-9 * gradient.norm() and gradient.norm() > 0


def test_two_passes_before_one_backward(make_head: MakeHead) -> None:
    """Two views of a batch through one head: the in-place projection must not break the first pass'
    graph."""
    head = seeded(make_head, 8, 5)
    x, y = batch(6, 8, 5)
    (head(x, y).loss + head(2.0 * x, y).loss).backward()
    assert head.weight.grad is not None and torch.isfinite(head.weight.grad).all()


def test_gradient_rules_share_the_value_and_detached_has_unit_slope() -> None:
    draw = torch.Generator().manual_seed(3)

    class Cubed(MarginSoftmax):
        def psi(self, cosine: Tensor) -> Tensor:
            return cosine**3

        def eta(self, cosine: Tensor) -> Tensor:
            return cosine**5

    heads = [Cubed(4, 3, scale=2.0, gradient=rule).double() for rule in ("detached", "exact")]
    heads[1].load_state_dict(heads[0].state_dict())
    x = torch.randn(1, 4, generator=draw, dtype=torch.float64)
    y = torch.tensor([1])
    outs = [head(x, y) for head in heads]
    assert torch.equal(outs[0].logits, outs[1].logits) and torch.equal(outs[0].loss, outs[1].loss)
    cosine = outs[0].cosine[0]
    assert outs[0].logits[0].tolist() == pytest.approx(
        [2 * float(cosine[0]) ** 5, 2 * float(cosine[1]) ** 3, 2 * float(cosine[2]) ** 5], rel=1e-12
    )
    # d logit_j / d w_j = rho * slope * direction
    direction = x / x.norm()
    for out, head, slopes in (
        (outs[0], heads[0], [1.0, 1.0, 1.0]),
        (
            outs[1],
            heads[1],
            [5 * float(cosine[0]) ** 4, 3 * float(cosine[1]) ** 2, 5 * float(cosine[2]) ** 4],
        ),
    ):
        for j, slope in enumerate(slopes):
            (gradient,) = torch.autograd.grad(out.logits[0, j], head.weight, retain_graph=True)
            torch.testing.assert_close(gradient[j], 2.0 * slope * direction[0])


@pytest.mark.parametrize(
    "name",
    ["sphereface_plus", "sphereface2017", "spherefacer_v2_exact", "elasticface_arc_plus", "adaface", "curricularface"],
)
def test_compiled_and_eager_agree(heads: dict[str, MakeHead], name: str) -> None:
    torch._dynamo.reset()
    eager = seeded(heads[name], 8, 5)
    compiled = copy.deepcopy(eager)
    run = torch.compile(compiled, backend="aot_eager", fullgraph=True)
    x, y = batch(6, 8, 5)
    for _ in range(2):  # the second pass sees the projected weights and the next iteration
        expected = outcome(eager, eager.weight, x, y)
        for a, b in zip(outcome(run, compiled.weight, x, y), expected, strict=True):
            torch.testing.assert_close(a, b)
    for a, b in zip(compiled.state_dict().values(), eager.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b)


def test_state_round_trip(make_head: MakeHead) -> None:
    head = seeded(make_head, 8, 5)
    other = seeded(make_head, 8, 5, seed=1)
    x, y = batch(6, 8, 5)
    head(x, y)
    other.load_state_dict(head.state_dict())
    assert all(
        torch.equal(a, b)
        for a, b in zip(outcome(head, head.weight, x, y), outcome(other, other.weight, x, y), strict=True)
    )


@pytest.mark.parametrize(
    ("shape", "label", "message"),
    [
        ((4, 7), torch.zeros(4, dtype=torch.int64), r"embeddings have shape \(4, 7\), expected \(N, 8\)"),
        ((4, 8, 1), torch.zeros(4, dtype=torch.int64), r"expected \(N, 8\)"),
        ((0, 8), torch.zeros(0, dtype=torch.int64), "with N > 0"),
        ((4, 8), torch.zeros(3, dtype=torch.int64), r"labels have shape \(3,\)"),
        ((4, 8), torch.zeros(4, dtype=torch.int32), r"type torch.int32, expected \(4,\) and torch.int64"),
    ],
)
def test_input_that_does_not_fit(shape: tuple[int, ...], label: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NormFace(8, 5)(torch.zeros(shape), label)


def test_label_outside_the_classes() -> None:
    with pytest.raises((IndexError, RuntimeError), match="out of bounds"):
        NormFace(8, 5)(torch.ones(2, 8), torch.tensor([0, 5]))


@pytest.mark.parametrize(("size", "num_classes", "name"), [(0, 5, "embedding_size"), (8, 1, "num_classes")])
def test_sizes_are_checked(make_head: MakeHead, size: int, num_classes: int, name: str) -> None:
    with pytest.raises(ValueError, match=name):
        make_head(size, num_classes)


def test_parameters_are_trainable_and_named(make_head: MakeHead) -> None:
    head = seeded(make_head, 8, 5)
    assert isinstance(head.weight, nn.Parameter) and head.weight.shape[1] == 8
    assert head.num_classes == 5 and len(head.weight) == 5 * getattr(head, "centers", 1)
    assert {name for name, _ in head.named_parameters()} <= {"weight", "bias", "regressor.weight", "regressor.bias"}
