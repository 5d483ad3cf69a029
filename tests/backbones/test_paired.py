"""Networks that share stages: what is shared, what is pooled, and that one path alone is what it is in company."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from kdface.backbones import inception_resnet_v1, iresnet_nano, mobilefacenet, sfnet20
from kdface.backbones.backbone import Backbone
from kdface.backbones.ckd_resnet import ckd_resnet18
from kdface.backbones.paired import Norm, Paired
from kdface.backbones.synchronised_norm import SynchronisedBatchNorm, synchronise
from kdface.errors import UserError
from tests.forked import on_two_ranks

SIZES = {"teacher": (32, 32), "student": (32, 64)}
Make = Callable[[tuple[int, int]], Backbone]


def nano(size: tuple[int, int]) -> Backbone:
    return iresnet_nano(8, 0.0, size, channels=(8, 8, 16, 16), blocks=(1, 2, 1, 1))


KINDS: dict[str, tuple[Make, int]] = {
    "ckd_resnet18": (lambda size: ckd_resnet18(8, size), 4),
    "iresnet": (nano, 4),
    "sfnet": (lambda size: sfnet20(8, True, "add_relu", size), 2),
    "mobilefacenet": (lambda size: mobilefacenet(8, size), 3),
}


def paired(kind: str = "iresnet", norm: Norm = "pooled", shared: int | None = None) -> Paired:
    torch.manual_seed(0)
    make, stages = KINDS[kind]
    return scrambled(
        Paired({role: make(size) for role, size in SIZES.items()}, stages if shared is None else shared, norm)
    )


def scrambled(pair: Paired) -> Paired:
    """Every normalisation away from its start."""
    draws = torch.Generator().manual_seed(1)
    for module in pair.modules():
        if isinstance(module, _BatchNorm):
            module.weight.data.copy_(torch.rand(module.weight.shape, generator=draws) + 0.5)
            module.bias.data.copy_(torch.rand(module.bias.shape, generator=draws) - 0.5)
    return pair


def images(dtype: torch.dtype = torch.float32, number: int = 3) -> dict[str, Tensor]:
    draws = torch.Generator().manual_seed(2)
    return {
        role: (torch.randn(number, 3, *size, generator=draws) * (1 + k) + k).to(dtype)
        for k, (role, size) in enumerate(SIZES.items())
    }


def plainly(pair: Paired, given: dict[str, Tensor], stages: int) -> dict[str, Tensor]:
    """Images of one size: pooled statistics are those of one batch that holds both modalities."""
    features = torch.cat([given[role] for role in given])
    for _, stage in pair.path("teacher").stages()[:stages]:
        features = stage(features)
    found = {}
    for role, part in zip(given, features.tensor_split(len(given)), strict=True):
        for _, stage in pair.path(role).stages()[stages:]:
            part = stage(part)
        found[role] = part
    return found


INCEPTION: tuple[Make, int] = (lambda size: inception_resnet_v1(8, 0.0, size), 2)  # sees 75 pixels or more


@pytest.mark.parametrize(("kind", "side"), [*((kind, 32) for kind in KINDS), ("inception_resnet_v1", 80)])
def test_images_of_one_size_are_one_batch(kind: str, side: int) -> None:
    """Values, gradients and running buffers of every kind of network."""
    make, stages = KINDS.get(kind, INCEPTION)
    torch.manual_seed(0)
    pair = scrambled(Paired({role: make((side, side)) for role in SIZES}, stages)).double()
    plain = copy.deepcopy(pair)
    draws = torch.Generator().manual_seed(2)
    given = {role: torch.randn(3, 3, side, side, generator=draws).double() * (1 + k) for k, role in enumerate(SIZES)}
    require_equal(pair, pair(given), plain, plainly(plain, given, stages))


@pytest.mark.parametrize("kind", ["ckd_resnet18", "iresnet"])
def test_one_tensor_for_both_passes_the_shared_stages_once(kind: str) -> None:
    """Equal to images that are equal but not one: embeddings, gradients and running buffers, to 1e-12 of their size."""
    make, stages = KINDS[kind]
    torch.manual_seed(0)
    once = scrambled(Paired({role: make((32, 32)) for role in SIZES}, stages)).double()
    twice = copy.deepcopy(once)
    one = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(2)).double()
    passed = []
    next(module for module in once.shared.modules() if isinstance(module, nn.Conv2d)).register_forward_hook(
        lambda *_: passed.append(1)
    )
    found = [(once, once(dict.fromkeys(SIZES, one))), (twice, twice({role: one.clone() for role in SIZES}))]
    assert len(passed) == 1
    values = []
    for pair, embeddings in found:
        draws = torch.Generator().manual_seed(3)
        sums = [(embeddings[role] * torch.randn(3, 8, generator=draws).double()).sum() for role in SIZES]
        torch.stack(sums).sum().backward()  # type: ignore[no-untyped-call]
        gradients = [parameter.grad for parameter in pair.parameters() if parameter.grad is not None]
        values.append([tensor.detach() for tensor in (*embeddings.values(), *gradients, *pair.state_dict().values())])
    for left, right in zip(*values, strict=True):
        assert (left - right).abs().max() <= 1e-12 * max(1.0, float(right.abs().max()))


def require_equal(pair: Paired, found: dict[str, Tensor], other: Paired, expected: dict[str, Tensor]) -> None:
    for role in SIZES:
        torch.testing.assert_close(found[role], expected[role], rtol=1e-8, atol=1e-9)
    gradients = []
    for module, results in ((pair, found), (other, expected)):
        draws = torch.Generator().manual_seed(3)
        sums = [(results[role] * torch.randn(3, 8, generator=draws).double()).sum() for role in SIZES]
        leaves = [weight for weight in module.parameters() if weight.requires_grad]
        gradients.append(torch.autograd.grad(torch.stack(sums).sum(), leaves))
    for one, two in zip(*gradients, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-6, atol=1e-8)
    for key, value in other.state_dict().items():
        torch.testing.assert_close(pair.state_dict()[key], value, rtol=1e-9, atol=1e-9)


def side_by_side(norm: _BatchNorm, maps: list[Tensor]) -> list[Tensor]:
    """The official way: flat maps beside each other along space through one ordinary normalisation, then cut apart."""
    flat = norm(torch.cat([feature.flatten(2)[:, :, None] for feature in maps], dim=3))
    lengths = [feature.shape[2] * feature.shape[3] for feature in maps]
    return [part.reshape(like.shape) for part, like in zip(flat.split(lengths, dim=3), maps, strict=True)]


def official(pair: Paired, given: dict[str, Tensor]) -> dict[str, Tensor]:
    """CKD sheet 1 for both modalities at once, written out by hand; batch statistics."""
    first = pair.path("teacher")
    part = first.get_submodule
    maps = [part("conv1")(image) for image in given.values()]
    maps = [feature.relu() for feature in side_by_side(part("bn1"), maps)]  # type: ignore[arg-type]
    for block in [f"layer{layer}.{k}" for layer in (1, 2, 3) for k in (0, 1)]:
        before = maps
        for half in ("1", "2"):
            maps = [feature.relu() for feature in side_by_side(part(f"{block}.bn{half}"), maps)]  # type: ignore[arg-type]
            maps = [part(f"{block}.conv{half}")(feature) for feature in maps]
        maps = [feature * part(f"{block}.se")(feature) for feature in maps]
        if block.endswith("0"):
            before = [part(f"{block}.downsample.0")(feature) for feature in before]
            before = side_by_side(part(f"{block}.downsample.1"), before)  # type: ignore[arg-type]
        maps = [feature + shortcut for feature, shortcut in zip(maps, before, strict=True)]
    found = {}
    for role, image in zip(given, maps, strict=True):
        for _, stage in pair.path(role).stages()[4:]:
            image = stage(image)
        found[role] = image
    return found


def test_face_and_periocular_as_the_official_code_pools_them() -> None:
    pair = paired("ckd_resnet18").double()
    other = copy.deepcopy(pair)
    given = images(torch.float64)
    require_equal(pair, pair(given), other, official(other, given))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("norm", ["pooled", "modality_statistics", "modality_specific", "frozen"])
def test_one_modality_alone_is_what_it_is_beside_the_other(kind: str, norm: Norm) -> None:
    pair = paired(kind, norm)
    given = images()
    pair(given)  # running buffers away from their start
    pair.eval()
    with torch.no_grad():
        together = pair(given)
        for role in SIZES:
            assert torch.equal(pair.path(role)(given[role]), together[role])
            assert type(pair.path(role)) is type(KINDS[kind][0](SIZES[role]))


def running(pair: Paired, role: str) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in pair.path(role).state_dict().items() if "running" in key}


def test_modality_statistics_update_one_buffer_in_turn() -> None:
    """CKD sheet 6: face first, r <- 0.81 r + 0.09 f + 0.10 p; and outputs are those of each modality's statistics."""
    pair = paired(norm="modality_statistics").double()
    given = images(torch.float64)
    convolved = [pair.path("teacher").get_submodule("conv1")(image).mean((0, 2, 3)) for image in given.values()]
    start = torch.full((8,), 0.25, dtype=torch.float64)
    first = pair.path("teacher").get_submodule("bn1")
    first.running_mean.copy_(start)  # type: ignore[operator]
    alone = {role: copy.deepcopy(pair).path(role)(image) for role, image in given.items()}
    found = pair(given)
    for role in SIZES:
        torch.testing.assert_close(found[role], alone[role])
    torch.testing.assert_close(first.running_mean, 0.81 * start + 0.09 * convolved[0] + 0.10 * convolved[1])
    assert pair.path("student").get_submodule("bn1") is first


def test_modality_specific_normalisations_share_the_rest() -> None:
    pair = paired(norm="modality_specific")
    alone = {role: copy.deepcopy(pair.path(role)) for role in SIZES}
    given = images()
    found = pair(given)
    for role in SIZES:
        torch.testing.assert_close(found[role], alone[role](given[role]))
        for key, value in running(pair, role).items():
            assert torch.equal(value, alone[role].state_dict()[key])
    face, eyes = pair.path("teacher"), pair.path("student")
    assert face.get_submodule("layer1.0.bn1") is not eyes.get_submodule("layer1.0.bn1")
    assert face.get_submodule("layer1.0.conv1") is eyes.get_submodule("layer1.0.conv1")
    assert not [key for key in pair.shared.state_dict() if "running" in key]


def test_frozen_statistics_neither_move_nor_depend_on_the_batch() -> None:
    pair = paired(norm="frozen", shared=4).train()
    before = {key: value.clone() for key, value in pair.shared.state_dict().items()}
    given = images(number=4)
    trunk = nn.Sequential(*(stage for _, stage in pair.path("student").stages()[:4]))
    part = {role: image[:2] for role, image in given.items()}
    torch.testing.assert_close(trunk(given["student"])[:2], trunk(part["student"]))
    pair(given)
    assert all(torch.equal(value, before[key]) for key, value in pair.shared.state_dict().items())
    own = pair.own.get_submodule("student.bn2.running_mean".rpartition(".")[0])
    assert own.running_mean.any()  # type: ignore[operator]


def test_keys_are_the_networks_own_and_occur_once() -> None:
    pair = paired()
    keys = list(pair.state_dict())
    plain = {role: list(nano(size).state_dict()) for role, size in SIZES.items()}
    trunk = [
        key for key in plain["student"] if key.split(".")[0] in {"conv1", "bn1", "prelu", "layer1", "layer2", "layer3"}
    ]
    branch = [key for key in plain["student"] if key not in trunk]
    assert sorted(keys) == sorted(
        [f"shared.{key}" for key in trunk] + [f"own.{role}.{key}" for role in SIZES for key in branch]
    )
    assert len({id(parameter) for parameter in pair.parameters()}) == len(list(pair.parameters()))
    for role in SIZES:
        assert list(pair.path(role).state_dict()) == plain[role]


def test_a_pair_can_be_loaded_copied_and_moved() -> None:
    pair, given = paired(), images()
    pair(given)
    fresh = Paired({role: nano(size) for role, size in SIZES.items()}, 4)
    fresh.load_state_dict(pair.state_dict())
    double = copy.deepcopy(pair).to(memory_format=torch.channels_last).double()  # type: ignore[call-overload]
    exact = {role: image.double() for role, image in given.items()}
    trained = double(exact)  # the copy's lockstep runs over the copy's layers
    sum(parameter.square().sum() for parameter in trained.values()).backward()
    assert all(weight.grad is None for weight in pair.parameters())
    assert all(weight.grad is not None for weight in double.parameters() if weight.requires_grad)
    pair.eval(), fresh.eval()
    with torch.no_grad():
        for role in SIZES:
            assert torch.equal(pair.path(role)(given[role]), fresh.path(role)(given[role]))


NORMS: list[Norm] = ["pooled", "modality_statistics", "modality_specific", "frozen"]


@pytest.mark.parametrize("norm", NORMS)
def test_synchronised_layers_are_used_registered_and_loaded_alike(norm: Norm) -> None:
    """Without ranks it computes what it did, in the layers that the state dict holds, wherever they were moved."""
    plain = paired(norm=norm).double()
    pair = paired(norm=norm)
    keys = list(pair.state_dict())
    assert synchronise(pair) is pair
    pair = pair.double().train()
    assert list(pair.state_dict()) == keys
    assert {type(module) for module in pair.modules() if isinstance(module, _BatchNorm)} == {SynchronisedBatchNorm}
    given = images(torch.float64)
    require_equal(pair, pair(given), plain, plain(given))  # running buffers of the state dict too
    for role in SIZES:
        for name, layer in pair.path(role).named_modules():
            if isinstance(layer, _BatchNorm):
                own = f"own.{role}.{name}" if f"own.{role}.{name}.weight" in keys else f"shared.{name}"
                assert layer is pair.get_submodule(own) and type(layer) is SynchronisedBatchNorm
    made = Paired({role: nano(size) for role, size in SIZES.items()}, 4, norm, synchronised=True)
    assert {type(module) for module in made.modules() if isinstance(module, _BatchNorm)} == {SynchronisedBatchNorm}


def _weighted(found: dict[str, Tensor], rows: slice) -> Tensor:
    wanted = torch.randn(5, 8, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    return torch.stack([(found[role] * wanted[rows] * (1 + k)).sum() for k, role in enumerate(SIZES)]).sum()


def _rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    rows = slice(0, 2) if rank == 0 else slice(2, 5)  # unequal parts
    found = {}
    for norm in NORMS:
        pair = paired(norm=norm).double()
        synchronise(pair)
        out = pair({role: image[rows] for role, image in images(torch.float64, 5).items()})
        _weighted(out, rows).backward()  # type: ignore[no-untyped-call]
        gradients = [weight.grad for weight in pair.parameters() if weight.requires_grad]
        out = {role: embedding.detach() for role, embedding in out.items()}
        found[norm] = {"out": out, "gradients": gradients, "state": pair.state_dict()}
    torch.save(found, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_ranks_are_one_batch_with_every_norm(tmp_path: Path) -> None:
    on_two_ranks(_rank, tmp_path)
    ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    for norm in NORMS:
        pair = paired(norm=norm).double()
        found = pair(images(torch.float64, 5))
        _weighted(found, slice(None)).backward()  # type: ignore[no-untyped-call]
        for role in SIZES:
            torch.testing.assert_close(torch.cat([rank[norm]["out"][role] for rank in ranks]), found[role].detach())
        weights = [weight for weight in pair.parameters() if weight.requires_grad]
        for place, weight in enumerate(weights):
            total = ranks[0][norm]["gradients"][place] + ranks[1][norm]["gradients"][place]
            torch.testing.assert_close(total, weight.grad, rtol=1e-6, atol=1e-8)
        for rank in ranks:
            for name, value in pair.state_dict().items():
                torch.testing.assert_close(rank[norm]["state"][name], value, msg=f"{norm} {name}")


def test_sizes_of_the_sheet() -> None:
    """CKD sheet 1: without the classifiers of 1054 people, 43,876,276 less two of 540,702."""
    with torch.device("meta"):
        pair = Paired({"face": ckd_resnet18(), "periocular": ckd_resnet18(image_size=(48, 128))}, 4)
        separate = Paired({"face": ckd_resnet18(), "periocular": ckd_resnet18(image_size=(48, 128))}, 0)
        eyes = Paired({role: ckd_resnet18(image_size=(48, 128)) for role in ("one", "two")}, 4)

    def size(module: nn.Module) -> int:
        return sum(parameter.numel() for parameter in module.parameters())

    classifier = 1054 * 513
    assert size(pair) + 2 * classifier == 43_876_276
    assert size(pair.shared) == 2_801_400
    assert size(pair.path("periocular")) == 17_555_256
    assert size(separate) + 2 * classifier == 46_677_676
    assert size(eyes) + 2 * classifier == 33_390_516


def test_trains_under_autocast_in_channels_last() -> None:
    pair = paired("ckd_resnet18").to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = pair({role: image.contiguous(memory_format=torch.channels_last) for role, image in images().items()})
    sum(embedding.float().square().sum() for embedding in found.values()).backward()
    assert all(torch.isfinite(weight.grad).all() for weight in pair.parameters())
    assert {weight.dtype for weight in pair.state_dict().values()} == {torch.float32, torch.int64}


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: paired(shared=7), "7 stages are to be shared, but IResNet has 6"),
        (lambda: paired(shared=6), r"fc cannot be shared.*\(student\)"),
        (lambda: Paired({"a": nano((32, 32)), "b": sfnet20(8, image_size=(32, 32))}, 1), "different architectures"),
        (lambda: Paired({"a": nn.Identity()}, 1), "Identity has no stages"),
    ],
)
def test_mistakes(make: Callable[[], Paired], told: str) -> None:
    with pytest.raises(UserError, match=told):
        make()


def test_images_of_another_size_are_told() -> None:
    pair, given = paired(), images()
    with pytest.raises(ValueError, match=r"student: built for images of shape \(N, 3, 32, 64\); got \(3, 3, 32, 32\)"):
        pair({"teacher": given["teacher"], "student": given["teacher"]})
