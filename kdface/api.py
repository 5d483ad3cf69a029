"""The Python interface: `kdface.compose`, `kdface.build`, `kdface.load`; `kdface.runs` is in `kdface.runs.rows`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from kdface.errors import UserError

if TYPE_CHECKING:
    import torch
    from omegaconf import DictConfig

    from kdface.lightning import FaceData
    from kdface.methods import Method
    from kdface.recogniser import Recogniser


def compose(*overrides: str | Sequence[str], config_dirs: Sequence[str | Path] = ()) -> DictConfig:
    """Compose, resolve and check the configuration that `kdface train OVERRIDES` would use.

    Args:
        overrides: as on the command line: "experiment=demo", "seed=1"; or one list of them, as Hydra's compose takes.
        config_dirs: additional config folders, as --config-dir.

    Raises:
        UserError: the configuration is invalid; the message names the nearest valid key.
    """
    from omegaconf import OmegaConf

    from kdface.config.compose import compose as composed
    from kdface.config.paths import expand_home

    given = [word for entry in overrides for word in ([entry] if isinstance(entry, str) else entry)]
    words = [expand_home(override) for override in given]
    return OmegaConf.create(composed(words, [Path(config_dir) for config_dir in config_dirs]).tree)


def build(config: Mapping[str, Any] | DictConfig) -> tuple[Method, FaceData]:
    """Build the LightningModule and LightningDataModule of a configuration, for any `pytorch_lightning.Trainer`.

    The module includes its optimiser, its schedule and, with `ema.decay`, the average of its weights. The schedule's
    length is `trainer.max_epochs` of the configuration.

    Args:
        config: returned by `compose`, or by Hydra itself from conf/, or a resolved mapping such as a run's config.yaml,
            possibly modified.

    Raises:
        UserError: a value is invalid, or data is missing.
    """
    from omegaconf import DictConfig, OmegaConf

    from kdface.assembly.assemble import assemble
    from kdface.config.check import check_tree
    from kdface.config.compose import null_for_none
    from kdface.lightning import WeightAverage

    plain = OmegaConf.to_container(config, resolve=True) if isinstance(config, DictConfig) else config
    tree = null_for_none(cast(Mapping[str, Any], plain))
    check_tree(tree)
    if tree["seed"] is None:
        raise UserError("seed is null: a module built from Python needs one, such as seed=0.")
    job = assemble(tree, sharded=False)
    if job.settings.ema.decay is not None:
        job.method.callbacks = [WeightAverage(job.settings.ema.decay)]
    return job.method, job.data


def load(path: str | Path, device: torch.device | str = "auto") -> Recogniser:
    """Load a recogniser from a run folder, a checkpoint, a pack, or an exported file; see `kdface.recogniser`.

    No code in a file is executed.

    Args:
        path: of the run, checkpoint or file.
        device: `auto` selects the GPU if there is one.

    Raises:
        UserError: the path does not exist or cannot be read.
    """
    from kdface.recogniser.load import load as loaded

    return loaded(path, device)
