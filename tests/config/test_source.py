"""Signatures read from source are those of the imported parts, and composing imports no torch."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
import types
import typing
from pathlib import Path
from typing import Any

import pytest

from kdface.config.check import fits
from kdface.config.compose import compose
from kdface.config.locate import HYDRA_PARTS, locate, parameters
from kdface.config.paths import conf_folder
from kdface.config.source import _Opaque, attribute, constant, signature, trusted_signature
from tests.conftest import TINY

OTHERS = (
    "torch.optim.Adam",
    "torch.optim.lr_scheduler.StepLR",
    "pytorch_lightning.callbacks.EarlyStopping",
    "pytorch_lightning.callbacks.ModelCheckpoint",
    "pytorch_lightning.loggers.CSVLogger",
)
TARGETS = sorted(
    {
        found
        for file in conf_folder().rglob("*.yaml")
        for found in re.findall(r"_target_: ([\w.]+)", file.read_text(encoding="utf-8"))
    }
    | set(OTHERS)
)


def _comparable(hint: Any) -> Any:
    """A hint with its classes by name: a dataclass that is not imported is another class with the same fields."""
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return hint.__name__, [field.name for field in dataclasses.fields(hint)]
    if inner := typing.get_args(hint):
        found = [_comparable(part) for part in inner]
        kind = typing.get_origin(hint)
        # equal unions share one object, whose order is that of whichever was made first
        return kind, sorted(found, key=repr) if kind in (typing.Union, types.UnionType) else found
    return hint


def _opaque(hint: Any) -> bool:
    inner = typing.get_args(hint)
    return isinstance(hint, _Opaque) or any(map(_opaque, hint if isinstance(hint, list) else inner))


@pytest.mark.parametrize("target", TARGETS)
def test_a_signature_is_that_of_the_imported_part(target: str) -> None:
    path = next((node for node, targets in HYDRA_PARTS.items() if target in targets), "")
    read, imported = signature(target, path=path), parameters(locate(target, path=path))
    assert list(read) == list(imported) and read.any_key == imported.any_key
    for name, parameter in imported.items():
        assert read[name].required == parameter.required, name
        computed = isinstance(read[name].default, str) and "(" in read[name].default  # of the environment, say
        if not computed and (parameter.default is None or isinstance(parameter.default, int | float | bool)):
            assert read[name].default == parameter.default, name
        if not _opaque(read[name].hint) and parameter.hint is not Any:  # Any: a name imported for type checking only
            assert _comparable(read[name].hint) == _comparable(parameter.hint), name


def test_the_trainer_is_read() -> None:
    import pytorch_lightning as pl

    read, imported = trusted_signature("pytorch_lightning", "Trainer"), parameters(pl.Trainer)
    assert list(read) == list(imported)
    assert {name: parameter.default for name, parameter in read.items()} == {
        name: parameter.default for name, parameter in imported.items()
    }


def test_what_parts_say_of_themselves_is_read() -> None:
    assert attribute("kdface.augmentations.SyntheticMask", "views") == ("clean", "masked")  # inherited
    assert attribute("kdface.methods.AIKD", "needs_head") is False
    assert attribute("kdface.methods.SphereFaceR", "needs_head") is True
    assert attribute("kdface.heads.CosFace", "ADDED_LATER") == {"gradient": "detached"}
    assert attribute("kdface.heads.ArcFace", "ADDED_LATER", {}, inherited=False) == {}
    assert constant("kdface.heads.spherefacer", "PUBLISHED")["hard"] == (60.0, 50.0)


@pytest.mark.parametrize(
    "words",
    [
        ["train", "experiment=demo", "lr=0.1"],
        ["train", "head.margin=abc"],
        ["train", "experiment=maskinv/small_hg", "--cfg", "job"],
        ["config", "why", "head.margin"],
        ["list", "head"],
        ["--help"],
    ],
)
def test_a_mistake_and_the_configuration_are_shown_without_torch(words: list[str], tmp_path: Path) -> None:
    code = f"import sys; from kdface.cli import main; main({words!r}); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True).returncode == 0


@pytest.mark.parametrize(
    ("words", "node", "made"),
    [
        (
            ["scheduler._target_=torch.optim.lr_scheduler.StepLR", "scheduler.step_size=10"],
            "scheduler",
            {"_target_": "torch.optim.lr_scheduler.StepLR", "step_size": 10},
        ),
        (
            ["optimizer._target_=torch.optim.RMSprop", "optimizer.alpha=0.9"],
            "optimizer",
            {"_target_": "torch.optim.RMSprop", "lr": 0.01, "momentum": 0.9, "weight_decay": 5e-4, "alpha": 0.9},
        ),
        (
            ["backbone={_target_: kdface.backbones.iresnet18, embedding_size: 64}"],
            "backbone",
            {"_target_": "kdface.backbones.iresnet18", "embedding_size": 64, "dropout": 0.0},
        ),
        (
            ["head._target_=kdface.heads.ArcFace", "head.margin=0.4"],
            "head",
            {"_target_": "kdface.heads.ArcFace", "margin": 0.4, "gradient": "detached"},
        ),
    ],
)
def test_a_part_by_its_target_takes_the_values_that_it_knows(words: list[str], node: str, made: dict[str, Any]) -> None:
    assert compose([*(word for word in TINY if not word.startswith("backbone")), *words]).tree[node] == made


PLUGIN = """
from __future__ import annotations
from dataclasses import dataclass, field
from kdface.losses.transfer import Transfer

@dataclass(frozen=True)
class Net:
    needs_teacher = False
    source: str
    kids: list["Net"] = field(default_factory=list)
    n: "int" = 3
    names: tuple[str, ...] = field(default=())

class Plain:
    def __init__(self, kids: list["Net"], size: dict[str, "int"] | None = None) -> None: ...
"""


def test_a_dataclass_may_use_any_name_and_refer_to_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "selfmade.py").write_text(PLUGIN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KDFACE_PLUGINS", "selfmade")
    read = signature("selfmade.Net")
    assert {name: (parameter.required, parameter.default) for name, parameter in read.items()} == {
        "source": (True, None),
        "kids": (False, None),
        "n": (False, 3),
        "names": (False, ()),
    }
    assert (read["source"].hint, read["kids"].hint, read["n"].hint) == (str, list[Any], int)
    assert attribute("selfmade.Net", "needs_teacher") is False
    assert fits(read["kids"].hint, [{"n": 1}]) and not fits(read["n"].hint, "abc")
    plain = signature("selfmade.Plain")
    assert fits(plain["size"].hint, {"a": 1}) and not fits(plain["size"].hint, {"a": "b"})
    assert fits(plain["kids"].hint, []) and not fits(plain["kids"].hint, 3)
    assert "selfmade" not in sys.modules
