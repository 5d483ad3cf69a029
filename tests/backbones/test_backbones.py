"""What holds for every backbone. Adding one adds a row; what is peculiar to one is in its own file."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from pydantic import ValidationError, validate_call
from torch import nn

import kdface.backbones as room
from kdface.backbones import Backbone
from kdface.errors import UserError

CONF = Path(__file__).parents[2] / "conf" / "backbone"


@dataclass(frozen=True)
class Row:
    """A public constructor, what its state dict holds by default, and a small oblong size to run it at."""

    name: str
    entries: int
    parameters: int
    small: tuple[int, int] = (48, 32)
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def constructor(self) -> Callable[..., Backbone]:
        made: Callable[..., Backbone] = getattr(room, self.name)
        return made

    def __str__(self) -> str:
        return "-".join([self.name, *(f"{key}={value}" for key, value in self.options.items())])


BN = {"norm": True, "order": "add_relu"}
# iResNet and SFNet: the counts of their published code. Squeeze-and-excitation adds 2 keys and
# C^2 / 8 weights a block: 2 (64^2 + 128^2 + 256^2 + 512^2) / 8 for two blocks a layer.
# iresnet_nano, mobilefacenet: closed forms in their own test files. nn2: table 2 of FaceNet, with biases;
# nn4, nns2: counted by hand in test_nn2.
ROWS = [
    Row("iresnet18", 187, 24_025_600),
    Row("iresnet18", 187 + 2 * 8, 24_025_600 + 87_040, options={"squeeze_excitation": True}),
    Row("iresnet34", 331, 34_139_328),
    Row("iresnet50", 475, 43_590_848),
    Row("iresnet100", 925, 65_156_160),
    Row("iresnet_nano", 43 + 18 * 6, 1_624_912, small=(64, 96)),
    Row("sfnet4", 10, 14_396_544),
    Row("sfnet10", 22, 17_052_032),
    Row("sfnet20", 42, 24_500_992),
    Row("sfnet20", 42, 24_500_992, options={"order": "add_relu"}),
    Row("sfnet20", 127, 24_506_688, options=BN),
    Row("sfnet36", 74, 34_605_440),
    Row("sfnet64", 130, 50_020_864),
    Row("sfnet64", 391, 50_036_544, options=BN),
    Row("mobilefacenet", 333, 1_200_512),
    # InsightFace's mbf and mbf_large: the counts of their published code
    Row("mobilefacenet_wide", 333, 2_059_520),
    Row("mobilefacenet_wide", 606, 6_314_880, options={"width": 4, "blocks": (2, 8, 12, 4)}),
    Row("inception_resnet_v1", 714, 23_482_624, small=(75, 91)),
    Row("nn1", 2 * (11 + 3), 140_025_664, small=(48, 32)),  # table 1 of FaceNet, with biases
    Row("nn2", 120, 7_456_304, small=(96, 64)),
    Row("nn4", 120 - 3 * 4, 6_607_888, small=(64, 96)),
    Row("nns2", 120, 228_580, small=(96, 64)),
    # 170 = stem 6, eight blocks of 16, four shortcuts of 6, end 12; the spec counts a classifier of 1054 people along
    Row("ckd_resnet18", 170, 28_581_718 - 1054 * 513, small=(32, 48)),
]

# The deepest nets hold no code that their smaller kin do not: they are traced by shape, not computed.
DEEP = [row for row in ROWS if row.parameters > 30_000_000]


def on_meta(row: Row, **given: Any) -> Backbone:
    with torch.device("meta"):
        return row.constructor(**row.options, **given)


@pytest.fixture(scope="module", params=[row for row in ROWS if row not in DEEP], ids=str)
def small(request: pytest.FixtureRequest) -> tuple[Backbone, torch.Tensor]:
    """A backbone for small images with a 24-d embedding, and three images."""
    row: Row = request.param
    torch.manual_seed(0)
    net = row.constructor(embedding_size=24, image_size=row.small, **row.options)
    return net, torch.randn(3, 3, *row.small)


@pytest.fixture(scope="module", params=ROWS, ids=str)
def whole(request: pytest.FixtureRequest) -> tuple[Backbone, Row]:
    """A backbone as its defaults make it, without memory behind it."""
    return on_meta(request.param), request.param


def test_state_dict_has_the_published_size(whole: tuple[Backbone, Row]) -> None:
    net, row = whole
    assert len(net.state_dict()) == row.entries
    assert sum(parameter.numel() for parameter in net.parameters()) == row.parameters


@pytest.mark.parametrize("row", DEEP, ids=str)
def test_deep_nets_run_at_another_image_size(row: Row) -> None:
    net = on_meta(row, embedding_size=24, image_size=row.small)
    with torch.no_grad():
        assert net(torch.empty(3, 3, *row.small, device="meta")).shape == (3, 24)


def test_embedding_size_and_image_size_are_kept(small: tuple[Backbone, torch.Tensor]) -> None:
    net, images = small
    assert net.embedding_size == 24
    assert net.image_size == tuple(images.shape[2:])
    assert net(images).shape == (3, 24)


def test_stages_hold_every_parameter_once(whole: tuple[Backbone, Row]) -> None:
    net, _ = whole
    before = list(net.state_dict())
    stages = net.stages()
    held = [id(parameter) for _, stage in stages for parameter in stage.parameters()]
    assert sorted(held) == sorted(id(parameter) for parameter in net.parameters())
    assert stages[-1][0] == "embedding"
    assert len({name for name, _ in stages}) == len(stages) >= 5
    assert list(net.state_dict()) == before


def test_stages_in_turn_are_the_forward_pass(small: tuple[Backbone, torch.Tensor]) -> None:
    net, images = small
    net.eval()
    with torch.no_grad():
        features = images
        for _, stage in net.stages():
            features = stage(features)
        assert torch.equal(features, net(images))


def test_every_trainable_parameter_gets_a_gradient(small: tuple[Backbone, torch.Tensor]) -> None:
    net, images = small
    net.train()
    net.zero_grad()
    embeddings = net(images)
    # A fixed direction: the plain sum has no gradient behind a BatchNorm.
    (embeddings * torch.randn(embeddings.shape, generator=torch.Generator().manual_seed(1))).sum().backward()
    for name, parameter in net.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name
            # A gate of four hidden units may start with all of them closed by their drawn biases.
            assert parameter.grad.abs().max() > 0 or ".se." in name, name
        else:
            assert parameter.grad is None, name


def test_evaluation_is_deterministic_and_looks_at_one_image_at_a_time(
    small: tuple[Backbone, torch.Tensor],
) -> None:
    net, images = small
    net.eval()
    with torch.no_grad():
        together = net(images)
        assert torch.equal(together, net(images))
        assert not torch.allclose(together[0], together[1])
        torch.testing.assert_close(net(images[1:2]), together[1:2], rtol=1e-3, atol=1e-4)


def part(name: str, path: str) -> nn.Module:
    return on_meta(next(row for row in ROWS if row.name == name)).get_submodule(path)


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: on_meta(Row("sfnet10", 0, 0)), (2, 3, 112, 112)),
        (lambda: part("mobilefacenet", "conv_5"), (2, 128, 7, 7)),
        (lambda: part("inception_resnet_v1", "repeat_1.0"), (2, 256, 17, 17)),
        (lambda: part("inception_resnet_v1", "mixed_6a"), (2, 256, 17, 17)),
        (lambda: part("nn2", "inception3"), (2, 192, 28, 28)),
    ],
    ids=["sfnet10", "mobilefacenet", "residual", "reduction", "nn2"],
)
def test_compiles_without_a_graph_break(make: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
    """A whole net, and of the others one of each kind of block: tracing whole ones takes too long."""
    torch._dynamo.reset()
    module = make()
    images = torch.empty(shape, device="meta")
    compiled = torch.compile(module, backend="eager", fullgraph=True)  # raises where the graph breaks
    assert compiled(images).shape == module(images).shape


def test_compiled_training_step_is_the_plain_one() -> None:
    torch._dynamo.reset()
    torch.manual_seed(0)
    net = room.iresnet_nano(8, 0.0, (32, 32), channels=(4, 4, 4, 4), blocks=(1, 1, 1, 1))
    images, direction = torch.randn(4, 3, 32, 32), torch.randn(4, 8)
    gradients = []
    for model in (net, torch.compile(net, backend="eager", fullgraph=True)):
        net.zero_grad()
        (model(images) * direction).sum().backward()
        gradients.append([p.grad for p in net.parameters() if p.requires_grad])
    for plain, compiled in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, compiled, rtol=1e-3, atol=1e-4)


def test_unfit_images_are_named(whole: tuple[Backbone, Row]) -> None:
    net, row = whole
    height, width = net.image_size
    with pytest.raises(ValueError, match=rf"\(N, 3, {height}, {width}\); got \(1, 3, {width}, {height + 8}\)"):
        net(torch.empty(1, 3, width, height + 8, device="meta"))
    with pytest.raises(UserError, match="8x120 images"):
        on_meta(row, image_size=(8, 120))


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_signature_is_a_schema(row: Row) -> None:
    checked = validate_call(row.constructor)
    wrong: list[dict[str, Any]] = [{"embedding_size": 0}, {"embedding_size": "many"}, {"image_size": (112,)}]
    names = inspect.signature(row.constructor).parameters
    wrong += [{"dropout": 1.0}] if "dropout" in names else []
    wrong += [{"order": "relu"}] if "order" in names else []
    wrong += [{"blocks": (1, 0, 1, 1)}, {"channels": (8, 8, 8)}] if "blocks" in names else []
    for given in wrong:
        with pytest.raises(ValidationError), torch.device("meta"):
            checked(**given)


def test_every_constructor_has_a_row_and_a_choice() -> None:
    public = {name for name in room.__all__ if name not in {"Backbone", "load_weights"}}
    assert {row.name for row in ROWS} == public
    assert {path.stem for path in CONF.glob("*.yaml")} == public


@pytest.mark.parametrize("path", sorted(CONF.glob("*.yaml")), ids=lambda path: path.stem)
def test_choice_repeats_the_signature(path: Path) -> None:
    text = path.read_text()
    assert text.startswith("# ")
    assert all("  # " in line for line in text.splitlines()[2:])
    given = yaml.safe_load(text)
    module, name = given.pop("_target_").rsplit(".", 1)
    constructor = getattr(importlib.import_module(module), name)
    assert constructor is getattr(room, path.stem)
    defaults = {key: p.default for key, p in inspect.signature(constructor).parameters.items()}
    del defaults["image_size"]  # the dataset's to say
    assert given == {key: list(value) if isinstance(value, tuple) else value for key, value in defaults.items()}


def test_a_stage_can_be_frozen() -> None:
    net = room.iresnet_nano(embedding_size=8, image_size=(32, 32), channels=(4, 4, 4, 4), blocks=(1, 1, 1, 1))
    for name, stage in net.stages():
        stage.requires_grad_(name in {"layer4", "embedding"})
    trained = {name.split(".")[0] for name, parameter in net.named_parameters() if parameter.requires_grad}
    assert trained == {"layer4", "bn2", "fc", "features"}
