"""What users of Hydra and Lightning type without reading anything: each line works, or names the right key."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kdface.assembly.assemble import assemble
from kdface.config.compose import compose_in, hydra_context, load
from kdface.config.fingerprint import fingerprint
from kdface.config.hydra_api import Hydra
from tests.conftest import TINY, UNTESTED, Kdface, only_run

WORKS = ""
ARGUMENTS: dict[str, str] = {  # of pl.Trainer -> what was typed
    **{"accumulate_grad_batches": "2", "gradient_clip_val": "1.0", "gradient_clip_algorithm": "value"},
    **{"check_val_every_n_epoch": "2", "val_check_interval": "0.5", "log_every_n_steps": "5"},
    **{"limit_train_batches": "2", "limit_val_batches": "2", "num_sanity_val_steps": "1", "overfit_batches": "1"},
    **{"fast_dev_run": "true", "profiler": "simple", "detect_anomaly": "true", "benchmark": "true"},
    **{"max_time": "00:00:10:00", "num_nodes": "1", "accelerator": "gpu", "strategy": "ddp", "plugins": "[]"},
    **{"precision": "bf16-mixed", "sync_batchnorm": "true", "deterministic": "false", "devices": "auto"},
    **{"min_epochs": "1", "min_steps": "1", "max_steps": "3", "enable_progress_bar": "false"},
}


@dataclass(frozen=True)
class Line:
    """What is typed after `kdface train`, and what its message must name; empty: it composes and passes its check."""

    words: str
    named: str = WORKS


LINES = [
    *(Line(f"trainer.{name}={value}") for name, value in ARGUMENTS.items()),
    *(Line(f"trainer.{word}") for word in ("devices=-1", "devices=[0,2]", "strategy=ddp_find_unused_parameters_true")),
    Line("trainer.strategy=fsdp"),
    Line("trainer.barebones=true", "trainer.profiler"),
    Line("trainer.logger=true", "logger=csv"),
    Line("trainer.callbacks=[]", "callbacks=best"),
    Line("trainer.limit_test_batches=1", "evaluation=none"),
    *(Line(f"trainer={name}") for name in ("cpu", "gpu", "ddp", "ddp_sim", "mps")),
    Line("trainer.accumulate=2", "trainer.accumulate_grad_batches=2"),
    Line("trainer.clip_norm=1.0", "trainer.gradient_clip_val=1.0"),
    Line("trainer.nodes=2", "trainer.num_nodes=2"),
    Line("trainer.log_steps=3", "trainer.log_every_n_steps=3"),
    Line("trainer.evaluate_epochs=2", "trainer.check_val_every_n_epoch=2"),
    # callbacks, loggers, debugging
    *(Line(f"callbacks={name}") for name in ("default", "none", "lr_monitor", "rich_progress_bar", "device_stats")),
    *(Line(f"callbacks={name} validation=people") for name in ("early_stopping", "best", "[best,early_stopping]")),
    Line("callbacks=null"),
    Line("callbacks.mine._target_=pytorch_lightning.callbacks.Timer"),
    Line("callbacks=swa", "ema.decay"),
    Line("callbacks=best", "validation=people"),
    Line("callbacks=model_checkpoint", "callbacks=best"),
    Line("callbacks.early_stopping.patience=5", "callbacks=early_stopping"),
    *(Line(f"logger={name}") for name in ("csv", "wandb", "tensorboard", "mlflow", "comet", "many_loggers", "null")),
    Line("logger=[wandb,tensorboard]"),
    Line("logger=wandb logger.wandb.group=g logger.wandb.tags=[a,b] logger.wandb.entity=me"),
    Line("logger.wandb.group=g", "logger=wandb"),
    Line("tags=[a,b]"),
    Line("task_name=x", "name=x"),
    Line("extras.print_config=true"),
    Line("extras.enforce_tags=true", "tags=[dev]"),
    Line("extras.enforce_tags=true tags=[dev]"),
    *(Line(f"debug={name}") for name in ("default", "fdr", "limit", "overfit", "profiler", "null")),
    Line("debug=true", "debug=default"),
    Line("ckpt_path=x.ckpt", "kdface run FOLDER"),
    Line("test=false", "evaluation=none"),
    Line("train=false ckpt_path=best", "ckpt_path=PATH"),
    Line("hparams_search=mnist_optuna", "hparams_search=optuna"),
    Line("hparams_search=optuna", "kdface train -m"),
    Line("optimizer=adam"),
    Line("optimizer=lamb", "optimizer._target_=package.Class"),
    Line("optimizer._target_=torch.optim.RMSprop"),
    Line("scheduler._target_=torch.optim.lr_scheduler.StepLR scheduler.step_size=2"),
    # names of the field
    Line("head.s=64", "head.scale=64"),
    Line("head.m=0.5", "head.margin=VALUE"),  # below 1 for the head that is chosen
    Line("head=cosface head.m=0.5", "head.margin=0.5"),
    Line("lr=0.1", "optimizer.lr=0.1"),
    Line("model.optimizer.lr=0.1", "optimizer.lr=0.1"),
    *(Line(f"{name}=8", "loader.batch_size=8") for name in ("batch_size", "datamodule.batch_size")),
    Line("num_workers=1", "loader.num_workers=1"),
    Line("data=toy_faces", "dataset=toy_faces"),
    Line("model=iresnet_nan", "backbone=iresnet_nano"),
    Line("experiment=dmeo", "experiment=demo"),
    Line("experiment=maskinv", "maskinv/small_hg"),
    Line("experiment=maskinv/smal_hg", "experiment=maskinv/small_hg"),
    Line("+experiment=demo"),
    Line("experiment=null"),
    Line("backbone={_target_:torch.nn.Identity}"),
    Line("backbone._target_=timm.create_model backbone.model_name=resnet18", "pip install timm"),
    Line("backbone._target_=mine.Net", "KDFACE_PLUGINS=mine"),
    Line("method=distillation teacher.run=x transfer=logits"),
    Line("transfer=logits", "method=distillation"),
    Line("transfer=rkd", "transfer=relational"),
    Line("hydra.run.dir=x", "paths.runs=x"),
    Line("hydra.job.chdir=true", "kdface does not change the current folder"),
    Line("hydra/launcher=joblib hydra.launcher.n_jobs=2", "hydra/launcher=process"),
    Line(
        "hydra/launcher=submitit_slurm hydra.launcher.timeout_min=60 hydra.launcher.gpus_per_node=1",
        "hydra/launcher=slurm hydra.launcher.minutes=60 hydra.launcher.gpus=1",
    ),
    Line("hydra/sweeper=optuna", "kdface train -m"),
    Line("head=arcface,cosface", "add -m to sweep over head"),
    Line("logger=tensorboard,csv", "logger=[tensorboard,csv]"),
    Line("optimizer=null", "adamw, sgd"),
    Line("seed:1", "seed=1"),
    Line("scheduler=none", "scheduler=constant"),
    Line("seed=1e3", "seed=1000"),
    Line("augmentation._target_=albumentations.Blur", "augmentation.before=[{_target_:albumentations.Blur}]"),
    Line("~tags", "it is null already"),
    Line("hydra.job.env_set.FOO=bar", "NAME=VALUE kdface train"),
    Line("+callbacks@callbacks.mine=lr_monitor", "callbacks=[lr_monitor]"),
    Line("hydra/sweeper=optuna hydra.sweeper.direction=maximize", "hydra.sweeper.objectives={METRIC:maximize}"),
    Line("hydra/sweeper=optuna hydra/sweeper/sampler=tpe", "hydra.sweeper.sampler=tpe"),
]
_SLOW = ("trainer.profiler=", "debug=profiler")  # Lightning's registries take seconds to import
_found: Counter[str] = Counter()


@pytest.fixture(scope="module")
def hydra() -> Iterator[Hydra]:
    with hydra_context([]) as opened:
        yield opened


@pytest.mark.parametrize(
    "line",
    [pytest.param(line, id=line.words, marks=[pytest.mark.slow] * line.words.startswith(_SLOW)) for line in LINES],
)
def test_what_is_typed_works_or_names_the_right_key(
    line: Line, kdface: Kdface, monkeypatch: pytest.MonkeyPatch, hydra: Hydra
) -> None:
    monkeypatch.delenv("KDFACE_PLUGINS", raising=False)
    words = line.words.split(" ")
    _found["wrong"] += 1
    if line.named:
        said = kdface("train", *TINY, *words)
        assert said.code == 2 and said.err.startswith("error: ") and "Traceback" not in said.err
        assert line.named in said.err, said.err
    else:
        tree = compose_in(hydra, [*TINY, *words]).tree
        if line.words.startswith("trainer.") and (value := words[0].partition("=")[2]):
            assert str(tree["trainer"][words[0][8:].partition("=")[0]]).lower().replace(" ", "") == value
    _found["wrong"] -= 1
    _found["names the right key" if line.named else "works"] += 1


def test_counts() -> None:
    if sum(_found.values()) < len(LINES) - len(_SLOW):
        pytest.skip("counts are of all lines")
    print("\n" + ", ".join(f"{_found[kind]} {kind}" for kind in ("works", "names the right key", "wrong")))
    assert _found["wrong"] == 0


def test_tags_and_extras_make_no_other_run(hydra: Hydra) -> None:
    plain, tagged = (compose_in(hydra, [*TINY, *more]).tree for more in ([], ["tags=[a]", "extras.print_config=true"]))
    assert tagged["tags"] == ["a"] and fingerprint(plain) == fingerprint(tagged)


def test_a_debugging_run_has_its_own_name_no_logger_and_few_steps(hydra: Hydra) -> None:
    tree = compose_in(hydra, ["experiment=demo", "debug=default"]).tree
    assert tree["name"] == "debug/demo" and tree["logger"] is None
    assert tree["trainer"]["limit_train_batches"] == 10 and tree["trainer"]["max_epochs"] == 1
    assert compose_in(hydra, ["experiment=demo", "debug=default", "logger=csv"]).tree["logger"]
    assert compose_in(hydra, ["experiment=demo", "debug=fdr", "name=mine"]).tree["name"] == "mine"


# 36 images make four batches of eight an epoch.
@pytest.mark.parametrize(("name", "steps"), [("default", 4), ("fdr", 1), ("limit", 3 * 3), ("overfit", 20 * 3)])
def test_how_long_a_debugging_run_trains(hydra: Hydra, name: str, steps: int) -> None:
    words = [word for word in UNTESTED if not word.startswith("trainer.max_epochs")]
    assert assemble(compose_in(hydra, [*words, f"debug={name}"]).tree).method.total_steps == steps


@pytest.mark.parametrize(("name", "target"), [("optuna", "search.Search"), ("random", "space.random_points")])
def test_a_search_brings_sweeper_and_space(hydra: Hydra, name: str, target: str) -> None:
    sweeper = load(hydra, [f"hparams_search={name}", "hydra.sweeper.n_trials=3"]).config.hydra.sweeper
    assert sweeper["_target_"] == f"kdface.sweeps.{target}" and sweeper["n_trials"] == 3
    assert set(sweeper["params"]) == {"optimizer.lr", "optimizer.weight_decay"}


def test_the_environment(
    kdface: Kdface, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """HYDRA_FULL_ERROR is obeyed, and .env is not: it could allow packages of others."""
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    (tmp_path / ".env").write_text("export KDFACE_PLUGINS=evil\nWANDB_PROJECT=x\nOTHER=1\n")
    monkeypatch.delenv("KDFACE_PLUGINS", raising=False)
    said = kdface("train", "trainer=cpuu")
    assert "Traceback" in said.err and "trainer=cpu" in said.err
    assert ".env is not read (KDFACE_PLUGINS, WANDB_PROJECT)" in said.err
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    (tmp_path / ".env").write_text("OTHER=1\n")
    said = kdface("train", "trainer=cpuu")
    assert "Traceback" not in said.err and ".env" not in said.err


@pytest.mark.slow
def test_a_search_of_one_trial(kdface: Kdface, tmp_path: Path) -> None:
    words = [*UNTESTED, "trainer.max_steps=1", f"paths.runs={tmp_path}/runs"]
    said = kdface("train", "-m", "hparams_search=random", "hydra.sweeper.n_trials=1", *words)
    assert said.code == 0, said.err
    found = _config(only_run(tmp_path / "runs"))["optimizer"]
    assert found["lr"] == 0.01  # a key on the command line replaces one of the space
    assert 0.00001 <= found["weight_decay"] <= 0.01 and found["weight_decay"] != 5e-4


def _config(run: Path) -> dict[str, Any]:
    from kdface.runs.folder import RunFolder

    return RunFolder(run).read_config()
