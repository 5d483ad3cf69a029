"""1:1 and 1:N comparison of templates (sets of images of one person): the protocols of IJB-B and IJB-C."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Gt, Lt
from numpy.typing import NDArray

from kdface.datasets.derived import Derived
from kdface.datasets.ijb import IJB, Numbers
from kdface.errors import UserError
from kdface.evaluation.curves import auc, eer, roc, tar_at_far
from kdface.evaluation.embed import Embedder
from kdface.evaluation.health import symptoms_of, without_direction
from kdface.evaluation.identification import cmc, mate_ranks
from kdface.evaluation.people import sample_of_people
from kdface.evaluation.protocol import FAR, Measured, Outcome
from kdface.evaluation.scores import Embeddings, largest_within, unit
from kdface.faces import FaceSet
from kdface.metric_names import rate

FPIR = Annotated[float, Gt(0), Lt(1)]
_RANKS = (1, 5, 10)
_BLOCK = 1 << 14  # images or pairs at once: 64 MiB of 512 numbers
_SCORES = 1 << 23  # of a search, at once: 64 MiB


def pooled(
    embeddings: Embeddings, template: Numbers, medium: Numbers, weight: NDArray[np.float64] | None = None
) -> tuple[Numbers, NDArray[np.float64]]:
    """Pool embeddings into unit-norm templates, weighting a video like a photograph.

    t = sum over media m of (1 / n_m) sum over images i of m of w_i e_i, then t / ||t||. Embeddings are not normalised
    first, as in the published evaluations.

    Args:
        embeddings: (images, D).
        template, medium: (images,) numbers; n_m counts a medium's images in one template.
        weight: (images,) w, such as the detector's score; None: 1.

    Returns:
        (templates,) template numbers, ascending, and (templates, D).

    Raises:
        UserError: a template is zero or not finite.
    """
    _, group, count = np.unique(np.stack([template, medium], axis=1), axis=0, return_inverse=True, return_counts=True)
    names, rows = np.unique(template, return_inverse=True)
    share = 1 / count[group.ravel()] * (1 if weight is None else weight)
    summed = np.zeros((len(names), embeddings.shape[1]))
    for start in range(0, len(rows), _BLOCK):
        block = slice(start, start + _BLOCK)
        np.add.at(summed, rows[block], share[block, None] * embeddings[block])
    return names, unit(summed)


@dataclass(frozen=True, eq=False)
class Searches:
    """Results of searching a gallery.

    Attributes:
        mate: (probes,) the cosine with the best template of the probe's person; -inf if the gallery has none.
        other: (probes,) the best cosine with anyone else; -inf if there is nobody else.
        impostors: the requested number of highest cosines of any probe with anyone else, descending.
    """

    mate: NDArray[np.float64]
    other: NDArray[np.float64]
    impostors: NDArray[np.float64]

    @property
    def first(self) -> NDArray[np.bool_]:
        """(probes,) whether the person ranks first; ties with someone else do not count."""
        return self.mate > self.other

    def tpir(self, fpir: float) -> float | None:
        """True-positive identification rate: the share of mated probes whose mate ranks first, above the threshold.

        The threshold is the lowest at which at most `fpir` of the probes without a mate find anyone (ISO/IEC 19795-1:
        FPIR). None if there are fewer than 1 / `fpir` of these, or no mated probe.
        """
        mated = np.isfinite(self.mate)
        strangers = np.sort(self.other[~mated])[::-1]
        allowed = int(largest_within(fpir, np.array(len(strangers))))
        if not allowed or not mated.any():
            return None
        return float((self.first & (self.mate > strangers[allowed]))[mated].mean())

    def tpir_official(self, fpir: float) -> float | None:
        """As in OpenSphere: the share of all probes with a mate above the k-th highest impostor score.

        k = ceil(`fpir` probes) among the scores of every probe with every template of anyone else, and the mate need
        not rank first. For comparison with published numbers only. None if the scores were not kept.
        """
        k = math.ceil(fpir * len(self.mate))
        return float((self.mate > self.impostors[k - 1]).mean()) if k <= len(self.impostors) else None


def search(
    gallery: NDArray[np.float64],
    gallery_people: Sequence[str],
    probe: NDArray[np.float64],
    probe_people: Sequence[str],
    impostors: int = 0,
) -> Searches:
    """Search each probe in a gallery by cosine.

    Args:
        gallery, probe: (templates, D) of unit norm.
        gallery_people, probe_people: the person of each.
        impostors: number of highest scores between different people to keep, over all probes.
    """
    number = {name: place for place, name in enumerate(dict.fromkeys([*gallery_people, *probe_people]))}
    gallery_ids, probe_ids = (np.array([number[person] for person in side]) for side in (gallery_people, probe_people))
    mate, other = np.empty(len(probe)), np.empty(len(probe))
    highest = np.empty(0)
    step = max(1, _SCORES // len(gallery))
    for start in range(0, len(probe), step):
        block = slice(start, start + step)
        cosines = np.clip(probe[block] @ gallery.T, -1.0, 1.0)
        mates = probe_ids[block, None] == gallery_ids[None, :]
        mate[block] = np.where(mates, cosines, -np.inf).max(axis=1)
        other[block] = np.where(mates, -np.inf, cosines).max(axis=1)
        if impostors:
            highest = np.concatenate([highest, cosines[~mates]])
            if len(highest) > impostors:
                highest = np.partition(highest, len(highest) - impostors)[len(highest) - impostors :]
    return Searches(mate, other, np.sort(highest)[::-1])


class TemplateRecognition:
    """Verification and identification of templates, as defined by IJB-B and IJB-C.

    1:1: `tar@far=X`, `eer`, `auc` on the exact curve of the cosines of all listed pairs.

    1:N: every probe is searched in each of the two galleries, which share no person. `rank1`, `rank5`, `rank10` are
    over the probes whose person is in the gallery; `tpir@fpir=X` is the share of these ranked first and above the
    threshold at which X of the other probes match anyone. Reports means over the two galleries, and their population
    standard deviation.

    Published tables (OpenSphere's code, InsightFace's) differ: both galleries are merged, every probe has a mate, and
    the threshold is over all scores of different people. These numbers are `rank1_official` (and 5, 10) and
    `tpir_official@fpir=X`. Scores of single pairs, many millions, are not kept.

    Args:
        dataset: the faces and their lists (`kdface.datasets.IJB`), original or augmented (masked).
        fars: false-accept rates at which the true-accept rate is reported.
        fpirs: false-positive identification rates at which the TPIR is reported.
        detector_score: weight each image by the detector's score, as in the evaluations of InsightFace and ElasticFace;
            OpenSphere's current one does not.

    Raises:
        UserError: `dataset` has no templates.
    """

    def __init__(
        self,
        dataset: FaceSet,
        fars: tuple[FAR, ...] = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1),
        fpirs: tuple[FPIR, ...] = (1e-2, 1e-1),
        detector_score: bool = False,
    ) -> None:
        beneath = dataset
        while isinstance(beneath, Derived):
            beneath = beneath.dataset
        if not isinstance(beneath, IJB):
            raise UserError(
                f"{dataset.name} has no templates.",
                expected="a kdface.datasets.IJB, or derived from one",
            )
        sought = {beneath.subject[template] for template in beneath.probes.tolist()}
        for which, gallery in zip(("first", "second"), beneath.galleries, strict=True):
            if sought.isdisjoint(beneath.subject[template] for template in gallery.tolist()):
                raise UserError(f"{dataset.name}: no probe shows anyone of the {which} gallery.")
        self.dataset = dataset
        self.lists = beneath
        self.datasets = (dataset,)
        self.fars, self.fpirs = fars, fpirs
        self.detector_score = detector_score

    def evaluate(self, embed: Embedder) -> Outcome:
        """Embed every face, pool and compare."""
        faces = self.lists
        embeddings = embed(self.dataset, faces.keys)
        counts = {
            "images": len(faces),
            "images_embedded": len(embeddings),
            "pairs": len(faces.pairs),
            "templates": len(np.unique(faces.template)),
            "probes": len(faces.probes),
        }
        ranks = [f"rank{rank}{kind}" for kind in ("", "_official") for rank in _RANKS]
        rates = [f"tpir{kind}@fpir={rate(fpir)}" for kind in ("", "_official") for fpir in self.fpirs]
        names = [*(f"tar@far={rate(far)}" for far in self.fars), "eer", "auc", *ranks, *rates]
        people = [faces.people[label] for label in faces.labels]
        if without_direction(embeddings):
            return Outcome({name: Measured(None) for name in names}, counts, symptoms_of(embeddings, people))
        weight = faces.detector_score if self.detector_score else None
        templates, rows = pooled(embeddings, faces.template, faces.medium, weight)
        del embeddings  # the largest array, a gigabyte for IJB-C
        shown = dict(zip(faces.template.tolist(), people, strict=True))
        people = [shown[template] for template in templates.tolist()]
        metrics = self._verify(templates, rows)
        curve = self._identify(templates, rows, metrics)
        symptoms = symptoms_of(rows, people)
        outcome = Outcome({name: metrics[name] for name in names}, counts, symptoms, cmc=curve)
        outcome.sample, outcome.sample_people = sample_of_people(rows, people)
        return outcome

    def _verify(self, templates: Numbers, rows: NDArray[np.float64]) -> dict[str, Measured]:
        places = np.searchsorted(templates, self.lists.pairs)
        scores = np.empty(len(places))
        for start in range(0, len(places), _BLOCK):
            left, right = places[start : start + _BLOCK].T
            scores[start : start + _BLOCK] = np.einsum("ij,ij->i", rows[left], rows[right])
        curve = roc(np.clip(scores, -1.0, 1.0), self.lists.same)
        rates = {f"tar@far={rate(far)}": Measured(tar_at_far(curve, far)) for far in self.fars}
        return {**rates, "eer": Measured(eer(curve)), "auc": Measured(auc(curve))}

    def _identify(
        self, templates: Numbers, rows: NDArray[np.float64], metrics: dict[str, Measured]
    ) -> NDArray[np.float64]:
        """Add the 1:N metrics. Returns the mean CMC of the galleries."""
        faces = self.lists

        def side(listed: Numbers) -> tuple[NDArray[np.float64], list[str]]:
            return rows[np.searchsorted(templates, listed)], [faces.subject[template] for template in listed.tolist()]

        probe, probe_people = side(faces.probes)
        curves, tpirs = [], []
        for listed in faces.galleries:
            gallery, people = side(listed)
            mated = np.isin(probe_people, people)
            mated_people = [name for name, there in zip(probe_people, mated, strict=True) if there]
            curves.append(cmc(mate_ranks(gallery, people, probe[mated], mated_people)))
            found = search(gallery, people, probe, probe_people)
            tpirs.append([found.tpir(fpir) for fpir in self.fpirs])
        for rank in _RANKS:
            metrics[f"rank{rank}"] = _over_galleries([float(curve[rank - 1]) for curve in curves])
        for fpir, rates in zip(self.fpirs, zip(*tpirs, strict=True), strict=True):
            metrics[f"tpir@fpir={rate(fpir)}"] = _over_galleries(rates)
        kept = max((math.ceil(fpir * len(probe)) for fpir in self.fpirs), default=0)
        gallery, people = side(np.concatenate(faces.galleries))
        official = cmc(mate_ranks(gallery, people, probe, probe_people))
        metrics |= {f"rank{rank}_official": Measured(float(official[rank - 1])) for rank in _RANKS}
        merged = search(gallery, people, probe, probe_people, kept)
        for fpir in self.fpirs:
            metrics[f"tpir_official@fpir={rate(fpir)}"] = Measured(merged.tpir_official(fpir))
        return np.asarray(np.mean(curves, axis=0), dtype=np.float64)


def _over_galleries(rates: Sequence[float | None]) -> Measured:
    values = [value for value in rates if value is not None]
    if len(values) < len(rates):
        return Measured(None)
    return Measured(float(np.mean(values)), float(np.std(values)))
