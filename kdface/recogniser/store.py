"""Embeddings of a folder in a file: made part by part, so that a kill loses at most one part and nothing is done twice.

While it is made, FILE.parts/ holds parts of some hundred images, each written whole or not at all. FILE is written from
them at the end. An existing file of the same network is updated: new images are added, changed ones embedded again,
and those no longer in the folder dropped. A SHA-256 of each image file tells which is which.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shlex
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kdface.atomic import write_atomic
from kdface.datasets.folders import images_below
from kdface.datasets.images import read_bytes
from kdface.errors import DataError, UserError
from kdface.progress import Meter
from kdface.recogniser.crops import decoded, not_aligned
from kdface.recogniser.recogniser import Recogniser
from kdface.stored import parse_json, read_arrays

PART = 512  # images in a part


class Row(NamedTuple):
    """An image's embedding, and the SHA-256 of the file that it was computed from."""

    digest: str
    values: NDArray[np.float32]


Rows = dict[str, Row]  # by key


@dataclass
class Stored:
    """What came out.

    Attributes:
        embedded: images in the file.
        before: of these, those that earlier commands had embedded.
        replaced: images embedded again because their files have changed since.
        dropped: embeddings left out because their images are no longer in the folder.
        broken: key -> why it was left out.
        passed_over: entries that are no images.
    """

    embedded: int
    before: int
    replaced: int = 0
    dropped: int = 0
    broken: dict[str, str] = field(default_factory=dict)
    passed_over: list[str] = field(default_factory=list)


def embed_folder(recogniser: Recogniser, root: Path, target: Path, mirror: bool = True, part: int = PART) -> Stored:
    """Embed every crop of a folder and of the folders below it into a file, by its path in the folder.

    Args:
        target: .npz with `keys`, `embeddings` and `about`, or .parquet with the columns keys and embeddings: what
            `kdface.datasets.embedding_file` reads.
        mirror: the embedding is f(x) + f(mirrored x).
        part: images in a part.

    Raises:
        UserError: the format is not known, or the file is of another network, of other images, or without digests.
        DataError: there are no images, or none of them is a crop of the network's size.
    """
    read, write = formats(target)
    files, passed_over = images_below(root)
    keys = {file.relative_to(root).as_posix(): file for file in files}
    about = {"weights": fingerprint_of(recogniser), "mirror": mirror}
    parts = target.with_name(f"{target.name}.parts")
    rows: Rows = {}
    if target.is_file():
        made, rows = read(target)
        _require_same(made, about, target)
    written = _digests(rows)
    for file in sorted(parts.glob("*.npz")):
        made, there = _read_npz(file)
        _require_same(made, about, parts)
        rows |= there
    found = _digests(rows)
    rows = {key: row for key, row in rows.items() if key in keys and row.digest == _digest_of(keys[key])}
    if found and not rows:
        where = shlex.quote(str(target if written else parts))
        raise UserError(
            f"{where} holds embeddings of {len(found)} images, and none of them is in {root} now: it is kept.",
            expected="a file of this folder's embeddings",
            fix=f"another file after -o; or, if every image of the folder was replaced: rm -r {where}",
        )
    before = len(rows)
    broken: dict[str, str] = {}
    waiting = [key for key in keys if key not in rows]
    meter = Meter("embedding", len(keys), done=len(keys) - len(waiting))
    number = len(list(parts.glob("*.npz")))
    for start in range(0, len(waiting), part):
        fresh, failed, sizes = _embed(
            recogniser, {key: keys[key] for key in waiting[start : start + part]}, mirror, meter
        )
        broken |= failed
        if not rows and not fresh and len(sizes) == len(failed):
            raise not_aligned(root, recogniser.size, sizes)
        if fresh:
            write_atomic(parts / f"{number:06d}.npz", partial(_write_npz, fresh, about))
            number += 1
            rows |= fresh
    meter.close()
    if not rows:
        raise DataError(next(iter(broken.values())))
    if _digests(rows) != written:
        write_atomic(target, partial(write, dict(sorted(rows.items())), about))
    shutil.rmtree(parts, ignore_errors=True)
    replaced = sum(key in rows and rows[key].digest != digest for key, digest in found.items())
    return Stored(len(rows), before, replaced, len(found.keys() - keys.keys()), broken, passed_over)


def _digests(rows: Rows) -> dict[str, str]:
    return {key: row.digest for key, row in rows.items()}


def _digest_of(file: Path) -> str | None:
    """None if the file cannot be read."""
    try:
        return hashlib.sha256(read_bytes(file)).hexdigest()
    except DataError:
        return None


def _embed(
    recogniser: Recogniser, files: dict[str, Path], mirror: bool, meter: Meter
) -> tuple[Rows, dict[str, str], list[tuple[int, int]]]:
    """Rows of the files that can be used, why the others cannot, and the sizes of whole images of another size."""
    rows: Rows = {}
    broken: dict[str, str] = {}
    sizes = []
    names = list(files)
    for start in range(0, len(names), recogniser.batch_size):
        batch = names[start : start + recogniser.batch_size]
        images, digests = {}, {}
        for key in batch:
            try:
                data = read_bytes(files[key])
                images[key] = decoded(data, str(files[key]), recogniser.size, recogniser.resizes)[0]
                digests[key] = hashlib.sha256(data).hexdigest()
            except DataError as error:
                broken[key] = error.problem
                if size := getattr(error, "size", None):
                    sizes.append(size)
        if images:
            found = recogniser.embed_batch(np.stack(list(images.values())), mirror).cpu().numpy()
            rows |= {key: Row(digests[key], values) for key, values in zip(images, found, strict=True)}
        meter.advance(len(batch))
    return rows, broken, sizes


def fingerprint_of(recogniser: Recogniser) -> str:
    """SHA-256 of the weights and of what is done to the images."""
    from kdface.teachers.frozen import fingerprint_of as of_weights

    weights = of_weights(recogniser.network)
    prepared = json.dumps(recogniser.preprocessing.to_dict(), sort_keys=True)
    return hashlib.sha256(f"{weights} {prepared}".encode()).hexdigest()


def _require_same(made: dict[str, Any], about: dict[str, Any], where: Path) -> None:
    if made != about:
        raise UserError(
            f"{where} holds embeddings of another network, or made in another way: it is kept.",
            fix="another file after -o, or remove that one",
        )


Read = Callable[[Path], tuple[dict[str, Any], Rows]]
Write = Callable[[Rows, dict[str, Any], Path], None]


def formats(target: Path) -> tuple[Read, Write]:
    """How a file is read and written, by its suffix. Raises `UserError` if it cannot be."""
    suffix = target.suffix.lower()
    if suffix == ".npz":
        return _read_npz, _write_npz
    if suffix != ".parquet":
        raise UserError(
            f"{target}: embeddings are not written in this format.",
            expected="a file name that ends in .npz or .parquet",
            fix=f"-o {target.with_suffix('.npz')}",
        )
    if importlib.util.find_spec("pyarrow") is None:
        raise UserError(
            f"{target}: Parquet files need the package pyarrow.",
            expected=f'pip install "kdface[parquet]", or -o {target.with_suffix(".npz")}',
        )
    return _read_parquet, _write_parquet


def _write_npz(rows: Rows, about: dict[str, Any], path: Path) -> None:
    values = np.stack([row.values for row in rows.values()])
    digests = np.array(list(_digests(rows).values()))
    with open(path, "wb") as file:  # given a name, NumPy would append .npz to it
        np.savez(file, keys=np.array(list(rows)), embeddings=values, digests=digests, about=np.array(json.dumps(about)))


def _read_npz(path: Path) -> tuple[dict[str, Any], Rows]:
    found = read_arrays(path, fix=f"rm {path}, and the same command makes it anew")
    try:
        about: dict[str, Any] = parse_json(str(found["about"]))
        values = found["embeddings"].astype(np.float32)
        if "digests" not in found:
            raise _without_digests(path)
        return about, _rows(found["keys"].tolist(), found["digests"].tolist(), values)
    except (KeyError, ValueError):
        raise _not_ours(path) from None


def _rows(keys: list[str], digests: list[str], values: NDArray[np.float32]) -> Rows:
    return {key: Row(*row) for key, *row in zip(keys, digests, values, strict=True)}


def _without_digests(path: Path) -> UserError:
    where = path.parent if path.parent.suffix == ".parts" else path
    return UserError(
        f"{where} was written by an earlier version, which did not record the images' bytes: whether they have changed "
        "since is unknown, and it is kept.",
        fix=f"another file after -o; or embed all images again: rm -r {shlex.quote(str(where))}, then the same command",
    )


def _not_ours(path: Path) -> UserError:
    return UserError(f"{path} is no file of kdface embed: it is kept.", fix="another file after -o")


def _write_parquet(rows: Rows, about: dict[str, Any], path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    values = np.stack([row.values for row in rows.values()])
    lists = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(values.ravel()), values.shape[1])
    table = pyarrow.table({"keys": list(rows), "embeddings": lists, "digests": list(_digests(rows).values())})
    pyarrow.parquet.write_table(table.replace_schema_metadata({"kdface": json.dumps(about)}), path)


def _read_parquet(path: Path) -> tuple[dict[str, Any], Rows]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
        about: dict[str, Any] = parse_json((table.schema.metadata or {})[b"kdface"].decode())
        values = table["embeddings"].combine_chunks()
        rows = values.flatten().to_numpy().reshape(len(table), -1).astype(np.float32)
        if "digests" not in table.column_names:
            raise _without_digests(path)
        return about, _rows(table["keys"].to_pylist(), table["digests"].to_pylist(), rows)
    except (KeyError, ValueError, OSError, pyarrow.ArrowException):
        raise _not_ours(path) from None
