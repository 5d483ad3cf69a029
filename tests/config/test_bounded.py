"""Files of a user's folder that Hydra's own reading would not survive are named before it reads any."""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from kdface.config.compose import hydra_context
from kdface.config.files import require_bounded
from kdface.errors import UserError

BOMB = "a: &a [1]\n" + "".join(f"{c}: &{c} [{','.join([f'*{b}'] * 10)}]\n" for b, c in pairwise("abcdefghij"))


def _written(text: str) -> Callable[[Path], object]:
    return lambda file: file.write_text(text)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (_written(BOMB), "by its aliases"),
        (_written("x: " + "[" * 2000 + "]" * 2000), "nested more than 50 deep"),
        (_written("x: !!timestamp a"), "cannot be read"),
        (_written("x: &x [*x]"), "to its own anchor"),
        (os.mkfifo, "a pipe or a device"),
        (lambda file: file.symlink_to("/dev/zero"), "a pipe or a device"),
    ],
    ids=["aliases", "depth", "tag", "itself", "pipe", "device"],
)
def test_a_file_that_would_not_be_survived_is_named(tmp_path: Path, make: Callable[[Path], object], why: str) -> None:
    file = tmp_path / "experiment" / "paper" / "x.yaml"
    file.parent.mkdir(parents=True)
    make(file)
    with pytest.raises(UserError, match=why) as caught, hydra_context([tmp_path]):
        pass
    assert str(file) in caught.value.problem


def test_what_hydra_tells_itself_is_left_to_it(tmp_path: Path) -> None:
    """No YAML, no file behind a link, other groups' folders: it may not be chosen at all."""
    (tmp_path / "head").mkdir()
    (tmp_path / "head" / "x.yaml").write_text("x: [")
    (tmp_path / "head" / "y.yaml").symlink_to("nowhere")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "x.yaml").write_text(BOMB)
    require_bounded(tmp_path)
