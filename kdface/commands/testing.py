"""`kdface train train=false test=true ckpt_path=...`: evaluation in the style of Hydra templates."""

from __future__ import annotations

from pathlib import Path

from kdface.commands.arguments import Arguments
from kdface.errors import UserError

_SWITCHES = {"true": True, "false": False}
_NAMED = ("best", "last")  # checkpoints of the run named by the rest of the command line


def checkpoint_to_test(arguments: Arguments) -> str | None:
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


def test_alone(checkpoint: str, arguments: Arguments) -> int:
    """Evaluate the given checkpoint, or one of the run that the command line would train."""
    from kdface.commands.evaluate import evaluate_run
    from kdface.config.plugs import named_checkpoint

    if checkpoint not in _NAMED:
        return evaluate_run(Path(checkpoint).expanduser(), Arguments(arguments.overrides, arguments.config_dirs))
    from kdface.commands.prepare import run_folder
    from kdface.config.compose import compose
    from kdface.reports.summary import shown

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
