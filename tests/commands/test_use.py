"""embed, verify, identify and cluster: what they write is what the recogniser computes."""

from __future__ import annotations

import csv
import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from kdface.atomic import write_atomic
from kdface.datasets.embedding_file import read_embeddings
from kdface.recogniser import Recogniser, store
from kdface.recogniser.load import load
from kdface.runs.folder import RunFolder
from tests.conftest import Kdface
from tests.recogniser.conftest import faces as faces
from tests.recogniser.conftest import run as run
from tests.recogniser.conftest import write_faces


def _cosines(run: Path, files: list[Path]) -> NDArray[np.float64]:
    rows = load(run, "cpu").embed(files).astype(np.float64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows @ rows.T)


def test_embed_writes_what_evaluate_reads_and_goes_past_broken_files(kdface: Kdface, run: Path, tmp_path: Path) -> None:
    root = write_faces(tmp_path / "crops")
    (root / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (root / "note.txt").write_text("no image")
    cv2.imwrite(str(root / "large.png"), np.zeros((64, 64, 3), np.uint8))
    said = kdface("embed", str(root), f"run={run}", "-o", "out.npz")
    assert said.code == 0, said.err
    files = sorted(file for file in root.rglob("*.png") if file.parent != root)
    keys, rows = read_embeddings(tmp_path / "out.npz")
    assert keys == [file.relative_to(root).as_posix() for file in files]
    np.testing.assert_allclose(rows, load(run, "cpu").embed(files), rtol=1e-5, atol=1e-6)
    assert "left out  2 broken files" in said.out and "skipped  1 entries" in said.out
    listed = dict(line.split("\t") for line in (tmp_path / "out.npz.broken.txt").read_text().splitlines())
    assert "cut short" in listed["cut.png"] and "64 high, 64 wide" in listed["large.png"]
    assert sorted(path.name for path in tmp_path.glob("out*")) == ["out.npz", "out.npz.broken.txt"]
    # a new image is added, nothing is computed twice; another network's file is kept
    before = (tmp_path / "out.npz").stat().st_mtime_ns
    assert "12 of them by an earlier command" in kdface("embed", str(root), f"run={run}", "-o", "out.npz").out
    assert (tmp_path / "out.npz").stat().st_mtime_ns == before
    cv2.imwrite(str(root / "new.png"), np.full((32, 32, 3), 9, np.uint8))
    assert "13 embeddings, 12 of them" in kdface("embed", str(root), f"run={run}", "-o", "out.npz").out
    said = kdface("embed", str(root), f"run={run}", "-o", "out.npz", "mirror=false")
    assert said.code == 2 and "another network, or made in another way" in said.err


def test_an_interrupted_embed_goes_on_and_embeds_nothing_twice(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_faces(tmp_path / "crops", people=5, images=5)
    recogniser = load(run, "cpu")
    recogniser.batch_size = 3
    counted: list[int] = []
    embed_batch = Recogniser.embed_batch

    def count(self: Recogniser, batch: NDArray[np.uint8], mirror: bool = True) -> Any:
        counted.append(len(batch))
        return embed_batch(self, batch, mirror)

    write = write_atomic

    def stops(path: Path, content: Any) -> None:
        if path.name == "000002.npz":
            raise KeyboardInterrupt
        write(path, content)

    monkeypatch.setattr(Recogniser, "embed_batch", count)
    monkeypatch.setattr("kdface.recogniser.store.write_atomic", stops)
    with pytest.raises(KeyboardInterrupt):
        store.embed_folder(recogniser, root, tmp_path / "out.npz", part=4)
    monkeypatch.setattr("kdface.recogniser.store.write_atomic", write)
    assert not (tmp_path / "out.npz").exists() and sum(counted) == 12
    found = store.embed_folder(recogniser, root, tmp_path / "out.npz", part=4)
    assert found.before == 8 and sum(counted) == 12 + 25 - 8  # the part that was not written, and the rest
    keys, rows = read_embeddings(tmp_path / "out.npz")
    assert len(set(keys)) == len(keys) == 25 and not (tmp_path / "out.npz.parts").exists()
    np.testing.assert_allclose(rows, recogniser.embed(root), rtol=1e-5, atol=1e-6)


def test_a_file_of_embeddings_follows_the_images_of_its_folder(kdface: Kdface, run: Path, tmp_path: Path) -> None:
    root = write_faces(tmp_path / "A" / "crops")
    files = sorted(root.rglob("*.png"))
    assert kdface("embed", str(root), f"run={run}").code == 0
    files[0].write_bytes(files[1].read_bytes())  # replaced under the same name
    files[2].unlink()
    files[3].write_bytes(b"")  # embedded before, now broken
    said = kdface("embed", str(root), f"run={run}")
    assert said.code == 0 and "10 embeddings, 9 of them" in said.out, said.err
    assert "replaced  1 embeddings" in said.out and "dropped  1 embeddings" in said.out
    keys, rows = read_embeddings(tmp_path / "embeddings_crops.npz")
    there = [file for file in files if file not in files[2:4]]
    assert keys == [file.relative_to(root).as_posix() for file in there]
    wanted = load(run, "cpu").embed(there)  # in other batches, whose rounding errors are relative to a row's length
    assert (np.linalg.norm(rows - wanted, axis=1) < 1e-5 * np.linalg.norm(wanted, axis=1)).all()
    # another folder of the same name has the same default file
    before = (tmp_path / "embeddings_crops.npz").read_bytes()
    other = write_faces(tmp_path / "B" / "crops")
    for number, file in enumerate(other.rglob("*.png")):
        cv2.imwrite(str(file), np.full((32, 32, 3), number, np.uint8))
    said = kdface("embed", str(other), f"run={run}")
    assert said.code == 2 and "embeddings of 10 images, and none of them is in" in said.err
    assert (tmp_path / "embeddings_crops.npz").read_bytes() == before
    # so does its own folder after every image was replaced: the message tells how to embed it again
    fix = "if every image of the folder was replaced: rm -r embeddings_crops.npz"
    assert fix in said.err
    (tmp_path / "embeddings_crops.npz").unlink()
    said = kdface("embed", str(other), f"run={run}")
    assert said.code == 0 and "(12 embeddings)" in said.out, said.err
    said = kdface("embed", str(root), f"run={run}", "-o", "written/earlier.npz")
    with np.load(tmp_path / "written" / "earlier.npz") as made:
        kept = {key: made[key] for key in made.files if key != "digests"}
    np.savez(tmp_path / "written" / "earlier.npz", **kept)
    said = kdface("embed", str(root), f"run={run}", "-o", "written/earlier.npz")
    assert said.code == 2 and "written by an earlier version" in said.err


@pytest.mark.slow
def test_embed_survives_kills(run: Path, tmp_path: Path) -> None:
    root = write_faces(tmp_path / "crops", people=40, images=50)
    words = [sys.executable, "-m", "kdface", "embed", str(root), f"run={run}", "-o", str(tmp_path / "out.npz")]
    for parts in (1, 2, 3):
        process = subprocess.Popen(words, env={**os.environ, "OMP_NUM_THREADS": "1"})
        while len(list(tmp_path.glob("out.npz.parts/*.npz"))) < parts and process.poll() is None:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert subprocess.run(words).returncode == 0
    keys, rows = read_embeddings(tmp_path / "out.npz")
    assert len(set(keys)) == len(keys) == 2000
    np.testing.assert_allclose(rows, load(run, "cpu").embed(root), rtol=1e-5, atol=1e-6)


def test_formats_and_folders_that_cannot_be_used(kdface: Kdface, run: Path, faces: Path, tmp_path: Path) -> None:
    said = kdface("embed", str(faces), f"run={run}", "-o", "out.csv")
    assert said.code == 2 and "-o out.npz" in said.err
    said = kdface("embed", str(faces), f"run={run}", "-o", "out.parquet")
    if importlib.util.find_spec("pyarrow") is None:
        assert said.code == 2 and "pyarrow" in said.err
    else:
        keys, rows = read_embeddings(tmp_path / "out.parquet")
        assert keys == [file.relative_to(faces).as_posix() for file in sorted(faces.rglob("*.png"))]
        np.testing.assert_allclose(rows, load(run, "cpu").embed(faces), rtol=1e-5, atol=1e-6)
        assert "12 of them" in kdface("embed", str(faces), f"run={run}", "-o", "out.parquet").out
    (tmp_path / "photos").mkdir()
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(tmp_path / "photos" / name), np.zeros((60, 80, 3), np.uint8))
    said = kdface("embed", "photos", f"run={run}", "-o", "out.npz")
    assert said.code == 2 and "no aligned crops of 32x32: its images are 60x80" in said.err
    assert "kdface data align photos -o CROPS size=[32,32]" in said.err and not list(tmp_path.glob("out.npz*"))
    np.savez(tmp_path / "mine.npz", keys=np.array(["a"]))
    said = kdface("embed", str(faces), f"run={run}", "-o", "mine.npz")
    assert said.code == 2 and "no file of kdface embed" in said.err


def test_verify_decides_at_a_tested_threshold(kdface: Kdface, run: Path, faces: Path) -> None:
    files = sorted(faces.rglob("*.png"))
    score = float(_cosines(run, files)[0, 5])
    (point,) = RunFolder(run).read_results()["operating_points"]["toy_pairs"]  # 120 impostors resolve 1e-2 alone
    assert point["far"] == 0.01 and point["low"] <= point["threshold"]
    words = ["verify", str(files[0]), str(files[5]), f"run={run}"]
    decided = "same person" if score >= point["threshold"] else "different people"
    said = kdface(*words, "far=1e-2")
    assert said.code == 0, said.err
    assert said.out.splitlines() == [
        f"score      {score:.4f}",
        f"threshold  {point['threshold']:.4f}  (far=1e-2)",
        decided,
    ]
    said = kdface(*words)
    assert f"toy_pairs  far=1e-2  threshold {point['threshold']:.4f}" in said.out and decided in said.out
    assert kdface(*words, f"threshold={score - 0.01:.6f}").out.splitlines()[-1] == "same person"
    assert kdface(*words, f"threshold={score + 0.01:.6f}").out.splitlines()[-1] == "different people"
    said = kdface(*words, "far=1e-4")
    assert said.code == 2 and "far=1e-2" in said.err
    for wrong, told in (
        (["thresold=0.3"], "threshold"),
        (["far=2"], "less than 1"),
        (["far=1e-2", "threshold=0.1"], "mutually exclusive"),
        (["more"], "--help"),
    ):
        said = kdface(*words, *wrong)
        assert said.code == 2 and told in said.err, said.err


def test_identify_names_people(kdface: Kdface, run: Path, faces: Path, tmp_path: Path) -> None:
    files = sorted(faces.rglob("*.png"))
    said = kdface("identify", str(faces), str(faces), f"run={run}", "top=2", "threshold=0.999", "-o", "found.csv")
    assert said.code == 0, said.err
    with open(tmp_path / "found.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 24
    cosines = _cosines(run, files)
    for row in rows:
        probe = files.index(Path(row["probe"]))
        best = max(cosines[probe, other] for other, file in enumerate(files) if file.parent.name == row["name"])
        assert float(row["score"]) == pytest.approx(best, abs=1e-5)
        assert row["known"] == str(best >= 0.999).lower()
        assert row["rank"] != "1" or row["name"] == files[probe].parent.name
    said = kdface("identify", str(faces), str(files[0]), f"run={run}")
    assert said.out.split()[-2:] == ["1.0000", files[0].parent.name]


def test_cluster_puts_copies_together(kdface: Kdface, run: Path, tmp_path: Path) -> None:
    root = tmp_path / "crops"
    for number, name in enumerate(("a1", "b1", "a2", "c1", "b2", "a3")):
        image = np.random.default_rng(ord(name[0])).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        image[0, 0] = number  # nearly the same file
        root.mkdir(exist_ok=True)
        cv2.imwrite(str(root / f"{name}.png"), image)
    said = kdface("cluster", str(root), f"run={run}", "threshold=0.9995", "-o", "there")
    assert said.code == 0, said.err
    with open(tmp_path / "there" / "clusters_crops.csv", encoding="utf-8", newline="") as file:
        found = [(row["key"], row["cluster"]) for row in csv.DictReader(file)]
    assert found == [
        (f"{name}.png", number) for name, number in zip(("a1", "a2", "a3", "b1", "b2", "c1"), "000112", strict=True)
    ]
    assert cv2.imread(str(tmp_path / "there" / "clusters_crops.png")) is not None
    assert "3 clusters, 1 of a single image" in said.out
    said = kdface("cluster", str(root), f"run={run}")
    assert said.code == 2 and "needs a threshold" in said.err and "far=1e-2" in said.err
