"""Identification over folds of images, as in CKD's official code (Jung et al., arXiv 2012.06746).

People are matched by name, never by label. As in the official code, embeddings do not include the mirror image unless
requested (`mirror`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge
from numpy.typing import NDArray

from kdface.datasets.ckd_folders import CKDFolders
from kdface.datasets.images import Size
from kdface.errors import UserError
from kdface.evaluation.compared import Compared, require_alone, require_comparable, require_same, rows_of
from kdface.evaluation.embed import Embedder, Tested
from kdface.evaluation.health import symptoms_of, without_direction
from kdface.evaluation.identification import cmc, mate_ranks
from kdface.evaluation.people import files_of, people_of, sample_of_people
from kdface.evaluation.protocol import Measured, Outcome
from kdface.faces import FaceSet
from kdface.randomness import generator

_RANKS = (1, 5, 10, 20)  # of the CMC, which CKD plots up to 20


@dataclass(frozen=True, eq=False)
class Fold:
    """Some images of a dataset, by key."""

    dataset: FaceSet
    keys: tuple[str, ...]

    @property
    def people(self) -> list[str]:
        """The name of each image's person."""
        names = people_of(self.dataset)
        return [names[key] for key in self.keys]


def whole(dataset: FaceSet) -> Fold:
    """All images of a dataset as one fold."""
    return Fold(dataset, tuple(dataset.keys))


class Identification:
    """Closed-set identification of every fold's images against every other fold as gallery.

    A probe's rank is the position of its person's first gallery image by descending cosine: single images, no
    templates. Rates are averaged over probes for each ordered pair of different folds, then over pairs (unweighted),
    with the population standard deviation over pairs as `std`. Metrics: `rank1`, `cmc@5`, `cmc@10`, `cmc@20`;
    `cross/...` if the probes are of another modality.

    Args:
        folds: name -> images, at least two folds; each is the gallery for all others.
        probes: name -> images to use as probes for the fold of that name, e.g. periocular images if `folds` contains
            faces; by default the same.
        left_out: people excluded earlier, for the record.
        mirror: add the embedding of the mirror image to that of each image; the official code does not.
        compare: embeddings or logits, see `rows_of`.

    Raises:
        UserError: fewer than two folds, different names in `probes`, an empty fold, a probe's person missing from a
            gallery, or `mirror` with logits.
    """

    def __init__(
        self,
        folds: Mapping[str, Fold],
        probes: Mapping[str, Fold] | None = None,
        left_out: int = 0,
        mirror: bool = False,
        compare: Compared = "embeddings",
    ) -> None:
        require_alone(compare, mirror)
        self.compare: Compared = compare
        self.cross = probes is not None
        self.galleries = dict(folds)
        self.probes = dict(folds if probes is None else probes)
        self.left_out = left_out
        self.mirror = mirror
        if len(folds) < 2 or set(self.probes) != set(folds):
            raise UserError(
                f"gallery folds: {', '.join(folds) or 'none'}; probe folds: {', '.join(self.probes) or 'none'}.",
                expected="at least two folds, with the same names on both sides",
            )
        for side, what in ((self.galleries, "gallery"), (self.probes, "probe")):
            first = next(iter(side.values())).dataset.preprocessing
            for name, fold in side.items():
                if not fold.keys:
                    raise UserError(f"The {what} fold {name} has no images.")
                fold.dataset.preprocessing.require_equal(first, f"the {what} fold {name}", "the first fold")
        for a, b in permutations(folds, 2):
            strangers = sorted(set(self.probes[b].people) - set(self.galleries[a].people))
            if strangers:
                raise UserError(
                    f"{len(strangers)} people of fold {b} have no image in fold {a}: {', '.join(strangers[:3])}"
                    f"{', ...' if len(strangers) > 3 else ''}.",
                    expected="closed-set identification: everyone is in every fold",
                    fix="remove these people's images from the folds",
                )
        self.datasets = tuple(
            {id(fold.dataset): fold.dataset for fold in (*folds.values(), *self.probes.values())}.values()
        )
        self.dataset = self.datasets[0]

    def require(self, network: Tested, where: str) -> None:
        """See `require_comparable`."""
        require_comparable(self.compare, network, where)

    def evaluate(self, embed: Embedder) -> Outcome:
        """Embed every fold once, rank and average."""
        prefix = "cross/" if self.cross else ""
        names = [f"{prefix}rank1" if rank == 1 else f"{prefix}cmc@{rank}" for rank in _RANKS]
        galleries = self._embedded(embed, self.galleries)
        probes = self._embedded(embed, self.probes) if self.cross else galleries
        seen = [*galleries.values(), *(probes.values() if self.cross else ())]
        rows = np.concatenate([rows for rows, _ in seen])
        people = [name for _, names_of in seen for name in names_of]
        counts = {
            "images": sum(len(fold.keys) for fold in self.galleries.values()),
            "images_embedded": len(rows),
            "people": len(set(people)),
            "people_left_out": self.left_out,
            "fold_pairs": len(galleries) * (len(galleries) - 1),
        }
        symptoms = symptoms_of(rows, people)
        choices = {"mirror": self.mirror, "compare": self.compare}
        if without_direction(rows):
            return Outcome({name: Measured(None) for name in names}, counts, symptoms, choices=choices)
        curves = np.array(
            [cmc(mate_ranks(*galleries[a], *probes[b]), max(_RANKS)) for a, b in permutations(galleries, 2)]
        )
        mean, std = curves.mean(axis=0), curves.std(axis=0)
        metrics = {
            name: Measured(float(mean[rank - 1]), float(std[rank - 1]))
            for name, rank in zip(names, _RANKS, strict=True)
        }
        outcome = Outcome(metrics, counts, symptoms, choices=choices, cmc=mean)
        outcome.sample, outcome.sample_people = sample_of_people(rows, people)
        return outcome

    def _embedded(self, embed: Embedder, folds: Mapping[str, Fold]) -> dict[str, tuple[NDArray[np.float32], list[str]]]:
        """Each fold's embeddings and people."""
        return {
            name: (rows_of(embed, fold.dataset, fold.keys, self.compare, self.mirror), fold.people)
            for name, fold in folds.items()
        }


def fold_identification(
    dataset: FaceSet,
    folds: Annotated[int, Ge(2)] = 2,
    seed: Annotated[int, Ge(0)] = 0,
    probes: FaceSet | None = None,
    group: str | None = None,
    mirror: bool = False,
    compare: Compared = "embeddings",
) -> Identification:
    """Identification over one dataset, with each person's images split randomly and evenly over the folds.

    The split depends only on the seed, the person's name and its keys. Groups of near copies, such as the frames of a
    video, are kept together, so that no probe is searched among its copies. People with fewer groups than folds are
    excluded and counted.

    Args:
        dataset: the images; galleries are taken from it.
        folds: number of folds.
        seed: of the split.
        probes: the same images by key in another modality; probes are then taken from it.
        group: a regular expression for the part of a key shared by near copies, see
            `kdface.evaluation.people.files_of`; none: images are split individually.
        mirror, compare: see `Identification`.

    Raises:
        UserError: fewer than two people have an image (or group) for each fold, or `probes` lacks images.
    """
    if folds < 2:
        raise UserError(f"folds={folds}: no fold is left for the gallery.", expected="at least 2")
    dealt: list[list[str]] = [[] for _ in range(folds)]
    files = files_of(dataset, group)
    able = {person: groups for person, groups in files.items() if len(groups) >= folds}
    if len(able) < 2:
        most = sorted(map(len, files.values()))[-2:][0] if len(files) > 1 else 0  # folds that two people can fill
        raise UserError(
            f"{dataset.name}: {len(able)} of {len(files)} people have {'an image' if group is None else 'a group'} "
            f"for each of {folds} folds.",
            expected="at least two people",
            fix=f"folds={most}, or more images per person" if most > 1 else "more images per person",
        )
    for person, groups in able.items():
        rng = generator(seed, "identification folds", person)
        first = int(rng.integers(folds))  # otherwise the first folds would get all the remainders
        for place, index in enumerate(rng.permutation(len(groups))):
            dealt[(first + place) % folds] += groups[int(index)]
    names = [f"fold{number}" for number in range(1, folds + 1)]
    parts = {name: tuple(sorted(keys)) for name, keys in zip(names, dealt, strict=True)}
    other = None
    if probes is not None:
        require_same(dataset, probes, [key for keys in parts.values() for key in keys])
        other = {name: Fold(probes, keys) for name, keys in parts.items()}
    own = {name: Fold(dataset, keys) for name, keys in parts.items()}
    return Identification(own, other, len(files) - len(able), mirror, compare)


def ckd_identification(
    root: str | Path,
    folds: tuple[str, ...] = ("gallery", "probe"),
    gallery: Literal["face", "periocular"] = "periocular",
    probe: Literal["face", "periocular"] = "periocular",
    face_size: Size = (128, 128),
    periocular_size: Size = (48, 128),
    mirror: bool = False,
    compare: Compared = "embeddings",
) -> Identification:
    """Identification over folds stored as folders below `root`, as in CKD's test sets (`CKDFolders`).

    Args:
        root: the folder of one test set.
        folds: its folds, e.g. gallery, blur, exp_illum, occlude, scarf.
        gallery, probe: the modality of galleries and probes.
        face_size, periocular_size: (height, width) in pixels.
        mirror, compare: see `Identification`.
    """
    sizes = {"face": face_size, "periocular": periocular_size}

    def side(modality: Literal["face", "periocular"]) -> dict[str, Fold]:
        return {fold: whole(CKDFolders(root, fold, modality, sizes[modality])) for fold in folds}

    return Identification(side(gallery), None if probe == gallery else side(probe), mirror=mirror, compare=compare)
