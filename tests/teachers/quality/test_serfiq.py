"""SER-FIQ against a closed form, and against whole forward passes with the masks put in by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from kdface.backbones import Backbone, iresnet_nano, mobilefacenet
from kdface.errors import UserError
from kdface.faces import Preprocessing
from kdface.teachers import Teacher
from kdface.teachers.quality import SERFIQ
from kdface.teachers.quality.serfiq import split_at_dropout
from tests.teachers.quality.stand_ins import SIZE, WHOLE, Chain, faces_of, random_faces


def chain(rate: float) -> Teacher:
    """The embedding is the image behind dropout."""
    return Teacher(Chain(SIZE, flatten=nn.Flatten(), dropout=nn.Dropout(rate), end=nn.Identity()), WHOLE)


def nano(dropout: float = 0.4) -> Backbone:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = iresnet_nano(12, dropout, (32, 32), (8, 8, 8, 8), (1, 1, 1, 1))
        for module in network.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) and module.running_mean is not None:
                module.running_mean.normal_(0.0, 0.1)
    return network


def mean_distance(p: float) -> float:
    """Of two equal features both survive (q^2), either one (q p each) or none (p^2): four embeddings, six distances."""
    q = 1 - p
    both_one, one_other = math.sqrt(2 - math.sqrt(2)), math.sqrt(2)  # |(1,1)/sqrt(2) - (1,0)|, |(1,0) - (0,1)|
    return 2 * (2 * q**3 * p * both_one + (q * p) ** 2 * one_other + p**2 * (1 - p**2))


def test_closed_form_of_two_features() -> None:
    for p in (0.1, 0.3):
        found = SERFIQ(passes=4000)(chain(p), faces_of([[50, 0, 50, 0, 0, 0]], ["a"]))
        # A mean over pairs of T draws: its standard error is at most 2 sigma / sqrt(T), with sigma < 1 / 2.
        assert math.log(2 / found.item() - 1) == pytest.approx(mean_distance(p), abs=5 / math.sqrt(4000))
    assert mean_distance(0.3) - mean_distance(0.1) > 2 * 5 / math.sqrt(4000)  # the rates are told apart


def test_against_whole_forward_passes() -> None:
    network, faces = nano(), random_faces(1, 3, (32, 32))
    teacher = Teacher(network, faces.preprocessing)
    source = SERFIQ(passes=7, seed=5)
    found = source(teacher, faces)

    class Masked(nn.Module):
        def __init__(self, mask: Tensor) -> None:
            super().__init__()
            self.mask = mask

        def forward(self, features: Tensor) -> Tensor:
            return features * self.mask

    draw = torch.Generator().manual_seed(5)
    kept = torch.rand((7, 8, 1, 1), generator=draw) >= 0.4  # 32 pixels, halved five times
    embeddings = []
    for mask in kept:
        network.dropout = Masked(mask.float() / 0.6)
        embeddings.append(teacher.embed(torch.from_numpy(faces.images)).double().numpy())
    for i in range(3):
        z = [embedding[i] / np.linalg.norm(embedding[i]) for embedding in embeddings]
        mean = np.mean([np.linalg.norm(z[s] - z[t]) for s in range(7) for t in range(s + 1, 7)])
        assert mean > 0.01
        assert found[i] == pytest.approx(2 / (1 + math.exp(mean)), rel=1e-5)


def test_draws_are_its_own_and_the_network_is_left_alone() -> None:
    network, faces = nano(), random_faces(1, 5, (32, 32))
    teacher = Teacher(network, faces.preprocessing)
    state, before = torch.get_rng_state(), {name: weight.clone() for name, weight in network.state_dict().items()}
    first = SERFIQ(passes=5)(teacher, faces)
    assert np.array_equal(SERFIQ(passes=5)(teacher, faces), first)
    assert not np.array_equal(SERFIQ(passes=5, seed=1)(teacher, faces), first)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(weight, before[name]) for name, weight in network.state_dict().items())
    assert not any(module.training for module in network.modules())
    # an image's score does not depend on the others
    assert SERFIQ(passes=5)(teacher, faces.taken([3])).item() == pytest.approx(first[3], rel=1e-5)


def test_features_that_agree_are_better_than_features_that_cancel() -> None:
    last = nn.Linear(6, 2, bias=False)
    last.weight = nn.Parameter(torch.tensor([[1.0] * 6, [1.0, -1.0] * 3]))
    network = Chain(SIZE, flatten=nn.Flatten(), dropout=nn.Dropout(0.4), last=last)
    faces = faces_of([[90, 90, -90, -90, 0, 0], [40] * 6], ["a", "b"])
    cancelling, agreeing = SERFIQ(passes=200)(Teacher(network, WHOLE), faces)
    assert agreeing > cancelling


def test_trunk_and_tail_make_the_network() -> None:
    network = nano().eval()
    trunk, dropout, tail = split_at_dropout(network)
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert dropout is network.dropout
    torch.testing.assert_close(tail(trunk(images)), network(images))


def test_network_trained_without_dropout() -> None:
    faces = random_faces(1, 2, (32, 32))
    teacher = Teacher(nano(0.0), faces.preprocessing)
    with pytest.raises(UserError, match=r"this IResNet was trained without it \(p = 0\)") as error:
        SERFIQ()(teacher, faces)
    assert "teacher.quality.dropout=0.4" in str(error.value)
    imposed = SERFIQ(passes=5, dropout=0.4)(teacher, faces)
    assert imposed.tolist() == SERFIQ(passes=5)(Teacher(nano(0.4), faces.preprocessing), faces).tolist()


def test_network_without_a_dropout_layer() -> None:
    faces = random_faces(1, 2, (32, 32))
    teacher = Teacher(mobilefacenet(8, (32, 32)), Preprocessing(size=(32, 32)))
    with pytest.raises(UserError, match="MobileFaceNet has no dropout layer") as error:
        SERFIQ(dropout=0.4)(teacher, faces)
    assert "iresnet50" in str(error.value) and "inception_resnet_v1" in str(error.value)
