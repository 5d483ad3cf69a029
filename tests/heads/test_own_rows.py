"""Each rank's rows of class weights have the bits of the whole draw, and the memory of its rows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from kdface.heads import AdaFace, ArcFace, CosFace, MagFace, PartialFC, UniFace
from kdface.heads.own_rows import OwnRows
from kdface.heads.partial_fc import shard_heads

HEADS = (CosFace, ArcFace, MagFace, AdaFace, UniFace)  # Xavier, normal, uniform and scaled, Kaiming


@pytest.mark.parametrize("make", HEADS)
@pytest.mark.parametrize(("size", "classes"), [(7, 50), (8, 101), (16, 33), (3, 5)])
@pytest.mark.parametrize("block", [1, 300])
def test_the_rows_of_each_rank_are_those_of_the_whole_draw(make: type, size: int, classes: int, block: int) -> None:
    torch.manual_seed(5)
    whole = make(size, classes)
    after = torch.get_rng_state()
    for rank in range(3):
        torch.manual_seed(5)
        with OwnRows(classes, rank, 3, block) as rows:
            part = make(size, classes)
        assert torch.equal(torch.get_rng_state(), after)
        assert torch.equal(
            part.weight[rows.mine.start : rows.mine.stop], whole.weight[rows.mine.start : rows.mine.stop]
        )


def test_other_tensors_are_drawn_as_ever() -> None:
    torch.manual_seed(0)
    expected = torch.empty(9, 4).normal_(), torch.empty(10, 4, 2).uniform_(), torch.randn(10, 4)
    torch.manual_seed(0)
    with OwnRows(10, 0, 2):
        found = torch.empty(9, 4).normal_(), torch.empty(10, 4, 2).uniform_(), torch.randn(10, 4)
    assert all(torch.equal(mine, other) for mine, other in zip(found, expected, strict=True))


def test_dividing_such_a_head_gives_the_part_of_a_whole_one() -> None:
    torch.manual_seed(1)
    whole = PartialFC(CosFace(8, 40))
    torch.manual_seed(1)
    with OwnRows(40, 1, 4):
        part = PartialFC(CosFace(8, 40))
    for head in (whole, part):
        shard_heads(head, 1, 4)
    assert torch.equal(part.weight, whole.weight)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak is Linux's")
def test_a_rank_never_holds_the_whole_matrix() -> None:
    """200 MiB of weights over 16 ranks: 12.5 MiB drawn, and as many when they are divided."""
    program = """
import torch
from kdface.heads import CosFace, PartialFC
from kdface.heads.own_rows import OwnRows
from kdface.heads.partial_fc import shard_heads
torch.empty(10, 4).normal_()
def peak():
    lines = open("/proc/self/status").read().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024
open("/proc/self/clear_refs", "w").write("5")
before = peak()
with OwnRows(204_800, 5, 16):
    head = PartialFC(CosFace(256, 204_800))
shard_heads(head, 5, 16)
assert head.weight.shape == (12_800, 256)
print(peak() - before)
"""
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert float(said.stdout) < 40
