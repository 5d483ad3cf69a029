"""GraFIQs against the gradient of its loss in closed form."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from kdface.backbones import iresnet_nano
from kdface.errors import UserError
from kdface.teachers import Teacher
from kdface.teachers.quality import GraFIQs
from tests.teachers.quality.stand_ins import Chain, flat_teacher, random_faces

SIZE = (3, 4)


def norm(mean: list[float], variance: list[float], weight: float, bias: float) -> nn.BatchNorm2d:
    layer = nn.BatchNorm2d(3)
    layer.running_mean, layer.running_var = torch.tensor(mean), torch.tensor(variance)
    nn.init.constant_(layer.weight, weight)
    nn.init.constant_(layer.bias, bias)
    return layer


def chain() -> Chain:
    return Chain(
        SIZE,
        first=norm([0.1, -0.2, 0.3], [0.2, 0.4, 0.6], 0.8, 0.1),
        second=norm([0.3, 0.1, -0.1], [1.0, 0.5, 0.7], 1.5, -0.2),
        flatten=nn.Flatten(),
    )


def slope(x: NDArray[np.float64], mean: list[float], variance: list[float]) -> NDArray[np.float64]:
    """Of 1/3 sum_c (mu_c - m_c)^2 + (v_c - s_c)^2 with respect to x (3, H, W); mu, v over P = H W pixels.

    d mu / d x_p = 1 / P and d v / d x_p = 2 (x_p - mu) / P.
    """
    found = np.zeros_like(x)
    for c in range(3):
        off = x[c] - x[c].mean()
        by_variance = 2 * ((off**2).mean() - variance[c]) / 3 * 2 * off
        found[c] = (2 * (x[c].mean() - mean[c]) / 3 + by_variance) / off.size
    return found


def outputs(layer: nn.BatchNorm2d, x: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The layer's output in eval mode, and its factor on each channel."""
    assert layer.running_mean is not None and layer.running_var is not None
    m, s = layer.running_mean.double().numpy(), layer.running_var.double().numpy()
    factor = float(layer.weight[0]) / np.sqrt(s + layer.eps)
    factor = factor[:, None, None]
    return (x - m[:, None, None]) * factor + float(layer.bias[0]), factor


def test_closed_form() -> None:
    faces, network = random_faces(2, 3, SIZE), chain()
    teacher = Teacher(network, faces.preprocessing)
    at_image, at_first = GraFIQs()(teacher, faces), GraFIQs(stage="first")(teacher, faces)
    for i, image in enumerate(faces.images):
        x = image.transpose(2, 0, 1) / 127.5 - 1
        y, factor = outputs(network.first, x)  # type: ignore[arg-type]
        by_y = slope(y, [0.3, 0.1, -0.1], [1.0, 0.5, 0.7]) / 2  # a mean over two layers
        by_x = slope(x, [0.1, -0.2, 0.3], [0.2, 0.4, 0.6]) / 2 + factor * by_y
        assert at_first[i] == pytest.approx(-np.abs(by_y).sum(), rel=1e-4)
        assert at_image[i] == pytest.approx(-np.abs(by_x).sum(), rel=1e-4)


def test_the_image_that_the_statistics_are_of_scores_best() -> None:
    faces = random_faces(1, 4, SIZE)
    x = faces.images[2].transpose(2, 0, 1).reshape(3, -1) / 127.5 - 1
    network = Chain(SIZE, norm=norm(x.mean(1).tolist(), x.var(1).tolist(), 1.0, 0.0), flatten=nn.Flatten())
    found = GraFIQs()(Teacher(network, faces.preprocessing), faces)
    assert found[2] == pytest.approx(0.0, abs=1e-5)
    assert (np.delete(found, 2) < -1e-3).all()


def test_images_do_not_see_each_other_and_nothing_stays_on_the_network() -> None:
    faces = random_faces(1, 3, (32, 32))
    with torch.random.fork_rng():
        torch.manual_seed(2)
        network = iresnet_nano(12, 0.0, (32, 32), (8, 8, 8, 8), (1, 1, 1, 1))
    teacher = Teacher(network, faces.preprocessing)
    for stage in (None, "stem", "layer1", "layer4"):
        together = GraFIQs(stage)(teacher, faces)
        with torch.no_grad():  # the caller's mode does not matter
            alone = [GraFIQs(stage)(teacher, faces.taken([row])).item() for row in range(3)]
        assert together.tolist() == pytest.approx(alone, rel=1e-3) and (together < 0).all()
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in network.modules())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_networks_that_cannot() -> None:
    faces = random_faces(1, 2, SIZE)
    with pytest.raises(UserError, match="needs the running statistics of BatchNorm2d, but Flat has none"):
        GraFIQs()(flat_teacher(), faces)
    teacher = Teacher(chain(), faces.preprocessing)
    with pytest.raises(UserError, match="Chain has no stage 'frist'") as error:
        GraFIQs("frist")(teacher, faces)
    assert error.value.nearest == "first"
    with pytest.raises(UserError, match="No BatchNorm2d comes after stage 'second'"):
        GraFIQs("second")(teacher, faces)
