"""Every head of conf/head trains every kind of backbone."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import yaml
from torch import nn

from kdface.assembly.build import build
from kdface.config.paths import choices, conf_folder
from kdface.datasets.loading import Batch
from kdface.faces import Preprocessing
from kdface.methods import SphereFaceR, Views

HEADS = [name for name in choices("head") if name != "none"]
SIDES = {"iresnet_nano": 32, "sfnet20": 16, "mobilefacenet": 16, "inception_resnet_v1": 75}  # the smallest they allow
SIZE, PEOPLE, IMAGES = 16, 6, 4


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def node(group: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((conf_folder() / group / f"{name}.yaml").read_text())
    return found


@pytest.fixture(scope="module", params=SIDES)
def backbone(request: pytest.FixtureRequest) -> tuple[nn.Module, int]:
    torch.manual_seed(0)
    side = SIDES[request.param]
    values = {**node("backbone", request.param), "embedding_size": SIZE}
    return build(values, "backbone", image_size=(side, side)), side


@pytest.mark.parametrize("name", HEADS)
def test_two_steps_move_the_weights_of_every_layer(backbone: tuple[nn.Module, int], name: str) -> None:
    torch.manual_seed(1)
    network, side = copy.deepcopy(backbone[0]), backbone[1]
    head = build(node("head", name), "head", embedding_size=SIZE, num_classes=PEOPLE)
    method = SphereFaceR(network, head, Preprocessing(size=(side, side)), Views("image"))
    trained = {key: value for key, value in method.named_parameters() if value.requires_grad}
    assert {key.split(".")[0] for key in trained} == {"backbone", "head"}
    before = {key: value.detach().clone() for key, value in trained.items()}
    optimizer = torch.optim.SGD(trained.values(), lr=0.01)
    for _ in range(2):
        images = torch.randint(0, 256, (IMAGES, side, side, 3), dtype=torch.uint8)
        batch = Batch({"image": images}, torch.randint(PEOPLE, (IMAGES,)), list("abcd"), [])
        (term,) = method.terms(batch).values()
        assert torch.isfinite(term.value)
        optimizer.zero_grad()
        term.value.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    for key, value in trained.items():
        assert torch.isfinite(value).all(), key
        if value.ndim > 1 or key.startswith("head."):  # a bias ahead of a BatchNorm has no gradient
            assert not torch.equal(value, before[key]), key
