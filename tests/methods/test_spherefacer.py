"""The loss of a margin-softmax step is the head's, on the view that the student sees."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

from kdface.backbones import iresnet_nano
from kdface.datasets.loading import Batch
from kdface.faces import Preprocessing
from kdface.heads import CosFace
from kdface.methods import SphereFaceR, Views
from kdface.runs.checkpoint import read_checkpoint
from kdface.runs.records import read
from tests.conftest import TINY, Kdface, only_run


def _method(**preprocessing: object) -> SphereFaceR:
    torch.manual_seed(0)
    backbone = iresnet_nano(8, image_size=(32, 32), channels=(8, 8, 8, 8), blocks=(1, 1, 1, 1)).eval()
    values = Preprocessing(size=(32, 32), **preprocessing)  # type: ignore[arg-type]
    return SphereFaceR(backbone, CosFace(8, 3), values, Views(student="image"))


def _batch() -> Batch:
    views = {
        "image": torch.randint(0, 256, (5, 32, 32, 3), dtype=torch.uint8),
        "other": torch.zeros(5, 32, 32, 3, dtype=torch.uint8),
    }
    return Batch(views, torch.tensor([0, 1, 2, 1, 0]), ["a", "b", "c", "d", "e"], [])


def test_the_loss_is_the_heads_on_the_students_view() -> None:
    method, batch = _method(), _batch()
    pixels = (batch.views["image"].permute(0, 3, 1, 2).float() - 127.5) / 127.5
    assert method.head is not None
    expected = method.head(method.backbone(pixels), batch.label).loss
    (term,) = method.terms(batch).values()
    assert term.weight == 1.0
    assert term.value.item() == pytest.approx(expected.item(), rel=1e-6)


def test_preprocessing_is_applied_as_it_says() -> None:
    image = torch.tensor([[[[10, 20, 30]]]], dtype=torch.uint8)
    assert _method().pixels(image).flatten().tolist() == pytest.approx([(v - 127.5) / 127.5 for v in (10, 20, 30)])
    bgr = _method(color="bgr", mean=127.0, std=128.0).pixels(image)
    assert bgr.flatten().tolist() == pytest.approx([(v - 127) / 128 for v in (30, 20, 10)])


def test_the_averaged_copy_is_what_is_embedded_and_is_never_trained() -> None:
    method = _method()
    method.add_average()
    method.train()
    assert method.averaged is not None and not method.averaged.training
    assert all(not parameter.requires_grad for parameter in method.averaged.parameters())
    with torch.no_grad():
        for parameter in method.averaged.parameters():
            parameter.zero_()
    images = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    assert torch.equal(method.embed(images, method.preprocessing), torch.zeros(2, 8))


def test_a_schedule_counts_optimiser_steps_and_the_run_tells_the_loss_scale(
    kdface: Kdface, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    head = ["head.feature_norm=soft", "head.margin_steps=[1]"]
    words = [
        "train",
        *TINY,
        *head,
        "trainer.accumulate_grad_batches=4",
        "trainer.max_steps=3",
        f"paths.runs={tmp_path}/runs",
    ]
    with caplog.at_level(logging.INFO, logger="kdface"):
        said = kdface(*words)
    assert said.code == 0
    begun = (
        "method SphereFaceR, backbone iresnet_nano, head SphereFaceR",
        "toy_faces: 36 images of 6 people; 3 steps of 8 images",
    )
    assert tuple(said.err.splitlines()[1:3]) == begun
    run = only_run(tmp_path / "runs")
    state = read_checkpoint(run / "checkpoints" / "last.ckpt")["state_dict"]
    assert int(state["head.iteration"]) == 3  # and not the 12 parts that the batches were split in
    (told,) = [row for row in read(run / "metrics.jsonl") if row["kind"] == "heads"]
    assert told["loss_scale"] == {"head": pytest.approx(50 / 30)}
    assert "head (SphereFaceR): loss scale 1.667" in caplog.messages
