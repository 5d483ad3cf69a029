"""Loading weights: what is accepted, what is refused, and how it is told."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from kdface.backbones import inception_resnet_v1, iresnet18, iresnet50, iresnet100, iresnet_nano, load_weights, sfnet10
from kdface.backbones.iresnet import IResNet
from kdface.backbones.sfnet import Order
from kdface.errors import UserError

State = dict[str, Tensor]


def tiny(seed: int = 0, embedding_size: int = 8) -> IResNet:
    torch.manual_seed(seed)
    return iresnet_nano(embedding_size, 0.0, (32, 32), channels=(4, 4, 8, 8), blocks=(1, 1, 2, 1))


def same(a: IResNet, b: IResNet) -> bool:
    ours, theirs = a.state_dict(), b.state_dict()
    return all(torch.equal(value, theirs[key]) for key, value in ours.items())


FORMS: dict[str, Callable[[State], dict[str, Any]]] = {
    "bare": lambda state: state,
    "wrapped": lambda state: {"state_dict": state, "epoch": 3},
    "ddp": lambda state: {f"module.{key}": value for key, value in state.items()},
    "method": lambda state: {f"backbone.{key}": value for key, value in state.items()},
    "ddp of method": lambda state: {f"module.backbone.{key}": value for key, value in state.items()},
    "method of ddp": lambda state: {f"backbone.module.{key}": value for key, value in state.items()},
    "compiled": lambda state: {f"_orig_mod.{key}": value for key, value in state.items()},
    "compiled inside": lambda state: {
        "state_dict": {f"backbone._orig_mod.{key}": value for key, value in state.items()}
    },
    "layers compiled": lambda state: {
        key.replace("layer1.", "layer1._orig_mod."): value for key, value in state.items()
    },
    "with a head": lambda state: {
        "state_dict": {"head.kernel": torch.zeros(3), **{f"backbone.{key}": v for key, v in state.items()}}
    },
    "AdaFace": lambda state: {
        "state_dict": {**{f"model.{key}": v for key, v in state.items()}, "head.kernel": torch.zeros(3)}
    },
    "arcface_torch, to resume from": lambda state: {
        "epoch": 2,
        "state_dict_backbone": state,
        "state_dict_softmax_fc": {"weight": torch.zeros(3)},
        "state_optimizer": {"state": {}},
    },
    "without counters": lambda state: {k: v for k, v in state.items() if "num_batches" not in k},
}


@pytest.mark.parametrize("form", FORMS)
def test_accepted_forms(form: str, tmp_path: Path) -> None:
    source, target = tiny(0), tiny(1)
    assert not same(source, target)
    given = FORMS[form](source.state_dict())
    torch.save(given, tmp_path / "weights.pth")
    load_weights(target, tmp_path / "weights.pth")
    assert same(source, target)
    other = tiny(2)
    load_weights(other, given)
    assert same(source, other)


def test_a_classifier_beside_the_backbone_is_left_out() -> None:
    net = inception_resnet_v1(8, image_size=(75, 75))
    state = {key: torch.full_like(value, 2) for key, value in net.state_dict().items()}
    load_weights(net, {**state, "logits.weight": torch.zeros(10, 8), "logits.bias": torch.zeros(10)})
    assert net.last_linear.weight.eq(2).all()


def test_safetensors(tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    source, target = tiny(0), tiny(1)
    safetensors.save_file(source.state_dict(), tmp_path / "weights.safetensors")
    load_weights(target, tmp_path / "weights.safetensors")
    assert same(source, target)
    content = (tmp_path / "weights.safetensors").read_bytes()
    for broken in (content[:-7], content[:3], b"", content[:8] + b"\xff" + content[9:]):
        (tmp_path / "weights.safetensors").write_bytes(broken)
        with pytest.raises(UserError, match="cannot be read as safetensors"):
            load_weights(target, tmp_path / "weights.safetensors")


@pytest.mark.parametrize(("order", "theirs"), [("relu_add", "conv1"), ("add_relu", "conv")])
def test_both_branches_of_opensphere(order: Order, theirs: str) -> None:
    """Branch v0 names the convolution that opens a layer `conv1` in both orders, branch ICLR21 `conv` in one."""
    source = sfnet10(8, order=order, image_size=(32, 32))
    net = sfnet10(8, order=order, image_size=(32, 32))
    given = {re.sub(r"(layer\d\.0)\.conv1?\.", rf"\1.{theirs}.", key): v for key, v in source.state_dict().items()}
    assert given.keys() != source.state_dict().keys()
    load_weights(net, given)
    assert all(torch.equal(value, net.state_dict()[key]) for key, value in source.state_dict().items())


def test_misfit_names_the_keys_and_leaves_the_backbone_alone() -> None:
    net = tiny()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    state = {key: torch.zeros_like(value) for key, value in before.items()}
    del state["layer2.0.prelu.weight"]
    state["layer9.weight"] = torch.zeros(1)
    state["fc.bias"] = torch.zeros(5)
    with pytest.raises(UserError) as caught:
        load_weights(net, state)
    message = str(caught.value)
    assert "1 missing (layer2.0.prelu.weight)" in message
    assert "1 unexpected (layer9.weight)" in message
    assert "1 other shape (fc.bias (5,) instead of (8,))" in message
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


def test_long_lists_are_cut() -> None:
    with pytest.raises(UserError, match=r"\d+ missing \(\S+, \S+, \S+, \S+, and \d+ more\)"):
        load_weights(tiny(), {"fc.bias": torch.zeros(8)})


@pytest.mark.parametrize(("constructor", "embedding_size"), [(iresnet50, 512), (iresnet100, 256), (iresnet18, 128)])
def test_the_nearest_backbone_is_named(constructor: Callable[..., IResNet], embedding_size: int) -> None:
    with torch.device("meta"):
        state = constructor(embedding_size=embedding_size).state_dict()
    with pytest.raises(UserError) as caught:
        load_weights(tiny(), state)
    assert caught.value.nearest == f"{constructor.__name__} with embedding_size={embedding_size}"


def test_nothing_near_is_not_guessed() -> None:
    with pytest.raises(UserError) as caught:
        load_weights(tiny(), {"encoder.weight": torch.zeros(3, 3)})
    assert caught.value.nearest == ""


class Payload:
    """Unpickling this would make a folder."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.path,)


def test_nothing_in_a_file_is_executed(tmp_path: Path) -> None:
    torch.save({"fc.weight": Payload(str(tmp_path / "made"))}, tmp_path / "evil.pth")
    with pytest.raises(UserError, match=r"evil\.pth cannot be read as plain tensors"):
        load_weights(tiny(), tmp_path / "evil.pth")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"PK\x03\x04 cut"], ids=["empty", "html", "zip"])
def test_broken_files(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "broken.pth").write_bytes(content)
    with pytest.raises(UserError, match=r"broken\.pth cannot be read"):
        load_weights(tiny(), tmp_path / "broken.pth")


def test_a_file_cut_short(tmp_path: Path) -> None:
    torch.save(tiny().state_dict(), tmp_path / "whole.pth")
    (tmp_path / "cut.pth").write_bytes((tmp_path / "whole.pth").read_bytes()[:-2000])
    with pytest.raises(UserError, match=r"cut\.pth cannot be read"):
        load_weights(tiny(), tmp_path / "cut.pth")


def test_absent_file_and_wrong_contents(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no weight file .*absent\.pth"):
        load_weights(tiny(), tmp_path / "absent.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(UserError, match="holds a list"):
        load_weights(tiny(), tmp_path / "list.pth")
    with pytest.raises(UserError, match="'epoch' is a int"):
        load_weights(tiny(), {"epoch": 3})
    with pytest.raises(UserError, match="'state_dict' is a int"):
        load_weights(tiny(), {"state_dict": 3})


def test_values_that_are_not_finite_or_not_dense_are_refused() -> None:
    state = tiny(0).state_dict()
    target = tiny(1)
    for key, bad, told in (
        ("fc.weight", state["fc.weight"] / 0, r"1 of not finite values \(fc\.weight\)"),
        ("fc.weight", state["fc.weight"].to_sparse(), "not a dense tensor"),
    ):
        with pytest.raises(UserError, match=told):
            load_weights(target, {**state, key: bad})
        assert same(target, tiny(1))
