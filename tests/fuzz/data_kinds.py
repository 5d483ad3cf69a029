"""Images, record files, pickles, lists, labels, embeddings and weights."""

from __future__ import annotations

import pickle
import struct
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import cv2
import numpy as np
import torch

from tests.datasets import ijb_release
from tests.datasets.test_recordio import payload, write
from tests.fuzz.damage import damaged_tree, spoil
from tests.fuzz.kinds import Kind, every, tried

_SIDE = 32
_ODD_SIDES = (0, 1, 31, 33, 4096, 16384, 30000, 65535)


def picture(seed: int, side: int = _SIDE) -> Any:
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)


def encoded(seed: int, suffix: str = ".jpg", side: int = _SIDE) -> bytes:
    return bytes(cv2.imencode(suffix, picture(seed, side))[1].tobytes())


def spoil_image(path: Path, rng: Random) -> str:
    """Half of the time another size in the header."""
    data = bytearray(path.read_bytes())
    height, width = rng.choice(_ODD_SIDES), rng.choice(_ODD_SIDES)
    if rng.random() < 0.7:
        return spoil(path, rng)
    if path.suffix == ".jpg":
        at = data.find(b"\xff\xc0") + 5
        data[at : at + 4] = struct.pack(">HH", height, width)
    elif path.suffix == ".bmp":
        data[18:26] = struct.pack("<ii", width, rng.choice((height, -height)))
    else:
        at = data.find(b"\x9d\x01\x2a") + 3
        data[at : at + 4] = struct.pack("<HH", width & 0x3FFF, height & 0x3FFF)
    path.write_bytes(bytes(data))
    return f"claims {height}x{width}"


def _images(folder: Path) -> None:
    (folder / "faces" / "p").mkdir(parents=True)
    for number, suffix in enumerate((".jpg", ".bmp", ".webp")):
        (folder / "faces" / "p" / f"{number}{suffix}").write_bytes(encoded(number, suffix))


def _pngs(folder: Path) -> None:
    (folder / "faces" / "p").mkdir(parents=True)
    (folder / "faces" / "p" / "0.png").write_bytes(encoded(0, ".png"))


def _pixels(folder: Path) -> object:
    """Sealed: an image that is accepted has its pixels."""
    from kdface.datasets import ImageFolder

    faces = ImageFolder(folder / "faces", size=(_SIDE, _SIDE))
    faces.check(0)
    return faces[0].image


def _read_images(folder: Path) -> object:
    from kdface.datasets import ImageFolder
    from kdface.datasets.images import decode, read_bytes

    sized = ImageFolder(folder / "faces", size=(_SIDE, _SIDE))
    whole = [tried(partial(lambda key: decode(read_bytes(sized.root / key), key), key)) for key in sized.keys]
    return [every(sized), whole]


def _records(folder: Path) -> None:
    records = {number: payload(float(owner), encoded(number)) for number, owner in enumerate((0, 0, 1, 2, 2), start=1)}
    for number, (first, end) in enumerate(((1, 3), (3, 4), (4, 6)), start=6):
        records[number] = payload([float(first), float(end)], b"")
    records[0] = payload([6.0, 9.0], b"")
    write(folder / "set", list(records.items()), 3, size=_SIDE)
    lines = [f"1\tfaces/p{owner}/{k}.jpg\t{owner}\n" for k, owner in enumerate((0, 0, 1, 2, 2))]
    (folder / "set" / "train.lst").write_text("".join(lines))


def _read_records(folder: Path) -> object:
    from kdface.datasets import RecordIO

    return every(RecordIO(folder / "set"))


def _spoil_records(path: Path, rng: Random) -> str:
    """A third of the time one of the numbers in a record is another one."""
    if path.suffix != ".rec" or rng.random() < 0.4:
        return spoil(path, rng)
    data = bytearray(path.read_bytes())
    starts = [at for at in range(0, len(data) - 40, 4) if data[at : at + 4] == b"\x0a\x23\xd7\xce"]
    at = rng.choice(starts) + rng.choice((4, 8, 12, 32, 36))
    new: Any = rng.choice((0, 1, 2, 0xFFFFFFFF, 0x7FFFFFFF, 0x40000000, struct.unpack("<I", struct.pack("<f", 3e9))[0]))
    data[at : at + 4] = rng.choice((struct.pack("<I", new), struct.pack("<f", rng.choice((-1, 0.5, 1e30, np.nan)))))
    path.write_bytes(bytes(data))
    return f"word at {at} is {data[at : at + 4].hex()}"


def _bin(folder: Path) -> None:
    (folder / "pairs.bin").write_bytes(pickle.dumps(_bin_content(), protocol=2))


def _bin_content() -> list[Any]:
    return [[encoded(number) for number in range(4)], [True, False]]


def _spoil_bin(path: Path, rng: Random) -> str:
    kind = rng.random()
    if kind < 0.4:
        return spoil(path, rng)
    if kind < 0.5:
        nested: Any = []
        for _ in range(rng.choice((30, 90))):
            nested = [nested, nested]
        path.write_bytes(pickle.dumps([nested, [True]]))
        return "lists that double"
    if kind < 0.6:
        raw = rng.choice((b"]" + b"(" * 50_000 + b".", b"\x80\x02]q\x00h\x00a.", b"\x80\x04\x8d" + b"\xff" * 8 + b"."))
        path.write_bytes(raw)
        return f"opcodes {raw[:12].hex()}"
    if kind < 0.7:
        arrays = [
            np.frombuffer(encoded(0), np.uint8),
            np.array([1, 0]),
            np.zeros((0, 5)),
            np.array(["x"], dtype=object),
        ]
        path.write_bytes(pickle.dumps([[rng.choice(arrays) for _ in range(4)], rng.choice(arrays)]))
        return "arrays"
    tree, told = damaged_tree(_bin_content(), rng)
    path.write_bytes(pickle.dumps(tree, protocol=rng.choice((2, 4))))
    return told


def _read_bin(folder: Path) -> object:
    from kdface.datasets import BinPairs

    pairs = BinPairs(folder / "pairs.bin", size=(_SIDE, _SIDE))
    return [every(pairs), pairs.same.tolist()]


def _lists(folder: Path) -> None:
    same = ["Ada\t1\t2", "Bo\t1\t3"]
    different = ["Ada\t1\tBo\t1", "Ada\t2\tCy\t1"]
    (folder / "view2.txt").write_text("\n".join(["2\t2", *same, *different, *same, *different]) + "\n")
    (folder / "view1.txt").write_text("\n".join(["2", *same, *different]) + "\n")
    (folder / "mfr2.txt").write_text("\n".join([*same, *different]).replace("\t", " ") + "\n")


def _read_lists(folder: Path) -> object:
    from kdface.evaluation.pairs import PairList, read_lfw_pairs, read_mfr2_pairs

    def one(read: Callable[[Path], PairList], name: str) -> object:
        pairs = read(folder / name)
        return [pairs.among(["Ada/1.jpg", "Bo/Bo_0001.png"]).left, pairs.right, pairs.same, pairs.fold]

    lists = ((read_lfw_pairs, "view2.txt"), (read_lfw_pairs, "view1.txt"), (read_mfr2_pairs, "mfr2.txt"))
    return [tried(partial(one, *files)) for files in lists]


def _landmarks(folder: Path) -> None:
    from kdface.datasets.landmarks import HEADER
    from kdface.faces import template_points

    rows = [",".join(HEADER)]
    for number in range(3):
        (folder / "raw" / f"p{number}").mkdir(parents=True)
        (folder / "raw" / f"p{number}" / "1.jpg").write_bytes(encoded(number, side=64))
        points = template_points((_SIDE, _SIDE)) + 10 + number
        rows.append(f"p{number}/1.jpg," + ",".join(f"{value:.3f}" for value in points.ravel()))
    (folder / "points.csv").write_text("\n".join(rows) + "\n")


def _read_landmarks(folder: Path) -> object:
    from kdface.datasets import RawFolder

    return every(RawFolder(folder / "raw", folder / "points.csv", size=(_SIDE, _SIDE)))


def _ijb(folder: Path) -> None:
    faces = [(7, 1, 0.9), (7, 1, 0.5), (3, 2, 0.8), (9, 1, 0.7), (4, 5, 0.6), (2, 6, 0.9), (9, 3, 0.4)]
    pairs = [(7, 3, 1), (7, 9, 0), (2, 4, 1), (9, 4, 1)]
    ijb_release.write(folder / "ijb", faces, pairs, [{7: 40}, {9: 60}], {3: 40, 4: 60})
    ijb_release.draw(folder / "ijb", len(faces))


def _read_ijb(folder: Path) -> object:
    from kdface.datasets import IJB
    from kdface.evaluation import TemplateRecognition

    faces = IJB(folder / "ijb", "ijbb", size=(_SIDE, _SIDE))
    protocol = TemplateRecognition(faces, detector_score=True)
    rows = np.random.default_rng(0).normal(size=(len(faces), 4))
    outcome = protocol.evaluate(lambda dataset, keys, mirror=True: rows)  # type: ignore[arg-type]
    return [every(faces), {name: metric.to_dict() for name, metric in outcome.metrics.items()}]


class _Faces:
    name = "faces"
    keys = ("p/1.jpg", "p/2.jpg", 'q "x", y/1.jpg')

    def __len__(self) -> int:
        return len(self.keys)


def _labels(folder: Path) -> None:
    (folder / "labels.csv").write_text('key,quality\np/1.jpg,0.5\np/2.jpg,-1e-3\n"q ""x"", y/1.jpg",3\nz/1.jpg,7\n')


def _read_labels(folder: Path) -> object:
    from kdface.teachers.quality import LabelFile

    return LabelFile(folder / "labels.csv")(None, _Faces())  # type: ignore[arg-type]


def _embeddings(folder: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32)
    np.savez(folder / "e.npz", keys=[f"p/{k}.jpg" for k in range(5)], embeddings=rows)


def _read_embeddings(folder: Path) -> object:
    from kdface.datasets.embedding_file import read_embeddings

    return list(read_embeddings(folder / "e.npz"))


def _network() -> Any:
    from kdface.backbones import iresnet_nano

    return iresnet_nano(8, image_size=(_SIDE, _SIDE), channels=(8, 8, 8, 8), blocks=(1, 1, 1, 1))


def _weights(folder: Path) -> None:
    from safetensors.torch import save_file

    torch.manual_seed(0)
    state = _network().state_dict()
    torch.save({"state_dict": state}, folder / "w.pt")
    save_file(state, folder / "w.safetensors")


def _spoil_weights(path: Path, rng: Random) -> str:
    """Of a torch file half of the time its values, in a file that is whole."""
    if path.suffix != ".pt" or rng.random() < 0.6:
        return spoil(path, rng)
    content = torch.load(path, weights_only=True)["state_dict"]
    key = rng.choice([name for name, value in content.items() if value.is_floating_point()])
    new: Any = rng.choice(
        (None, 3, "x", [], torch.zeros(()), torch.full_like(content[key], torch.nan), content[key].half())
    )
    content[key] = new
    torch.save(rng.choice(({"state_dict": content}, content, {"state_dict": [content]})), path)
    return f"{key} is {str(new)[:20]!r}"


def _read_weights(folder: Path) -> object:
    from kdface.teachers import from_weights

    names = ("w.pt", "w.safetensors")
    return [tried(partial(lambda name: from_weights(_network(), folder / name).fingerprint, name)) for name in names]


KINDS = [
    Kind("images", _images, ("faces/p/*",), _read_images, spoil=spoil_image, share=3),
    Kind("png", _pngs, ("faces/p/*",), _pixels, sealed=True),
    Kind("records", _records, ("set/*",), _read_records, spoil=_spoil_records, share=3),
    Kind("bin", _bin, ("*.bin",), _read_bin, spoil=_spoil_bin, share=3),
    Kind("pairs", _lists, ("*.txt",), _read_lists, share=2),
    Kind("landmarks", _landmarks, ("points.csv",), _read_landmarks, share=2),
    Kind("templates", _ijb, ("ijb/meta/*",), _read_ijb, share=3),
    Kind("labels", _labels, ("labels.csv",), _read_labels, share=2),
    Kind("embeddings", _embeddings, ("e.npz",), _read_embeddings, sealed=True, share=2),
    Kind("weights", _weights, ("w.*",), _read_weights, spoil=_spoil_weights, share=2),
]

warnings.filterwarnings("ignore")
