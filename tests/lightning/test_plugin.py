"""Each piece plugs into a Trainer that is not kdface's: our module, our data, our callbacks with a foreign module."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping
from torch import nn

from kdface.assembly.assemble import assemble
from kdface.config.compose import compose
from kdface.datasets.loading import Batch
from kdface.errors import UserError
from kdface.evaluation.protocol import datasets_of
from kdface.lightning import FaceData, Health, MarginWarmup, MetricRecords, Resume, WeightAverage
from kdface.runs.records import Records, read
from tests.conftest import TINY


class Foreign(pl.LightningModule):
    """A module that knows nothing of kdface but the batch."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Linear(32 * 32 * 3, 6)

    def _loss(self, batch: Batch) -> torch.Tensor:
        return nn.functional.cross_entropy(self.net(batch.views["image"].flatten(1) / 255), batch.label)

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        loss = self._loss(batch)
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.log("val_norm", self.net.weight.norm(), batch_size=len(batch.label))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.05)


def _trainer(*callbacks: pl.Callback, epochs: int = 1, **more: Any) -> pl.Trainer:
    more = {"enable_checkpointing": False, **more}
    return pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        callbacks=list(callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        log_every_n_steps=1,
        **more,
    )


@pytest.fixture
def data() -> FaceData:
    return assemble(compose([*TINY, "validation=evaluation"]).tree).data


def test_a_method_trains_in_any_trainer_and_logs_the_names_of_results(data: FaceData) -> None:
    job = assemble(compose([*TINY, "validation=evaluation", "trainer.max_epochs=1"]).tree)
    before = {name: value.clone() for name, value in job.method.state_dict().items()}
    trainer = _trainer()
    trainer.fit(job.method, datamodule=job.data)
    assert trainer.global_step == 4
    assert {"train/loss", "toy_pairs/eer", "toy_pairs/accuracy"} <= set(trainer.callback_metrics)
    assert any(not torch.equal(value, before[name]) for name, value in job.method.state_dict().items())
    assert float(trainer.callback_metrics["toy_pairs/eer"]) == pytest.approx(
        job.method.outcomes["toy_pairs"].metrics["eer"].value
    )


def test_the_schedule_ends_where_the_trainer_does() -> None:
    from dataclasses import replace

    job = assemble(compose(TINY).tree)
    job.method.optimize_with(replace(job.method.optimization, total_steps=None, steps_per_epoch=None))
    trainer = _trainer(epochs=3)
    trainer.fit(job.method, datamodule=job.data)
    assert job.method.total_steps == 12 and job.method.steps_per_epoch == 4
    assert trainer.optimizers[0].param_groups[0]["lr"] < 0.01 / 1000  # one cycle has ended


def test_our_callbacks_and_data_with_a_foreign_module(data: FaceData, tmp_path: Path) -> None:
    average = WeightAverage(0.9, "net")
    module = Foreign()
    trainer = _trainer(average, MetricRecords(Records(tmp_path / "metrics.jsonl")), Health(), epochs=2)
    trainer.fit(module, datamodule=data)
    rows = list(read(tmp_path / "metrics.jsonl"))
    assert [row["step"] for row in rows if row["kind"] == "train"] == list(range(1, 9))
    validated = [row for row in rows if row["kind"] == "validation"]
    assert [row["step"] for row in validated] == [4, 8]
    averaged = module.get_submodule("averaged").get_parameter("weight")
    assert validated[-1]["val_norm"] == pytest.approx(float(averaged.norm()), rel=1e-6)  # validated by the average
    assert not torch.equal(averaged, module.net.weight)


def test_a_foreign_module_goes_on_bit_for_bit(data: FaceData, tmp_path: Path) -> None:
    """Stopped in the middle of an epoch by a failure, and resumed by ours."""

    class Fails(pl.Callback):
        def on_train_batch_start(self, trainer: pl.Trainer, *args: Any) -> None:
            if trainer.global_step == 6:
                raise RuntimeError("killed")

    path = tmp_path / "run/checkpoints/last.ckpt"
    job = assemble(compose(TINY).tree)
    straight = Foreign()
    _trainer(epochs=3, limit_val_batches=0).fit(straight, datamodule=job.data)
    with pytest.raises(RuntimeError, match="killed"):
        _trainer(Resume(path, 1), Fails(), epochs=3, limit_val_batches=0, enable_checkpointing=True).fit(
            Foreign(), datamodule=assemble(compose(TINY).tree).data
        )
    resumed = Foreign()
    trainer = _trainer(Resume(path, 1), epochs=3, limit_val_batches=0, enable_checkpointing=True)
    trainer.fit(resumed, datamodule=assemble(compose(TINY).tree).data, ckpt_path=path, weights_only=True)
    assert trainer.global_step == 12
    assert straight.net.weight.detach().numpy().tobytes() == resumed.net.weight.detach().numpy().tobytes()


def test_a_stock_early_stopping_stops_a_method(data: FaceData) -> None:
    job = assemble(compose([*TINY, "validation=evaluation", "trainer.max_epochs=9"]).tree)
    trainer = _trainer(EarlyStopping("toy_pairs/eer", min_delta=1.0, patience=1), epochs=9)
    trainer.fit(job.method, datamodule=job.data)
    assert trainer.current_epoch == 2


@pytest.mark.parametrize("by", ["people", "images"])
def test_what_validates_is_kept_from_training(by: str) -> None:
    words = [*TINY, f"validation={by}", f"validation.{by}.pairs_per_fold=4", f"validation.{by}.dataset.share=0.34"]
    job = assemble(compose(words).tree)
    whole = assemble(compose(TINY).tree).data.training.faces
    (held, _), *_ = datasets_of(job.data.validation)
    training = job.data.training.faces
    assert sorted([*held.keys, *training.keys]) == sorted(whole.keys)
    assert len(held.keys) == 12
    assert set(held.people).isdisjoint(training.people) == (by == "people")
    assert len(job.method.people) == len(training.people) == (4 if by == "people" else 6)
    named = {key: whole.people[label] for key, label in zip(whole.keys, whole.labels, strict=True)}
    for faces in (held, training):
        for index in (0, len(faces) - 1):
            assert faces.people[faces[index].label] == named[faces[index].key]


class _Margins(pl.Callback):
    """Notes the margin that each step is computed with, and stops after a step."""

    def __init__(self, last: int) -> None:
        self.seen: list[float] = []
        self.last = last

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *args: Any) -> None:
        self.seen.append(pl_module.head.margin)
        trainer.should_stop = trainer.global_step == self.last


def test_a_margin_warms_up_and_continues_in_a_resumed_run(tmp_path: Path) -> None:
    words = [*TINY, "head=arcface", "head.margin=0.4"]

    def margins(last: int, resume: str | None = None) -> list[float]:
        job = assemble(compose(words).tree)
        seen = _Margins(last)
        trainer = _trainer(MarginWarmup(5), seen, epochs=2)
        trainer.fit(job.method, datamodule=job.data, ckpt_path=resume)
        trainer.save_checkpoint(tmp_path / f"{last}.ckpt")
        assert (
            job.method.head is not None and job.method.head.margin == 0.4
        )  # in full again, for another fit of the module
        return seen.seen

    whole = [0.08, 0.16, 0.24, 0.32, 0.4, 0.4, 0.4, 0.4]  # m t / 5, four steps an epoch
    assert margins(8) == pytest.approx(whole)
    assert margins(4) + margins(8, str(tmp_path / "4.ckpt")) == pytest.approx(whole)


@pytest.mark.parametrize(
    ("steps", "head", "told"),
    [(9, "arcface", "training ends after 4"), (2, "softmax", "no additive margin"), (2, "spherefacer", "no additive")],
)
def test_a_margin_that_cannot_warm_up(steps: int, head: str, told: str) -> None:
    job = assemble(compose([*TINY, f"head={head}"]).tree)
    with pytest.raises(UserError, match=told):
        _trainer(MarginWarmup(steps)).fit(job.method, datamodule=job.data)
