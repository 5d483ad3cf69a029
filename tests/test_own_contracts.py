"""Datasets and protocols of one's own that break their contract: one message names the class, the key and the fault."""

from __future__ import annotations

from pathlib import Path

import pytest

import kdface as package
from kdface.errors import UserError
from tests.conftest import UNTESTED, Kdface, only_run

OWN = """
import numpy as np
from kdface.evaluation import Measured, Outcome
from kdface.faces import FaceSet, Preprocessing, Sample


class Squares:
    name, preprocessing = "squares", Preprocessing(size=(32, 32))

    def __init__(self) -> None:
        self.people = ["red", "green", "blue"]
        self.labels = np.arange(16, dtype=np.int64) % 3
        self.keys = [f"{self.people[label]}/{place}" for place, label in enumerate(self.labels)]

    def __len__(self) -> int:
        return 16

    def __getitem__(self, index: int) -> Sample:
        return Sample(self.image(index), int(self.labels[index]), self.keys[index])

    def image(self, index: int):
        return np.random.default_rng(index).integers(0, 255, (32, 32, 3), dtype=np.uint8)


class Nameless(Squares):
    name = property()


class Numbered(Squares):
    name = 7


class Keyless(Squares):
    keys = property(fset=lambda self, value: None)


class Doubled(Squares):
    def __init__(self) -> None:
        super().__init__()
        self.keys = ["red/0", *self.keys[:-1]]


class Short(Squares):
    def __init__(self) -> None:
        super().__init__()
        self.keys = self.keys[:-1]


class Places(Squares):
    def __init__(self) -> None:
        super().__init__()
        self.keys = list(range(16))


class Sized(Squares):
    preprocessing = (32, 32)


class Fractions(Squares):
    def __init__(self) -> None:
        super().__init__()
        self.labels = self.labels.astype(float)


class Listed(Squares):
    def __init__(self) -> None:
        super().__init__()
        self.labels = self.labels.tolist()


class Few(Squares):
    def __init__(self) -> None:
        super().__init__()
        self.labels = self.labels[:5]


class OneBased(Squares):
    def __init__(self) -> None:
        super().__init__()
        self.labels = self.labels + 1


class Floating(Squares):
    def image(self, index: int):
        return (super().image(index) / 255).astype(np.float32)


class Tall(Squares):
    def image(self, index: int):
        return np.zeros((40, 32, 3), np.uint8)


class Grey(Squares):
    def image(self, index: int):
        return super().image(index)[..., 0]


class Pairs(Squares):
    def __getitem__(self, index: int):
        return self.image(index), int(self.labels[index])


class Bytes(Floating):
    def raw_bytes(self, index: int) -> bytes:
        return str(index).encode()


class Norm:
    def __init__(self, dataset: FaceSet) -> None:
        self.datasets = (dataset,)

    def evaluate(self, embed) -> Outcome:
        return self.made(float(np.abs(embed(self.datasets[0], list(self.datasets[0].keys))).mean()))

    def made(self, value):
        return Outcome({"norm": Measured(value)}, {"images": 16})


class InDict(Norm):
    def made(self, value):
        return {"norm": value}


class InNumbers(Norm):
    def made(self, value):
        return Outcome({"norm": value}, {"images": 16})


class Alone(Norm):
    def __init__(self, dataset: FaceSet) -> None:
        self.datasets = dataset


class Setless(Norm):
    def __init__(self, dataset: FaceSet) -> None:
        pass


class Silent:
    def __init__(self, dataset: FaceSet) -> None:
        self.datasets = (dataset,)


class Hidden(Norm):
    def __init__(self) -> None:
        self.datasets = (Keyless(),)
"""
BARE = [word for word in UNTESTED if not word.startswith("dataset")]
ATTRIBUTES = [
    ("Nameless", "Nameless has no name", "a kdface.faces.FaceSet, which has name"),
    ("Numbered", "Numbered has the name 7", "a string"),
    ("Keyless", "Keyless has no keys", "a kdface.faces.FaceSet, which has"),
    ("Doubled", "Doubled has 2 images with the key 'red/0'", "one unique string for each image"),
    ("Short", "Short has 15 keys for 16 images", "one unique string for each image"),
    ("Places", "Places has the key 0", "one unique string for each image"),
    ("Sized", "Sized has a tuple as preprocessing", "kdface.faces.Preprocessing(size=(H, W))"),
    ("Fractions", "Fractions has labels that are float64 of (16,)", "an array of integers (16,)"),
    ("Listed", "Listed has labels that are a list", "an array of integers (16,)"),
    ("Few", "Few has labels that are int64 of (5,)", "an array of integers (16,)"),
    ("OneBased", "OneBased has labels from 1 to 3", "each the place of a name among the 3 people"),
]
IMAGES = [
    ("Floating", "Floating has an image of float32 of (32, 32, 3), red/0", "an array of uint8, (32, 32, 3)"),
    ("Tall", "Tall has an image of uint8 of (40, 32, 3), red/0", "an array of uint8, (32, 32, 3)"),
    ("Grey", "Grey has an image of uint8 of (32, 32), red/0", "an array of uint8, (32, 32, 3)"),
    ("Pairs", "Pairs returns a tuple for red/0", "kdface.faces.Sample(image, label, key)"),
]


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_sets.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("KDFACE_PLUGINS", "own_sets")


def _words(dataset: str, folder: Path) -> list[str]:
    choice = folder / "conf" / "dataset" / "own.yaml"
    choice.parent.mkdir(parents=True, exist_ok=True)
    choice.write_text(f"# my own\n{dataset}")
    return [*BARE, "dataset=own", "trainer.max_steps=2", "loader.batch_size=4", f"paths.runs={folder}/runs"]


def _test(protocol: str, dataset: str = "Squares") -> str:
    return f"+evaluation.mine={{_target_:own_sets.{protocol},dataset:{{_target_:own_sets.{dataset}}}}}"


@pytest.mark.parametrize(("name", "told", "expected"), ATTRIBUTES)
def test_a_dataset_is_checked_when_it_is_built(
    own: None, kdface: Kdface, tmp_path: Path, name: str, told: str, expected: str
) -> None:
    alone = f"_target_: own_sets.{name}\n"
    nested = f"_target_: kdface.datasets.Pixels\npixels: 64\ndataset: {{_target_: own_sets.{name}}}\n"
    squares = "_target_: own_sets.Squares\n"
    for dataset, words, key in (
        (alone, [], "dataset"),
        (nested, [], "dataset.dataset"),
        (squares, ["evaluation=none", _test("Norm", name)], "evaluation.mine.dataset"),
    ):
        with pytest.raises(UserError) as raised:
            package.build(package.compose(*_words(dataset, tmp_path), *words, config_dirs=["conf"]))
        assert raised.value.problem == f"{key}: {told}." and expected in raised.value.expected
    if name in ("Nameless", "Keyless"):  # on the command line, where these once ended in other messages
        said = kdface("train", "--config-dir", "conf", *_words(alone, tmp_path))
        assert said.code == 2 and f"dataset: {told}." in said.err and "Traceback" not in said.err
        assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(("name", "told", "expected"), IMAGES)
def test_images_are_checked_before_training(
    own: None, kdface: Kdface, tmp_path: Path, name: str, told: str, expected: str
) -> None:
    for dataset, key in (
        (f"_target_: own_sets.{name}\n", "dataset: "),
        (f"_target_: kdface.datasets.Pixels\npixels: 64\ndataset: {{_target_: own_sets.{name}}}\n", ""),
    ):
        said = kdface("train", "--config-dir", "conf", *_words(dataset, tmp_path), "dataset.on_error=skip")
        text = " ".join(said.err.split())
        assert said.code == 2 and f"{key}{told}." in text and expected in text and "Traceback" not in text
        assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("workers", [0, 1])
def test_images_are_checked_where_batches_are_made(own: None, tmp_path: Path, workers: int) -> None:
    words = [*_words("_target_: own_sets.Bytes\n", tmp_path), f"loader.num_workers={workers}", "dataset.on_error=skip"]
    module, data = package.build(package.compose(*words, config_dirs=[tmp_path / "conf"]))
    del module
    with pytest.raises(UserError, match=r"Bytes has an image of float32"):
        next(iter(data.train_dataloader()))


def test_images_of_a_test_are_checked_before_training(own: None, kdface: Kdface, tmp_path: Path) -> None:
    words = _words("_target_: own_sets.Squares\n", tmp_path)
    said = kdface("train", "--config-dir", "conf", *words, _test("Norm", "Bytes"))
    assert said.code == 2 and "evaluation.mine: Bytes has an image of float32" in said.err
    assert "Traceback" not in said.err and not list((tmp_path / "runs").rglob("*.ckpt"))


@pytest.mark.parametrize(
    ("name", "told"),
    [("InDict", "a dict"), ("InNumbers", "an Outcome with a float as norm")],
)
def test_what_a_protocol_returns_is_checked_and_the_run_goes_on(
    own: None, kdface: Kdface, tmp_path: Path, name: str, told: str
) -> None:
    words = ["train", "--config-dir", "conf", *_words("_target_: own_sets.Squares\n", tmp_path), _test(name)]
    said = kdface(*words)
    text = " ".join(said.err.split())
    assert said.code == 2 and f"evaluation.mine: evaluate of {name} returns {told}." in text
    assert "kdface.evaluation.Outcome({metric: kdface.evaluation.Measured(value)}" in text and "Traceback" not in text
    run = only_run(tmp_path / "runs")
    trained = (run / "checkpoints" / "last.ckpt").read_bytes()
    assert not (run / "DONE").exists()
    import own_sets  # type: ignore[import-not-found]

    setattr(own_sets, name, own_sets.Norm)  # mended
    assert kdface(*words).code == 0
    assert (run / "DONE").exists() and (run / "checkpoints" / "last.ckpt").read_bytes() == trained


@pytest.mark.parametrize(
    ("node", "told"),
    [
        (_test("Alone"), "evaluation.mine: Alone has a Squares as datasets."),
        (_test("Setless"), "evaluation.mine: Setless has no datasets."),
        (_test("Silent"), "evaluation.mine: Silent has no evaluate."),
        ("+evaluation.mine={_target_:own_sets.Hidden}", "evaluation.mine: Keyless has no keys."),
        (
            "+validation.mine={_target_:kdface.evaluation.random_verification,dataset:{_target_:own_sets.Squares},"
            "folds:10,pairs_per_fold:40}",
            "200 pairs of the same person",
        ),
    ],
)
def test_a_protocol_is_checked_when_it_is_built(
    own: None, kdface: Kdface, tmp_path: Path, node: str, told: str
) -> None:
    said = kdface("train", "--config-dir", "conf", *_words("_target_: own_sets.Squares\n", tmp_path), node)
    assert said.code == 2 and told in said.err and "Traceback" not in said.err
    if "validation" in node:  # 35 pairs of the same person
        assert "fix:       validation.mine.pairs_per_fold=6, or more images per person" in said.err
    assert not (tmp_path / "runs").exists()
