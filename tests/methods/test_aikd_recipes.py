"""AI-KD's recipes train what the published code trains, and its views follow the augmentation."""

from __future__ import annotations

from functools import cache

import pytest
import torch

from kdface.backbones import iresnet100
from kdface.backbones.graded import Graded
from kdface.config.compose import compose
from kdface.config.paths import conf_folder
from kdface.errors import UserError
from kdface.faces import Preprocessing
from kdface.methods import AIKD, Views
from tests.config.test_composition import company

RECIPES = sorted(path.stem for path in (conf_folder() / "experiment" / "aikd").glob("vggface2_r100_*.yaml"))


@cache
def _graded(trainable: tuple[str, ...]) -> Graded:
    """The published network, without memory for its 65 million weights."""
    with torch.device("meta"):
        method = AIKD(iresnet100(), Preprocessing(), Views("perturbed", "aligned"), None, trainable=trainable)
    assert isinstance(method.backbone, Graded)
    return method.backbone


@pytest.mark.parametrize("name", RECIPES)
def test_the_last_hundred_tensors_are_trained(name: str) -> None:
    tree = compose(company("experiment", f"aikd/{name}")).tree
    graded = _graded(tuple(tree["method"]["trainable"]))
    tensors = dict(graded.backbone.named_parameters())
    assert (len(tensors), sum(tensor.numel() for tensor in tensors.values())) == (463, 65_156_160)
    last = list(tensors)[-100:]
    assert last[0] == "layer3.22.bn3.bias"
    assert sum(tensors[name].numel() for name in last) == 34_236_416
    # of these, the scale of the last BatchNorm is held at 1
    trained = [name for name, tensor in tensors.items() if tensor.requires_grad]
    assert trained == [name for name in last if name != "features.weight"]


def test_the_quality_head_as_published() -> None:
    assert sum(parameter.numel() for parameter in _graded(("fc",)).regression.parameters()) == 526_337


@pytest.mark.parametrize("name", [*RECIPES, "small"])
def test_every_recipe_composes(name: str) -> None:
    tree = compose(company("experiment", f"aikd/{name}")).tree
    assert tree["method"]["views"] == {"student": "perturbed", "teacher": "aligned"}


@pytest.mark.parametrize(
    ("words", "student", "teacher"),
    [
        ([], "perturbed", "aligned"),
        (["augmentation=synthetic_mask"], "masked", "clean"),
        (["augmentation=sunglasses"], "masked", "clean"),
        (["augmentation=periocular"], "periocular", "face"),
        (["augmentation=synthetic_mask", "method.views.student=clean"], "clean", "clean"),
    ],
)
def test_the_views_follow_the_augmentation(words: list[str], student: str, teacher: str) -> None:
    tree = compose(["method=aikd", "teacher.run=folder", *words]).tree
    assert tree["method"]["views"] == {"student": student, "teacher": teacher}


def test_a_place_that_no_view_has() -> None:
    with pytest.raises(UserError, match="is not a view"):
        compose(["method=aikd", "teacher.run=folder", "method.views.student='${view:middle}'"])
