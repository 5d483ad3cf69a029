"""A row's command, run as far as it takes to make its mistake; where messages are made is noted."""

from __future__ import annotations

import contextlib
import importlib
import io
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

import kdface
from kdface.cli import main
from kdface.errors import UserError
from tests.advice.row import Row

PACKAGE = Path(kdface.__file__).parent
_ROOMS = ("augmentations", "backbones", "datasets", "evaluation", "faces", "reports", "sweeps")
raised_at: set[tuple[str, int]] = set()  # (file in the package, line) of every message that was made


def call(row: Row, words: tuple[str, ...]) -> None:
    """A command without its last step, the printing of the error. `train` composes and checks."""
    if words[0] == "python":
        _evaluate(*words[1:])
        return
    if words[0] == "sweep-check" or (words[0] == "train" and "-m" in words and not row.run):
        from kdface.assembly.build import build
        from kdface.commands.session import Session
        from kdface.commands.train import parser
        from kdface.config.compose import hydra_context

        arguments = parser().read(["-m", *(word for word in words[1:] if word != "-m")])
        with hydra_context(arguments.config_dirs) as hydra:
            session = Session(hydra, arguments)
            session.check()
            jobs = [session.job(number, each) for number, each in enumerate(session.grid or [])]
            if jobs and session.ledger is not None:
                devices = max(job.devices for job in jobs)
                build(session.launcher, path="hydra.launcher", ledger=session.ledger, devices=devices)
        return
    if words[0] == "train" and not row.run:
        _prepare(words, row.build)
        return
    code = called(words)
    assert code == 0, f"exit code {code}"


def _prepare(words: tuple[str, ...], build: bool) -> None:
    """What `train` does before it trains."""
    from kdface.commands.train import parser
    from kdface.config.compose import compose

    arguments = parser().read(words[1:])
    composed = compose(arguments.overrides, arguments.config_dirs)
    tree = composed.tree
    if not build:
        return
    from kdface.assembly.assemble import assemble, settings_of
    from kdface.commands.prepare import run_folder
    from kdface.runs.ranks import require_launched
    from kdface.training.trainer import require_trainable

    require_launched(settings_of(tree), tree["seed"])
    job = assemble(tree)
    require_trainable(job, run_folder(composed), composed.origins)
    job.method.before_training(job.data.training)


def _evaluate(expression: str, *overrides: str) -> None:
    """An expression of kdface's parts, with overrides of its arguments by name."""
    for override in overrides:
        full, _, value = override.partition("=")
        key = full.rpartition(".")[2]
        literal = {"null": "None", "true": "True", "false": "False"}.get(value)
        new = literal or (value if re.fullmatch(r"[\d.e-]+", value) else repr(value))
        expression = re.sub(rf"\b{key}=('[^']*'|\([^)]*\)|[^,)]+)", f"{key}={new}", expression)
    names: dict[str, Any] = {name: importlib.import_module(f"kdface.{name}") for name in _ROOMS}
    for module in ("evaluation.edc", "evaluation.pairs", "reports.claims", "sweeps.slots"):
        importlib.import_module(f"kdface.{module}")
    parts = importlib.import_module("tests.advice.parts")
    eval(expression, {"np": np, "torch": torch, "Path": Path, "parts": parts, **names})


def called(words: tuple[str, ...]) -> int:
    """`kdface.cli.main`, with the message of a mistake raised instead of printed."""
    argv, printed = list(sys.argv), io.StringIO()
    with raised_messages() as raised:
        try:
            with contextlib.redirect_stderr(printed):
                code = main(words)
        finally:
            sys.argv = argv
        told = [error for error in raised if error.problem.splitlines()[0] in printed.getvalue()]
    if code and told:
        raise told[-1]
    return code


@contextlib.contextmanager
def raised_messages() -> Iterator[list[UserError]]:
    """The messages made meanwhile, in their order; where they were made is kept in `raised_at`."""
    made: list[UserError] = []
    original = UserError.__init__

    def noting(self: UserError, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        made.append(self)
        frame = sys._getframe(1)
        file = Path(frame.f_code.co_filename)
        if file.is_relative_to(PACKAGE):
            raised_at.add((file.relative_to(PACKAGE).as_posix(), frame.f_lineno))

    UserError.__init__ = noting  # type: ignore[method-assign]
    try:
        yield made
    finally:
        UserError.__init__ = original  # type: ignore[method-assign]
