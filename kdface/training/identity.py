"""The identity of a run, and the rules for changes to it.

A run is defined by its configuration and its data: the training images, the teacher, the test sets. The name of its
folder contains a fingerprint of the configuration (`kdface.config.fingerprint`), data.json those of the data.

Change                                                              unfinished run    finished run
------------------------------------------------------------------  ----------------  ------------
loggers, loader processes, threads, intervals of log and            resumes           same run
  checkpoint, ranks, dataset.on_error, data.*
a path to the same files                                            resumes           same run
training images not used so far: broken and left out, or not yet    resumes, noted    rejected
  drawn
training images used so far, people or images added or removed,     rejected (before  rejected
  the teacher                                                       a checkpoint:
                                                                    restarts)
a test set                                                          resumes, noted    same run, with a warning
trainer.max_epochs or max_steps, raised                             another run, which continues from the end of this
                                                                    one if schedule and method allow it
any other value                                                     another run, in its own folder

Noted: `changes` in data.json records since which step, and which images.
Rejected: nothing is written; the error names the difference and the command for a separate new run. An edited
config.yaml, or a checkpoint of another run, is always rejected.
"""

from __future__ import annotations

import gzip
import hashlib
import itertools
import json
import logging
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from kdface.atomic import write_binary, write_json
from kdface.config.files import paths_in
from kdface.errors import UserError
from kdface.runs.folder import RunFolder
from kdface.runs.named import command_again
from kdface.runs.pack import digest_of

if TYPE_CHECKING:
    from kdface.assembly.job import Job

log = logging.getLogger("kdface")

Tree = Mapping[str, Any]
Image = tuple[str, str, str]  # key, person, first 16 hex digits of the SHA-256 of its bytes


def data_of(job: Job) -> tuple[dict[str, Any], list[Image]]:
    """The current data of a job: the content of data.json, and the images of the training set, in order."""
    from kdface.datasets.checks import card, digests
    from kdface.teachers.quality.labels import identity

    faces, nodes = job.data.training.faces, _nodes(job.config)
    found = digests(faces)
    people = [faces.people[int(label)] for label in faces.labels]
    images = [(key, person, digest[:16]) for key, person, digest in zip(faces.keys, people, found, strict=True)]
    cards: dict[str, Any] = {"train": card(faces, found)}
    known: dict[int, dict[str, Any]] = {}  # protocols share test sets
    for name, dataset in sets_of({f"evaluation.{name}": protocol for name, protocol in job.data.test.items()}).items():
        known[id(dataset)] = known.get(id(dataset)) or card(dataset)
        cards[name] = dict(known[id(dataset)])
        if name in nodes:
            cards[name]["files"] = file_digests(nodes[name])
    if job.method.teacher is not None:
        cards["teacher"] = {"fingerprint": identity(job.method.teacher)}
    if job.method.started_from:
        cards["weights"] = {"fingerprint": job.method.started_from}
    for name in cards.keys() & nodes.keys():
        cards[name]["state"] = state(nodes[name])
    return cards, images


def _nodes(config: Tree) -> dict[str, Tree]:
    """The nodes of a configuration that read data, by their names in data.json."""
    tests = {f"evaluation.{name}": node for name, node in (config["evaluation"] or {}).items()}
    others = {name: config[name] for name in ("teacher", "weights") if config.get(name) is not None}
    return {"train": config["dataset"], **tests, **others}


def sets_of(protocols: Mapping[str, Any]) -> dict[str, Any]:
    """The test sets of protocols: NAME for the first, NAME.SET for any others."""
    return {
        f"{name}.{faces.name}" if place else name: faces
        for name, protocol in protocols.items()
        for place, faces in enumerate(protocol.datasets)
    }


def _cards(name: str, node: Tree) -> dict[str, dict[str, Any]]:
    """The entries in data.json of the data that a node reads now; none if it cannot be read."""
    from kdface.assembly.build import build
    from kdface.assembly.load import load_network
    from kdface.datasets.checks import card
    from kdface.teachers.quality.labels import identity

    try:
        if name == "train":
            return {name: card(build(node, "dataset"))}
        part = build(node, "" if name.startswith("evaluation.") else name, load_network=load_network)
        if name == "teacher":
            return {name: {"fingerprint": identity(part)}}
        if name == "weights":
            return {name: {"fingerprint": str(part.fingerprint)}}
        found = {key: card(faces) for key, faces in sets_of({name: part}).items()}
        found[name]["files"] = file_digests(node)
    except UserError:
        return {}
    return found


def state(node: Any) -> str:
    """SHA-256 over names, sizes and times of the files that a node reads, independent of their location. If it is
    equal, nothing has changed; otherwise compare the contents."""
    digest = hashlib.sha256()
    for key, path in paths_in({"": node}):
        digest.update(f"{key}\n".encode())
        for name, about in _files(Path(path)):
            digest.update(os.fsencode(f"{name}\0{about.st_size}\0{about.st_mtime_ns}\n"))
    return digest.hexdigest()


def file_digests(node: Any) -> dict[str, str]:
    """SHA-256 of each file named by a test set, such as a list of pairs; folders are covered by its datasets."""
    files = {key.removeprefix("."): Path(path) for key, path in paths_in({"": node})}
    return {key: digest_of(file) for key, file in files.items() if file.is_file()}


def _files(path: Path) -> Iterator[tuple[str, os.stat_result]]:
    if path.is_file():
        yield path.name, path.stat()
    seen = set()
    for folder, folders, names in os.walk(path, followlinks=True):
        folders[:] = sorted(folder for folder in folders if not folder.startswith("."))
        if (real := os.path.realpath(folder)) in seen:  # a link to a parent folder
            folders.clear()
            continue
        seen.add(real)
        for name in sorted(names):
            file = Path(folder, name)
            if file.is_file():  # no broken link, no pipe
                yield str(file.relative_to(path)), file.stat()


def note_data(folder: RunFolder, job: Job) -> None:
    """Write data.json and the list of training images at the start of a run; on resume, apply the rules above.

    Raises:
        UserError: data used by the run has changed.
    """
    cards, images = data_of(job)
    resumes = (folder.root / "data.json").is_file() and folder.last.is_file()
    before = folder.read_data() if resumes else {}
    for name, card in cards.items() if resumes else ():
        then = before.get(name) or {}
        if name == "weights" and then:  # superseded by the checkpoint
            cards[name] = then
            continue
        changes = list(then.get("changes") or [])
        if _differ(then, card):
            joining: list[str] = []
            if name == "train":
                about = f"{name}: {_counts(then)} at the start, {_counts(card)} now"
                joining = _joining(folder, job, images, about)
            elif name == "teacher":
                raise _refused(folder, "teacher: different weights or labels")
            log.warning("%s has changed since the start of the run, which resumes with the current data", name)
            changes.append({"step": step_of(folder), "before": then.get("fingerprint"), "images": joining})
        if changes:
            card["changes"] = changes
    _write(folder, cards, images)


def require_same_data(runs: Iterable[tuple[RunFolder, Tree]]) -> None:
    """Check that finished runs used the current data; cheap if no file has been touched since.

    Args:
        runs: their folders, and the requested configurations with the current location of the data. Missing data is
            ignored.

    Raises:
        UserError: the training data of a run differs from the current data. Changed test sets only cause a warning.
    """
    states: dict[str, str] = {}
    cards: dict[str, Any] = {}
    for folder, config in runs:
        for name, then, card in _changes(folder, config, states, cards) if folder.done else ():
            if name == "train":
                raise _refused(folder, f"the training set had {_counts(then)} and has {_counts(card)}", "finished")
            log.warning(
                "%s: %s has changed since the evaluation (%s then, %s now): the results are for the old version. "
                "For the current one: kdface evaluate run=%s",
                *(folder.root, name, _counts(then), _counts(card), folder.root),
            )


def changed_during(job: Job, folder: RunFolder) -> list[str]:
    """The datasets that changed during a run."""
    return [
        f"{name}: {_counts(then)} at the start, {_counts(card)} at the end"
        for name, then, card in _changes(folder, job.config, {}, {})
    ]


def _changes(
    folder: RunFolder, config: Tree, states: dict[str, str], cards: dict[str, Any]
) -> Iterator[tuple[str, Tree, Tree]]:
    """The training and test sets of a run that have changed since, with their entries in data.json then and now.

    Args:
        folder: of the run.
        config: names the current data.
        states, cards: of nodes, by their texts: runs of a sweep share their data.
    """
    before = folder.read_data()
    for name, node in _nodes(config).items():
        then, text = before.get(name), json.dumps([name, node], sort_keys=True)
        if name in ("teacher", "weights") or not isinstance(then, dict) or not any(paths_in({"": node})):
            continue
        if text not in states:
            states[text] = state(node)
        if then.get("state") == states[text]:
            continue
        if text not in cards:
            cards[text] = _cards(name, node)
        for part, card in cards[text].items():
            was = before.get(part) or {}
            if _differ(was, card):
                yield part, was, card


def require_same_teachers(runs: Iterable[RunFolder]) -> None:
    """Raise `UserError`, listing all runs, if teachers of finished runs have changed since. Each teacher is checked
    once; missing teachers are ignored."""
    today: dict[str, Any] = {}
    changed = []
    for run in runs:
        if not run.done or (teacher := run.read_config()["teacher"]) is None:
            continue
        if (then := run.read_data().get("teacher")) is None:
            continue
        text = json.dumps(teacher, sort_keys=True)
        if text not in today:
            today[text] = _cards("teacher", teacher).get("teacher")
        if today[text] is not None and _differ(then, today[text]):
            changed.append(str(run.root))
    if changed:
        names = ", ".join(changed)
        raise UserError(
            f"{names}: finished, but its teacher has changed since (different weights or labels).",
            fix=f"restore the teacher, or retrain: rm -r {' '.join(changed)}",
        )


def same_files(folder: RunFolder, config: Tree) -> bool:
    """Whether a configuration names the same data as a run, independent of location."""
    before = folder.read_data()
    cards = {key: card for name, node in _nodes(config).items() for key, card in _cards(name, node).items()}
    return before.keys() == cards.keys() and not any(_differ(before[name], card) for name, card in cards.items())


def _differ(one: Tree, two: Tree) -> bool:
    files = "files" in one and "files" in two and one["files"] != two["files"]
    return bool(one.get("fingerprint") != two.get("fingerprint") or files)


def _counts(card: Tree) -> str:
    if "images" not in card:
        return f"fingerprint {str(card.get('fingerprint', 'none'))[:12]}"
    return f"{card['images']} images of {card.get('people')} people, fingerprint {str(card.get('fingerprint'))[:12]}"


def _joining(folder: RunFolder, job: Job, images: list[Image], about: str) -> list[str]:
    """The keys of the changed training images. Raises if the run has used one of them."""
    then = _read_images(folder)
    if then is None:
        raise _refused(folder, about)
    now = {key: (person, digest) for key, person, digest in images}
    moves = {"added": now.keys() - then.keys(), "removed": then.keys() - now.keys()}
    moves["of another person"] = {key for key in now.keys() & then.keys() if now[key][0] != then[key][0]}
    told = [f"{len(keys)} {what} ({_some(keys)})" for what, keys in moves.items() if keys]
    changed = {key for key in now.keys() & then.keys() if now[key][1] != then[key][1]}
    used = {images[row][0] for row in np.flatnonzero(_used(folder, job))} & changed
    if used:
        told.append(f"{len(used)} used images have changed ({_some(used)})")
    if told or not changed:
        raise _refused(folder, "; ".join([about, *told]))
    return sorted(changed)


def _some(keys: Iterable[str]) -> str:
    keys = sorted(keys)
    return ", ".join(keys[:3]) + (", ..." if len(keys) > 3 else "")


def _used(folder: RunFolder, job: Job) -> NDArray[np.bool_]:
    """Mask of the training images used up to the last checkpoint, without those left out."""
    from kdface.datasets.loading import BatchOrder
    from kdface.methods import Method
    from kdface.runs.checkpoint import read_checkpoint
    from kdface.runs.records import read

    faces = job.data.training.faces
    if type(job.method).before_training is not Method.before_training:  # the method reads all images before training
        return np.ones(len(faces), dtype=np.bool_)
    about = read_checkpoint(folder.last)["kdface"]
    overfit = bool(job.settings.trainer.get("overfit_batches"))
    order = BatchOrder(job.data.order, job.settings.accumulate, limit=job.data.batches, overfit=overfit)
    epochs, rest = divmod(int(about["batches"]), order.length)
    times = np.zeros(len(faces), dtype=np.int64)
    for epoch in range(epochs + 1):
        order.position = epoch * order.length
        for part in itertools.islice(order, None if epoch < epochs else rest):
            np.add.at(times, [index for _, index in part], 1)
    left_out = [
        image
        for record in read(folder.metrics)
        if record["kind"] == "skipped" and int(record["step"]) <= int(about["step"])
        for image in record["images"]
    ]
    if left_out:
        rows_of = {key: row for row, key in enumerate(faces.keys)}
        for image in left_out:  # "key: reason"; a key may contain a colon
            parts = image.split(": ")
            key = next((key for end in range(len(parts)) if (key := ": ".join(parts[:end])) in rows_of), None)
            if key is not None:
                times[rows_of[key]] -= 1
    return np.asarray(times > 0)


def _refused(folder: RunFolder, about: str, how: str = "") -> UserError:
    name = str(folder.read_config()["name"])
    runs = folder.root.parents[len(Path(name).parts)]
    number = next(number for number in range(2, 1 << 30) if not (runs / f"{name}_{number}").exists())
    beside = command_again(folder, f"name={name}_{number}")
    if how:
        return UserError(
            f"{folder.root} is finished, but its data has changed since: {about}.",
            fix=f"train a new run on the current data: {beside}",
        )
    return UserError(
        f"the data of {folder.root} has changed since the run started: {about}.",
        fix=f"restore the data and rerun the same command; or train a new run on the current data: {beside}",
    )


def step_of(folder: RunFolder) -> int:
    """The step of a run's last checkpoint; 0 if there is none."""
    from kdface.runs.checkpoint import read_checkpoint

    return int(read_checkpoint(folder.last)["kdface"]["step"]) if folder.last.is_file() else 0


def _write(folder: RunFolder, cards: dict[str, Any], images: list[Image]) -> None:
    def write(file: BinaryIO) -> None:
        with gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed:
            for image in images:
                packed.write(json.dumps(image).encode() + b"\n")

    write_json(folder.root / "data.json", cards)  # first: it notes the changes, and a list left behind is redone
    write_binary(folder.images, write)


def _read_images(folder: RunFolder) -> dict[str, tuple[str, str]] | None:
    """Key -> (person, digest) from images.jsonl.gz; None if it is missing or incomplete."""
    count = (folder.read_data().get("train") or {}).get("images")
    found: dict[str, tuple[str, str]] = {}
    try:
        with gzip.open(folder.images, "rb") as file:
            while len(found) <= int(count or 0) and (line := file.readline(1 << 16)):
                key, person, digest = json.loads(line)
                found[str(key)] = (str(person), str(digest))
    except (OSError, EOFError, ValueError, TypeError, zlib.error):
        return None
    return found if len(found) == count else None
