"""ElasticFace: the draw, the assignment of the "+" form, and the heads against closed forms."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from kdface.heads import ArcFace, CosFace, ElasticFaceArc, ElasticFaceCos, Head
from kdface.heads.elasticface import reorder_margins


def batch(n: int = 6) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(12)
    return torch.randn(n, 8, generator=draw, dtype=torch.float64), torch.randint(5, (n,), generator=draw)


def column(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)[:, None]


def test_without_spread_they_are_arcface_and_cosface() -> None:
    x, y = batch()
    for elastic, fixed in (
        (ElasticFaceArc(8, 5, sigma=0.0), ArcFace(8, 5)),
        (ElasticFaceCos(8, 5, sigma=0.0), CosFace(8, 5)),
    ):
        elastic.double(), fixed.double()
        fixed.load_state_dict(elastic.state_dict())
        torch.testing.assert_close(elastic(x, y).logits, fixed(x, y).logits, atol=1e-10, rtol=0.0)


@pytest.mark.parametrize("head", [ElasticFaceArc(8, 5), ElasticFaceCos(8, 5)])
def test_margins_are_normal_around_m(head: ElasticFaceArc | ElasticFaceCos) -> None:
    n = 40_000
    head.generator = torch.Generator().manual_seed(13)
    margin = head.draw_margins(torch.zeros(n, 1, dtype=torch.float64))
    assert margin.shape == (n, 1)
    # five standard errors of a mean, of a standard deviation, of a fourth moment
    assert margin.mean().item() == pytest.approx(head.margin, abs=5 * 0.05 / math.sqrt(n))
    assert margin.std().item() == pytest.approx(0.05, abs=5 * 0.05 / math.sqrt(2 * n))
    assert (((margin - head.margin) / 0.05) ** 4).mean().item() == pytest.approx(3.0, abs=5 * math.sqrt(96 / n))


def test_the_margin_reaches_the_target_logit_alone() -> None:
    x, y = batch()
    for head in (ElasticFaceArc(8, 5).double(), ElasticFaceCos(8, 5).double()):
        head.generator = torch.Generator().manual_seed(14)
        out = head(x, y)
        head.generator.manual_seed(14)
        margin = head.draw_margins(torch.zeros(6, 1, dtype=torch.float64)).flatten().tolist()
        assert len(set(margin)) == 6
        for i in range(6):
            for j in range(5):
                c = out.cosine[i, j].item()
                if j == y[i]:
                    c = math.cos(math.acos(c) + margin[i]) if isinstance(head, ElasticFaceArc) else c - margin[i]
                assert out.logits[i, j].item() == pytest.approx(64.0 * c, abs=1e-9)


def test_draws_are_reproducible_and_new_in_each_pass() -> None:
    x, y = batch()
    head = ElasticFaceArc(8, 5)
    with torch.random.fork_rng():
        torch.manual_seed(15)
        first, second = head(x, y).loss, head(x, y).loss
        torch.manual_seed(15)
        again = head(x, y).loss
        assert torch.equal(first, again) and not torch.equal(first, second)
        # a generator of its own is used instead of the default one
        head.generator = torch.Generator().manual_seed(16)
        before = torch.get_rng_state()
        own = head(x, y).loss
        assert torch.equal(torch.get_rng_state(), before)
        head.generator.manual_seed(16)
        assert torch.equal(head(x, y).loss, own)


def test_eval_uses_the_mean_margin() -> None:
    x, y = batch()
    elastic, fixed = ElasticFaceCos(8, 5).double().eval(), CosFace(8, 5).double().eval()
    fixed.load_state_dict(elastic.state_dict())
    torch.testing.assert_close(elastic(x, y).logits, fixed(x, y).logits, atol=1e-10, rtol=0.0)


def test_reorder_by_hand() -> None:
    margin, cosine = column(0.4, 0.5, 0.3), column(0.1, 0.9, 0.5)
    assert reorder_margins(margin, cosine, "correct").flatten().tolist() == [0.5, 0.3, 0.4]
    # released code: sorted margins (0.3, 0.4, 0.5) indexed by the order (1, 2, 0) of falling cosines
    assert reorder_margins(margin, cosine, "official").flatten().tolist() == [0.4, 0.5, 0.3]


def test_correct_is_a_falling_assignment_and_official_is_none() -> None:
    draw = torch.Generator().manual_seed(17)
    found: dict[str, list[float]] = {"correct": [], "official": []}
    for _ in range(100):
        cosine = torch.rand(128, 1, generator=draw, dtype=torch.float64)
        margin = torch.randn(128, 1, generator=draw, dtype=torch.float64)
        for permutation in ("correct", "official"):
            out = reorder_margins(margin, cosine, permutation)
            assert torch.equal(out.sort(dim=0).values, margin.sort(dim=0).values)
            if permutation == "correct":
                assert (out[cosine.flatten().argsort()].diff(dim=0) <= 0).all()
            pair = torch.cat([cosine, out], dim=1).T
            found[permutation].append(torch.corrcoef(pair)[0, 1].item())
    correct, official = (torch.tensor(found[name]) for name in ("correct", "official"))
    # A uniform variable and a normal one in opposite order correlate by -sqrt(3 / pi) = -0.977;
    # independent ones by 0 with a
    # standard deviation of 1 / sqrt(127) = 0.089.
    assert correct.mean().item() == pytest.approx(-math.sqrt(3 / math.pi), abs=0.01)
    assert official.mean().item() == pytest.approx(0.0, abs=5 * 0.089 / 10)
    assert official.std().item() == pytest.approx(0.089, abs=0.03)


def test_plus_gives_the_farthest_sample_the_largest_margin() -> None:
    x, y = batch(32)
    head = ElasticFaceCos(8, 5, sigma=0.025, plus_permutation="correct").double()
    head.generator = torch.Generator().manual_seed(18)
    out = head(x, y)
    cosine = out.cosine.gather(1, y[:, None])
    margin = (cosine - out.logits.detach().gather(1, y[:, None]) / 64.0).flatten()
    assert (margin[cosine.flatten().argsort()].diff() <= 1e-12).all() and margin.std() > 0.01


def test_monotone_fallback() -> None:
    theta = torch.linspace(0.0, math.pi, 2001, dtype=torch.float64)
    cosine = theta.cos()[:, None]
    plain = ElasticFaceArc(8, 5).eval().psi(cosine).flatten()
    falling = ElasticFaceArc(8, 5, monotone=True).eval().psi(cosine).flatten()
    inside = theta < math.pi - 0.5
    torch.testing.assert_close(plain, torch.cos(theta + 0.5), atol=1e-7, rtol=0.0)
    assert torch.equal(plain[inside], falling[inside])
    assert plain.diff().max() > 0 and falling.diff().max() < 1e-12
    assert falling[-1].item() == pytest.approx(-1.0 - 0.5 * math.sin(0.5), abs=1e-12)


@pytest.mark.parametrize("head", [ElasticFaceArc(8, 5), ElasticFaceArc(8, 5, monotone=True), ElasticFaceCos(8, 5)])
def test_true_gradients(head: Head) -> None:
    head.double().eval()  # one margin for both sides of the difference
    x, y = batch(3)
    x = x.requires_grad_()
    assert torch.autograd.gradcheck(lambda v: head(v, y).loss, x)

    def with_weight(weight: Tensor) -> Tensor:
        out = torch.func.functional_call(head, {"weight": weight}, (x.detach(), y))
        loss: Tensor = out.loss
        return loss

    # The published weights are of length 0.01 sqrt(D); at length 1 the differences are well conditioned.
    assert torch.autograd.gradcheck(with_weight, (40.0 * head.weight.detach()).requires_grad_())


def test_weights_start_as_published() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(19)
        weight = ElasticFaceArc(512, 200).weight.detach()
    assert weight.std().item() == pytest.approx(0.01, rel=0.02) and abs(weight.mean().item()) < 1e-4


@pytest.mark.parametrize(
    ("build", "name"),
    [
        (lambda: ElasticFaceArc(8, 5, sigma=-0.1), "sigma"),
        (lambda: ElasticFaceCos(8, 5, margin=-0.1), "margin"),
        (lambda: ElasticFaceArc(8, 5, plus_permutation="random"), "plus_permutation"),  # type: ignore[arg-type]
    ],
)
def test_impossible_parameters(build: Callable[[], Head], name: str) -> None:
    with pytest.raises(ValueError, match=name):
        build()


def test_the_false_minimum_beyond_the_fold() -> None:
    """All classes in one direction and all embeddings in the opposite one: the margin turns the own class's cosine of
    -1 into cos(pi + m) = -cos m, so the loss is log(1 + (C - 1) exp(-s (1 - cos m))), far under log C of a guess."""
    classes, scale, margin = 90, 30.0, 0.3
    label = torch.arange(5)
    losses = {}
    for monotone in (False, True):
        head = ElasticFaceArc(4, classes, scale=scale, margin=margin, sigma=0.0, monotone=monotone).double()
        with torch.no_grad():
            head.weight.copy_(torch.tensor([1.0, 0, 0, 0]).expand(classes, 4))
        output = head(torch.tensor([[-2.0, 0, 0, 0]], dtype=torch.float64).expand(5, 4), label)
        losses[monotone] = output.loss.item()
        assert output.metrics(label)["target_cosine"].item() == pytest.approx(-1.0)
    folded = math.log(1 + (classes - 1) * math.exp(-scale * (1 - math.cos(margin))))
    assert losses[False] == pytest.approx(folded, rel=1e-6) and folded < math.log(classes) - 1
    assert losses[True] == pytest.approx(math.log(1 + (classes - 1) * math.exp(scale * margin * math.sin(margin))))
