"""What is exported embeds as the run does, without the run; of CKD that is the periocular network alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from kdface.backbones import iresnet_nano, load_weights
from kdface.config.load import load_run
from tests.conftest import TINY, Kdface, only_run

PLAIN = [word for word in TINY if not word.startswith("evaluation")] + ["evaluation=none"]
CKD = ["method=ckd", "augmentation.size=[32,64]"]


@pytest.mark.parametrize("words", [[], ["ema.decay=0.9"], CKD], ids=["plain", "averaged", "ckd"])
def test_the_exported_network_is_the_runs(kdface: Kdface, tmp_path: Path, words: list[str]) -> None:
    assert kdface("train", *PLAIN, *words, "trainer.max_steps=2", f"paths.runs={tmp_path}/runs").code == 0
    run = only_run(tmp_path / "runs")
    said = kdface("export", f"run={run}", "network.pt")
    assert said.code == 0, said.err
    content: dict[str, Any] = torch.load(tmp_path / "network.pt", weights_only=True)
    method = load_run(run).method
    height, width = method.preprocessing.size
    assert content["kdface"]["preprocessing"]["size"] == [height, width]
    alone = iresnet_nano(8, image_size=(height, width), channels=(8, 8, 8, 8), blocks=(1, 1, 1, 1)).eval()
    load_weights(alone, tmp_path / "network.pt")
    images = torch.randint(0, 256, (3, height, width, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(alone(method.pixels(images)), method.embed(images, method.preprocessing))


def test_what_is_not_clear_is_said(kdface: Kdface) -> None:
    said = kdface("export", "somewhere")
    assert said.code == 2 and "run=PATH" in said.err
