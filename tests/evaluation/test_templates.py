"""IJB's protocols against loops over images, templates and thresholds."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from kdface.datasets import IJB, Resized
from kdface.errors import UserError
from kdface.evaluation import EvaluationProtocol, TemplateRecognition, templates
from kdface.evaluation.templates import pooled, search
from kdface.metric_names import rate
from tests.conftest import TINY, Kdface
from tests.datasets.ijb_release import draw, write
from tests.evaluation.faces import Given, Listed

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
Vector = NDArray[np.float64]


def test_a_video_counts_as_much_as_a_photograph() -> None:
    """Two frames (2, 0), (0, 2) of a video and a photograph (2, 0): (1, 1) + (2, 0) = (3, 1), of length sqrt 10."""
    rows = np.array([[2.0, 0.0], [0.0, 2.0], [2.0, 0.0], [0.0, 5.0]])
    names, found = pooled(rows, np.array([8, 8, 8, 3]), np.array([1, 1, 2, 1]))
    assert names.tolist() == [3, 8]
    np.testing.assert_allclose(found, np.array([[0, 1], [3 / math.sqrt(10), 1 / math.sqrt(10)]]), atol=1e-12)
    # Weighted by 1, 1/2, 1/4: (2, 0)/2 + (0, 1)/2 + (1/2, 0) = (3/2, 1/2), the same direction; by 1, 1, 0: (1, 1).
    _, weighted = pooled(rows, np.array([8, 8, 8, 3]), np.array([1, 1, 2, 1]), np.array([1, 1, 0, 1]))
    np.testing.assert_allclose(weighted[1], np.array([math.sqrt(0.5), math.sqrt(0.5)]), atol=1e-12)


class Release:
    """Subjects 0 to 7 in the first gallery and 8 to 15 in the second, four probes each, noisy; templates numbered
    backwards, of one to three media with one to three images."""

    def __init__(self, root: Path, spread: float) -> None:
        rng = np.random.default_rng(3)
        self.faces: list[tuple[int, int, float]] = []
        self.subject = {900 - 7 * place: place % 16 for place in range(80)}
        for template in self.subject:
            for medium in range(int(rng.integers(1, 4))):
                self.faces += [(template, medium, float(rng.uniform(0.2, 1)))] * int(rng.integers(1, 4))
        centres = rng.normal(size=(16, 6))
        self.rows = np.array([centres[self.subject[t]] + spread * rng.normal(size=6) for t, _, _ in self.faces])
        self.rows *= rng.uniform(0.5, 2, size=(len(self.rows), 1))
        templates = list(self.subject)
        self.galleries = [templates[:8], templates[8:16]]
        self.probes = templates[16:]
        self.pairs = [(a, b) for a in templates for b in templates if a < b and (a + b) % 3]
        write(
            root,
            self.faces,
            [(a, b, int(self.subject[a] == self.subject[b])) for a, b in self.pairs],
            [{template: self.subject[template] for template in gallery} for gallery in self.galleries],
            {template: self.subject[template] for template in self.probes},
        )
        self.dataset = IJB(root, "ijbb")
        self.embed = Given((self.dataset, {f"{i}.jpg": row for i, row in enumerate(self.rows, 1)}))

    def template(self, number: int, weighted: bool) -> Vector:
        """Medium by medium."""
        total = np.zeros(6)
        for medium in {m for t, m, _ in self.faces if t == number}:
            images = [
                (score if weighted else 1) * row.astype(np.float32).astype(float)
                for (t, m, score), row in zip(self.faces, self.rows, strict=True)
                if (t, m) == (number, medium)
            ]
            total = total + sum(images) / len(images)
        return np.asarray(total / np.linalg.norm(total))


def slow_tar(genuine: list[float], impostor: list[float], far: float) -> float:
    """The best TAR of all thresholds that are scores."""
    allowed = [t for t in [*genuine, *impostor] if sum(score >= t for score in impostor) <= far * len(impostor)]
    return max((sum(score >= t for score in genuine) for t in allowed), default=0) / len(genuine)


@pytest.mark.parametrize(("spread", "weighted"), [(0.6, False), (1.2, False), (1.2, True)])
def test_both_protocols_against_loops(
    tmp_path: Path, spread: float, weighted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(templates, "_BLOCK", 7)  # images and pairs of many blocks
    monkeypatch.setattr(templates, "_SCORES", 100)
    made = Release(tmp_path, spread)
    protocol = TemplateRecognition(
        made.dataset, fars=(1e-2, 1e-1, 1e-6), fpirs=(0.1, 0.25, 0.01), detector_score=weighted
    )
    assert isinstance(protocol, EvaluationProtocol)
    outcome = protocol.evaluate(made.embed)
    assert made.embed.mirrored == [True]
    found = {name: metric.value for name, metric in outcome.metrics.items()}
    vector = {number: made.template(number, weighted) for number in made.subject}

    scores = {pair: float(vector[pair[0]] @ vector[pair[1]]) for pair in made.pairs}
    genuine = [score for (a, b), score in scores.items() if made.subject[a] == made.subject[b]]
    impostor = [score for (a, b), score in scores.items() if made.subject[a] != made.subject[b]]
    for far in (1e-2, 1e-1):
        assert found[f"tar@far={rate(far)}"] == pytest.approx(slow_tar(genuine, impostor, far), abs=1e-12)
    assert found["tar@far=1e-6"] is None  # fewer than a million impostor pairs
    wins = sum((g > i) + 0.5 * (g == i) for g in genuine for i in impostor)
    assert found["auc"] == pytest.approx(wins / len(genuine) / len(impostor), abs=1e-9)

    ranks: dict[int, list[float]] = {1: [], 5: [], 10: []}
    tpir: dict[float, list[float]] = {0.1: [], 0.25: []}
    for gallery in made.galleries:
        people = {made.subject[template] for template in gallery}
        places, mates, strangers = [], [], []
        for probe in made.probes:
            cosines = {made.subject[template]: float(vector[probe] @ vector[template]) for template in gallery}
            if made.subject[probe] not in people:
                strangers.append(max(cosines.values()))
                continue
            mate = cosines[made.subject[probe]]
            places.append(1 + sum(cosine > mate for cosine in cosines.values()))
            mates.append(mate)
        for rank, values in ranks.items():
            values.append(sum(place <= rank for place in places) / len(places))
        for fpir, values in tpir.items():
            allowed = [t for t in mates if sum(score >= t for score in strangers) <= fpir * len(strangers)]
            hits = [sum(m >= t and p == 1 for m, p in zip(mates, places, strict=True)) for t in allowed]
            values.append(max(hits, default=0) / len(mates))
    for rank, values in ranks.items():
        assert found[f"rank{rank}"] == pytest.approx(np.mean(values), abs=1e-12)
        assert outcome.metrics[f"rank{rank}"].std == pytest.approx(np.std(values), abs=1e-12)
    for fpir, values in tpir.items():
        assert found[f"tpir@fpir={rate(fpir)}"] == pytest.approx(np.mean(values), abs=1e-12)
    assert found["tpir@fpir=1e-2"] is None  # 32 probes without a mate show no rate under 1/32
    assert 0 < np.mean(tpir[0.1]) < np.mean(ranks[1]) < 1 or spread < 1

    everyone = made.galleries[0] + made.galleries[1]
    others: list[float] = []
    own: list[float] = []
    places = []
    for probe in made.probes:
        cosines = {made.subject[template]: float(vector[probe] @ vector[template]) for template in everyone}
        own.append(cosines.pop(made.subject[probe]))
        others += cosines.values()
        places.append(1 + sum(cosine > own[-1] for cosine in cosines.values()))
    for rank in (1, 5, 10):
        assert found[f"rank{rank}_official"] == pytest.approx(sum(p <= rank for p in places) / 64, abs=1e-12)
    for fpir, k in ((0.1, 7), (0.25, 16), (0.01, 1)):  # the least whole number from 6.4, 16 and 0.64
        matched = sum(score > sorted(others)[-k] for score in own)
        assert found[f"tpir_official@fpir={rate(fpir)}"] == pytest.approx(matched / 64, abs=1e-12)

    assert outcome.counts["images_embedded"] == outcome.counts["images"] == len(made.faces)
    assert (outcome.counts["templates"], outcome.counts["probes"]) == (80, 64)
    assert not outcome.symptoms
    assert outcome.cmc[0] == found["rank1"]


def test_equal_scores_identify_nobody() -> None:
    same = np.array([[1.0, 0.0], [1.0, 0.0]])
    found = search(same, ["ada", "bo"], same[:1], ["ada"], impostors=1)
    assert not found.first.any()
    assert found.tpir_official(0.5) == 0
    assert search(same[:1], ["bo"], same[:1], ["ada"]).mate.tolist() == [-np.inf]


def test_embeddings_without_a_direction_give_symptoms(tmp_path: Path) -> None:
    made = Release(tmp_path, 1.0)
    rows = {f"{i}.jpg": np.zeros(6) for i in range(1, len(made.faces) + 1)}
    outcome = TemplateRecognition(made.dataset).evaluate(Given((made.dataset, rows)))
    assert all(metric.value is None for metric in outcome.metrics.values())
    assert outcome.symptoms


def test_other_sets_bring_no_templates() -> None:
    with pytest.raises(UserError, match="has no templates"):
        TemplateRecognition(Listed([("ada", "1")]))


def test_evaluation_ijb_reads_both_releases_and_fills_the_published_table(kdface: Kdface, tmp_path: Path) -> None:
    """Template 3 is the picture of 1 once more, so whatever the network it is found, and scores highest."""
    faces = [(template, template, 0.9) for template in range(1, 6)]
    for folder, release in (("IJBB", "ijbb"), ("IJBC", "ijbc")):
        galleries = [{1: 11, 5: 15}, {2: 12}]
        root = write(tmp_path / folder, faces, [(1, 3, 1), (2, 3, 0), (1, 4, 0)], galleries, {3: 11, 4: 12}, release)
        draw(root, 5)
        (root / "loose_crop" / "3.jpg").write_bytes((root / "loose_crop" / "1.jpg").read_bytes())
    words = [*TINY, "trainer.max_steps=1", f"paths.runs={tmp_path}/runs", f"paths.data={tmp_path}"]
    assert kdface("train", *words).code == 0
    (run,) = (tmp_path / "runs").rglob("seed*")
    said = kdface("evaluate", f"run={run}", "evaluation=ijb", f"paths.data={tmp_path}")
    assert said.code == 0, said
    (results,) = (run / "evaluations").glob("*/results.json")
    metrics = json.loads(results.read_text())["metrics"]
    for release in ("ijbb", "ijbc"):
        assert metrics[f"{release}/rank1"]["value"] == 1
        assert metrics[f"{release}/auc"]["value"] == 1
        assert metrics[f"{release}/tar@far=1e-6"]["value"] is None
    table = yaml.safe_load((EXPERIMENTS / "spherefacer" / "ijb.yaml").read_text())
    filled = [column["metric"] for column in table["columns"] if column.get("evaluation") == "ijb"]
    assert len(filled) == 12
    assert set(filled) <= set(metrics)


def test_a_gallery_in_which_nobody_is_sought_is_told(tmp_path: Path) -> None:
    faces = [(template, template, 0.9) for template in range(1, 4)]
    write(tmp_path, faces, [(1, 3, 1), (2, 3, 0)], [{1: 11}, {2: 12}], {3: 11})
    with pytest.raises(UserError, match="no probe shows anyone of the second gallery"):
        TemplateRecognition(IJB(tmp_path, "ijbb"))


def test_faces_shown_otherwise_keep_their_templates(tmp_path: Path) -> None:
    made = Release(tmp_path, 1.0)
    shown = Resized(made.dataset, (64, 64))
    rows = {f"{i}.jpg": row for i, row in enumerate(made.rows, 1)}
    outcome = TemplateRecognition(shown).evaluate(Given((shown, rows)))
    assert outcome.metrics == TemplateRecognition(made.dataset).evaluate(made.embed).metrics
