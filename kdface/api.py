"""The Python interface: `kdface.compose`, `kdface.build`, `kdface.load`, `kdface.runs`."""

from __future__ import annotations

import importlib.util
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


def compose(*overrides: str, config_dirs: Sequence[str | Path] = ()) -> DictConfig:
    """The configuration that `kdface train OVERRIDES` would use: composed, resolved, checked.

    Args:
        overrides: as on the command line: "experiment=demo", "seed=1".
        config_dirs: your own folders of YAML, as --config-dir.

    Raises:
        UserError: for every mistake, naming the nearest valid key.
    """
    from omegaconf import OmegaConf

    from kdface.config.compose import compose as composed

    return OmegaConf.create(composed(list(overrides), [Path(config_dir) for config_dir in config_dirs]).tree)


def build(config: Mapping[str, Any] | DictConfig) -> tuple[Method, FaceData]:
    """The LightningModule and the LightningDataModule of a configuration, for any `pytorch_lightning.Trainer`.

    Optimiser and schedule come with the module; `trainer.max_epochs` of the configuration is how long its schedule is.

    Args:
        config: of `compose`, or a resolved mapping such as config.yaml of a run; values may have been changed.

    Raises:
        UserError: a value does not fit, or data is not there.
    """
    from omegaconf import DictConfig, OmegaConf

    from kdface.config.assemble import assemble
    from kdface.config.check import check_tree
    from kdface.config.origin import Origins
    from kdface.config.schema import Configuration

    plain = OmegaConf.to_container(config, resolve=True) if isinstance(config, DictConfig) else config
    tree = dict(cast(Mapping[str, Any], plain))
    check_tree(tree, Configuration, Origins())
    if tree["seed"] is None:
        raise UserError("seed is null: a module built from Python needs one, such as seed=0.")
    job = assemble(tree)
    return job.method, job.data


def load(path: str | Path, device: torch.device | str = "auto") -> Recogniser:
    """A recogniser from a run folder, a checkpoint, a pack, or an exported file; see `kdface.recogniser`.

    Args:
        path: of the run, checkpoint or file.
        device: `auto` is the GPU if there is one.

    Raises:
        UserError: there is no such thing, or it cannot be read. Nothing in a file is executed.
    """
    from kdface.recogniser.load import load as loaded

    return loaded(path, device)


def runs(folder: str | Path = "runs", frame: bool | None = None) -> Any:
    """The finished and unfinished runs below a folder, one row each: run, name, seed, done, step, every metric of
    results.json by its name, and the swept and other settings by their dotted keys below `config.`.

    Args:
        folder: searched with the folders below it.
        frame: a pandas DataFrame, or a list of dicts; null: a DataFrame if pandas is installed.

    Raises:
        UserError: there is no such folder, or `frame=True` and no pandas.
    """
    from kdface.runs.rows import rows_below

    there = importlib.util.find_spec("pandas") is not None
    if frame and not there:
        raise UserError(
            "a DataFrame needs the package pandas.", expected='pip install "kdface[pandas]", or frame=False'
        )
    found = rows_below(Path(folder).expanduser())
    if not (there if frame is None else frame):
        return found
    import pandas

    return pandas.DataFrame(found)
