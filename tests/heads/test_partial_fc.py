"""Partial FC against the head itself on the whole batch: in one process, and on two ranks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from kdface.assembly.method import build_method
from kdface.config.compose import compose
from kdface.errors import UserError
from kdface.faces import Preprocessing
from kdface.heads import (
    CRFIQA,
    ArcFace,
    CosFace,
    GASoftmax,
    MagFace,
    MarginSoftmax,
    NormFace,
    PartialFC,
    SphereFace,
    SphereFace2017,
    SphereFacePlus,
    SphereFaceR,
)
from kdface.heads.partial_fc import shard_heads
from kdface.runs.checkpoint import require_finite
from tests.forked import on_two_ranks

SIZE, CLASSES, ROWS = 6, 11, (3, 5)  # an odd number of classes, and unequal parts of the batch
HEADS: dict[str, Callable[[], MarginSoftmax]] = {
    "normface": lambda: NormFace(SIZE, CLASSES),
    "cosface": lambda: CosFace(SIZE, CLASSES),
    "arcface": lambda: ArcFace(SIZE, CLASSES),
    "arcface exact": lambda: ArcFace(SIZE, CLASSES, gradient="exact"),
    "sphereface": lambda: SphereFace(SIZE, CLASSES),
    "sphereface2017": lambda: SphereFace2017(SIZE, CLASSES),
    "ga_softmax": lambda: GASoftmax(SIZE, CLASSES),
    "spherefacer": lambda: SphereFaceR(SIZE, CLASSES, margin_steps=(0,)),
    "spherefacer soft": lambda: SphereFaceR(SIZE, CLASSES, form="v1", feature_norm="soft", scale=2.0),
}


def _head(name: str) -> MarginSoftmax:
    torch.manual_seed(5)
    return HEADS[name]().double()


def _batch() -> tuple[Tensor, Tensor]:
    drawn = torch.Generator().manual_seed(9)
    embedding = torch.randn(sum(ROWS), SIZE, generator=drawn, dtype=torch.float64)
    return embedding, torch.tensor([0, 4, 4, 5, 10, 1, 0, 9])


def _plain(name: str) -> dict[str, Any]:
    head, (embedding, label) = _head(name), _batch()
    embedding.requires_grad_()
    out = head(embedding, label)
    to_embedding, to_weight = torch.autograd.grad(out.loss, [embedding, head.weight])
    found = {"loss": out.loss.detach(), "embedding": to_embedding, "weight": to_weight, "after": head.weight.detach()}
    return {**found, "accuracy": out.accuracy(label)}


@pytest.mark.parametrize("name", HEADS)
def test_with_all_classes_it_is_the_head_itself(name: str) -> None:
    expected, head, (embedding, label) = _plain(name), PartialFC(_head(name), 1.0), _batch()
    embedding.requires_grad_()
    out = head(embedding, label)
    to_embedding, to_weight = torch.autograd.grad(out.loss, [embedding, head.weight])
    torch.testing.assert_close(out.loss, expected["loss"], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(to_embedding, expected["embedding"], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(to_weight, expected["weight"], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(head.weight.detach(), expected["after"])
    assert out.accuracy(label) == expected["accuracy"]


def _rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    rows = slice(0, ROWS[0]) if rank == 0 else slice(ROWS[0], None)
    found: dict[str, Any] = {}
    for name in HEADS:
        (head,) = shard_heads(model := torch.nn.ModuleDict({"head": PartialFC(_head(name), 1.0)}), rank, 2)
        assert model._ddp_params_and_buffers_to_ignore == ["head.weight"]
        embedding, label = (tensor[rows] for tensor in _batch())
        embedding.requires_grad_()
        out = head(embedding, label)
        to_embedding, to_weight = torch.autograd.grad(out.loss, [embedding, head.weight])
        found[name] = {
            "loss": out.loss.detach(),
            "embedding": to_embedding,
            "weight": to_weight,
            "accuracy": out.accuracy(label),
            "state": head.state_dict(),
        }
    # Sampled: the ranks come to one loss, and a target is always among what is taken.
    head = PartialFC(_head("cosface"), 0.3)
    head.shard(rank, 2)
    head.generator = torch.Generator().manual_seed(rank)
    embedding, label = (tensor[rows] for tensor in _batch())
    out = head(embedding, label)
    found["sampled"] = {"loss": out.loss.detach(), "logits": out.logits.detach()}
    torch.save(found, f"{folder}/{rank}.pt")
    # From a whole matrix each rank takes its rows.
    whole = _head("cosface").state_dict()["weight"] + 1.0
    head.load_state_dict({"weight": whole})
    torch.testing.assert_close(head.weight.detach(), whole[:5] if rank == 0 else whole[5:])
    with pytest.raises(RuntimeError, match="expected all 11"):
        head.load_state_dict({"weight": whole[:5]})
    torch.distributed.destroy_process_group()


def test_two_ranks_come_to_the_loss_and_gradients_of_the_head_on_the_whole_batch(tmp_path: Path) -> None:
    on_two_ranks(_rank, tmp_path)
    ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    for name in HEADS:
        one, two, expected = ranks[0][name], ranks[1][name], _plain(name)
        torch.testing.assert_close(one["loss"], expected["loss"], rtol=1e-9, atol=1e-12, msg=name)
        assert one["loss"] == two["loss"]
        torch.testing.assert_close(
            torch.cat([one["weight"], two["weight"]]), expected["weight"], rtol=1e-9, atol=1e-12, msg=name
        )
        # Averaging the weights' gradients over the ranks halves what came from the embeddings.
        embedding = torch.cat([one["embedding"], two["embedding"]]) / 2
        torch.testing.assert_close(embedding, expected["embedding"], rtol=1e-9, atol=1e-12, msg=name)
        whole = (ROWS[0] * one["accuracy"] + ROWS[1] * two["accuracy"]) / sum(ROWS)
        torch.testing.assert_close(whole, expected["accuracy"], msg=name)
        torch.testing.assert_close(one["state"]["weight"], expected["after"], msg=name)
    _, label = _batch()
    sampled = [rank["sampled"] for rank in ranks]
    # Rank 0 keeps classes 0-4, three of which are shown; rank 1 keeps 5-10, of which 5, 9 and 10 are.
    assert [rank["logits"].shape for rank in sampled] == [(8, 3), (8, 3)]
    columns = {0: 0, 1: 1, 4: 2, 5: 3, 9: 4, 10: 5}
    logits = torch.cat([rank["logits"] for rank in sampled], dim=1)
    target = torch.tensor([columns[int(person)] for person in label])
    wanted = torch.nn.functional.cross_entropy(logits, target)
    for result in sampled:
        torch.testing.assert_close(result["loss"], wanted)


def test_positives_are_kept_and_negatives_drawn_evenly() -> None:
    head = PartialFC(NormFace(SIZE, 100), 0.2)
    head.generator = torch.Generator().manual_seed(0)
    embedding, label = torch.randn(3, SIZE), torch.tensor([7, 7, 50])
    drawn = torch.zeros(100)
    for _ in range(400):
        before = head.weight.detach().clone()
        head.weight.data.mul_(2.0)  # a step renormalises what it takes, and nothing else
        assert head(embedding, label).logits.shape == (3, 20)
        taken = (head.weight.detach() - 2.0 * before).abs().sum(1) > 1e-6
        drawn += taken
        head.weight.data.copy_(torch.nn.functional.normalize(before))
    assert drawn[7] == drawn[50] == 400
    others = torch.cat([drawn[:7], drawn[8:50], drawn[51:]]) / 400
    # 18 of 98; five standard deviations of a share of 400 draws
    assert (others - 18 / 98).abs().max() < 5 * (18 / 98 * (80 / 98) / 400) ** 0.5
    assert head.eval()(embedding, label).logits.shape == (3, 100)


def test_a_batch_of_more_people_than_the_sample_keeps_them_all() -> None:
    head = PartialFC(NormFace(SIZE, 10), 0.1)
    out = head(torch.randn(4, SIZE), torch.tensor([1, 3, 5, 7]))
    assert out.logits.shape == (4, 4) and torch.isfinite(out.loss)


def test_heads_and_labels_that_cannot_be_sampled_are_told_of() -> None:
    for other in (SphereFacePlus(SIZE, 5), CRFIQA(SIZE, 5), MagFace(SIZE, 5)):
        with pytest.raises(ValueError, match="cannot be sampled"):
            PartialFC(other)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="sample_rate"):
        PartialFC(NormFace(SIZE, 5), 0.0)
    head = PartialFC(NormFace(SIZE, 5))
    with pytest.raises(IndexError, match="5 classes"):
        head(torch.zeros(1, SIZE), torch.tensor([5]))
    with pytest.raises(ValueError, match=r"expected \(N, 6\)"):
        head(torch.zeros(1, SIZE + 1), torch.tensor([0]))


def test_the_configuration_hands_the_classes_to_the_inner_head() -> None:
    words = ["head=partial_fc", "head.sample_rate=0.5", "backbone.channels=[8,8,8,8]", "backbone.embedding_size=8"]
    method = build_method(compose(words).tree, Preprocessing(size=(32, 32)), 9, None)
    assert isinstance(method.head, PartialFC) and isinstance(method.head.head, CosFace)
    assert method.head.weight.shape == (9, 8) and method.head.sample_rate == 0.5


def test_ckd_which_compares_all_logits_refuses_it() -> None:
    words = ["method=ckd", "augmentation=periocular", "backbone=ckd_resnet18", "head=partial_fc"]
    with pytest.raises(UserError, match="CKD compares"):
        build_method(compose(words).tree, Preprocessing(size=(112, 112)), 5, None)


def test_a_checkpoint_is_looked_at_before_ranks_can_communicate(monkeypatch: pytest.MonkeyPatch) -> None:
    module = torch.nn.Linear(1, 1)
    monkeypatch.setattr(module, "state_dict", lambda: pytest.fail("a divided head gathers its weights here"))
    require_finite(module, {"weight": torch.ones(4, 1)}, Path("last.ckpt"))
    with pytest.raises(UserError, match="weight has non-finite values"):
        require_finite(module, {"weight": torch.full((4, 1), torch.nan)}, Path("last.ckpt"))
