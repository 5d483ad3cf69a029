"""Pair lists of verification protocols: LFW's lists, and random lists in the style of LFW."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from math import comb, isqrt
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kdface.datasets.images import read_bytes
from kdface.datasets.names import matched
from kdface.errors import DataError, UserError
from kdface.randomness import generator
from kdface.stored import whole_number

People = list[list[str]]  # the image keys of each person


@dataclass(frozen=True, eq=False)
class PairList:
    """Pairs of images, by key.

    Attributes:
        left, right: keys of the two images of each pair.
        same: (pairs,) whether the two show the same person.
        fold: (pairs,) the fold of each pair, from 0, or None if the list has no folds.
    """

    left: tuple[str, ...]
    right: tuple[str, ...]
    same: NDArray[np.bool_]
    fold: NDArray[np.int64] | None

    def __post_init__(self) -> None:
        sizes = {len(self.left), len(self.right), len(self.same)}
        if self.fold is not None:
            sizes.add(len(self.fold))
        if len(sizes) != 1:
            raise ValueError(f"left, right, same and fold must be equally long, got lengths {sorted(sizes)}")

    def __len__(self) -> int:
        return len(self.left)

    def keys(self) -> list[str]:
        """The images in the pairs, unique and sorted."""
        return sorted({*self.left, *self.right})

    def among(self, keys: Iterable[str]) -> PairList:
        """The same pairs by a dataset's keys, which may differ in suffix, leading zeros and Unicode form.

        `Ada/Ada_0001.jpg` matches `Ada/Ada_0001.png`, `Ada/Ada_1.JPG`; keys with no match, or two, are kept.
        """
        names = matched(self.keys(), keys)
        left, right = (tuple(names[key] for key in side) for side in (self.left, self.right))
        return replace(self, left=left, right=right)

    def where(self, keep: NDArray[np.bool_]) -> PairList:
        """The pairs selected by a mask. Raises `DataError` if a fold would lose all genuine or all impostor pairs."""
        left, right = ([key for key, kept in zip(side, keep, strict=True) if kept] for side in (self.left, self.right))
        fold = np.zeros(len(self), dtype=np.int64) if self.fold is None else self.fold
        kept = PairList(tuple(left), tuple(right), self.same[keep], None if self.fold is None else fold[keep])
        folds = [fold[keep] == number for number in np.unique(fold)]
        if any(len(set(kept.same[fold].tolist())) < 2 for fold in folds):
            raise DataError(
                f"without the broken images {len(kept)} of {len(self)} pairs are left, and a fold has none of a kind.",
                fix="repair the images",
            )
        return kept

    def rows(self, keys: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Indices of the left and right images in `keys`, e.g. the rows of an embedding matrix.

        Raises:
            DataError: images of the list are not in `keys`.
        """
        place = {key: row for row, key in enumerate(keys)}
        missing = [key for key in self.keys() if key not in place]
        if missing:
            shown = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
            raise DataError(
                f"{len(missing)} of the {len(self.keys())} images in the pairs are missing: {shown}",
                fix="evaluate on the complete dataset that the pair list was made for",
            )
        left, right = ([place[key] for key in side] for side in (self.left, self.right))
        return np.array(left, dtype=np.int64), np.array(right, dtype=np.int64)


def read_lfw_pairs(path: str | Path) -> PairList:
    """Read a list in the text formats of Labeled Faces in the Wild (Huang et al. 2007).

    View 2 starts with `folds<TAB>pairs`, and each fold has `pairs` lines `Name<TAB>i<TAB>j` (same person)
    followed by as many lines `Name<TAB>i<TAB>Other<TAB>j` (different people). View 1 starts with `pairs`
    and is one such block without folds. Image i of Name has the key `Name/Name_000i.jpg`. In lines with tabs
    only these separate fields, so that names may contain spaces.

    Raises:
        DataError: the file cannot be read, or a line (named) has an unexpected format.
    """
    rows = _rows(path)
    head = rows.pop(0)[1] if rows else []
    folds, per_kind = _header(path, head)

    left, right, same = [], [], []
    for place, (number, fields) in enumerate(rows):
        is_same = (place // per_kind) % 2 == 0
        one, other = _pair(f"{path}, line {number}", fields, is_same, "jpg")
        left.append(one)
        right.append(other)
        same.append(is_same)
    wanted = 2 * per_kind * (folds or 1)
    if len(rows) != wanted:
        raise DataError(f"{path}: contains {len(rows)} pairs, its first line announces {wanted}")
    fold = np.arange(wanted, dtype=np.int64) // (2 * per_kind) if folds and folds > 1 else None
    return PairList(tuple(left), tuple(right), np.array(same, dtype=np.bool_), fold)


def read_mfr2_pairs(path: str | Path) -> PairList:
    """Read the list of MFR2, masked faces in the real world (Anwar, Raychowdhury, "Masked Face Recognition for Secure
    Authentication", 2020): 848 lines without a header, in any order.

    `Name i j` is one person, `Name i Other j` are two. Image i of Name has the key `Name/Name_000i.png`. In lines with
    tabs only these separate fields, so that names may contain spaces.

    Raises:
        DataError: the file cannot be read or contains no pairs, or a line (named) is neither of the two.
    """
    rows = _rows(path)
    if not rows:
        raise DataError(f"{path}: holds no pairs", expected="lines 'Name i j' and 'Name i Other j'")
    same = [len(fields) == 3 for _, fields in rows]
    pairs = [_pair(f"{path}, line {number}", fields, len(fields) == 3, "png") for number, fields in rows]
    left, right = zip(*pairs, strict=True)
    return PairList(left, right, np.array(same, dtype=np.bool_), None)


def _rows(path: str | Path) -> list[tuple[int, list[str]]]:
    """The non-empty lines, with numbers from 1, split into fields."""
    try:
        lines = read_bytes(Path(path)).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise DataError(f"{path}: the list of pairs is not UTF-8 text.", fix=f"save {path} as UTF-8") from None
    return [(number, _fields(line.strip())) for number, line in enumerate(lines, 1) if line.strip()]


def _fields(line: str) -> list[str]:
    return [field for part in line.split("\t") if (field := part.strip())] if "\t" in line else line.split()


def _is_count(text: str) -> bool:
    return bool(whole_number(text))


def _header(path: str | Path, fields: list[str]) -> tuple[int | None, int]:
    if len(fields) not in (1, 2) or not all(map(_is_count, fields)):
        raise DataError(
            f"{path}, line 1: {' '.join(fields)!r} is not the head of an LFW list",
            expected="'folds<TAB>pairs' (View 2, e.g. 10 and 300) or 'pairs' (View 1, e.g. 500)",
        )
    return (int(fields[0]) if len(fields) == 2 else None), int(fields[-1])


def _pair(where: str, fields: list[str], same: bool, suffix: str) -> tuple[str, str]:
    names, numbers = ([fields[0]] * 2, fields[1:]) if same else (fields[0::2], fields[1::2])
    if len(fields) != (3 if same else 4) or not all(map(_is_count, numbers)):
        expected = "Name<TAB>i<TAB>j, same person" if same else "Name<TAB>i<TAB>Other<TAB>j, different people"
        raise DataError(f"{where}: {' '.join(fields)!r} is not a pair", expected=f"{expected}, i and j from 1")
    if not same and names[0] == names[1]:
        raise DataError(f"{where}: stands among the pairs of different people but names {names[0]} twice")
    left, right = (f"{name}/{name}_{int(text):04d}.{suffix}" for name, text in zip(names, numbers, strict=True))
    if left == right:
        raise DataError(f"{where}: pairs {left} with itself")
    return left, right


def random_pairs(
    labels: Sequence[int] | NDArray[np.int64], keys: Sequence[str], folds: int, pairs_per_fold: int, seed: int
) -> PairList:
    """Draw a balanced list in the style of LFW View 2.

    Each fold has `pairs_per_fold` pairs, the first half of the same person, the second of different people. No pair
    occurs twice. Folds share no people; if there are too few images for that, pairs for all folds are drawn from all
    people, with a warning. Pairs are spread over people as evenly as their images allow, so that a person with many
    images does not dominate. The list depends on the seed and the grouping of keys, not on the order of images or the
    values of labels.

    Args:
        labels: (images,) the person of each image.
        keys: (images,) unique names of the images.
        folds: number of folds, at least 1.
        pairs_per_fold: pairs of one fold, even.
        seed: of the draw.

    Raises:
        UserError: the data do not contain that many different pairs.
    """
    if folds < 1 or pairs_per_fold < 2 or pairs_per_fold % 2:
        raise UserError(
            f"{folds} folds of {pairs_per_fold} pairs cannot be drawn.",
            expected="at least 1 fold, and an even number of at least 2 pairs",
        )
    if len(labels) != len(keys) or len(set(keys)) != len(keys):
        raise ValueError(f"{len(labels)} labels, {len(keys)} keys, {len(set(keys))} different ones: must be equal")
    people = _people(labels, keys)
    half = pairs_per_fold // 2
    rng = generator(seed, "verification pairs")
    groups = _deal(people, folds, half, rng)
    if groups is None:
        _require(people, folds, half)
        warnings.warn(
            f"{len(people)} people are too few for {folds} folds of {pairs_per_fold} pairs with no person in "
            "common: the folds share people, so their accuracies are not independent",
            stacklevel=2,
        )
        same = rng.permutation(_same_pairs(people, folds * half, rng)).reshape(folds, half, 2)
        different = rng.permutation(_different_pairs(people, folds * half, rng)).reshape(folds, half, 2)
    else:
        same = np.array([_same_pairs(group, half, rng) for group in groups])
        different = np.array([_different_pairs(group, half, rng) for group in groups])
    pairs = np.concatenate([same, different], axis=1).reshape(-1, 2)
    return PairList(
        left=tuple(str(key) for key in pairs[:, 0]),
        right=tuple(str(key) for key in pairs[:, 1]),
        same=np.tile(np.arange(pairs_per_fold) < half, folds),
        fold=np.repeat(np.arange(folds, dtype=np.int64), pairs_per_fold),
    )


def _people(labels: Iterable[int], keys: Iterable[str]) -> People:
    found: dict[int, list[str]] = {}
    for key, label in sorted(zip(keys, (int(label) for label in labels), strict=True)):
        found.setdefault(label, []).append(key)
    return list(found.values())


def _capacity(people: People) -> tuple[int, int]:
    """The number of possible pairs of the same person and of different people."""
    images = sum(len(person) for person in people)
    same = sum(comb(len(person), 2) for person in people)
    return same, comb(images, 2) - same


def _require(people: People, folds: int, half: int) -> None:
    same, different = _capacity(people)
    wanted, able = folds * half, min(same, different)
    if able < wanted:
        ways = [f"folds={able // half}"] if able >= 2 * half else []
        ways += [f"pairs_per_fold={2 * (able // folds)}"] if able >= folds else []
        ways = ways or ([f"folds=2 pairs_per_fold={2 * (able // 2)}"] if able >= 2 else [])
        raise UserError(
            f"{wanted} pairs of the same person and {wanted} of different people are requested, but "
            f"{len(people)} people with {sum(map(len, people))} images make {same} and {different}.",
            fix=", or ".join([*ways, "more images per person"]),
        )


def _deal(people: People, folds: int, half: int, rng: np.random.Generator) -> list[People] | None:
    """Assign people to folds so that each can form `half` pairs of each kind; None if this heuristic fails.

    The person with the most possible pairs goes first, always to the fold with the fewest so far.
    """
    worth = {place: min(comb(len(person), 2), half) for place, person in enumerate(people)}
    order = sorted(rng.permutation(len(people)).tolist(), key=lambda place: -worth[place])
    groups: list[People] = [[] for _ in range(folds)]
    load = [0] * folds
    for place in order:
        # People with one image make no same-person pairs: they go where people are fewest.
        fold = min(range(folds), key=lambda f: (load[f] if worth[place] else 0, len(groups[f])))
        groups[fold].append(people[place])
        load[fold] += worth[place]
    return groups if all(min(_capacity(group)) >= half for group in groups) else None


def _same_pairs(people: People, wanted: int, rng: np.random.Generator) -> list[tuple[str, str]]:
    able = [person for person in people if len(person) > 1]
    drawn = _spread(len(able), lambda who: comb(len(able[who]), 2), wanted, rng)
    return [(able[who][i], able[who][j]) for who, (i, j) in ((who, _triangle(item)) for who, item in drawn)]


def _different_pairs(people: People, wanted: int, rng: np.random.Generator) -> list[tuple[str, str]]:
    def images(couple: int) -> tuple[list[str], list[str]]:
        a, b = _triangle(couple)
        return people[a], people[b]

    def size(couple: int) -> int:
        a, b = images(couple)
        return len(a) * len(b)

    pairs = []
    for couple, item in _spread(comb(len(people), 2), size, wanted, rng):
        a, b = images(couple)
        pairs.append((a[item // len(b)], b[item % len(b)]))
    return pairs


def _triangle(index: int) -> tuple[int, int]:
    """The index-th pair (i, j), i < j, in the order (0,1), (0,2), (1,2), (0,3), ..."""
    j = (1 + isqrt(1 + 8 * index)) // 2
    return index - j * (j - 1) // 2, j


def _spread(groups: int, size: Callable[[int], int], wanted: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    """Draw `wanted` different (group, item), item < size(group), as evenly over groups as sizes allow."""
    if groups >= wanted:
        chosen = rng.choice(groups, wanted, replace=False)
        return [(int(group), int(rng.integers(size(int(group))))) for group in chosen]
    sizes = np.array([size(group) for group in range(groups)], dtype=np.int64)
    take = np.zeros(groups, dtype=np.int64)
    while (left := wanted - int(take.sum())) > 0:
        room = np.flatnonzero(take < sizes)
        if left < len(room):
            take[rng.choice(room, left, replace=False)] += 1
        else:
            take[room] += min(left // len(room), int((sizes - take)[room].min()))
    return [
        (group, int(item))
        for group in range(groups)
        for item in rng.choice(int(sizes[group]), int(take[group]), replace=False)
    ]
