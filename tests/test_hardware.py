"""What the machine does fastest, as torch sees it and as the system's lists show it; start-up collects no garbage."""

from __future__ import annotations

import gc
import subprocess
import sys
from pathlib import Path

import pytest

from kdface import hardware
from kdface.errors import UserError
from kdface.hardware import Profile, detect, detect_by_system, profile_for
from kdface.startup import without_collection
from kdface.sweeps import slots
from tests.conftest import UNTESTED, Kdface

_FLAGS = "processor\t: 0\nflags\t\t: fpu sse2 avx512f{more}\n"


def _machine(folder: Path, device: str = "", more: str = "") -> tuple[Path, Path]:
    devices, processor = folder / "dev", folder / "cpuinfo"
    for name in ("null", "nvme0n1", device):
        (devices / name).mkdir(parents=True, exist_ok=True)
    processor.write_text(_FLAGS.format(more=more))
    return devices, processor


def test_the_systems_lists_give_the_profile_that_torch_gives() -> None:
    assert detect_by_system() == detect()


@pytest.mark.parametrize(("more", "amx"), [("", False), (" amx_bf16 amx_tile", True), (" amx_tiles", False)])
def test_the_processor_alone(more: str, amx: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = detect_by_system(*_machine(tmp_path, more=more))
    monkeypatch.setattr(hardware, "cpu_has_amx", lambda: amx)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert found == detect()


@pytest.mark.parametrize("device", ["nvidia0", "nvidiactl", "nvhost-gpu", "kfd", "dxg"])
def test_an_accelerator_is_left_to_torch(device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Profile("cuda", "gpu", "bf16-mixed", True, True, "asked")
    monkeypatch.setattr(hardware, "detect", lambda: asked)
    assert detect_by_system(*_machine(tmp_path, device)) is asked


def test_a_system_without_such_lists_is_left_to_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Profile("cuda", "gpu", "bf16-mixed", True, True, "asked")
    monkeypatch.setattr(hardware, "detect", lambda: asked)
    devices, processor = _machine(tmp_path)
    assert detect_by_system(tmp_path / "none", processor) is asked
    assert detect_by_system(devices, tmp_path / "none") is asked
    processor.write_text("Features\t: fp asimd\n")
    assert detect_by_system(devices, processor) is asked


def test_a_machine_without_accelerator_is_known_without_torch(tmp_path: Path) -> None:
    devices, processor = _machine(tmp_path)
    code = (
        "import sys; from pathlib import Path; import kdface.sweeps.process;"
        "from kdface.hardware import detect_by_system;"
        f"detect_by_system(Path({str(devices)!r}), Path({str(processor)!r})); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_gpus_are_counted_by_torch_if_there_may_be_some(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    for possible, seen in ((True, ["0", "1"]), (False, [])):
        monkeypatch.setattr(slots, "may_have_gpu", lambda found=possible: found)
        assert slots.visible_gpus() == seen
    devices, _ = _machine(tmp_path)
    assert not hardware.may_have_gpu(devices) and hardware.may_have_gpu(tmp_path / "none")
    (devices / "kfd").mkdir()
    assert hardware.may_have_gpu(devices)


def test_collection_is_off_inside_alone_and_comes_back_after_a_mistake() -> None:
    assert gc.isenabled()
    with pytest.raises(ValueError, match="told"), without_collection():
        assert not gc.isenabled()
        with without_collection():  # what is off already stays off
            assert not gc.isenabled()
        assert not gc.isenabled()
        raise ValueError("told")
    assert gc.isenabled()


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("trainer.accelerator=gpu", "torch finds no GPU"),
        ("trainer.accelerator=tpu", "Lightning's Trainer rejected"),
        ("trainer.precision=transformer-engine", "Lightning's Trainer rejected"),
    ],
)
def test_what_this_machine_cannot_do_is_refused_before_a_run_folder_is_made(
    word: str, told: str, kdface: Kdface, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "_sees_gpu", lambda: False)
    said = kdface("train", *UNTESTED, word)
    assert said.code == 2 and told in said.err, said.err
    assert not Path("runs").exists()


def test_a_gpu_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "_sees_gpu", lambda: False)
    with pytest.raises(UserError, match="torch finds no GPU") as told:
        profile_for("auto", "gpu")
    assert told.value.fix.startswith("trainer.accelerator=auto") and profile_for("auto", "auto")
    monkeypatch.setattr(hardware, "_sees_gpu", lambda: True)
    assert profile_for("plain", "gpu").accelerator == "gpu"
