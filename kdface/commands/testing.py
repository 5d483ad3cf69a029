"""`kdface train train=false test=true ckpt_path=...`: evaluation in the style of Hydra templates."""

from __future__ import annotations

from pathlib import Path

from kdface.commands.arguments import Arguments
from kdface.errors import UserError

_SWITCHES = {"true": True, "false": False}
_NAMED = ("best", "last")  # checkpoints of the run named by the rest of the command line


def tests_alone(arguments: Arguments) -> bool:
    """Remove `train=`, `test=` and `ckpt_path=` from a training command line; true if it requests only a test.

    Raises `UserError` for invalid combinations.
    """
    given = {word.partition("=")[0].lstrip("+"): word for word in arguments.overrides}
    train, test = (_switch(given.get(name, f"{name}=true")) for name in ("train", "test"))
    if train and "ckpt_path" in given:
        raise UserError(
            f"{given['ckpt_path']}: training resumes from the last checkpoint in its run folder automatically.",
            origin=f"command line: {given['ckpt_path']}",
            fix="remove ckpt_path   (kdface run FOLDER resumes a run, train=false evaluates a checkpoint)",
        )
    if train and not test:
        raise UserError(
            "test=false is not used: tests are a group.", origin="command line: test=false", fix="evaluation=none"
        )
    if not train and not test:
        raise UserError("train=false test=false: nothing to do.", fix="test=true")
    if train:
        arguments.overrides = [word for word in arguments.overrides if word not in ("train=true", "test=true")]
    elif arguments.multirun:
        raise UserError("train=false evaluates one run; -m is a sweep.", fix="kdface evaluate run=FOLDER")
    return not train


def test_alone(arguments: Arguments) -> int:
    """Evaluate the given checkpoint, or one of the run that the command line would train."""
    from kdface.commands.evaluate import evaluate_run
    from kdface.config.plugs import named_checkpoint

    words = {word.partition("=")[0].lstrip("+"): word.partition("=")[2] for word in arguments.overrides}
    own = [word for word in arguments.overrides if word.partition("=")[0].lstrip("+") not in ("train", "test")]
    own = [word for word in own if not word.lstrip("+").startswith("ckpt_path=")]
    checkpoint = words.get("ckpt_path", "last")
    if checkpoint not in (*_NAMED, "null"):
        return evaluate_run(Path(checkpoint).expanduser(), Arguments(own, arguments.config_dirs))
    from kdface.commands.prepare import run_folder
    from kdface.config.compose import compose
    from kdface.reports.summary import shown

    composed = compose(own, arguments.config_dirs)
    folder = run_folder(composed)
    if not folder.last.is_file():
        raise UserError(
            f"train=false: {shown(folder.root)}, the run of this command line, has no checkpoint.",
            fix="train=true, or ckpt_path=PATH",
        )
    tested = [word for word in own if word.partition("=")[0].partition(".")[0] in ("paths", "hardware")]
    name = "last" if checkpoint == "null" else checkpoint
    return evaluate_run(named_checkpoint(folder.root, name), Arguments(tested, arguments.config_dirs))


def _switch(word: str) -> bool:
    name, _, value = word.lstrip("+").partition("=")
    if value.lower() not in _SWITCHES:
        raise UserError(f"{word}: {name} must be true or false.", origin=f"command line: {word}", fix=f"{name}=true")
    return _SWITCHES[value.lower()]
