"""From JPEG files to normalised batches with each method's augmentation, against the official dataset classes.

Images a second of processor time, one process, faces generated and stored as JPEG. Below KDFACE_PEERS are looked for
Masked-Face-Recognition-KD, AI-KD and periocular_CKD, and in its folder `site` what they import (torchvision, skimage).
MaskInv's class reads MXNet records: it is given files instead, decoded by OpenCV. Both sides end with the float tensors
that the networks see; ours draws the geometry as the method's default does.
"""

from __future__ import annotations

import importlib
import statistics
import sys
import tempfile
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL.Image
import torch
from numpy.typing import NDArray

from benchmarks.measure import LeftOut, Row, importable, peer, ratios, side_by_side
from kdface.augmentations import Augmentation, Misalignment, Periocular, Standard, SyntheticMask
from kdface.datasets import ImageFolder, RawFolder, ToyFaces
from kdface.datasets.landmarks import HEADER
from kdface.datasets.loading import Batch, TrainingSet, collate
from kdface.faces import FaceSet, template_points
from kdface.hardware import keep_freed_memory
from kdface.pixels import normalised

IMAGES, BATCH, REPEATS = 512, 64, 4
OFFICIAL = {"MaskInv": "Masked-Face-Recognition-KD", "AI-KD": "AI-KD", "CKD": "periocular_CKD"}


def main() -> list[Row | LeftOut]:
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    keep_freed_memory()  # as a training of kdface does, and for both sides
    rows: list[Row | LeftOut] = []
    with tempfile.TemporaryDirectory() as folder:
        files = _written(Path(folder))
        decode = _decoded(files)
        for name, given in OFFICIAL.items():
            code = peer(given)
            what = f"JPEG to batch, {name}"
            if code is None:
                rows.append(LeftOut(what, f"KDFACE_PEERS has no {given}"))
                continue
            try:
                with importable(code):
                    theirs = _THEIRS[name](Path(folder), files)
            except ImportError as error:
                rows.append(LeftOut(what, f"its code needs {error.name}"))
                continue
            rows.append(_row(what, _ours(name, Path(folder)), theirs, decode))
    return rows


def _row(what: str, ours: Callable[[], Any], theirs: Callable[[], Any], decode: float) -> Row:
    theirs()
    mine, peers = side_by_side(ours, theirs, REPEATS)
    rates = [IMAGES / statistics.median(seconds) for seconds in (mine, peers)]
    limit = f"decoding alone {decode:.0f} images/s: {rates[0] / decode:.0%}"
    return Row(
        what, "the official dataset class", rates[0], rates[1], "images/s a core", ratios(mine, peers), 3, "", limit
    )


def _written(folder: Path) -> list[Path]:
    faces = ToyFaces(people=16, images_per_person=IMAGES // 16)
    files, rows = [], [",".join(HEADER)]
    for index in range(len(faces)):
        sample = faces[index]
        file = folder / "faces" / f"{sample.label:02}" / f"{index:04}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(file), cv2.cvtColor(sample.image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 95])
        files.append(file)
        points = template_points((112, 112)) if sample.landmarks is None else sample.landmarks
        rows.append(f"{file.parent.name}/{file.name}," + ",".join(f"{number:.3f}" for number in points.ravel()))
    (folder / "landmarks.csv").write_text("\n".join(rows))
    return files


def _decoded(files: list[Path]) -> float:
    """Images a second of decoding alone."""
    spent = side_by_side(lambda: [cv2.imdecode(np.fromfile(file, np.uint8), 1) for file in files], lambda: None, 3)[0]
    return len(files) / statistics.median(spent)


def _ours(name: str, folder: Path) -> Callable[[], Any]:
    flips, root = Standard(flip=0.5), folder / "faces"
    made: dict[str, Callable[[], tuple[FaceSet, Augmentation]]] = {
        "MaskInv": lambda: (ImageFolder(root), SyntheticMask(standard=flips)),
        "AI-KD": lambda: (RawFolder(root, folder / "landmarks.csv", keep_raw=True), Misalignment()),
        "CKD": lambda: (ImageFolder(root), Periocular(face_size=(128, 128), standard=flips)),
    }
    faces, augmentation = made[name]()
    data = TrainingSet(faces, augmentation, 0)
    kind = faces.preprocessing

    def work() -> None:
        for start in range(0, IMAGES, BATCH):
            batch = collate([data[(0, index)] for index in range(start, start + BATCH)])
            if not isinstance(batch, Batch):
                raise batch
            for view in batch.views.values():
                normalised(view, kind, torch.channels_last, torch.float32)

    return work


def _over(dataset: Any, views: int) -> Callable[[], Any]:
    def work() -> None:
        for start in range(0, IMAGES, BATCH):
            items = [dataset[index] for index in range(start, start + BATCH)]
            for view in range(views):
                torch.stack([item[view] for item in items])

    return work


def _rgb(data: NDArray[np.uint8]) -> NDArray[Any]:
    image = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert image is not None
    return image[..., ::-1].copy()


def _maskinv(folder: Path, files: list[Path]) -> Callable[[], Any]:
    mxnet = types.ModuleType("mxnet")
    decoded = types.SimpleNamespace
    mxnet.image = types.SimpleNamespace(  # type: ignore[attr-defined]
        imdecode=lambda data: decoded(asnumpy=lambda: _rgb(data))
    )
    mxnet.recordio = types.SimpleNamespace(unpack=lambda data: (decoded(label=0.0), data))  # type: ignore[attr-defined]
    sys.modules["mxnet"] = mxnet
    kind = importlib.import_module("utils.dataset").MXFaceDataset
    from torchvision import transforms  # type: ignore[import-not-found,import-untyped,unused-ignore]

    dataset = kind.__new__(kind)
    dataset.imgidx = range(len(files))
    dataset.imgrec = decoded(read_idx=lambda index: np.fromfile(files[index], np.uint8))
    dataset.mask_img = cv2.imread(str(Path(sys.path[0]) / "mask_img.png"), cv2.IMREAD_UNCHANGED)
    steps = [transforms.ToPILImage(), transforms.RandomHorizontalFlip(), transforms.ToTensor()]
    dataset.transform = transforms.Compose([*steps, transforms.Normalize([0.5] * 3, [0.5] * 3)])
    return _over(dataset, 2)


def _aikd(folder: Path, files: list[Path]) -> Callable[[], Any]:
    kind = importlib.import_module("dataset").PartialDataset
    from torchvision import transforms

    items = [(str(file), str(file), 0.5, template_points((112, 112)).copy()) for file in files]
    seen = transforms.Compose([transforms.ToTensor(), transforms.Normalize([0.5] * 3, [0.5] * 3)])
    return _over(kind(items, seen, True), 2)


def _ckd(folder: Path, files: list[Path]) -> Callable[[], Any]:
    """Its periocular images lie beside the faces, cropped before; they are read from files of that size."""
    root = folder / "official" / "trainingdb" / "train"
    for file in files:
        for name, size in (("face", (128, 128)), ("periocular", (128, 48))):
            to = root / file.parent.name / name / file.name
            to.parent.mkdir(parents=True, exist_ok=True)
            PIL.Image.open(file).resize(size).save(to, quality=95)
    kind = importlib.import_module("dataset.face_ocular").train_dataset
    return _over(kind("train", types.SimpleNamespace(dataset_path=str(folder / "official"))), 2)


_THEIRS = {"MaskInv": _maskinv, "AI-KD": _aikd, "CKD": _ckd}


if __name__ == "__main__":
    from benchmarks.measure import table

    print(table(main()))
