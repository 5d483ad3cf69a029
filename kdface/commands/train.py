"""kdface train [OVERRIDES]: compose, check, and train one run, or a sweep with -m."""

from __future__ import annotations

import shlex
from pathlib import Path

from kdface.commands.arguments import Arguments, parse
from kdface.errors import UserError
from kdface.startup import without_collection

# `train=false test=true ckpt_path=...`: evaluation in the style of Hydra templates.
_SWITCHES = {"true": True, "false": False}
_NAMED = ("best", "last")  # checkpoints of the run named by the rest of the command line


def run(words: list[str]) -> int:
    """Run `kdface train` and return the exit code. Raises `UserError` for invalid arguments."""
    arguments = parse("train", words, "Train, evaluate and plot one run; rerun the same command to resume it.")
    if (checkpoint := _checkpoint_to_test(arguments)) is not None:
        return _test_alone(checkpoint, arguments)
    from omegaconf.errors import OmegaConfBaseException

    from kdface.config.compose import hydra_context, load
    from kdface.config.hydra_api import CONFIG, show

    if arguments.cfg or arguments.info:
        with hydra_context(arguments.config_dirs) as hydra:
            config = load(hydra, arguments.overrides).config
            try:
                if arguments.info:
                    hydra.show_info(arguments.info, config_name=CONFIG, overrides=arguments.overrides)
                elif arguments.cfg:
                    config.hydra.overrides.task = arguments.overrides
                    show(hydra, config, arguments.cfg, arguments.package, arguments.resolve)
            except OmegaConfBaseException as error:
                raise UserError(f"the configuration cannot be shown: {str(error).splitlines()[0]}") from None
        return 0
    if arguments.multirun:
        from kdface.commands.sweep import sweep

        return sweep(arguments)
    return _train_one(arguments)


def _checkpoint_to_test(arguments: Arguments) -> str | None:
    """Remove `train=`, `test=` and `ckpt_path=` from a command line; the checkpoint, if only a test is requested.

    Raises `UserError` for invalid combinations.
    """
    train, test = (_switch(name, arguments.take(name)) for name in ("train", "test"))
    checkpoint = arguments.take("ckpt_path")
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
    if arguments.multirun:
        raise UserError("train=false evaluates one run; -m is a sweep.", fix="kdface evaluate run=FOLDER")
    return "last" if checkpoint in (None, "null") else checkpoint


def _test_alone(checkpoint: str, arguments: Arguments) -> int:
    """Evaluate the given checkpoint, or one of the run that the command line would train."""
    from kdface.assembly.plugs import named_checkpoint
    from kdface.commands.evaluate import evaluate_run

    if checkpoint not in _NAMED:
        return evaluate_run(Path(checkpoint).expanduser(), Arguments(arguments.overrides, arguments.config_dirs))
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


def _switch(name: str, value: str | None) -> bool:
    if value is None:
        return True
    if value.lower() not in _SWITCHES:
        word = f"{name}={value}"
        raise UserError(f"{word}: {name} must be true or false.", origin=f"command line: {word}", fix=f"{name}=true")
    return _SWITCHES[value.lower()]


def require_one_job(arguments: Arguments) -> None:
    """Raise `UserError` for a search without -m."""
    for word in arguments.overrides:
        if word.lstrip("+").startswith(("hydra/sweeper=", "hparams_search=")) and not word.endswith("=null"):
            raise UserError(
                f"{word} is a search and needs -m.",
                origin=f"command line: {word}",
                fix=f"kdface train -m {shlex.join(arguments.overrides)}",
            )


def _train_one(arguments: Arguments) -> int:
    """Train one run. torchrun and srun call this on each rank: rank 0 creates the run folder, the others wait."""
    with without_collection():
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
        require_trainable(job)
        require_aligned(job.data.training.faces, composed.tree["dataset"]["on_error"])
        prepare_run(folder, composed, arguments)
        if is_new and launched_world() == 1:
            extend(folder, job)
    return execute(folder, asked=composed.tree, job=job)
