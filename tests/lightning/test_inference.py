"""A method in a Trainer of the user after training: test, predict, its checkpoints, and batches of another kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.tuner.tuning import Tuner
from torch.utils.data import DataLoader, TensorDataset

import kdface
from kdface.cli import main
from kdface.errors import UserError
from kdface.evaluation.protocol import datasets_of
from kdface.lightning import FaceData
from kdface.methods import Method
from kdface.runs.folder import RunFolder
from tests.conftest import TINY, UNTESTED, only_run

AVERAGED = [*TINY, "seed=1", "ema.decay=0.9", "trainer.max_steps=3"]
QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A finished run whose average of the weights is evaluated."""
    runs = tmp_path_factory.mktemp("runs")
    assert main(["train", *AVERAGED, f"paths.runs={runs}"]) == 0
    return RunFolder(only_run(runs))


def _built(*words: str) -> tuple[Method, FaceData]:
    return kdface.build(kdface.compose(*(words or AVERAGED)))


def _crops(count: int, size: int = 32) -> torch.Tensor:
    pixels = np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)
    return torch.from_numpy(pixels)


def test_a_stock_trainer_tests_as_a_run_does(run: RunFolder) -> None:
    """With the numbers of results.json, which are those of the averaged weights."""
    module, data = _built()
    data.evaluation_batch_size = 7  # of several batches
    (logged,) = pl.Trainer(**QUIET).test(module, datamodule=data, ckpt_path=run.last, verbose=False)
    expected = {
        name: metric["value"] for name, metric in run.read_results()["metrics"].items() if metric["value"] is not None
    }
    assert "toy_pairs/eer" in expected
    assert logged == pytest.approx(expected, abs=1e-6)
    assert {
        f"toy_pairs/{name}": metric.value
        for name, metric in module.outcomes["toy_pairs"].metrics.items()
        if metric.value is not None
    } == pytest.approx(expected, abs=1e-12)
    assert not torch.equal(module.averaged.fc.weight, module.backbone.fc.weight)  # type: ignore[union-attr, arg-type]


def test_images_left_out_leave_no_result(run: RunFolder, caplog: pytest.LogCaptureFixture) -> None:
    module, data = _built()
    data.evaluation_batch_size = 7
    trainer = pl.Trainer(**QUIET, limit_test_batches=1)
    assert trainer.test(module, datamodule=data, ckpt_path=run.last, verbose=False) == [{}]
    assert "left out by trainer.limit_test_batches" in caplog.text


def test_without_test_sets_there_is_nothing_to_test() -> None:
    module, data = _built(*UNTESTED, "seed=1")
    assert pl.Trainer(**QUIET).test(module, datamodule=data, verbose=False) == []
    (logged,) = pl.Trainer(**QUIET, limit_test_batches=1).test(module, data.train_dataloader(), verbose=False)
    assert logged["test/loss"] > 0


def test_a_module_embeds_and_predicts_with_the_network_that_it_ships(run: RunFolder) -> None:
    module = kdface.build(kdface.compose(*AVERAGED))[0]
    images = _crops(5)
    data = _built()[1]
    data.evaluation_batch_size = 7
    batches = pl.Trainer(**QUIET).predict(module, data.test_dataloader(), ckpt_path=run.last)
    module.eval()
    with torch.no_grad():
        found = module(images)
        assert torch.equal(found, module.embed(images, module.preprocessing))
    shipped = kdface.load(run.root).embed(list(images.numpy()), mirror=False)
    np.testing.assert_allclose(found.numpy(), shipped, rtol=1e-5, atol=1e-6)
    ((faces, keys),) = datasets_of(data.test)
    tested = np.stack([faces[list(faces.keys).index(key)].image for key in keys])
    with torch.no_grad():
        torch.testing.assert_close(torch.cat(batches), module(torch.from_numpy(tested)))  # type: ignore[arg-type]
        batch = next(iter(data.train_dataloader()))
        assert torch.equal(module.predict_step(batch, 0), module(batch.views[module.views.student]))


@pytest.mark.parametrize(
    "images", [torch.zeros(2, 32, 32, 3), torch.zeros(2, 3, 32, 32, dtype=torch.uint8), _crops(2, 40), _crops(1)[0]]
)
def test_other_images_are_refused(images: torch.Tensor) -> None:
    with pytest.raises(UserError, match="shape") as raised:
        _built()[0](images)
    assert "torch.uint8 and shape (N, 32, 32, 3)" in raised.value.expected


def test_images_that_are_not_named_are_not_predicted() -> None:
    module, data = _built()
    with pytest.raises(UserError, match="which of its images") as raised:
        pl.Trainer(**QUIET).predict(module, datamodule=data)
    assert "data.test_dataloader()" in raised.value.fix
    pair, data = _built(*UNTESTED, "seed=1", "method=ckd", "augmentation.size=[32,32]")
    batch = next(iter(data.train_dataloader()))
    assert pair.eval().predict_step(batch, 0).shape == (8, 8)
    batch.views = {"image": batch.views["face"]}
    with pytest.raises(UserError, match="has the views image"):
        pair.predict_step(batch, 0)


@pytest.mark.parametrize("mode", ["fit", "validate", "test", "predict"])
def test_batches_of_another_kind_are_refused(mode: str) -> None:
    module = _built(*UNTESTED, "seed=1")[0]
    loader = DataLoader(TensorDataset(_crops(8), torch.arange(8) % 6), batch_size=4)
    with pytest.raises(UserError, match="SphereFaceR was given a batch that is a list") as raised:
        getattr(pl.Trainer(**QUIET, max_steps=1), mode)(module, loader)
    assert "kdface.datasets.loading.Batch" in raised.value.expected and "FaceData" in raised.value.expected


def test_a_checkpoint_needs_its_parts(run: RunFolder) -> None:
    module = _built()[0]
    with pytest.raises(UserError, match="backbone, head, preprocessing, views") as raised:
        type(module).load_from_checkpoint(run.last)
    assert "kdface.load(FOLDER)" in raised.value.fix
    loaded = (
        type(module)
        .load_from_checkpoint(
            run.last,
            backbone=module.backbone,
            head=module.head,
            preprocessing=module.preprocessing,
            views=module.views,
        )
        .eval()
    )
    assert loaded.averaged is not None
    images = _crops(3)
    shipped = kdface.load(run.root).embed(list(images.numpy()), mirror=False)
    np.testing.assert_allclose(loaded(images).detach().numpy(), shipped, rtol=1e-5, atol=1e-6)


def test_a_checkpoint_of_a_stock_trainer_is_no_run(tmp_path: Path) -> None:
    module, data = _built()
    trainer = pl.Trainer(**{**QUIET, "enable_checkpointing": True}, max_steps=1, default_root_dir=tmp_path)
    trainer.fit(module, datamodule=data)
    trainer.save_checkpoint(tmp_path / "own.ckpt")
    with pytest.raises(UserError, match="in no folder of a run") as raised:
        kdface.load(tmp_path / "own.ckpt")
    assert "ckpt_path of Trainer.predict" in raised.value.fix
    again = _built()[0]
    assert pl.Trainer(**QUIET).predict(again, data.test_dataloader(), ckpt_path=tmp_path / "own.ckpt")
    for name, weight in again.embedder.state_dict().items():
        assert torch.equal(weight, module.embedder.state_dict()[name])


def test_the_tuner_does_not_take_another_batch_size_for_that_of_training(tmp_path: Path) -> None:
    module, data = _built(*UNTESTED, "seed=1")
    trainer = pl.Trainer(**{**QUIET, "enable_checkpointing": True}, max_steps=1, default_root_dir=tmp_path)
    with pytest.raises(MisconfigurationException, match="batch_size"):
        Tuner(trainer).scale_batch_size(module, datamodule=data)
