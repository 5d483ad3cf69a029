"""The Python interface: compose, build, runs. (`kdface.load` has tests/recogniser.)"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch

import kdface
import kdface.runs.folder
from kdface.cli import main
from kdface.errors import UserError
from kdface.runs.folder import RunFolder
from tests.conftest import TINY, UNTESTED


def test_a_composed_configuration_trains_in_a_trainer_of_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cfg = kdface.compose(*TINY, "seed=1")
    assert cfg.seed == 1 and cfg.backbone.embedding_size == 8
    cfg.optimizer.lr = 0.02
    module, data = kdface.build(cfg)
    before = [value.clone() for value in module.parameters()]
    trainer = pl.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False
    )
    trainer.fit(module, datamodule=data)
    assert trainer.global_step == 4  # 36 images in batches of 8, the rest left out
    assert trainer.optimizers[0].param_groups[0]["initial_lr"] == 0.02
    assert any(not torch.equal(one, two) for one, two in zip(before, module.parameters(), strict=True))
    assert not list(tmp_path.iterdir())  # no run folder is made


def test_the_average_of_the_weights_comes_with_the_module() -> None:
    module, data = kdface.build(kdface.compose(*UNTESTED, "seed=1", "ema.decay=0.5", "scheduler=constant"))
    trainer = pl.Trainer(max_epochs=1, accelerator="cpu", logger=False, barebones=True)
    trainer.fit(module, datamodule=data)
    average, last = module.embedder.state_dict(), module.backbone.state_dict()
    assert module.embedder is module.averaged
    assert any(not torch.equal(average[name], last[name]) for name in last)


def test_class_weights_are_whole_for_any_trainer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The Trainer of the user divides nothing over its ranks."""
    words = [*UNTESTED, "seed=1", "head=partial_fc"]
    alone = kdface.build(kdface.compose(*words))[0].state_dict()
    monkeypatch.setenv("LOCAL_RANK", "1")
    divided = kdface.build(kdface.compose(*words, "trainer.devices=2"))[0].state_dict()
    assert all(torch.equal(alone[name], divided[name]) for name in alone)


def test_mistakes_are_told_as_on_the_command_line() -> None:
    with pytest.raises(UserError, match="backbone") as raised:
        kdface.compose("backbone=iresnt50")
    assert "iresnet50" in str(raised.value)
    cfg = kdface.compose(*UNTESTED)
    cfg.optimizer.lr = "fast"
    with pytest.raises(UserError, match=r"optimizer\.lr"):
        kdface.build(cfg)
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        kdface.lod  # noqa: B018


def test_overrides_are_words_or_one_list_of_them() -> None:
    assert kdface.compose([*UNTESTED, "seed=1"]) == kdface.compose(*UNTESTED, "seed=1")


def test_the_fix_of_an_edited_configuration_speaks_of_no_command_line() -> None:
    cfg = kdface.compose(*UNTESTED, "seed=1")
    cfg.head.foo = 1
    with pytest.raises(UserError, match=r"head\.foo") as raised:
        kdface.build(cfg)
    assert raised.value.fix == "remove head.foo"
    del cfg.head.foo, cfg.dataset.on_error
    with pytest.raises(UserError, match=r"dataset\.on_error is required") as raised:
        kdface.build(cfg)
    assert raised.value.fix == "add dataset.on_error=..."


def test_composing_leaves_an_application_of_hydra_alone() -> None:
    from hydra import initialize
    from hydra.core.global_hydra import GlobalHydra

    with initialize(version_base=None, config_path=None):
        own = GlobalHydra.instance().hydra
        kdface.compose(*UNTESTED)
        assert GlobalHydra.instance().hydra is own


def test_what_hydra_itself_composes_is_built() -> None:
    import hydra

    from kdface.config.paths import conf_folder

    with hydra.initialize_config_dir(str(conf_folder()), version_base=None):
        raw = hydra.compose("config", overrides=UNTESTED)
    module, _ = kdface.build(raw)
    same, _ = kdface.build(kdface.compose(*UNTESTED))
    assert module.state_dict().keys() == same.state_dict().keys()


def test_runs_are_rows(tmp_path: Path) -> None:
    for seed in (0, 1):
        assert main(["train", *TINY, f"seed={seed}", "trainer.max_steps=1", f"paths.runs={tmp_path}/runs"]) == 0
    (unfinished,) = (path for path in (tmp_path / "runs").rglob("seed1-*"))
    for name in ("DONE", "results.json"):
        (unfinished / name).unlink()
    rows = kdface.runs(tmp_path / "runs", frame=False)
    assert [(row["seed"], row["done"]) for row in rows] == [(0, True), (1, False)]
    results = RunFolder(Path(rows[0]["run"])).read_results()
    assert rows[0]["toy_pairs/eer"] == results["metrics"]["toy_pairs/eer"]["value"] and "toy_pairs/eer" not in rows[1]
    assert rows[0]["config.backbone.embedding_size"] == 8 and rows[0]["step"] == 1
    if importlib.util.find_spec("pandas"):
        table = kdface.runs(tmp_path / "runs")
        assert list(table["seed"]) == [0, 1]
    else:
        assert kdface.runs(tmp_path / "runs") == rows
        with pytest.raises(UserError, match="pandas"):
            kdface.runs(tmp_path / "runs", frame=True)
    (unfinished / "config.yaml").write_text("[")
    assert "config.yaml cannot be read" in kdface.runs(tmp_path / "runs", frame=False)[1]["problem"]
    with pytest.raises(UserError, match="no folder"):
        kdface.runs(tmp_path / "run")
