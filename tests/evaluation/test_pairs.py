"""LFW lists read as written, every malformed line named; random lists hold what they promise."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from kdface.errors import DataError, UserError
from kdface.evaluation.pairs import PairList, random_pairs, read_lfw_pairs, read_mfr2_pairs

Labels = NDArray[np.int64]

VIEW2 = "2\t2\nAda\t1\t3\nBo\t2\t1\nAda\t2\tBo\t11\nBo\t1\tCy\t1\nCy\t1\t2\nDi\t1\t12\nCy\t2\tDi\t1\nDi\t4\tCy\t5\n"
VIEW1 = "1\nAda\t1\t3\nAda\t2\tBo\t11"


def _read(tmp_path: Path, text: str) -> PairList:
    path = tmp_path / "pairs.txt"
    path.write_text(text, encoding="utf-8")
    return read_lfw_pairs(path)


def test_view_2(tmp_path: Path) -> None:
    pairs = _read(tmp_path, VIEW2)
    assert len(pairs) == 8
    assert pairs.left[0] == "Ada/Ada_0001.jpg"
    assert pairs.right[0] == "Ada/Ada_0003.jpg"
    assert (pairs.left[2], pairs.right[2]) == ("Ada/Ada_0002.jpg", "Bo/Bo_0011.jpg")
    assert pairs.same.tolist() == [True, True, False, False] * 2
    assert pairs.fold is not None and pairs.fold.tolist() == [0] * 4 + [1] * 4


def test_view_1_has_no_folds(tmp_path: Path) -> None:
    pairs = _read(tmp_path, VIEW1)  # and no line end after the last line, as in the original
    assert pairs.same.tolist() == [True, False]
    assert pairs.fold is None


def test_windows_line_ends_and_blank_lines(tmp_path: Path) -> None:
    path = tmp_path / "pairs.txt"
    path.write_bytes(VIEW2.replace("\n", "\r\n").encode() + b"\r\n\n")
    assert read_lfw_pairs(path).left == _read(tmp_path, VIEW2).left


def test_tabs_alone_part_names_with_spaces(tmp_path: Path) -> None:
    pairs = _read(tmp_path, "\ufeff2\nAda Lo\t1\t2\nBo\t3\t4 \nAda Lo\t1\tBo\t3\nBo 1 Cy 2\n")
    assert pairs.left == ("Ada Lo/Ada Lo_0001.jpg", "Bo/Bo_0003.jpg", "Ada Lo/Ada Lo_0001.jpg", "Bo/Bo_0001.jpg")
    (tmp_path / "mfr2.txt").write_text("\ufeffAda Lo\t1\t2\nAda Lo\t1\tBo\t3\r\n\n", encoding="utf-8")
    pairs = read_mfr2_pairs(tmp_path / "mfr2.txt")
    assert pairs.right == ("Ada Lo/Ada Lo_0002.png", "Bo/Bo_0003.png") and pairs.same.tolist() == [True, False]


def test_pairs_are_found_among_the_keys_of_a_dataset(tmp_path: Path) -> None:
    zoe = unicodedata.normalize("NFD", "Zoé")
    pairs = _read(tmp_path, "1\nZoé\t1\t2\nAda\t2\tBo\t10\n")
    keys = [
        f"{zoe}/{zoe}_1.png",
        "Zoé/Zoé_0002.jpg",
        "Zoé/Zoé_2.png",
        "Ada/Ada_02.JPG",
        "Bo/Bo_10.webp",
        "Bo/Bo_0010.png",
    ]
    found = pairs.among(keys)
    assert found.left == (keys[0], "Ada/Ada_02.JPG")
    # the same key goes before an alike one, and of two alike ones none is taken
    assert found.right == ("Zoé/Zoé_0002.jpg", "Bo/Bo_0010.jpg")
    assert found.same is pairs.same


def test_keys_and_rows(tmp_path: Path) -> None:
    pairs = _read(tmp_path, VIEW1)
    assert pairs.keys() == ["Ada/Ada_0001.jpg", "Ada/Ada_0002.jpg", "Ada/Ada_0003.jpg", "Bo/Bo_0011.jpg"]
    left, right = pairs.rows(["Bo/Bo_0011.jpg", "x", *pairs.keys()[:3]])
    assert (left.tolist(), right.tolist()) == ([2, 3], [4, 0])
    with pytest.raises(DataError, match=r"1 of the 4 images in the pairs are missing: Bo/Bo_0011\.jpg"):
        pairs.rows(pairs.keys()[:3])


@pytest.mark.parametrize(
    ("line", "text", "told"),
    [
        (1, "ten\t300", "not the head of an LFW list"),
        (1, "0", "not the head of an LFW list"),
        (1, "1\t2\t3", "not the head of an LFW list"),
        (2, "Ada\t1", "is not a pair"),
        (2, "Ada\t1\tBo\t2", "is not a pair"),
        (3, "Bo\t2\t0", "is not a pair"),
        (3, "Bo\t2\t-1", "is not a pair"),
        (3, "Bo\t2\tx", "is not a pair"),
        (3, "Bo\t2\t2", "pairs Bo/Bo_0002.jpg with itself"),
        (4, "Ada\t2\t3", "is not a pair"),
        (4, "Ada\t2\tAda\t3", "names Ada twice"),
        (9, "Di\tCy\t5", "is not a pair"),
    ],
)
def test_malformed_lines_are_named(tmp_path: Path, line: int, text: str, told: str) -> None:
    lines = VIEW2.split("\n")
    lines[line - 1] = text
    with pytest.raises(DataError) as caught:
        _read(tmp_path, "\n".join(lines))
    assert f"pairs.txt, line {line}:" in str(caught.value)
    assert told in str(caught.value)


def test_files_that_are_no_lists(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="contains 7 pairs, its first line announces 8"):
        _read(tmp_path, VIEW2.rsplit("Di", 1)[0])
    with pytest.raises(DataError, match="contains 9 pairs, its first line announces 8"):
        _read(tmp_path, VIEW2 + "Ada\t1\t2\n")
    with pytest.raises(DataError, match="line 1"):
        _read(tmp_path, "")
    with pytest.raises(DataError, match="cannot be read"):
        read_lfw_pairs(tmp_path / "missing.txt")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="binary: the list of pairs is not UTF-8 text"):
        read_lfw_pairs(tmp_path / "binary")


@pytest.mark.skipif("KDFACE_DATA" not in os.environ, reason="KDFACE_DATA does not point to the LFW lists")
def test_the_lists_of_lfw() -> None:
    folder = Path(os.environ["KDFACE_DATA"])
    view2 = read_lfw_pairs(folder / "lfw_pairs.txt")
    assert view2.fold is not None and np.bincount(view2.fold).tolist() == [600] * 10
    assert all(int(view2.same[view2.fold == fold].sum()) == 300 for fold in range(10))
    for name, pairs in (("lfw_pairsDevTest.txt", 1000), ("lfw_pairsDevTrain.txt", 2200)):
        view1 = read_lfw_pairs(folder / name)
        assert (len(view1), int(view1.same.sum())) == (pairs, pairs // 2)
        assert all((folder / "lfw" / key).is_file() for key in view1.keys()[::50])


def test_the_list_of_mfr2_has_no_head_and_any_order(tmp_path: Path) -> None:
    path = tmp_path / "pairs.txt"
    path.write_text("Ann 1 Bob 2\nAnn 1 3\nBob\t2\t10\n")
    found = read_mfr2_pairs(path)
    assert found.left == ("Ann/Ann_0001.png", "Ann/Ann_0001.png", "Bob/Bob_0002.png")
    assert found.right == ("Bob/Bob_0002.png", "Ann/Ann_0003.png", "Bob/Bob_0010.png")
    assert found.same.tolist() == [False, True, True] and found.fold is None


@pytest.mark.parametrize(
    ("text", "told"),
    [("", "holds no pairs"), ("Ann 1\n", "line 1"), ("Ann 1 2\nAnn x Bob 1\n", "line 2"), ("Ann 1 Ann 2\n", "twice")],
)
def test_what_is_no_list_of_mfr2(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "pairs.txt"
    path.write_text(text)
    with pytest.raises(DataError, match=told):
        read_mfr2_pairs(path)


def test_columns_must_be_equally_long() -> None:
    with pytest.raises(ValueError, match="equally long"):
        PairList(("a",), ("b", "c"), np.array([True]), None)


def _faces(counts: list[int]) -> tuple[Labels, list[str]]:
    """labels and keys of people 0, 1, ... with that many images."""
    labels = np.repeat(np.arange(len(counts)), counts)
    return labels, [f"p{label:03d}/{place:05d}" for place, label in enumerate(labels)]


def _check(pairs: PairList, labels: Labels, keys: list[str], folds: int, pairs_per_fold: int) -> list[set[int]]:
    """Balance, order, truth, and that no pair occurs twice; returns the people of each fold."""
    person = dict(zip(keys, labels.tolist(), strict=True))
    assert len(pairs) == folds * pairs_per_fold
    assert pairs.fold is not None and pairs.fold.tolist() == [
        fold for fold in range(folds) for _ in range(pairs_per_fold)
    ]
    half = pairs_per_fold // 2
    assert pairs.same.tolist() == ([True] * half + [False] * half) * folds
    people: list[set[int]] = [set() for _ in range(folds)]
    seen = set()
    for left, right, same, fold in zip(pairs.left, pairs.right, pairs.same, pairs.fold, strict=True):
        assert left != right
        assert (person[left] == person[right]) == same
        seen.add(frozenset((left, right)))
        people[fold] |= {person[left], person[right]}
    assert len(seen) == len(pairs)
    return people


@pytest.mark.parametrize(
    ("counts", "folds", "pairs_per_fold"),
    [
        ([10] * 20, 10, 60),
        ([2] * 40, 10, 4),  # each fold needs two people at least
        ([50, 40, 3, 2, 2, 2, 2, 1, 1, 1], 2, 8),
        ([3] * 30 + [1] * 30, 5, 12),
        ([4, 4], 1, 12),
        ([2, 2, 1, 1], 2, 2),  # each fold needs one of the people with one image
        ([1, 1, 2, 3, 3, 3, 5], 2, 20),  # 10 same-person pairs a fold: 5 images, or 3 + 3 + 3 + 2
    ],
)
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_folds_share_no_person(counts: list[int], folds: int, pairs_per_fold: int, seed: int) -> None:
    labels, keys = _faces(counts)
    people = _check(random_pairs(labels, keys, folds, pairs_per_fold, seed), labels, keys, folds, pairs_per_fold)
    for fold, mine in enumerate(people):
        assert all(mine.isdisjoint(other) for other in people[fold + 1 :])


def test_too_few_people_for_that_share_people_and_say_so() -> None:
    labels, keys = _faces([12] * 5)
    with pytest.warns(UserWarning, match="5 people are too few for 10 folds of 20 pairs"):
        pairs = random_pairs(labels, keys, 10, 20, 0)
    _check(pairs, labels, keys, 10, 20)


def test_every_pair_there_is_can_be_drawn() -> None:
    labels, keys = _faces([3, 2])  # 4 pairs of the same person, 6 of different people
    pairs = random_pairs(labels, keys, 1, 8, 5)
    _check(pairs, labels, keys, 1, 8)
    drawn = {(a, b) for a, b, same in zip(pairs.left, pairs.right, pairs.same, strict=True) if same}
    one, two, three, four, five = keys
    assert drawn == {(one, two), (one, three), (two, three), (four, five)}


def test_too_few_pairs_are_counted_out() -> None:
    labels, keys = _faces([3, 2])
    with pytest.raises(UserError, match=r"5 pairs of the same person .* 2 people with 5 images make 4 and 6\."):
        random_pairs(labels, keys, 1, 10, 0)
    with pytest.raises(UserError, match=r"1 people with 9 images make 36 and 0\."):
        random_pairs(*_faces([9]), 1, 2, 0)


def test_pairs_are_spread_over_people() -> None:
    # 8 people, one with many images: 16 pairs of the same person are two each.
    labels, keys = _faces([60, 4, 4, 4, 4, 4, 4, 4])
    pairs = random_pairs(labels, keys, 1, 32, 3)
    person = dict(zip(keys, labels.tolist(), strict=True))
    count = Counter(person[left] for left, same in zip(pairs.left, pairs.same, strict=True) if same)
    assert count == dict.fromkeys(range(8), 2)
    # 28 couples of people for 16 pairs of different people: none is asked twice.
    couples = Counter(
        frozenset((person[a], person[b]))
        for a, b, same in zip(pairs.left, pairs.right, pairs.same, strict=True)
        if not same
    )
    assert set(couples.values()) == {1}


def test_the_seed_is_all_that_the_draw_depends_on() -> None:
    labels, keys = _faces([6] * 12)
    pairs = random_pairs(labels, keys, 3, 20, 7)
    order = np.random.default_rng(0).permutation(len(keys))
    renamed = (labels * 5 + 3) % 97  # other numbers for the same people
    again = random_pairs(renamed[order], [keys[k] for k in order], 3, 20, 7)
    assert (again.left, again.right) == (pairs.left, pairs.right)
    other = random_pairs(labels, keys, 3, 20, 8)
    assert other.left != pairs.left


@pytest.mark.parametrize(("folds", "pairs_per_fold"), [(0, 10), (2, 0), (2, 5), (2, -2)])
def test_impossible_sizes(folds: int, pairs_per_fold: int) -> None:
    with pytest.raises(UserError, match="cannot be drawn"):
        random_pairs(*_faces([6] * 12), folds, pairs_per_fold, 0)


def test_keys_must_be_unique() -> None:
    with pytest.raises(ValueError, match="2 different"):
        random_pairs([0, 0, 1], ["a", "a", "b"], 1, 2, 0)
