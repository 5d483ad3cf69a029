"""Inception-ResNet-v1 against the published key pattern, parameter counts per module and map sizes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from kdface.backbones import inception_resnet_v1
from kdface.backbones.inception_resnet_v1 import InceptionResnetV1
from kdface.errors import UserError


@pytest.fixture(scope="module")
def net() -> InceptionResnetV1:
    with torch.device("meta"):
        return inception_resnet_v1().eval()


def published_keys() -> set[str]:
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")

    def conv(name: str) -> set[str]:
        return {f"{name}.conv.weight", *(f"{name}.bn.{entry}" for entry in norm)}

    def block(name: str, lengths: tuple[int, ...]) -> set[str]:
        """Branches of so many convolutions each; a branch of one is not numbered."""
        found: set[str] = set()
        for index, length in enumerate(lengths):
            branch = f"{name}.branch{index}"
            for name_ in [branch] if length == 1 else [f"{branch}.{k}" for k in range(length)]:
                found |= conv(name_)
        return found

    def residual(name: str, lengths: tuple[int, ...]) -> set[str]:
        return block(name, lengths) | {f"{name}.conv2d.weight", f"{name}.conv2d.bias"}

    keys: set[str] = set()
    for stem in ("1a", "2a", "2b", "3b", "4a", "4b"):
        keys |= conv(f"conv2d_{stem}")
    for k in range(5):
        keys |= residual(f"repeat_1.{k}", (1, 2, 3)) | residual(f"repeat_3.{k}", (1, 3))
    for k in range(10):
        keys |= residual(f"repeat_2.{k}", (1, 3))
    keys |= block("mixed_6a", (1, 3)) | block("mixed_7a", (2, 2, 3)) | residual("block8", (1, 3))
    return keys | {"last_linear.weight"} | {f"last_bn.{entry}" for entry in norm}


def test_keys_are_facenet_pytorch_s(net: InceptionResnetV1) -> None:
    assert len(published_keys()) == 714
    assert set(net.state_dict()) == published_keys()


def test_parameters_of_each_module(net: InceptionResnetV1) -> None:
    published = {
        "conv2d_1a": 928,
        "conv2d_2a": 9_280,
        "conv2d_2b": 18_560,
        "conv2d_3b": 5_280,
        "conv2d_4a": 138_624,
        "conv2d_4b": 442_880,
        "repeat_1": 5 * 77_440,
        "mixed_6a": 1_710_080,
        "repeat_2": 10 * 690_048,
        "mixed_7a": 3_346_176,
        "repeat_3": 5 * 1_600_768,
        "block8": 1_600_768,
        "last_linear": 917_504,
        "last_bn": 1_024,
    }
    found = {name: sum(p.numel() for p in getattr(net, name).parameters()) for name in published}
    assert found == published
    assert len(list(net.parameters())) == 378


def test_maps_shrink_as_published(net: InceptionResnetV1) -> None:
    sides = []
    features = torch.empty(1, 3, 160, 160, device="meta")
    for names in list(net.layout.values())[:-1]:
        for name in names:
            features = net.get_submodule(name)(features)
            sides.append(features.shape[-1])
    assert sides == [79, 77, 77, 38, 38, 36, 17, 17, 8, 8, 3, 3, 3]


def test_smallest_image() -> None:
    with torch.device("meta"):
        small = inception_resnet_v1(image_size=(75, 75)).eval()
        assert small(torch.empty(1, 3, 75, 75)).shape == (1, 512)
        with pytest.raises(UserError, match="74x160"):
            inception_resnet_v1(image_size=(74, 160))


def test_blocks_follow_their_definition() -> None:
    """out = ReLU(x + scale * conv1x1(branches)) with scales .17, .10 and .20; at the end 1 and no ReLU."""
    torch.manual_seed(0)
    net = inception_resnet_v1(8, image_size=(75, 75)).eval()
    cases = [
        ("repeat_1.4", 256, 0.17),
        ("repeat_2.9", 896, 0.10),
        ("repeat_3.0", 1792, 0.20),
        ("block8", 1792, 1.0),
    ]
    for name, channels, scale in cases:
        block = net.get_submodule(name)
        x = torch.randn(1, channels, 4, 4)
        with torch.no_grad():
            branches = [child for key, child in block.named_children() if key.startswith("branch")]
            inner = torch.cat([plain(branch, x) for branch in branches], 1)
            weight, bias = block.get_parameter("conv2d.weight"), block.get_parameter("conv2d.bias")
            expected = x + scale * functional.conv2d(inner, weight, bias)
            expected = expected if name == "block8" else expected.clamp_min(0)
            torch.testing.assert_close(block(x), expected, rtol=1e-4, atol=1e-5)


def test_reductions_concatenate_in_the_published_order() -> None:
    torch.manual_seed(0)
    net = inception_resnet_v1(8, image_size=(75, 75)).eval()
    for name, channels in (("mixed_6a", 256), ("mixed_7a", 896)):
        x = torch.randn(1, channels, 7, 7)
        block = net.get_submodule(name)
        with torch.no_grad():
            branches = [child for child in block.children() if list(child.parameters())]
            expected = [plain(branch, x, halve=True) for branch in branches]
            expected.append(x.unfold(2, 3, 2).unfold(3, 3, 2).amax((-1, -2)))
            torch.testing.assert_close(block(x), torch.cat(expected, 1), rtol=1e-4, atol=1e-5)


def plain(branch: nn.Module, x: Tensor, halve: bool = False) -> Tensor:
    """Convolution, BatchNorm (eps 1e-3) at its start values and ReLU, in turn, each padded to keep the size.

    Where the branch halves the map, its last convolution has stride 2 and no padding.
    """
    weights = [weight for name, weight in branch.named_parameters() if name.endswith("conv.weight")]
    for k, weight in enumerate(weights):
        last = halve and k == len(weights) - 1
        padding = (0, 0) if last else (weight.shape[2] // 2, weight.shape[3] // 2)
        out = functional.conv2d(x, weight, stride=2 if last else 1, padding=padding)
        x = (out / (1 + 1e-3) ** 0.5).clamp_min(0)
    return x
