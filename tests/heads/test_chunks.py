"""The loss without logits, chunk by chunk, against the one with all of them at once."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import kdface.heads.chunks
import kdface.heads.frame
from kdface.heads import Classifier, CosFace, Head
from kdface.heads.chunks import tally

CLASSES, SIZE, BATCH = 23, 6, 9


@pytest.fixture(autouse=True)
def _many_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kdface.heads.frame, "MANY_CLASSES", 2)
    monkeypatch.setattr(kdface.heads.chunks, "_NUMBERS", 5 * (BATCH + SIZE))  # of five classes, the last one of three


def _batch(size: int = SIZE) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(1)
    x = 3.0 * torch.randn(BATCH, size, generator=draw, dtype=torch.float64)
    x[2] = 0.0  # an embedding without direction
    return x, torch.tensor([0, 4, 5, 22, 20, 7, 7, 4, 13])


@pytest.mark.parametrize("training", [True, False])
def test_loss_and_gradients_are_those_of_the_logits(make_head: Callable[[int, int], Head], training: bool) -> None:
    torch.manual_seed(0)
    head = make_head(SIZE, CLASSES).double().train(training)
    chunked = isinstance(head, Classifier) and type(head).__name__ not in (
        "Softmax",
        "CurricularFace",
        "SubCenterArcFace",
    )
    with torch.no_grad():
        head.weight.mul_(torch.linspace(0.5, 2.0, len(head.weight))[:, None])
    other = copy.deepcopy(head)
    other.keeps_logits = False  # type: ignore[assignment]
    found = []
    for layer in (head, other):
        torch.manual_seed(7)
        x, y = _batch()
        x.requires_grad_()
        for _ in range(2):  # the second pass starts on the sphere, and comes before the first one's gradient is asked
            out = layer(x, y)
        assert (out.kept is None) == (chunked and layer is other) and not out.cosine.requires_grad
        gradients = torch.autograd.grad(3.0 * out.loss, [x, *layer.parameters()])
        found.append((out.loss.detach(), out.cosine, out.accuracy(y), *gradients, *layer.state_dict().values()))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("size", [SIZE, BATCH, 2 * BATCH])  # the weights have no room for the cosines, just, and more
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_without_kept_cosines_nothing_else_changes(
    make_head: Callable[[int, int], Head], size: int, dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    head = make_head(size, CLASSES).to(dtype)
    other = copy.deepcopy(head)
    other.keeps_logits = other.keeps_cosine = False  # type: ignore[assignment]
    found = []
    for layer in (head, other):
        torch.manual_seed(7)
        x, y = _batch(size)
        x = x.to(dtype).requires_grad_()
        out = layer(x, y)
        told = out.metrics(y)
        out.loss.backward()
        found.append((out.loss.detach(), *told.values(), x.grad, *(weight.grad for weight in layer.parameters())))
    tolerance = 1e-12 if dtype == torch.float64 else 2e-4
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, atol=tolerance, rtol=tolerance)


def test_cosines_that_are_not_kept_are_not_there() -> None:
    head = CosFace(2 * BATCH, CLASSES).double()
    head.keeps_logits = head.keeps_cosine = False
    out = head(*_batch(2 * BATCH))
    with pytest.raises(RuntimeError, match="keeps_cosine = True"):
        _ = out.cosine
    out.loss.backward(retain_graph=True)
    assert head.weight.grad is not None
    assert head.weight.grad.untyped_storage().nbytes() == 8 * head.weight.numel()  # no more than the gradient itself
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):  # not a wrong gradient
        out.loss.backward()


@pytest.mark.parametrize(("weights", "embeddings"), [(torch.bfloat16, torch.bfloat16), (torch.float32, torch.float64)])
def test_a_gradient_takes_no_memory_of_cosines_of_another_type(weights: torch.dtype, embeddings: torch.dtype) -> None:
    """Half as many embeddings as numbers in one, of twice the width: the cosines have the weights' bytes."""
    head = CosFace(2 * BATCH, CLASSES).to(weights).eval()
    other = copy.deepcopy(head)
    other.keeps_logits = other.keeps_cosine = False
    x, y = _batch(2 * BATCH)
    gradients = []
    for layer in (head, other):
        out = layer(x.to(embeddings), y)
        gradients.append(torch.autograd.grad(out.loss, layer.weight)[0])
    assert gradients[1].dtype == weights
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("classes", [[1], [6], [1, 6], [22, 7, 6]])  # in the first chunk, and in later ones
def test_a_cosine_that_is_no_number_predicts_its_class(classes: list[int]) -> None:
    head = CosFace(2 * BATCH, CLASSES).double().eval()
    head.keeps_logits = False
    with torch.no_grad():
        head.weight[classes] = torch.nan
    x, y = _batch(2 * BATCH)
    kept = head(x, y)
    head.keeps_cosine = False
    out = head(x, y)
    assert out.predicted is not None and out.predicted.equal(kept.cosine.argmax(1))
    assert out.accuracy(y) == kept.accuracy(y)


def test_it_predicts_no_label_if_no_cosine_is_a_number() -> None:
    head = CosFace(2 * BATCH, CLASSES).double()
    head.keeps_logits = head.keeps_cosine = False
    x, y = _batch(2 * BATCH)
    out = head(torch.full_like(x, torch.nan), y)
    assert out.predicted is not None and not out.predicted.any()  # as argmax has it


@pytest.mark.parametrize(("graded", "numbers"), [(True, 2 * BATCH), (False, BATCH)])
def test_without_a_gradient_cosines_take_no_more_memory(
    graded: bool, numbers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = CosFace(2 * BATCH, CLASSES).double()
    head.keeps_logits = head.keeps_cosine = False
    allocated, empty = [], Tensor.new_empty

    def counted(like: Tensor, number: int) -> Tensor:
        allocated.append(number)
        return empty(like, number)

    monkeypatch.setattr(Tensor, "new_empty", counted)
    with torch.set_grad_enabled(graded):
        head(*_batch(2 * BATCH))
    assert allocated == [CLASSES * numbers]


def test_products_in_float32_against_those_in_float64() -> None:
    left, right = torch.randn(70, 33), torch.randn(50, 33)
    exact = left.double() @ right.double().T
    for a, b in ((left, right), (left.T.contiguous().T, right.T.contiguous().T)):
        torch.testing.assert_close(kdface.heads.chunks._product(a, b).double(), exact, atol=1e-4, rtol=0.0)


def test_its_logits_are_not_there() -> None:
    head = CosFace(SIZE, CLASSES).double()
    head.keeps_logits = False
    with pytest.raises(RuntimeError, match="keeps_logits = True"):
        _ = head(*_batch()).logits


def test_it_is_finite_where_exp_is_not() -> None:
    """Logits of 64,000, own classes among the nearest and the farthest; by hand, in logarithms."""
    head = CosFace(2, 3, scale=64_000.0, margin=0.0)
    head.keeps_logits = False
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]))
    x = torch.tensor([[2.0, 0.0], [2.0, 0.0]], requires_grad=True)
    loss = head(x, torch.tensor([0, 2])).loss
    assert loss.item() == 64_000.0  # the mean of 0 and of 128,000
    loss.backward()
    assert torch.isfinite(x.grad).all() and torch.isfinite(head.weight.grad).all()  # type: ignore[arg-type]


@pytest.mark.parametrize("label", [-1, CLASSES])
def test_a_label_that_is_no_class_is_refused(label: int) -> None:
    x, y = _batch()
    y[0] = label
    with pytest.raises(RuntimeError, match="out of bounds"):
        tally(x, torch.ones(CLASSES, SIZE, dtype=torch.float64), y, 1.0, lambda cosine: cosine, False)
