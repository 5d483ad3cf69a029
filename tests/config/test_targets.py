"""One policy for every `_target_` of a tree: what may be named is built, what may not is refused before anything is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

import kdface
from kdface.assembly.plugs import build_arguments
from kdface.config.check import check_tree
from kdface.config.compose import compose
from kdface.config.locate import locate, require_targets
from kdface.errors import UserError
from tests.conftest import TINY, UNTESTED, Kdface

# Callables that run code, files or other callables that they are given, in packages that are allowed or near to one.
HOSTILE = [
    "os.system",
    "pathlib.Path.touch",
    "builtins.eval",
    "torch.load",
    "torch.hub.load",
    "torch.ops.load_library",
    "torch.optim.os.system",
    "torch.nn.parallel.DistributedDataParallel.__init__",
    "torch.nn.utils.parametrize.copy.deepcopy",
    "pytorch_lightning.cli.LightningCLI",
    "pytorch_lightning.callbacks.model_checkpoint.os.remove",
    "pytorch_lightning.callbacks.model_checkpoint.shutil.rmtree",
    "albumentations.load",
    "albumentations.from_dict",
    "torchmetrics.utilities.imports.importlib.import_module",
    "hydra.utils.call",
    "hydra.utils.get_method",
    "kdface.sweeps.process.Processes",
    "kdface.runs.folder.write_text",
    "kdface.heads.torch.load",
    "kdface.heads..CosFace",
    "lightning_fabric.plugins.environments.mpi.MPIEnvironment",
    "timm.models.load_checkpoint",
]


@pytest.mark.parametrize("target", HOSTILE)
def test_what_may_not_be_named(target: str) -> None:
    with pytest.raises(UserError):
        locate(target)


@pytest.mark.parametrize(
    "target",
    [
        "kdface.heads.CosFace",
        "torch.optim.AdamW",
        "torch.optim.adamw.AdamW",
        "torch.optim.lr_scheduler.ReduceLROnPlateau",
        "torch.nn.PReLU",
        "pytorch_lightning.callbacks.EarlyStopping",
        "pytorch_lightning.loggers.CSVLogger",
        "pytorch_lightning.profilers.SimpleProfiler",
        "pytorch_lightning.strategies.DDPStrategy",
        "pytorch_lightning.plugins.MixedPrecision",
        "pytorch_lightning.plugins.environments.LightningEnvironment",
        "torchmetrics.classification.MulticlassAccuracy",
        "albumentations.Compose",
        "albumentations.GaussNoise",
        "albumentations.KeypointParams",
    ],
)
def test_what_may_be_named(target: str) -> None:
    assert locate(target).__name__ == target.rpartition(".")[2]


def test_the_other_name_of_a_package_leads_to_the_right_one() -> None:
    with pytest.raises(UserError) as error:
        locate("lightning.pytorch.callbacks.EarlyStopping")
    assert error.value.nearest == "pytorch_lightning.callbacks.EarlyStopping"
    locate(error.value.nearest)


def test_a_trusted_package_adds_to_those_already_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KDFACE_PLUGINS", "one")
    with pytest.raises(UserError) as error:
        locate("fractions.Fraction")
    assert "KDFACE_PLUGINS=one,fractions " in error.value.fix
    monkeypatch.setenv("KDFACE_PLUGINS", "one,fractions")
    assert locate("fractions.Fraction").__name__ == "Fraction"


@pytest.mark.parametrize(
    "tree",
    [
        {"head": {"_target_": "os.system"}},
        {"head": {"margin": [{"x": {"_target_": "os.system"}}]}},
        {"anything": {"deep": [[{"_target_": ["os", "system"]}]]}},
        {"hydra": {"sweeper": {"_target_": "kdface.heads.CosFace"}}},
        {"hydra": {"launcher": {"_target_": "kdface.sweeps.slurm.cancel"}}},
        {"hydra": {"launcher": {"options": {"_target_": "kdface.sweeps.slurm.Slurm"}}}},
        {"hydra": {"job_logging": {"handlers": {"x": {"_target_": "${oc.env:X}"}}}}},
    ],
)
def test_a_target_anywhere_in_a_tree(tree: dict[str, object]) -> None:
    with pytest.raises(UserError):
        require_targets(tree)


_HOSTILE: dict[str, Any] = {"_target_": "os.system"}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("head._target_", "os.system"),
        ("head._args_", [{"x": _HOSTILE}]),
        ("augmentation.before", [_HOSTILE]),
        ("augmentation.after", {"image": [{"p": [_HOSTILE]}]}),
        ("backbone", {"_target_": "torchmetrics.classification.MulticlassAccuracy", "any": _HOSTILE}),
        ("backbone", {"_target_": "torchmetrics.classification.MulticlassAccuracy", "any": {"deep": [[_HOSTILE]]}}),
        ("trainer.plugins", [_HOSTILE]),
        ("trainer.profiler", _HOSTILE),
        ("loader.batch_size", _HOSTILE),
        ("callbacks", {"x": _HOSTILE}),
        ("evaluation.toy_pairs.dataset._target_", "os.system"),
        ("tags", [_HOSTILE]),
        ("gradient_clip", {"x": [_HOSTILE]}),
    ],
)
def test_a_target_anywhere_in_a_configuration(key: str, value: object) -> None:
    """Whatever the type of the key that it lies below, and as in the folder of a run from elsewhere."""
    tree = compose(TINY).tree
    *above, last = key.split(".")
    node: Any = tree
    for name in above:
        node = node[name]
    node[last] = value
    with pytest.raises(UserError, match=r"'os.system' is outside the packages"):
        check_tree(tree)


@pytest.mark.parametrize("sweep", [[], ["-m", "seed=0,1"]], ids=["train", "sweep"])
@pytest.mark.parametrize("node", ["callbacks.x", "sweeper", "launcher", "job_logging.handlers.x"])
def test_nothing_in_hydras_own_node_is_called(kdface: Kdface, tmp_path: Path, node: str, sweep: list[str]) -> None:
    """An experiment that brings its own search sweeper, as Hydra then calls its callbacks."""
    folder = tmp_path / "mine" / "experiment"
    folder.mkdir(parents=True)
    keys = "".join(f"{'  ' * depth}{key}:\n" for depth, key in enumerate(["hydra", *node.split(".")]))
    inner = "  " * (node.count(".") + 2)
    (folder / "x.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /hydra/sweeper: random\n  - _self_\n"
        f"{keys}{inner}_target_: pathlib.Path.touch\n{inner}self: {tmp_path}/written\n"
    )
    said = kdface("train", *sweep, "experiment=x", "-cd", f"{tmp_path}/mine", *TINY, f"paths.runs={tmp_path}/runs")
    assert said.code == 2 and f"hydra.{node}" in said.err and "x.yaml" in said.err
    assert not (tmp_path / "written").exists() and not (tmp_path / "runs").exists()


_SEQUENCE = (
    "scheduler={_target_:torch.optim.lr_scheduler.SequentialLR,milestones:[2],schedulers:["
    "{_target_:torch.optim.lr_scheduler.ConstantLR,factor:0.5,total_iters:9},"
    "{_target_:torch.optim.lr_scheduler.ExponentialLR,gamma:0.1}]}"
)


def test_a_list_of_schedules_shares_the_optimizer() -> None:
    module, _ = kdface.build(kdface.compose(*UNTESTED, _SEQUENCE, "optimizer.lr=1.0"))
    made: Any = module.configure_optimizers()
    rates = []
    for _ in range(4):
        rates.append(made["optimizer"].param_groups[0]["lr"])
        made["optimizer"].step()
        made["lr_scheduler"]["scheduler"].step()
    assert rates == pytest.approx([0.5, 0.5, 1.0, 0.1])


def test_a_pipeline_of_transforms_within_a_list_is_built() -> None:
    blur = "{_target_:albumentations.Compose,transforms:[{_target_:albumentations.InvertImg,p:1.0}]}"
    _, data = kdface.build(kdface.compose(*UNTESTED, "augmentation.flip=0.0", f"augmentation.before=[{blur}]"))
    _, plain = kdface.build(kdface.compose(*UNTESTED, "augmentation.flip=0.0"))
    inverted, image = (next(iter(each.train_dataloader())).views["image"] for each in (data, plain))
    assert torch.equal(inverted, 255 - image)


@pytest.mark.parametrize(
    ("node", "told"),
    [
        ("{_target_:os.system}", "is outside the packages"),
        ("{_target_:pytorch_lightning.plugins.Nothing}", "exports no 'Nothing'"),
        ("{_target_:pytorch_lightning.plugins.io.AsyncCheckpointIO,foo:1}", "unknown key 'trainer.plugins.0.foo'"),
        ("{_target_:pytorch_lightning.plugins.MixedPrecision,device:1}", "trainer.plugins.0.device = 1"),
    ],
)
def test_a_part_in_a_list_is_checked_like_any_other(node: str, told: str) -> None:
    with pytest.raises(UserError) as raised:
        kdface.compose(*UNTESTED, f"trainer.plugins=[{node}]")
    assert told in str(raised.value) and f"command line: trainer.plugins=[{node}]" in str(raised.value)


def test_plugins_in_a_list_are_built() -> None:
    node = "{_target_:pytorch_lightning.plugins.io.AsyncCheckpointIO}"
    config: Any = OmegaConf.to_container(kdface.compose(*UNTESTED, f"trainer.plugins=[{node}]"))
    (plugin,) = build_arguments(config["trainer"])["plugins"]
    assert type(plugin).__name__ == "AsyncCheckpointIO"


def test_plain_lists_hold_no_parts() -> None:
    with pytest.raises(UserError, match=r"tags = .* is invalid \(item 0\)"):
        kdface.compose(*UNTESTED, "tags=[{_target_:kdface.heads.CosFace}]")
