"""Mistakes in names, keys and values of a configuration."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.advice.row import Row, tiny
from tests.conftest import TINY, UNTESTED


def _experiment(text: str, encoding: str = "utf-8", group: str = "experiment") -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / "mine" / group).mkdir(parents=True)
        (folder / "mine" / group / "lht.yaml").write_text(text, encoding=encoding)

    return write


_CALLBACKS = "pytorch_lightning.callbacks"
MINE = ("train", "experiment=lht", "-cd", "mine")
ROWS = [
    *(
        tiny(word, told=f"unknown key {word.lstrip('+').partition('=')[0]!r}")
        for word in (
            "metod=spherefacer",
            "trainer.max_epoch=3",
            "+trainer.max_epoch=3",
            "head.margn=1.4",
            "head.m=1.5",
            "+head.m=1.5",
            "head.s=64",
            "lr=0.1",
            "+lr=0.1",
            "model.optimizer.lr=0.1",
            "weight_decay=0.1",
            "batch_size=8",
            "datamodule.batch_size=8",
            "num_workers=1",
            "max_epochs=2",
            "epochs=2",
            "clip_norm=5.0",
            "trainer.accelerater=cpu",
            "accelerator=cpu",
            "embedding_dim=16",
            "model=spherefacer",
            "model=iresnet_nano",
            "data_dir=elsewhere",
            "log_dir=elsewhere",
            "task_name=night",
            "nothing.like.it=3",
            "experiment@x=demo",
            "testset=toy",
            "+testset=toy",
        )
    ),
    *(
        tiny(word, told="was renamed to")
        for word in ("trainer.nodes=1", "trainer.clip_norm=5.0", "trainer.workers=1", "trainer.evaluate_epochs=1")
    ),
    tiny("data=toy_faces", told="is invalid"),
    tiny("+testset@evaluation.toy_pairs.dataset=tyo", told="there is no testset named 'tyo'"),
    *(
        tiny(word, told="is not supported")
        for word in (
            "trainer.logger=false",
            "trainer.callbacks=[]",
            "trainer.enable_checkpointing=false",
            "trainer.use_distributed_sampler=true",
            "trainer.barebones=true",
            "trainer.default_root_dir=x",
        )
    ),
    tiny("trainer.strategy=ddp_spawn", told="from a running process"),
    tiny("trainer.max_epochs=-1", told="a schedule needs a limit", fill={"N": "2"}),
    tiny("callbacks=best", told="monitors a validation metric"),
    tiny("callbacks=swa", told="is not supported"),
    tiny("callbacks=[lr_monitor,swa]", told="is not supported"),
    tiny(
        f"+callbacks.s._target_={_CALLBACKS}.StochasticWeightAveraging", "+callbacks.s.swa_lrs=0.1", told="callbacks.s"
    ),
    tiny(f"+callbacks.s._target_={_CALLBACKS}.BatchSizeFinder", told="fixed before training", fill={"=N": "=8"}),
    tiny(f"+callbacks.s._target_={_CALLBACKS}.LearningRateFinder", told="before training", fill={"VALUE": "0.1"}),
    tiny(f"+callbacks.s._target_={_CALLBACKS}.ModelPruning", told="lose them", fill={"VALUE": "0.1"}),
    tiny(f"+callbacks.s._target_={_CALLBACKS}.Callback", told="is a base class"),
    *(tiny(f"optimizer._target_=torch.optim.{name}", told="is not supp") for name in ("LBFGS", "SparseAdam", "Muon")),
    tiny("optimizer._target_=torch.optim.Optimizer", told="is a base class"),
    tiny("scheduler._target_=torch.optim.lr_scheduler.ReduceLROnPlateau", told="is not supported"),
    tiny("scheduler._target_=torch.optim.lr_scheduler.LRScheduler", told="is a base class"),
    tiny(f"+callbacks.x={{_target_:{_CALLBACKS}.ModelCheckpoint,monitor:val/acc}}", told="no such metric is measured"),
    tiny(f"+callbacks.x={{_target_:{_CALLBACKS}.EarlyStopping,monitor:loss}}", told="no such metric is measured"),
    tiny(f"+callbacks.x._target_={_CALLBACKS}.EarlyStopping", "+callbacks.x.monitor=loss", told="no such metric"),
    tiny("callbacks=best", "callbacks.best.monitor=people/eer", told="no such metric is measured"),
    tiny("callbacks=best", "validation=images", "callbacks.best.monitor=val_loss", told="no such metric is measured"),
    tiny("callbacks=best", "validation=images", "callbacks.best.monitor=imgs/eer", told="no such metric is measured"),
    tiny(f"+callbacks.x={{_target_:{_CALLBACKS}.EarlyStopping,monitor:train/los}}", told="no such metric", run=True),
    tiny("callbacks=rich_progress_bar", f"+callbacks.x._target_={_CALLBACKS}.TQDMProgressBar", told="one", build=True),
    tiny(f"+callbacks.x={{_target_:{_CALLBACKS}.ModelCheckpoint,mode:least}}", told="cannot be built", build=True),
    tiny("trainer.max_time=1h", told="not a valid duration", build=True),
    tiny(
        *("trainer.plugins._target_=pytorch_lightning.plugins.MixedPrecision", "+trainer.plugins.device=cpu"),
        "+trainer.plugins.precision=bf16-mixed",
        told="sets the precision",
        build=True,
    ),
    tiny(
        *("head=arcface", "callbacks=margin_warmup", "trainer.max_epochs=1"),
        told="the margin is complete after 200 steps",
        run=True,
    ),
    tiny("callbacks=best", "validation=people", "callbacks.early_stopping.patience=5", told="it is not chosen"),
    tiny(
        "callbacks=best", "validation=people", "callbacks.best.save_last=true", told="always saves its last checkpoint"
    ),
    tiny("callbacks=best", "validation=people", "callbacks.best.filename=last", told="the run's own last checkpoint"),
    tiny("head.margin=???", told="has no value yet"),
    *(
        tiny(f"{group}=null", told="a run needs one")
        for group in ("optimizer", "+scheduler", "method", "backbone", "augmentation", "trainer", "dataset")
    ),
    *(
        tiny(word, told="gives several values")
        for word in (
            "head=spherefacer,sphereface",
            "head=choice(spherefacer,sphereface)",
            "head=glob(spherefac*)",
            "head.margin=choice(1.4,1.5)",
            "head.margin=1.4,1.5",
            "seed=range(3)",
            "trainer=default,cpu",
            "logger=tensorboard,csv",
            "callbacks=lr_monitor,device_stats",
            "tags=a,b",
            "dataset.size=32,32",
            "name=night,day",
        )
    ),
    *(
        tiny(*words, told="cannot read the override")
        for words in (
            ("seed 1",),
            ("seed", "1"),
            ("seed = 1",),
            ("seed", "=", "1"),
            ("seed=", "1"),
            ("seed", "=1"),
            ("seed:1",),
            ("seed==1",),
            ("override head=sphereface",),
            ("override", "head=sphereface"),
            ("seed=cast(3)",),
            ("tags=extend_list(a)",),
            ("name=a;b",),
            ("name=(a)",),
        )
    ),
    *(
        tiny(*words, told="has no -")
        for words in (
            ("-cn", "night"),
            ("--config-path=mine",),
            ("--shell-completion", "install=bash"),
            ("--run",),
            ("--experimental-rerun=x",),
            ("--hydra-help",),
            ("-i",),
            ("--seed=1",),
        )
    ),
    *(
        tiny(*words, told="name their parts themselves")
        for words in (
            ("+callbacks@callbacks.mine=lr_monitor",),
            ("callbacks=device_stats", "+callbacks@callbacks=lr_monitor"),
            ("logger@logger.x=csv",),
        )
    ),
    tiny(
        *("trainer.profiler._target_=pytorch_lightning.profilers.SimpleProfiler", "+trainer.profiler.foo=1"),
        told="one of dirpath, extended, filename",
    ),
    tiny("seed=1e3", told="seed = 1000.0 is invalid"),
    tiny("scheduler=none", told="no scheduler named 'none'"),
    tiny("scheduler=reduce_on_plateau", told="follows a metric"),
    *(
        tiny(*words, told="is not an augmentation")
        for words in (
            ("augmentation._target_=albumentations.HorizontalFlip",),
            ("augmentation={_target_:albumentations.HorizontalFlip,p:0.3}",),
            ("augmentation={_target_:albumentations.Compose,transforms:[{_target_:albumentations.Blur}]}",),
            ("augmentation._target_=torch.nn.Identity",),
        )
    ),
    *(tiny(f"~{key}", told="is null already") for key in ("tags", "trainer.gradient_clip_val")),
    *(
        tiny(word, told="has no effect")
        for word in ("hydra.job.env_set.FOO=bar", "+hydra.job.env_set={FOO:bar}", "hydra.help.app_name=x")
    ),
    tiny("method=maskinv", "teacher=none", told="requires a teacher", fill={"FOLDER_OF_A_RUN": "runs/teacher"}),
    tiny("logger.csv.flush_logs_every_n_steps=5", told="it is not chosen"),
    tiny("head.m=0.5", told="cannot be used", fill={"VALUE": "1.5"}),
    tiny("trainer.max_epoch=0", told="trainer.max_epochs=0 cannot be used", fill={"VALUE": "1"}),
    tiny("trainer.limit_test_batches=1", told="is not supported"),
    tiny("extras.enforce_tags=true", told="has no tags"),
    tiny("transfer=logits", told="is not supported by", fill={"FOLDER": "runs/teacher"}),
    # What follows would train, evaluate another run, or search.
    tiny("test=false", told="tests are a group", run=True, apply=False),
    tiny("train=maybe", told="train = 'maybe': input should be a valid boolean", run=True, apply=False),
    tiny("ckpt_path=runs/x.ckpt", told="training resumes from", run=True, fill={"FOLDER": "runs"}, apply=False),
    tiny("train=false", told="has no checkpoint", run=True, fill={"PATH": "x.ckpt"}, apply=False),
    tiny("-m", "train=false", told="evaluates one run", run=True, apply=False),
    tiny("train=false", "test=false", told="nothing to do", run=True, apply=False),
    tiny("hparams_search=random", told="is a search", run=True, apply=False),
    tiny("hydra/sweeper=optuna", "hydra.sweeper.n_jobs=2", told="has no effect"),
    tiny("hydra/hydra_logging=colorlog", told="has no effect"),
    tiny("head=cosface", "head.gradient=exact", told="has no choice of gradient"),
    tiny("head=cosface", "+head.gradient=exact", told="has no effect"),
    Row(
        ("train", *UNTESTED, "trainer.max_steps=1", "trainer.accumulate_grad_batches=8"),
        "leaves one image per part",
        run=True,
    ),
    tiny("trainer.max_steps=null", told="uses -1 for no limit"),
    tiny("+trainer.max_epochs=3", told="already exists"),
    tiny("~nothing", told="cannot be removed"),
    tiny("~head.margn", told="cannot be removed"),
    tiny("hydra.run.dir=elsewhere", told="hydra.run.dir has no effect"),
    tiny("hydra.verbose=true", told="hydra.verbose has no effect"),
    Row(("train", "backbone=resnt18"), "no backbone named 'resnt18'"),
    Row(("train", "experiment=dmeo"), "no experiment named 'dmeo'"),
    Row(("train", "experiment=maskinv"), "maskinv/small_hg"),
    Row(("train", "experiment=maskinv/smal_hg"), "experiment=maskinv/small_hg"),
    Row(("train", "experiment=small_teacher"), "maskinv/small_teacher"),
    Row(("train", "logger=True"), "logger"),
    Row(("train", "hydra/launcher=joblib", "hydra.launcher.n_jobs=1"), "hydra/launcher=process"),
    Row(("train", "hydra/launcher=submitit_slurm", "hydra.launcher.timeout_min=60"), "hydra.launcher.minutes=60"),
    Row(("train", "hydra/sweeper=ax"), "hydra/sweeper=optuna"),
    Row(MINE, "its first line is not # @package", _experiment("trainer:\n  max_epochs: 1\n")),
    Row(
        ("train", *TINY, "method=distillation", "transfer=lht", "teacher.run=run", "-cd", "mine"),
        "its first line is not # @package method",
        _experiment("guidance: 1.0\ntransfer: {_target_: kdface.losses.SimilarityTransfer}\n", group="transfer"),
    ),
    Row(MINE, "byte-order mark", _experiment("# @package _global_\ntrainer:\n  max_epochs: 1\n", "utf-8-sig")),
    Row(MINE, "is not UTF-8", _experiment("# @package _global_\n# Käfer\ntrainer:\n  max_epochs: 1\n", "latin-1")),
    Row(MINE, "which is not a group", _experiment("# @package _global_\ndefaults:\n  - override /data: toy_faces\n")),
    Row(MINE, "trainer.max_epoch", _experiment("# @package _global_\ntrainer:\n  max_epoch: 1\n")),
    *(
        tiny(word, told="unknown key")
        for word in (
            "head={_target_:kdface.heads.CosFace,margn:0.2}",
            "trainer.plugins=[{_target_:pytorch_lightning.plugins.io.AsyncCheckpointIO,checkpoint:null}]",
            "scheduler={_target_:torch.optim.lr_scheduler.SequentialLR,milestones:[2],schedulers:"
            "[{_target_:torch.optim.lr_scheduler.ConstantLR},{_target_:torch.optim.lr_scheduler.ExponentialLR,gama:0.9}]}",
        )
    ),
    tiny("tags=[{_target_:kdface.heads.CosFace}]", told="is invalid (item 0)"),
    tiny("head.num_classes=5", told="head.num_classes"),
    tiny("head=none", told="head is none"),
    tiny("method.views.student=masked", told="has no such view"),
    Row(("lst", "head"), "no command 'lst'"),
    Row(("list", "bakbone"), "no config group 'bakbone'"),
    Row(("config", "experiment=demo"), "invalid arguments"),
    Row(("config", "why", "experiment=demo", "head.margin=1.5"), "invalid arguments"),
    Row(("config", "head.margin", "experiment=demo"), "invalid arguments"),
    Row(("config", "wy", "head.margin"), "invalid arguments"),
    Row(("config", "why", "trainer.max_epoch"), "no key 'trainer.max_epoch'"),
]
