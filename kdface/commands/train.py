"""kdface train: compose, check, train, evaluate and plot one run, or a sweep with -m. Rerun the command to resume it.

OVERRIDE is GROUP=CHOICE, KEY=VALUE, +KEY=VALUE or ~KEY. train=false evaluates a checkpoint, ckpt_path=best|last|FILE.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from kdface.commands.arguments import Arguments, Parser
from kdface.errors import UserError
from kdface.startup import without_collection

if TYPE_CHECKING:
    from kdface.config.hydra_api import Hydra

_NAMED = ("best", "last")  # checkpoints of the run named by the rest of the command line


def parser() -> Parser:
    """The command line of `kdface train`: Hydra's, and evaluation in the style of Hydra templates."""
    made = Parser(
        "train", __doc__, keys={"train": bool, "test": bool, "ckpt_path": str}, overrides=lambda word: True
    ).config_dir()
    made.flag("--multirun", "-m", action="store_true", help="sweep over comma-separated values")
    made.flag("--cfg", "-c", choices=["job", "hydra", "all"], help="show the configuration and stop")
    made.flag("--resolve", action="store_true", help="with --cfg: resolve interpolations")
    made.flag("--package", "-p", help="with --cfg: show only this node")
    return made.flag("--info", nargs="?", const="all", help="show how the configuration is composed")


def run(words: list[str]) -> int:
    """Run `kdface train` and return the exit code. Raises `UserError` for invalid arguments."""
    arguments = parser().read(words)
    flags = arguments.values
    if (checkpoint := _checkpoint_to_test(arguments)) is not None:
        return _test_alone(checkpoint, arguments)
    from omegaconf.errors import OmegaConfBaseException

    from kdface.config.compose import hydra_context, load
    from kdface.config.hydra_api import CONFIG, show

    if flags.keys() & {"cfg", "info"}:
        with hydra_context(arguments.config_dirs) as hydra:
            overrides = _first_job(hydra, arguments) if "multirun" in flags else arguments.overrides
            config = load(hydra, overrides).config
            try:
                if "info" in flags:
                    hydra.show_info(flags["info"], config_name=CONFIG, overrides=overrides)
                else:
                    config.hydra.overrides.task = overrides
                    show(hydra, config, flags["cfg"], flags.get("package"), "resolve" in flags)
            except OmegaConfBaseException as error:
                raise UserError(f"the configuration cannot be shown: {str(error).splitlines()[0]}") from None
        return 0
    if "multirun" in flags:
        from kdface.commands.sweep import sweep

        return sweep(arguments)
    return _train_one(arguments)


def _first_job(hydra: Hydra, arguments: Arguments) -> list[str]:
    """The overrides of the first job of a sweep, which are told as a comment of YAML."""
    from kdface.commands.session import Session

    jobs = Session(hydra, arguments).plan()
    print(f"# the first of {len(jobs)} jobs: {shlex.join(jobs[0])}")
    return jobs[0]


def _checkpoint_to_test(arguments: Arguments) -> str | None:
    """The checkpoint, if `train=`, `test=` and `ckpt_path=` request only a test.

    Raises `UserError` for invalid combinations.
    """
    train, test = (arguments.values.get(name, True) for name in ("train", "test"))
    checkpoint = arguments.values.get("ckpt_path")
    if train and checkpoint is not None:
        raise UserError(
            f"ckpt_path={checkpoint}: training resumes from the last checkpoint in its run folder automatically.",
            origin=f"command line: ckpt_path={checkpoint}",
            fix="remove ckpt_path   (kdface run FOLDER resumes a run, train=false evaluates a checkpoint)",
        )
    if train and not test:
        raise UserError(
            "test=false is not used: tests are a group.", origin="command line: test=false", fix="evaluation=none"
        )
    if not train and not test:
        raise UserError("train=false test=false: nothing to do.", fix="test=true")
    if train:
        return None
    if "multirun" in arguments.values:
        raise UserError("train=false evaluates one run; -m is a sweep.", fix="kdface evaluate run=FOLDER")
    return "last" if checkpoint in (None, "null") else checkpoint


def _test_alone(checkpoint: str, arguments: Arguments) -> int:
    """Evaluate the given checkpoint, or one of the run that the command line would train."""
    from kdface.assembly.plugs import named_checkpoint
    from kdface.commands.evaluate import evaluate_run

    if checkpoint not in _NAMED:
        return evaluate_run(Path(checkpoint), Arguments(arguments.overrides, arguments.config_dirs))
    from kdface.commands.prepare import run_folder
    from kdface.config.compose import compose
    from kdface.terminal import shown

    folder = run_folder(compose(arguments.overrides, arguments.config_dirs))
    if not folder.last.is_file():
        raise UserError(
            f"train=false: {shown(folder.root)}, the run of this command line, has no checkpoint.",
            fix="train=true, or ckpt_path=PATH",
        )
    tested = [word for word in arguments.overrides if word.partition("=")[0].partition(".")[0] in ("paths", "hardware")]
    return evaluate_run(named_checkpoint(folder.root, checkpoint), Arguments(tested, arguments.config_dirs))


def require_one_job(arguments: Arguments) -> None:
    """Raise `UserError` for a search without -m."""
    for word in arguments.overrides:
        if word.lstrip("+").startswith(("hydra/sweeper=", "hparams_search=")) and not word.endswith("=null"):
            raise UserError(
                f"{word} is a search and needs -m.",
                origin=f"command line: {word}",
                fix=f"kdface train -m {shlex.join(arguments.overrides)}",
            )


@without_collection()
def _train_one(arguments: Arguments) -> int:
    """Train one run. torchrun and srun call this on each rank: rank 0 creates the run folder, the others wait."""
    from kdface.config.compose import compose

    composed = compose(arguments.overrides, arguments.config_dirs)  # before torch
    require_one_job(arguments)
    from kdface.assembly.assemble import assemble, settings_of
    from kdface.commands.prepare import prepare_run, run_folder
    from kdface.commands.run import execute
    from kdface.datasets.checks import require_aligned
    from kdface.runs.ranks import await_configuration, launched_rank, launched_world, require_launched
    from kdface.training.extension import extend
    from kdface.training.trainer import require_trainable

    if launched_world() > 1:
        require_launched(settings_of(composed.tree), composed.tree["seed"])
        if launched_rank() != 0:
            return execute(await_configuration(run_folder(composed), composed.tree))
    folder, job = run_folder(composed), None
    if not folder.done:
        is_new = not folder.config.is_file()
        job = assemble(composed.tree)  # fails on missing data before creating a folder
        require_trainable(job, folder, composed.origins)
        require_aligned(job.data.training.faces, composed.tree["dataset"]["on_error"])
        prepare_run(folder, composed, arguments)
        if is_new and launched_world() == 1:
            extend(folder, job)
    return execute(folder, asked=composed.tree, job=job)
