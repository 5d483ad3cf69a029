"""Identification over folds against loops over images; people by name; deals to folds."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch

from kdface.errors import UserError
from kdface.evaluation import Embedder, EvaluationProtocol
from kdface.evaluation.folds import Fold, Identification, ckd_identification, fold_identification, whole
from kdface.faces import Preprocessing
from tests.datasets.test_image_folder import encoded, picture
from tests.evaluation.faces import Given, Listed, noise

Rows = dict[str, np.ndarray[tuple[int], np.dtype[np.float64]]]


def slow_ranks(gallery: Fold, gallery_rows: Rows, probe: Fold, probe_rows: Rows) -> list[int]:
    ranks = []
    for key, person in zip(probe.keys, probe.people, strict=True):
        seen = []
        for other, name in zip(gallery.keys, gallery.people, strict=True):
            a, b = probe_rows[key].astype(np.float32), gallery_rows[other].astype(np.float32)
            seen.append((float(a.astype(float) @ b / np.linalg.norm(a) / np.linalg.norm(b)), name))
        seen.sort(reverse=True)
        ranks.append(1 + [name for _, name in seen].index(person))
    return ranks


def three_folds() -> dict[str, Listed]:
    """Folds of 5 people with 2, 3 and 1 images each; people are numbered differently in each."""
    people = ["ada", "bo", "cy", "di", "ed"]
    sets = {}
    for number, (name, images) in enumerate((("gallery", 2), ("blur", 3), ("scarf", 1))):
        order = people[number:] + people[:number]
        sets[name] = Listed([(person, f"{person}/{name}{i}") for person in order for i in range(images)], order)
    return sets


def test_against_a_loop_over_all_ordered_pairs_of_folds() -> None:
    sets = three_folds()
    rows = {name: noise(faces, 0, seed, 1.5) for seed, (name, faces) in enumerate(sets.items())}
    folds = {name: whole(faces) for name, faces in sets.items()}
    protocol = Identification(folds)
    assert isinstance(protocol, EvaluationProtocol)
    assert protocol.datasets == tuple(sets.values()) and protocol.dataset is sets["gallery"]
    embed = Given(*((sets[name], rows[name]) for name in sets))
    outcome = protocol.evaluate(embed)
    assert sorted(embed.asked) == sorted(fold.keys for fold in folds.values())  # each fold once
    pairs = [slow_ranks(folds[a], rows[a], folds[b], rows[b]) for a, b in permutations(folds, 2)]
    for name, rank in (("rank1", 1), ("cmc@5", 5), ("cmc@10", 10), ("cmc@20", 20)):
        rates = [np.mean([found <= rank for found in ranks]) for ranks in pairs]
        assert outcome.metrics[name].value == pytest.approx(np.mean(rates))
        assert outcome.metrics[name].std == pytest.approx(np.std(rates))
    rank1 = outcome.metrics["rank1"].value
    assert rank1 is not None and 0.1 < rank1 < 0.9
    assert set(outcome.metrics) == {"rank1", "cmc@5", "cmc@10", "cmc@20"}
    assert outcome.counts == {
        "images": 30,
        "images_embedded": 30,
        "people": 5,
        "people_left_out": 0,
        "fold_pairs": 6,
    }
    assert outcome.symptoms == []


def test_people_are_matched_by_name() -> None:
    """Every person's embedding is their own axis, and the second set numbers them backwards."""
    names = ["ada", "bo", "cy"]
    one = Listed([(name, f"{name}/1") for name in names], names)
    two = Listed([(name, f"{name}/2") for name in names], names[::-1])
    axis = {name: np.eye(3)[i] for i, name in enumerate(names)}
    embed = Given(*((faces, {key: axis[key[:-2]] for key in faces.keys}) for faces in (one, two)))
    outcome = Identification({"a": whole(one), "b": whole(two)}).evaluate(embed)
    assert outcome.metrics["rank1"].value == 1.0


def test_folds_that_do_not_close_are_told() -> None:
    one = Listed([("ada", "ada/1"), ("bo", "bo/1")])
    two = Listed([("ada", "ada/2"), ("cy", "cy/2")])
    with pytest.raises(UserError, match="1 people of fold b have no image in fold a: cy"):
        Identification({"a": whole(one), "b": whole(two)})
    with pytest.raises(UserError, match="gallery folds: a; probe folds: a") as error:
        Identification({"a": whole(one)})
    assert "two folds" in error.value.expected
    with pytest.raises(UserError, match="gallery folds: a, b; probe folds: a, c"):
        Identification({"a": whole(one), "b": whole(one)}, {"a": whole(one), "c": whole(one)})
    with pytest.raises(UserError, match="fold b has no images"):
        Identification({"a": whole(one), "b": Fold(one, ())})
    with pytest.raises(UserError, match="the gallery fold b and the first fold do not see the same kind"):
        Identification({"a": whole(one), "b": whole(Listed([("ada", "x"), ("bo", "y")], template="other"))})


def mixed(counts: dict[str, int]) -> Listed:
    return Listed([(person, f"{person}/{i:02d}") for person, count in counts.items() for i in range(count)])


def test_the_deal_is_even_complete_and_a_function_of_names_alone() -> None:
    counts = {"ada": 7, "bo": 3, "cy": 2, "di": 9, "ed": 1}
    dataset = mixed(counts)
    protocol = fold_identification(dataset, folds=3, seed=5)
    dealt = {name: fold.keys for name, fold in protocol.galleries.items()}
    assert list(dealt) == ["fold1", "fold2", "fold3"]
    assert sorted(key for keys in dealt.values() for key in keys) == sorted(
        key for key in dataset.keys if key[:2] not in ("cy", "ed")
    )
    for person in ("ada", "bo", "di"):
        shares = [sum(key.startswith(person) for key in keys) for keys in dealt.values()]
        assert max(shares) - min(shares) <= 1 and min(shares) >= 1
    other = Listed([(key.split("/")[0], key) for key in reversed(dataset.keys)], ["ed", "di", "cy", "bo", "ada"])
    again = fold_identification(other, folds=3, seed=5)
    assert {name: fold.keys for name, fold in again.galleries.items()} == dealt
    different = fold_identification(dataset, folds=3, seed=6)
    assert {name: fold.keys for name, fold in different.galleries.items()} != dealt
    outcome = protocol.evaluate(Given((dataset, noise(dataset, 0, 0, 0.1))))
    assert outcome.counts["people"] == 3 and outcome.counts["people_left_out"] == 2


def test_no_fold_gets_everybody_s_odd_image() -> None:
    protocol = fold_identification(mixed({f"p{i:03d}": 3 for i in range(200)}), folds=2)
    sizes = [len(fold.keys) for fold in protocol.galleries.values()]
    assert sum(sizes) == 600 and abs(sizes[0] - sizes[1]) < 4 * 200**0.5


def test_too_few_images_for_the_folds_are_told() -> None:
    with pytest.raises(UserError, match="1 of 2 people have an image for each of 3 folds"):
        fold_identification(mixed({"ada": 3, "bo": 2}), folds=3)
    with pytest.raises(UserError, match="folds=1"):
        fold_identification(mixed({"ada": 3, "bo": 2}), folds=1)


def test_across_modalities_no_image_meets_itself() -> None:
    """Each image's two modalities agree with each other and with nothing else: that must not help anybody."""
    faces = mixed({"ada": 4, "bo": 4, "cy": 4})
    eyes = Listed([(key.split("/")[0], key) for key in faces.keys], template="periocular")
    own = {key: np.eye(12)[i] + 0.01 * np.random.default_rng(i).normal(size=12) for i, key in enumerate(faces.keys)}
    protocol = fold_identification(faces, folds=2, probes=eyes)
    assert protocol.datasets == (faces, eyes)
    outcome = protocol.evaluate(Given((faces, own), (eyes, own)))
    assert set(outcome.metrics) == {f"cross/{name}" for name in ("rank1", "cmc@5", "cmc@10", "cmc@20")}
    rank1 = outcome.metrics["cross/rank1"].value
    assert rank1 is not None and rank1 < 0.75
    rows = {"faces": noise(faces, 0, 1, 1.5), "eyes": noise(eyes, 0, 2, 1.5)}
    outcome = protocol.evaluate(Given((faces, rows["faces"]), (eyes, rows["eyes"])))
    galleries, probes = protocol.galleries, protocol.probes
    pairs = [
        slow_ranks(galleries[a], rows["faces"], probes[b], rows["eyes"])
        for a, b in (("fold1", "fold2"), ("fold2", "fold1"))
    ]
    wanted = np.mean([np.mean([rank == 1 for rank in ranks]) for ranks in pairs])
    assert outcome.metrics["cross/rank1"].value == pytest.approx(wanted)
    assert outcome.counts["images"] == 12 and outcome.counts["images_embedded"] == 24


def test_logits_compare_networks_whose_embeddings_cannot_be_compared() -> None:
    """Embeddings of the two modalities around centres of their own, logits around the same ones."""
    faces = mixed({f"p{i}": 4 for i in range(6)})
    eyes = Listed([(key.split("/")[0], key) for key in faces.keys], template="periocular")
    embeddings = (faces, noise(faces, 1, 1, 0.1)), (eyes, noise(eyes, 2, 2, 0.1))
    logits = (faces, noise(faces, 3, 3, 0.6)), (eyes, noise(eyes, 3, 4, 0.6))
    given = Given(*embeddings, logits=logits)
    protocol = fold_identification(faces, folds=2, probes=eyes, compare="logits")
    outcome = protocol.evaluate(given)
    assert not given.asked and outcome.choices["compare"] == "logits"
    galleries, probes = protocol.galleries, protocol.probes
    pairs = [
        slow_ranks(galleries[a], logits[0][1], probes[b], logits[1][1])
        for a, b in (("fold1", "fold2"), ("fold2", "fold1"))
    ]
    wanted = np.mean([np.mean([rank == 1 for rank in ranks]) for ranks in pairs])
    assert outcome.metrics["cross/rank1"].value == pytest.approx(wanted)
    apart = fold_identification(faces, folds=2, probes=eyes).evaluate(given).metrics["cross/rank1"].value
    assert apart is not None and apart < 0.5 < wanted < 1
    with pytest.raises(UserError, match="compare=logits does not support mirror"):
        fold_identification(faces, folds=2, probes=eyes, compare="logits", mirror=True)


def test_probes_under_other_keys_or_people_are_told() -> None:
    faces = mixed({"ada": 2, "bo": 2})
    with pytest.raises(UserError, match=r"2 of 4 images of .* are not in .*: ada/00, ada/01"):
        fold_identification(faces, probes=mixed({"bo": 2, "cy": 2}))
    wrong = Listed([("bo" if key == "ada/01" else key.split("/")[0], key) for key in faces.keys])
    with pytest.raises(UserError, match=r"1 of 4 images .* or not the same person: ada/01"):
        fold_identification(faces, probes=wrong)


@pytest.mark.parametrize("value", [0.0, 1.0, float("nan")])
def test_a_dead_network_identifies_nobody_and_says_so(value: float) -> None:
    dataset = mixed({"ada": 4, "bo": 4, "cy": 4})
    outcome = fold_identification(dataset).evaluate(Given((dataset, {key: np.full(3, value) for key in dataset.keys})))
    assert outcome.symptoms
    assert outcome.metrics["rank1"].value == (0.0 if value == 1.0 else None)


def test_folders_of_ckd(tmp_path: Path) -> None:
    """Two folds of stored crops; a network that sees the mean colour knows who is who, in both modalities."""
    for seed, person in enumerate(("ada", "bo", "cy")):
        for fold in ("gallery", "probe"):
            for kind, (height, width) in (("face", (24, 24)), ("periocular", (9, 24))):
                image = picture(seed, height, width)
                image[..., seed] //= 8
                path = tmp_path / fold / person / kind / f"{fold}.png"
                path.parent.mkdir(parents=True)
                path.write_bytes(encoded(image))

    def network(images: torch.Tensor, kind: Preprocessing) -> torch.Tensor:
        assert images.shape[1:3] == kind.size
        return images.float().mean(dim=(1, 2)) - 100

    own = ckd_identification(tmp_path, face_size=(24, 24), periocular_size=(9, 24))
    assert [dataset.preprocessing.size for dataset in own.datasets] == [(9, 24)] * 2
    outcome = own.evaluate(Embedder(network))
    assert outcome.metrics["rank1"].value == 1.0 and outcome.counts["images"] == 6
    cross = ckd_identification(tmp_path, gallery="face", probe="periocular", face_size=(24, 24))
    assert [dataset.preprocessing.size for dataset in cross.datasets] == [(24, 24), (24, 24), (48, 128), (48, 128)]
    assert cross.evaluate(Embedder(network)).metrics["cross/rank1"].value == 1.0


def test_videos_are_dealt_whole() -> None:
    """Frames of a video are one vector and each video has its own axis: by single frames everybody is found."""
    images = [(who, f"{who}/{who}_{v}{f}.jpg") for who in ("ada", "bo", "cy", "di") for v in range(3) for f in range(6)]
    dataset = Listed(images)
    names = sorted({key[:-5] for key in dataset.keys})
    rows = {key: np.eye(len(names))[names.index(key[:-5])] for key in dataset.keys}
    embed = Given((dataset, rows))
    single = fold_identification(dataset, folds=2).evaluate(embed).metrics["rank1"].value
    assert single is not None and single > 0.9
    protocol = fold_identification(dataset, folds=2, group=r"_(\d)\d\.jpg$")
    dealt = [{key[:-5] for key in fold.keys} for fold in protocol.galleries.values()]
    assert not dealt[0] & dealt[1] and sorted(dealt[0] | dealt[1]) == names
    assert sum(len(fold.keys) for fold in protocol.galleries.values()) == len(images)
    assert all(sum(name.startswith(who) for name in side) in (1, 2) for side in dealt for who in ("ada", "bo"))
    assert protocol.evaluate(embed).metrics["rank1"].value == 0.0  # nobody's videos are alike
    with pytest.raises(UserError, match="0 of 4 people have a group for each of 4 folds"):
        fold_identification(dataset, folds=4, group=r"_(\d)\d\.jpg$")


@pytest.mark.parametrize("mirror", [None, True])
def test_an_image_is_embedded_alone_unless_its_mirror_is_asked_for(mirror: bool | None) -> None:
    dataset = mixed({"ada": 4, "bo": 4})
    given = Given((dataset, noise(dataset, 0, 0, 0.5)))
    protocol = fold_identification(dataset) if mirror is None else fold_identification(dataset, mirror=mirror)
    outcome = protocol.evaluate(given)
    assert given.mirrored == [bool(mirror)] * 2
    assert outcome.choices == {"mirror": bool(mirror), "compare": "embeddings"}
