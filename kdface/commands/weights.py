"""kdface weights list | inspect FILE | check FILE [--dataset lfw] [published=0.9983] [tolerance=0.005] [KEY=VALUE]

list shows the catalogue of well-known weights, list NAME one entry. inspect prints the format, architecture, embedding
size and image format of a file, from the file or its card, FILE.yaml. check verifies weights before distillation: it
compares the accuracy on a test set with the published one, from the card's entry or published=. Exit code 0: as
published, 1: not.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from kdface.commands.arguments import Arguments
from kdface.errors import UserError, nearest

_ACTIONS = ("list", "inspect", "check")
_TOLERANCE = 0.005  # of the accuracy: a different alignment changes it by a few tenths of a percent


def run(words: list[str]) -> int:
    """Run `kdface weights` and return the exit code."""
    action = words[0] if words else ""
    if action not in _ACTIONS:
        near = nearest(action, _ACTIONS)
        raise UserError(
            f"kdface weights {action}: invalid arguments.",
            expected="kdface weights list [NAME], inspect FILE, or check FILE [--dataset lfw]",
            nearest=f"kdface weights {near}" if near else "",
        )
    if action == "list":
        return _list(words[1:])
    if len(words) < 2 or (action == "inspect" and len(words) > 2):
        raise UserError(f"kdface weights {' '.join(words)}: invalid.", expected=f"kdface weights {action} FILE")
    path = Path(words[1]).expanduser()
    return _inspect(path) if action == "inspect" else _check(path, words[2:])


def _list(names: list[str]) -> int:
    from kdface.config.catalogue import entries, entry

    if names:
        for key, value in entry(names[0]).items():
            print(f"{key:<14} {_told(value)}")
        return 0
    found = entries()
    width = max(map(len, found))
    for name, known in found.items():
        published = ", ".join(f"{key} {value:.4f}" for key, value in known.get("published", {}).items())
        print(f"{name:<{width}}  {known['about']}, {known['trained_on']}{f': {published}' if published else ''}")
    print("\nkdface weights list NAME shows an entry; refer to it as name: NAME in the card of a file, FILE.yaml")
    return 0


def _told(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}={_told(item)}" for key, item in value.items())
    return str(value)


def _inspect(path: Path) -> int:
    from kdface.assembly.model_file import about_file, card_of, open_model, read_model
    from kdface.backbones.inferred import inferred
    from kdface.backbones.onnx_file import read_onnx

    if path.suffix.lower() == ".onnx":
        network, own = read_onnx(path, "cpu")
        size = "any size" if network.image_size is None else "{}x{}".format(*network.image_size)
        print(
            f"format         ONNX, images of {size}, {f'batches of {network.batch}' if network.batch else 'any batch'}"
        )
        print(f"embedding      {network.embedding_size or 'of a size not fixed by the file'}")
    else:
        weights, own = read_model(path)
        kind = "safetensors" if path.suffix.lower() == ".safetensors" else "PyTorch"
        values = sum(value.numel() for value in weights.values())
        print(f"format         {kind}, {len(weights)} entries, {values:,} values: {', '.join(list(weights)[:3])}, ...")
        told = inferred(weights) if own is None else about_file(path, own).get("backbone")
        print(f"architecture   {_told(told) if told else 'unknown to kdface'}")
    where = "the file itself" if own is not None else f"{card_of(path).name}"
    about = about_file(path, own)  # raises if the card is missing
    print(f"images         {_told(about['preprocessing'])}  (from {where})")
    for key in ("about", "trained_on", "licence", "published", "source", "where", "sha256"):
        if key in about:
            print(f"{key:<14} {_told(about[key])}")
    _, about = open_model(path)
    print("loads          yes, every entry fits")
    return 0


def _check(path: Path, words: list[str]) -> int:
    from kdface.assembly.model_file import open_model
    from kdface.commands.embeddings import evaluate_file

    arguments, test = Arguments(list(words)), "lfw"
    if "--dataset" in words[:-1]:
        place = words.index("--dataset")
        test = words[place + 1]
        del arguments.overrides[place : place + 2]
    published, tolerance = (_fraction(key, arguments.take(key)) for key in ("published", "tolerance"))
    _, about = open_model(path)
    known = about.get("published") or {}
    metric = next((key for key in known if key.partition("/")[0] == test), f"{test}/accuracy")
    published = known.get(metric) if published is None else published
    if published is None:
        raise UserError(
            f"{path}: no published accuracy on {test} to compare with.",
            expected=f"published=FRACTION, or in its card, name: of a catalogue entry with {test}"
            + (f"; it has {', '.join(known)}" if known else ""),
            fix=f"kdface weights check {shlex.join([str(path), *words])} published=FRACTION",
        )
    arguments.overrides.insert(0, f"evaluation={test}")
    found = evaluate_file(path, arguments)
    measured = (found["metrics"].get(metric) or {}).get("value")
    if measured is None:
        raise UserError(f"evaluation={test} has no {metric}.", expected=f"one of {', '.join(found['metrics'])}")
    tolerance = _TOLERANCE if tolerance is None else tolerance
    print(f"{metric}  measured {measured:.4f}, published {published:.4f}, tolerance {tolerance:g}")
    if measured >= published - tolerance:
        print("as published: safe to distil from")
        return 0
    print(
        "NOT as published: wrong card (colour order, mean and scale, template) or different file. "
        "Do not distil from it until this is resolved."
    )
    return 1


def _fraction(key: str, text: str | None) -> float | None:
    try:
        value = None if text is None else float(text)
    except ValueError:
        value = -1.0
    if value is not None and not 0 <= value <= 1:
        raise UserError(f"{key}={text}: invalid arguments.", expected="a fraction, such as 0.9983")
    return value
