"""A run folder against the disk and against what others put into it: links, a full disk, a folder that goes away."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from kdface.atomic import write_atomic, write_json
from kdface.errors import UserError
from kdface.faces import Preprocessing
from kdface.runs.checkpoint import read_checkpoint, write_checkpoint
from kdface.runs.folder import RunFolder, prepare
from kdface.runs.records import Records
from kdface.sweeps import marks
from kdface.training.trainer import RunCheckpoints
from tests.conftest import UNTESTED, Kdface, only_run

ONE_STEP = ("train", *UNTESTED, "trainer.max_steps=1")


@pytest.mark.parametrize("name", [".lock", "metrics.jsonl", "config.yaml", "checkpoints", "figures/views.png"])
def test_a_link_that_leads_out_of_the_folder_is_not_written_through(kdface: Kdface, tmp_path: Path, name: str) -> None:
    assert kdface(*ONE_STEP).code == 0
    run = only_run(tmp_path / "runs")
    (run / "DONE").unlink()
    target = tmp_path / "precious"
    if (run / name).is_dir():
        shutil.move(run / name, target)
    else:
        shutil.copy(run / name, target)
        (run / name).unlink()
    (run / name).symlink_to(target)
    before = {file: file.read_bytes() for file in (target.rglob("*") if target.is_dir() else [target])}
    said = kdface("run", str(run))
    assert said.code == 2 and "is a link to a place outside its run folder" in said.err
    assert {file: file.read_bytes() for file in before} == before


def test_an_evaluation_is_not_written_through_a_link(kdface: Kdface, tmp_path: Path) -> None:
    assert kdface(*ONE_STEP).code == 0
    run = only_run(tmp_path / "runs")
    (tmp_path / "precious").mkdir()
    (run / "evaluations").symlink_to(tmp_path / "precious")
    said = kdface("evaluate", f"run={run}", "evaluation=toy_pairs")
    assert said.code == 2 and "is a link to a place outside its run folder" in said.err
    assert not list((tmp_path / "precious").iterdir())


def test_a_link_within_the_folder_is_the_users_own(kdface: Kdface, tmp_path: Path) -> None:
    assert kdface(*ONE_STEP).code == 0
    run = only_run(tmp_path / "runs")
    (run / "DONE").unlink()
    (run / "checkpoints" / "best.ckpt").symlink_to("last.ckpt")
    assert kdface("run", str(run)).code == 0


def test_a_file_and_its_name_are_on_the_disk_before_the_run_counts_on_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The content is flushed before it takes the name, and the folder, which holds the name, after: whatever moment a
    machine loses its power in, the file is the old one or the new one, whole."""
    did: list[str] = []
    flushed, renamed = os.fsync, os.replace

    def fsync(descriptor: int) -> None:
        did.append(f"flush {Path(os.readlink(f'/proc/self/fd/{descriptor}')).name.split('.')[-1]}")
        flushed(descriptor)

    def replace(old: Path, new: Path) -> None:
        did.append(f"name {Path(new).name}")
        renamed(old, new)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    folder = RunFolder(tmp_path / "run")
    write_json(folder.results, {"step": 1})
    assert did == ["flush tmp", "name results.json", "flush run"]
    did.clear()
    write_checkpoint({"state_dict": {}}, folder.last)
    assert did == ["flush tmp", "name last.ckpt", "flush checkpoints"]
    did.clear()
    folder.mark_done()
    assert did[-2:] == ["name DONE", "flush run"] and did[0] == "flush tmp"


def test_two_machines_write_to_one_folder_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers of processes are those of a machine: two that share a disk may have the same one."""
    monkeypatch.setattr(os, "getpid", lambda: 7)
    path = tmp_path / "results.json"

    def slow(temporary: Path) -> None:
        write_json(path, "of the other machine")
        assert path.read_text() == '"of the other machine"\n'
        temporary.write_text("ours")

    write_atomic(path, slow)
    assert path.read_text() == "ours" and os.listdir(tmp_path) == ["results.json"]


def test_a_lock_that_is_a_pipe_holds_nobody_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / ".lock")
    assert not marks.held(RunFolder(tmp_path))


def test_a_folder_that_was_removed_in_training_is_not_made_again(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    marks.note_failure(folder, "the disk is full")
    with pytest.raises(UserError, match="was removed during its run"):
        Records(folder.metrics).write("train", 1)
    with pytest.raises(UserError, match="was removed during its run"):
        RunCheckpoints(folder).save_checkpoint({}, folder.last)
    assert not folder.root.exists()


def test_the_rest_of_a_removed_run_does_not_block_its_command(kdface: Kdface, tmp_path: Path) -> None:
    assert kdface(*ONE_STEP).code == 0
    run = only_run(tmp_path / "runs")
    shutil.rmtree(run)
    run.mkdir()
    (run / "failed.json").write_text('{"error": "gone"}')
    assert kdface(*ONE_STEP).code == 0
    assert (run / "DONE").is_file()


def test_checkpoints_pass_through_no_other_folder(
    kdface: Kdface, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "tmp"
    other.mkdir()
    monkeypatch.setenv("TMPDIR", str(other))
    monkeypatch.setattr(tempfile, "tempdir", None)

    def refuse(*words: object, **more: object) -> None:
        raise AssertionError("a temporary file elsewhere")

    monkeypatch.setattr(tempfile, "mkstemp", refuse)
    assert kdface(*ONE_STEP).code == 0
    assert not list(other.iterdir())


@contextlib.contextmanager
def _files_of_at_most(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_told_and_leaves_the_checkpoint_of_before(tmp_path: Path, kdface: Kdface) -> None:
    path = tmp_path / "checkpoints" / "last.ckpt"
    about = {"format": 1, "step": 1, "batches": 1, "num_classes": 2, "preprocessing": Preprocessing().to_dict()}
    write_checkpoint({"state_dict": {}, "kdface": about}, path)
    with _files_of_at_most(1 << 16):
        with pytest.raises(OSError, match="File too large"):
            write_checkpoint({"state_dict": {"weight": torch.zeros(1 << 16)}}, path)
        said = kdface(*ONE_STEP, "backbone.embedding_size=512")
    assert read_checkpoint(path)["kdface"]["step"] == 1
    assert [file.name for file in path.parent.iterdir()] == ["last.ckpt"]
    assert said.code == 1 and "Traceback" not in said.err
    assert "File too large" in said.err and "rerun the same command" in said.err
    again = kdface(*ONE_STEP, "backbone.embedding_size=512")
    assert again.code == 0, again.err


@pytest.mark.parametrize("name", ["net.pt", "net.safetensors", "net.ts"])
def test_a_full_disk_is_told_by_export_and_leaves_no_file(kdface: Kdface, tmp_path: Path, name: str) -> None:
    assert kdface(*ONE_STEP).code == 0
    run = only_run(tmp_path / "runs")
    with _files_of_at_most(1 << 12):
        said = kdface("export", f"run={run}", f"out/{name}")
    assert said.code == 1 and said.err.startswith("error: ") and "File too large" in said.err
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_told(tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(UserError, match="Permission denied"):
        prepare(tmp_path / "locked" / "run", {}, {})


@pytest.mark.parametrize("words", [("export", "run={run}", "{file}/x.pt"), ("report", "{runs}", "-o", "{file}/x.html")])
def test_what_cannot_be_written_is_one_message(kdface: Kdface, tmp_path: Path, words: tuple[str, ...]) -> None:
    assert kdface(*ONE_STEP).code == 0
    run = only_run(tmp_path / "runs")
    (tmp_path / "file").write_text("no folder")
    said = kdface(*(word.format(run=run, runs=tmp_path / "runs", file=tmp_path / "file") for word in words))
    assert said.code in (1, 2) and said.err.startswith("error: ") and str(tmp_path / "file") in said.err
