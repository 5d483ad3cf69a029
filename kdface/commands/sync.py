"""kdface sync: replay the records and figures of runs to a logger:  logger=wandb [logger.wandb.project=NAME]"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kdface.commands.arguments import Parser, is_override
from kdface.errors import UserError

if TYPE_CHECKING:
    from kdface.runs.folder import RunFolder


def run(words: list[str]) -> int:
    """Run `kdface sync` and return the exit code. Raises `UserError` for invalid arguments."""
    arguments = Parser("sync", __doc__, "RUN ...", overrides=is_override).config_dir().read(words)
    overrides = arguments.overrides
    wrong = [word for word in overrides if word.lstrip("+").partition("=")[0].split(".")[0] != "logger"]
    if wrong or not any(word.startswith("logger=") for word in overrides):
        raise UserError(
            f"kdface sync {' '.join(words)}: invalid arguments.",
            expected="kdface sync RUN [RUN ...] logger=CHOICE [logger.CHOICE.KEY=VALUE]",
            fix="kdface list logger",
        )
    if "logger=wandb" in overrides and not any(word.startswith("logger.wandb.offline=") for word in overrides):
        overrides.append("logger.wandb.offline=false")  # an offline copy is already in the run folder
    from kdface.config.compose import compose
    from kdface.runs.folder import find_run

    nodes = compose(overrides, arguments.config_dirs).tree["logger"]
    if nodes is None:
        raise UserError("logger=none: choose a logger to replay to.", fix="kdface list logger")
    for folder in [find_run(path) for path in arguments.things]:
        print(f"{_replay(folder, nodes)} records of {folder.root} replayed")
    return 0


def _replay(folder: RunFolder, nodes: dict[str, dict[str, Any]]) -> int:
    """Replay the configuration, every record in order, and the figures. Unlike in training, a failing logger raises
    an error, since nothing else would be lost."""
    from kdface.assembly.build import build
    from kdface.lightning.loggers import close, finish, placed, replay, started, with_allowed_names
    from kdface.runs.records import read

    if not folder.metrics.is_file():
        raise UserError(f"{folder.root} has no metrics.jsonl yet.", fix=f"kdface run {folder.root}")
    if "tensorboard" in nodes and (folder.root / "tensorboard").exists():
        raise UserError(f"{folder.root}/tensorboard already exists.", fix=f"rm -r {folder.root}/tensorboard")
    count, metrics = 0, folder.read_results()["metrics"] if folder.results.is_file() else {}
    for node in nodes.values():
        try:
            placement = placed(node["_target_"], node, folder.root, folder.name)
            logger = with_allowed_names(build({**node, **placement}, "logger"))
            started(logger, folder.root)
            logger.log_hyperparams(folder.read_config())
            count = replay(logger, read(folder.metrics))
            finish(logger, folder.root, sorted(folder.figures.glob("*.png")), metrics, nodes)
            close(logger, "success")
        except UserError:
            raise
        except Exception as error:  # every logger raises its own errors
            raise UserError(
                f"the logger failed at {folder.root}: {error}.", fix="fix the cause and rerun the command"
            ) from None
    return count
