"""kdface sync RUN [RUN ...] logger=CHOICE [logger.KEY=VALUE]: replay metrics.jsonl to a logger."""

from __future__ import annotations

from pathlib import Path

from kdface.commands.arguments import parse
from kdface.errors import UserError


def run(words: list[str]) -> int:
    arguments = parse("sync", words, "Replay runs to a logger:  RUN [RUN ...] logger=wandb [logger.project=NAME]")
    paths = [word for word in arguments.overrides if "=" not in word]
    overrides = [word for word in arguments.overrides if "=" in word]
    wrong = [word for word in overrides if word.lstrip("+").partition("=")[0].split(".")[0] != "logger"]
    if not paths or wrong or not any(word.startswith("logger=") for word in overrides):
        raise UserError(
            f"kdface sync {' '.join(words)}: not understood.",
            expected="kdface sync RUN [RUN ...] logger=CHOICE [logger.KEY=VALUE]",
            mend="kdface list logger",
        )
    if "logger=wandb" in overrides and not any(word.startswith("logger.mode=") for word in overrides):
        overrides.append("logger.mode=online")  # what is offline lies in the run folder already
    from kdface.config.compose import compose
    from kdface.runs.folder import find_run

    node = compose(overrides, arguments.config_dirs).tree["logger"]
    if node is None:
        raise UserError("logger=none: there is nothing to replay to.", mend="kdface list logger")
    for folder in [find_run(path) for path in paths]:
        print(f"{_replay(folder.root, node)} records of {folder.root} replayed")
    return 0


def _replay(root: Path, node: dict[str, object]) -> int:
    """Every record in its order. Unlike in training, a logger that fails is an error here: nothing else is lost."""
    from kdface.config.build import build
    from kdface.runs.folder import RunFolder
    from kdface.runs.records import read

    folder = RunFolder(root)
    if not folder.metrics.is_file():
        raise UserError(f"{root} has no metrics.jsonl yet.", mend=f"kdface run {root}")
    if str(node["_target_"]).endswith("TensorBoardLogger") and (root / "tensorboard").exists():
        raise UserError(f"{root}/tensorboard is there already.", mend=f"rm -r {root}/tensorboard")
    try:
        logger = build(node, "logger", folder=root, run_name=folder.name)
        count = 0
        for record in read(folder.metrics):
            logger.write(record)
            count += 1
        logger.close()
    except UserError:
        raise
    except Exception as error:  # each logger has errors of its own
        raise UserError(f"the logger failed at {root}: {error}.", mend="mend it and give the command again") from None
    return count
