"""CKD: its loss term by term, its gradients, the label-smoothing identity, and all its configurations end to end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

from kdface.backbones import iresnet_nano
from kdface.config.compose import compose
from kdface.config.load import load_run
from kdface.config.locate import parameters
from kdface.config.paths import conf_folder
from kdface.datasets.ckd_folders import CKDFolders, Modality
from kdface.datasets.loading import Batch
from kdface.errors import UserError
from kdface.faces import Preprocessing
from kdface.heads import CosFace, Softmax
from kdface.methods import Method, Views
from kdface.methods.ckd import CKD, as_label_smoothing
from tests.conftest import TINY, Kdface, only_run
from tests.datasets.test_image_folder import encoded, picture

FACE, PERIOCULAR = Preprocessing(size=(32, 48)), Preprocessing(size=(32, 64), template="periocular")
INPUTS = {"student": PERIOCULAR, "teacher": FACE}
VIEWS = {"student": "periocular", "teacher": "face"}
TERMS = ("ce_face", "ce_periocular", "kl_face_to_periocular", "kl_periocular_to_face")


def ckd(**options: Any) -> CKD:
    torch.manual_seed(0)
    inputs = options.pop("inputs", INPUTS)
    networks: dict[str, nn.Module] = {
        role: iresnet_nano(8, 0.0, each.size, channels=(8, 8, 8, 16), blocks=(1, 1, 1, 1))
        for role, each in inputs.items()
    }
    heads: dict[str, nn.Module] = {role: Softmax(8, 5) for role in inputs}
    return CKD(networks, heads, inputs["student"], inputs, Views("periocular", "face"), **options)


def batch() -> Batch:
    draws = torch.Generator().manual_seed(4)
    views = {
        name: torch.randint(0, 256, (6, *kind.size, 3), generator=draws, dtype=torch.uint8)
        for name, kind in (("face", FACE), ("periocular", PERIOCULAR))
    }
    return Batch(views, torch.tensor([0, 1, 2, 3, 4, 0]), [str(row) for row in range(6)], [])


def logits(method: CKD, given: Batch) -> tuple[Tensor, Tensor]:
    """Periocular and face logits as the method computes them: joint forward pass, linear heads."""
    seen = {
        role: (given.views[view].permute(0, 3, 1, 2).contiguous().float() - 127.5) / 127.5
        for role, view in (("student", "periocular"), ("teacher", "face"))
    }
    embeddings = method.backbone(seen)
    assert isinstance(method.head, Softmax) and isinstance(method.teacher_head, Softmax)
    assert method.head.bias is not None and method.teacher_head.bias is not None
    periocular = embeddings["student"] @ method.head.weight.T + method.head.bias
    return periocular, embeddings["teacher"] @ method.teacher_head.weight.T + method.teacher_head.bias


def slow_kl(teacher: Tensor, student: Tensor, tau: float) -> float:
    """tau^2 / N sum over rows of sum_c q_c log(q_c / p_c), by its definition in float64."""
    total = 0.0
    for t, s in zip(teacher.detach().double(), student.detach().double(), strict=True):
        q, p = (torch.exp(each / tau) / torch.exp(each / tau).sum() for each in (t, s))
        total += float((q * (q / p).log()).sum())
    return tau**2 * total / len(teacher)


def test_terms_of_the_sheet() -> None:
    """CKD sheet 2, with the published temperature and weights."""
    method, given = ckd(), batch()
    terms = method.terms(given)
    periocular, face = logits(method, given)
    assert tuple(terms) == TERMS
    expected = {
        "ce_face": cross_entropy(face, given.label).item(),
        "ce_periocular": cross_entropy(periocular, given.label).item(),
        "kl_face_to_periocular": slow_kl(face, periocular, 2.5),
        "kl_periocular_to_face": slow_kl(periocular, face, 2.5),
    }
    for name, term in terms.items():
        assert term.value.item() == pytest.approx(expected[name], rel=1e-5), name
        assert term.weight == 1.0


def test_accuracies_are_those_of_the_classifiers() -> None:
    """Official top-1: the largest logit, with bias and norm. A margin head has neither, and its margin is left out."""
    method, given = ckd(), batch()
    for bias, share in ((0.0, None), (1e6, 1 / 3)):  # class 0 by bias alone: two of six labels
        for head in (method.head, method.teacher_head):
            assert isinstance(head, Softmax) and head.bias is not None
            head.bias.data[0] = bias
        method.terms(given)
        for name, z in zip(("periocular", "face"), logits(method, given), strict=True):
            wanted = (z.argmax(1) == given.label).double().mean()
            assert float(method.last_metrics[f"accuracy_{name}"]) == pytest.approx(float(wanted))
            assert share is None or float(wanted) == pytest.approx(share)
    method.head = CosFace(8, 5, margin=1.9)  # no target's logit survives this margin
    with torch.no_grad():
        method.head.weight.copy_(torch.eye(5, 8))
    method.terms(given)
    embeddings = method.backbone(
        {role: (given.views[view].permute(0, 3, 1, 2).float() - 127.5) / 127.5 for role, view in VIEWS.items()}
    )
    wanted = (embeddings["student"][:, :5].argmax(1) == given.label).double().mean()
    assert float(method.last_metrics["accuracy_periocular"]) == pytest.approx(float(wanted))


@pytest.mark.parametrize("name", TERMS)
def test_a_weight_scales_its_term_and_zero_leaves_it_out(name: str) -> None:
    assert ckd(**{name: 0.25}).terms(batch())[name].weight == 0.25
    assert name not in ckd(**{name: 0.0}).terms(batch())


def gradient(method: CKD, name: str, weight: str) -> bool:
    """Whether a term moves a head's weights."""
    value = method.terms(batch())[name].value
    head = method.head if weight == "periocular" else method.teacher_head
    assert isinstance(head, Softmax)
    (found,) = torch.autograd.grad(value, [head.weight], allow_unused=True)
    return found is not None and bool(found.any())


@pytest.mark.parametrize("detach", [True, False])
def test_each_target_is_detached_or_not(detach: bool) -> None:
    method = ckd(detach_face=detach, detach_periocular=True)
    assert gradient(method, "kl_face_to_periocular", "periocular")
    assert gradient(method, "kl_face_to_periocular", "face") is not detach
    assert not gradient(method, "kl_periocular_to_face", "periocular")
    method = ckd(detach_face=True, detach_periocular=detach)
    assert gradient(method, "kl_periocular_to_face", "face")
    assert gradient(method, "kl_periocular_to_face", "periocular") is not detach
    assert not gradient(method, "kl_face_to_periocular", "face")


def test_gradients_in_the_logits_are_those_of_the_sheet() -> None:
    """dL/dz_p = (p_p - y) + tau (p_p^t - p_f^t), dL/dz_f alike, for each sample of a mean over the batch."""
    method, given = ckd(temperature=4.0), batch()
    caught: dict[str, Tensor] = {}
    for role, head in (("student", method.head), ("teacher", method.teacher_head)):
        assert isinstance(head, nn.Module)

        def keep(module: nn.Module, inputs: Any, output: Any, role: str = role) -> None:
            output.logits.retain_grad()
            caught[role] = output.logits

        head.register_forward_hook(keep)
    torch.stack([term.value * term.weight for term in method.terms(given).values()]).sum().backward()  # type: ignore[no-untyped-call]
    y = one_hot(given.label, 5).float()
    z_p, z_f = caught["student"], caught["teacher"]
    for mine, other in ((z_p, z_f), (z_f, z_p)):
        wanted = (mine.softmax(1) - y) + 4.0 * ((mine / 4).softmax(1) - (other / 4).softmax(1))
        assert mine.grad is not None
        torch.testing.assert_close(mine.grad, wanted.detach() / 6, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("classes", [5, 1054])
@pytest.mark.parametrize("tau", [1.0, 2.5, 4.0])
def test_ckd_is_learned_label_smoothing_with_a_sparsity_regulariser(classes: int, tau: float) -> None:
    """CKD sheet 2: both sides by their definitions, in float64, to 1e-10."""
    draws = torch.Generator().manual_seed(classes)
    student, teacher = torch.randn(2, 7, classes, generator=draws, dtype=torch.float64) * 3
    label = torch.randint(0, classes, (7,), generator=draws)
    smoothing, sparsity, entropy = as_label_smoothing(student, teacher, label, tau)
    p, q = student.softmax(1), (teacher / tau).softmax(1)
    y = one_hot(label, classes).double()
    soft = (y + tau * q) / (1 + tau)
    assert float(smoothing) == pytest.approx(float(-(1 + tau) * (soft * p.log()).sum(1).mean()), abs=1e-10)
    assert float(sparsity) == pytest.approx(
        float((tau * torch.linalg.vector_norm(p, 1 / tau, dim=1).log()).mean()), abs=1e-10
    )
    assert float(entropy) == pytest.approx(float(-(tau**2) * (q * q.log()).sum(1).mean()), abs=1e-10)
    trained = cross_entropy(student, label).item() + slow_kl(teacher, student, tau)
    assert float(smoothing + sparsity - entropy) == pytest.approx(trained, abs=1e-10)
    assert float(sparsity) == pytest.approx(0, abs=1e-12) if tau == 1 else float(sparsity) > 0.1


PARTS = ("learned_smoothing", "sparsity")


def test_the_parts_of_either_head_s_loss_are_recorded() -> None:
    method, given = ckd(), batch()
    terms = method.terms(given)
    record = method.last_metrics
    periocular, face = (each.detach() for each in logits(method, given))
    for name, other, divergence in (("periocular", face, TERMS[2]), ("face", periocular, TERMS[3])):
        q = (other / 2.5).softmax(1)
        entropy = -(2.5**2) * float((q * q.log()).sum(1).mean())
        found = float(sum(record[f"{part}_{name}"] for part in PARTS)) - entropy
        assert found == pytest.approx((terms[f"ce_{name}"].value + terms[divergence].value).item(), rel=1e-5)


@pytest.mark.parametrize(
    ("options", "heads"),
    [
        ({}, {"periocular", "face"}),
        ({"kl_face_to_periocular": 0.0}, {"face"}),
        ({"kl_periocular_to_face": 0.5}, {"periocular"}),
        ({"ce_face": 2.0}, {"periocular"}),
        ({"detach_face": False}, {"face"}),
        ({"detach_periocular": False}, {"periocular"}),
    ],
)
def test_parts_are_recorded_where_they_are_what_a_head_learns_by(options: dict[str, Any], heads: set[str]) -> None:
    method = ckd(**options)
    method.terms(batch())
    parts = {f"{part}_{name}" for part in PARTS for name in heads}
    assert set(method.last_metrics) == {"accuracy_periocular", "accuracy_face"} | parts


def test_images_of_either_kind_are_embedded_by_their_own_network() -> None:
    method, given = ckd(), batch()
    method.terms(given)
    method.eval()
    assert method.sees == (PERIOCULAR, FACE)
    with torch.no_grad():
        for view, kind, role in (("face", FACE, "teacher"), ("periocular", PERIOCULAR, "student")):
            pixels = (given.views[view].permute(0, 3, 1, 2).contiguous().float() - 127.5) / 127.5
            assert torch.equal(method.embed(given.views[view], kind), method.pair.path(role)(pixels))
    with pytest.raises(UserError, match="size"):
        method.embed(given.views["face"], Preprocessing(size=(112, 112)))


def test_what_ships_is_the_periocular_network_alone() -> None:
    method = ckd()
    shipped = method.embedder
    plain = iresnet_nano(8, 0.0, PERIOCULAR.size, channels=(8, 8, 8, 16), blocks=(1, 1, 1, 1))
    plain.load_state_dict(shipped.state_dict())
    images = torch.randn(2, 3, *PERIOCULAR.size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(plain.eval()(images), shipped.eval()(images))


def test_averaged_weights_are_evaluated_and_shipped_whole() -> None:
    method = ckd()
    method.add_average()
    assert method.averaged is not None
    before = {key: value.clone() for key, value in method.averaged.state_dict().items()}
    method.train().terms(batch())["ce_periocular"].value.backward()  # type: ignore[no-untyped-call]
    with torch.no_grad():
        for value in method.backbone.parameters():
            value.add_(1.0)
    shipped = dict(method.embedder.state_dict())
    kept = {**{key: f"shared.{key}" for key in shipped}, **{key: f"own.student.{key}" for key in shipped}}
    assert set(kept) == set(shipped)
    for key, value in shipped.items():
        name = f"shared.{key}" if f"shared.{key}" in before else f"own.student.{key}"
        assert torch.equal(value, before[name]), key
    assert not any(each.training for each in method.averaged.modules())


def test_two_eyes_on_one_trunk() -> None:
    """CKD sheet 6, shared_ocular: both roles see the same image, features are those of the first, the student's."""
    same = {"student": PERIOCULAR, "teacher": PERIOCULAR}
    method, given = ckd(inputs=same), batch()
    method.views = Views("periocular", "periocular")
    assert set(method.terms(given)) == set(TERMS)
    method.eval()
    with torch.no_grad():
        pixels = (given.views["periocular"].permute(0, 3, 1, 2).contiguous().float() - 127.5) / 127.5
        embedding = method.embed(given.views["periocular"], PERIOCULAR)
        assert torch.equal(embedding, method.pair.path("student")(pixels))
        assert not torch.allclose(embedding, method.pair.path("teacher")(pixels))


def test_mistakes() -> None:
    with pytest.raises(UserError, match="all weights"):
        ckd(**dict.fromkeys(TERMS, 0.0))
    networks: dict[str, nn.Module] = {"student": nn.Identity()}
    with pytest.raises(UserError, match=r"views\.teacher is null"):
        CKD(networks, networks, FACE, INPUTS, Views("periocular"))


def test_the_shipped_choice_states_every_parameter_with_its_default() -> None:
    text = (conf_folder() / "method" / "ckd.yaml").read_text("utf-8")
    stated = yaml.safe_load(text)["method"]
    known = {name: each.default for name, each in parameters(CKD).items()}
    assert stated.pop("_target_") == "kdface.methods.CKD"
    assert stated.pop("views") == {"student": "periocular", "teacher": "face"}
    for injected in ("networks", "heads", "preprocessing", "inputs", "views"):
        del known[injected]
    assert stated == known


# CKD sheet 6: the seven official configurations, and the controls that no official configuration holds.
OFFICIAL = [
    "ckd",
    "face_ce",
    "ocular_ce",
    "separate_face_ocular",
    "shared_network_only_f2p",
    "shared_ocular",
    "without_shared_batchnorm",
]
EXPERIMENTS = [
    *OFFICIAL,
    "shared_network_only_ce",
    "shared_network_only_p2f",
    "specific_batchnorm",
    "frozen_teacher",
    "official",
    "pins90_small",
]
SMALL = [
    *(
        word
        for word in TINY
        if word.startswith(("dataset.", "trainer.", "optimizer.", "backbone.")) and "size=[32" not in word
    ),
    "dataset.size=[48,48]",
    "augmentation.size=[32,64]",
]


ROOT = ["dataset.root=faces"]


def small(experiment: str) -> list[str]:
    """Steps of eight small images. The network of `official` is replaced, its data, losses and tests are not."""
    steps = ["trainer.max_steps=4", "trainer.checkpoint_steps=2", "trainer.ema_decay=0.9"]
    if experiment == "pins90_small":
        return [f"experiment=ckd/{experiment}", "dataset=toy_faces", "evaluation=none", *SMALL, *steps]
    if experiment == "official":
        return [
            f"experiment=ckd/{experiment}",
            *(word for word in SMALL if not word.startswith("dataset")),
            "dataset.root=faces",
            "backbone=iresnet_nano",
            "dataset.size=[48,48]",
            "evaluation.ckd_periocular_rank1.root=faces",
            "evaluation.ckd_cross_rank1.face_size=[48,48]",
            "evaluation.ckd_cross_eer.dataset.size=[48,48]",
            *steps,
        ]
    test = "toy_pairs" if experiment == "face_ce" else "periocular"
    sizes = [] if experiment == "face_ce" else [f"evaluation.{test}.dataset.augmentation.size=[32,64]"]
    faces = f"evaluation.{test}.dataset" + ("" if experiment == "face_ce" else ".dataset")
    return [
        f"experiment=ckd/{experiment}",
        *SMALL,
        *sizes,
        f"{faces}.size=[48,48]",
        f"{faces}.people=8",
        f"{faces}.images_per_person=4",
        f"evaluation.{test}.folds=2",
        f"evaluation.{test}.pairs_per_fold=8",
        f"evaluation.{test}.fars=[0.25]",
        *steps,
    ]


def stored_crops(root: Path) -> None:
    """A training set and a test set in the official layout: train and val, gallery and probe, of noise."""
    splits = (("train", range(4), 9), ("gallery", range(2), 4), ("probe", range(2), 4), ("val", range(1, 4), 5))
    for number, (split, people, images) in enumerate(splits):
        for person in people:
            for image in range(images):
                for kind, (height, width) in (("face", (48, 48)), ("periocular", (32, 64))):
                    file = root / split / f"p{person}" / kind / f"{image}.png"
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_bytes(encoded(picture(100 * number + 10 * person + image, height, width)))


def require_calibration(kdface: Kdface, run: Path, root: Path) -> None:
    """Each modality by its own head, people by name: those of `val` are 1 to 3 of the network's four."""
    method = load_run(run).method
    assert isinstance(method, CKD)
    kinds: list[tuple[Modality, Any, tuple[int, int]]] = [
        ("periocular", method.head, (32, 64)),
        ("face", method.teacher_head, (48, 48)),
    ]
    for modality, head, size in kinds:
        said = kdface(
            "evaluate",
            f"run={run}",
            "evaluation=ckd_folders_calibration",
            f"evaluation.ckd_periocular_calibration.dataset.modality={modality}",
            f"evaluation.ckd_periocular_calibration.dataset.size=[{size[0]},{size[1]}]",
        )
        assert said.code == 0, said
        found = json.loads((run / "evaluations" / "ckd_periocular_calibration" / "results.json").read_text())
        faces = CKDFolders(root, "val", modality, size)
        images = torch.from_numpy(np.stack([faces[row].image for row in range(len(faces))]))
        with torch.no_grad():
            embedding = method.embed(images, faces.preprocessing)
        guess = (embedding @ head.weight.T + head.bias).argmax(1).numpy()
        expected = float((guess == faces.labels + 1).mean())
        assert found["counts"]["ckd_periocular_calibration"]["images"] == 15
        assert found["metrics"]["ckd_periocular_calibration/calibration/accuracy"]["value"] == pytest.approx(expected)


def weights(run: Path) -> dict[str, Any]:
    return dict(torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"])


@pytest.mark.parametrize("experiment", [each for each in OFFICIAL if each != "ckd"])
def test_official_configurations_differ_in_the_method_alone(experiment: str) -> None:
    """CKD sheet 6: the seven have one budget and data; each is to `official` what its small namesake is to `ckd`."""
    small_one, official, plain = (
        compose([f"experiment=ckd/{name}", *given]).tree
        for name, given in ((experiment, []), (f"official_{experiment}", ROOT), ("official", ROOT))
    )
    assert official["method"] == small_one["method"]
    assert {key for key in plain if plain[key] != official[key]} - {"name"} <= {"method", "evaluation"}
    assert official["trainer"]["max_epochs"] == 90 and official["trainer"]["batch_size"] == 16
    seen = {name.split("_")[1] for name in official["evaluation"]}
    if experiment == "face_ce":
        assert seen == {"face"}
    else:
        assert seen == {"periocular"} | (set() if experiment in ("ocular_ce", "shared_ocular") else {"cross"})


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_trains_is_evaluated_and_resumes_exactly(
    kdface: Kdface, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, experiment: str
) -> None:
    words = ("train", *small(experiment))
    if experiment == "official":
        stored_crops(tmp_path / "faces")
    if experiment == "frozen_teacher":
        said = kdface("train", *small("face_ce"), f"paths.runs={tmp_path}/taught")
        assert said.code == 0, said
        words = (*words, f"teacher.run={only_run(tmp_path / 'taught')}")
    said = kdface(*words, f"paths.runs={tmp_path}/runs")
    assert said.code == 0, said
    run = only_run(tmp_path / "runs")
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    steps = [record for record in records if record["kind"] == "train"]
    assert [record["step"] for record in steps] == [1, 2, 3, 4]
    expected = {
        "face_ce": {"classification"},
        "ocular_ce": {"classification"},
        "shared_network_only_f2p": set(TERMS) - {"kl_periocular_to_face"},
        "shared_network_only_p2f": set(TERMS) - {"kl_face_to_periocular"},
        "shared_network_only_ce": {"ce_face", "ce_periocular"},
        "frozen_teacher": {"classification", "distillation"},
    }.get(experiment, set(TERMS))
    assert all(set(record["terms"]) == expected for record in steps)
    assert (run / "DONE").is_file()
    if experiment == "official":
        metrics = json.loads((run / "results.json").read_text())["metrics"]
        told = {f"ckd_{name}" for name in ("periocular_rank1/ckd/rank1", "periocular_eer/ckd/eer_official")}
        told |= {"ckd_cross_rank1/ckd/cross/rank1", "ckd_cross_eer/ckd/cross/eer"}
        assert told | {"ckd_periocular_clusters/ckd/davies_bouldin"} <= set(metrics)
        require_calibration(kdface, run, tmp_path / "faces")

    def interrupted(method: Method, given: Batch, index: int) -> Tensor:
        if method.trainer.global_step == 3:  # the checkpoint is that of step 2
            raise KeyboardInterrupt
        return training_step(method, given, index)

    training_step = Method.training_step
    monkeypatch.setattr(Method, "training_step", interrupted)
    assert kdface(*words, f"paths.runs={tmp_path}/again").code != 0
    monkeypatch.setattr(Method, "training_step", training_step)
    assert kdface(*words, f"paths.runs={tmp_path}/again").code == 0
    again = only_run(tmp_path / "again")
    assert json.loads((again / "results.json").read_text())["resumed_at"] == 2
    expected_weights, found = weights(run), weights(again)
    assert list(expected_weights) == list(found)
    assert all(torch.equal(value, found[key]) for key, value in expected_weights.items())
