"""CKD: its loss term by term, its gradients, the label-smoothing identity, and what ships."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

from kdface.backbones import iresnet_nano
from kdface.config.locate import parameters
from kdface.config.paths import conf_folder
from kdface.datasets.loading import Batch
from kdface.errors import UserError
from kdface.faces import Preprocessing
from kdface.heads import CosFace, Softmax
from kdface.methods import Views
from kdface.methods.ckd import CKD, as_label_smoothing

FACE, PERIOCULAR = Preprocessing(size=(32, 48)), Preprocessing(size=(32, 64), template="periocular")
INPUTS = {"student": PERIOCULAR, "teacher": FACE}
VIEWS = {"student": "periocular", "teacher": "face"}
TERMS = ("ce_face", "ce_periocular", "kl_face_to_periocular", "kl_periocular_to_face")


def ckd(**options: Any) -> CKD:
    torch.manual_seed(0)
    inputs = options.pop("inputs", INPUTS)
    networks: dict[str, nn.Module] = {
        role: iresnet_nano(8, 0.0, preprocessing.size, channels=(8, 8, 8, 16), blocks=(1, 1, 1, 1))
        for role, preprocessing in inputs.items()
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
        q, p = (torch.exp(logits / tau) / torch.exp(logits / tau).sum() for logits in (t, s))
        total += float((q * (q / p).log()).sum())
    return tau**2 * total / len(teacher)


@pytest.mark.parametrize(("given_temperature", "to_periocular", "to_face"), [(2.5, 2.5, 2.5), ((4.0, 1.5), 4.0, 1.5)])
def test_terms_of_the_sheet(given_temperature: Any, to_periocular: float, to_face: float) -> None:
    """CKD sheet 2, with the published temperature and weights, and with a temperature for each direction."""
    method, given = ckd(temperature=given_temperature), batch()
    terms = method.terms(given)
    periocular, face = logits(method, given)
    assert tuple(terms) == TERMS
    expected = {
        "ce_face": cross_entropy(face, given.label).item(),
        "ce_periocular": cross_entropy(periocular, given.label).item(),
        "kl_face_to_periocular": slow_kl(face, periocular, to_periocular),
        "kl_periocular_to_face": slow_kl(periocular, face, to_face),
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
            assert float(method.noted[f"accuracy_{name}"]) == pytest.approx(float(wanted))
            assert share is None or float(wanted) == pytest.approx(share)
    method.head = CosFace(8, 5, margin=1.9)  # no target's logit survives this margin
    with torch.no_grad():
        method.head.weight.copy_(torch.eye(5, 8))
    method.terms(given)
    embeddings = method.backbone(
        {role: (given.views[view].permute(0, 3, 1, 2).float() - 127.5) / 127.5 for role, view in VIEWS.items()}
    )
    wanted = (embeddings["student"][:, :5].argmax(1) == given.label).double().mean()
    assert float(method.noted["accuracy_periocular"]) == pytest.approx(float(wanted))


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
    record = method.noted
    periocular, face = (logit.detach() for logit in logits(method, given))
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
    assert set(method.noted) == {"accuracy_periocular", "accuracy_face"} | parts


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
    assert not any(module.training for module in method.averaged.modules())


def test_two_eyes_on_one_trunk() -> None:
    """CKD sheet 6, shared_ocular: both roles see the same image, features are those of the first, the student's."""
    same = {"student": PERIOCULAR, "teacher": PERIOCULAR}
    method, given = ckd(inputs=same), batch()
    method.views = Views("periocular", "periocular")
    passed: list[int] = []
    stem = next(module for module in method.pair.shared.modules() if isinstance(module, nn.Conv2d))
    stem.register_forward_hook(lambda *_: passed.append(1))
    assert set(method.terms(given)) == set(TERMS)
    assert len(passed) == 1
    method.eval()
    with torch.no_grad():
        pixels = (given.views["periocular"].permute(0, 3, 1, 2).contiguous().float() - 127.5) / 127.5
        embedding = method.embed(given.views["periocular"], PERIOCULAR)
        assert torch.equal(embedding, method.pair.path("student")(pixels))
        assert not torch.allclose(embedding, method.pair.path("teacher")(pixels))


def test_mistakes() -> None:
    with pytest.raises(UserError, match="all loss weights"):
        ckd(**dict.fromkeys(TERMS, 0.0))
    networks: dict[str, nn.Module] = {"student": nn.Identity()}
    with pytest.raises(UserError, match=r"views\.teacher is null"):
        CKD(networks, networks, FACE, INPUTS, Views("periocular"))


def test_the_shipped_choice_states_every_parameter_with_its_default() -> None:
    text = (conf_folder() / "method" / "ckd.yaml").read_text("utf-8")
    stated = yaml.safe_load(text)["method"]
    known = {name: parameter.default for name, parameter in parameters(CKD).items()}
    assert stated.pop("_target_") == "kdface.methods.CKD"
    assert stated.pop("views") == {"student": "periocular", "teacher": "face"}
    for injected in ("networks", "heads", "preprocessing", "inputs", "views"):
        del known[injected]
    assert stated == known
