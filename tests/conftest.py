"""What several tests share: a training run small enough for seconds, and the command line as users call it."""

from __future__ import annotations

import functools
import gc
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from kdface.cli import main
from tests.drawn import drawn_once
from tests.forked import Forked

# Six generated people of 32x32 pixels, a network of a few thousand weights: eight steps of eight images.
TINY = [
    "dataset=toy_faces",
    "dataset.people=6",
    "dataset.images_per_person=6",
    "dataset.size=[32,32]",
    "evaluation=toy_pairs",
    "evaluation.toy_pairs.dataset.size=[32,32]",
    "evaluation.toy_pairs.dataset.people=8",
    "evaluation.toy_pairs.dataset.images_per_person=4",
    "evaluation.toy_pairs.folds=2",
    "evaluation.toy_pairs.pairs_per_fold=8",
    "evaluation.toy_pairs.fars=[0.25]",
    "backbone=iresnet_nano",
    "backbone.channels=[8,8,8,8]",
    "backbone.blocks=[1,1,1,1]",
    "backbone.embedding_size=8",
    "loader.batch_size=8",
    "trainer.max_epochs=2",
    "trainer.log_every_n_steps=1",
    "hardware.threads=1",
    "optimizer.lr=0.01",
]
# The same run, tested on nothing.
UNTESTED = [*(word for word in TINY if not word.startswith("evaluation")), "evaluation=none"]


def pytest_collection_finish() -> None:
    """What was imported stays: no collection goes through it again, which takes a third of a second each time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Nothing is written into the home folder of whoever runs the tests."""
    os.environ["KDFACE_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(autouse=True, scope="session")
def fonts_cut_once() -> None:
    """Figures with the same letters share their font's subset: cutting it takes most of the time of writing a PDF."""
    from matplotlib.backends import _backend_pdf_ps

    whole = _backend_pdf_ps.get_glyphs_subset

    @functools.lru_cache(maxsize=256)
    def cut(file: Any, glyphs: frozenset[Any]) -> Any:
        return whole(file, set(glyphs)).__enter__()

    def subset(fontfile: Any, glyphs: Iterable[Any]) -> AbstractContextManager[Any]:
        return nullcontext(cut(fontfile, frozenset(glyphs)))

    _backend_pdf_ps.get_glyphs_subset = subset


@pytest.fixture(autouse=True, scope="module")
def figures_drawn_once(own_cache: None) -> Iterator[None]:
    """In this process and in those forked for it; not in tests of figures."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("matplotlib.figure.Figure.savefig", drawn_once(Path(os.environ["KDFACE_CACHE"]) / "drawn"))
        yield


@dataclass
class Said:
    """What a command printed and returned."""

    code: int
    out: str
    err: str


Kdface = Callable[..., Said]


@pytest.fixture
def kdface(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Kdface:
    """Call the command line in this process, from an empty folder, without anybody's data."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KDFACE_DATA", raising=False)

    def call(*words: str) -> Said:
        argv = list(sys.argv)
        try:
            code = main(words)
        finally:
            sys.argv = argv
        said = capsys.readouterr()
        return Said(code, said.out, said.err)

    return call


def command(*words: str, cwd: Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Call the command line as a process of its own."""
    process = Forked(*words, cwd=cwd, env=env)
    code = process.wait(300)
    return subprocess.CompletedProcess(words, code, process.stdout, process.stderr)


def only_run(runs: Path) -> Path:
    """The one run folder below a folder of runs."""
    found = [file.parent for file in runs.rglob("config.yaml")]
    assert len(found) == 1, found
    return found[0]


def teach_otherwise(run: Path) -> None:
    """As if a run had been trained anew and come to other weights."""
    content = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    for weight in content["state_dict"].values():
        weight += 1
    torch.save(content, run / "checkpoints" / "last.ckpt")


@pytest.fixture
def real_data() -> Path:
    """The folder of real faces that $KDFACE_DATA names; skips where there is none."""
    given = os.environ.get("KDFACE_DATA")
    if not given or not Path(given).is_dir():
        pytest.skip("real faces: set KDFACE_DATA to a folder that holds them")
    return Path(given).resolve()
