"""kdface weights: the catalogue of well-known weights, what a file is, and whether it is as published.

list shows the catalogue of well-known weights, list NAME one entry. inspect prints the format, architecture, embedding
size and image format of a file, from the file or its card, FILE.yaml. check verifies weights before distillation: it
compares the accuracy on a test set with the published one, from the card's entry or published=. Exit code 0: as
published, 1: not.
"""

from __future__ import annotations

import shlex
from typing import Annotated, Any

from annotated_types import Ge, Le

from kdface.commands.arguments import Arguments, Parser, act, is_override
from kdface.errors import UserError

_TOLERANCE = 0.005  # of the accuracy: a different alignment changes it by a few tenths of a percent


_FRACTION = Annotated[float, Ge(0), Le(1)]


def run(words: list[str]) -> int:
    """Run `kdface weights` and return the exit code."""
    shown = Parser("weights list", "Show the catalogue of well-known weights, or one entry.", "[NAME]")
    inspected = Parser("weights inspect", "Print what a file is, from the file or its card, FILE.yaml.", "FILE")
    keys = {"published": _FRACTION, "tolerance": _FRACTION}
    checked = Parser("weights check", __doc__, "FILE", keys=keys, overrides=is_override).config_dir()
    checked.flag("--dataset", metavar="TEST", help="the choice of evaluation")
    return act("weights", __doc__, words, list=(shown, _list), inspect=(inspected, _inspect), check=(checked, _check))


def _list(given: Arguments) -> int:
    from kdface.config.catalogue import entries, entry

    if given.things:
        for key, value in entry(given.things[0]).items():
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


def _inspect(given: Arguments) -> int:
    from kdface.assembly.model_file import about_file, card_of, open_model, read_model
    from kdface.backbones.inferred import inferred
    from kdface.backbones.onnx_file import read_onnx

    (path,) = given.paths
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


def _check(given: Arguments) -> int:
    from kdface.assembly.model_file import open_model
    from kdface.commands.embeddings import evaluate_file

    (path,), test = given.paths, given.values.get("dataset", "lfw")
    published, tolerance = given.values.get("published"), given.values.get("tolerance", _TOLERANCE)
    _, about = open_model(path)
    known = about.get("published") or {}
    metric = next((key for key in known if key.partition("/")[0] == test), f"{test}/accuracy")
    published = known.get(metric) if published is None else published
    if published is None:
        words = [*given.words, *(["--dataset", test] if "dataset" in given.values else [])]
        raise UserError(
            f"{path}: no published accuracy on {test} to compare with.",
            expected=f"published=FRACTION, or in its card, name: of a catalogue entry with {test}"
            + (f"; it has {', '.join(known)}" if known else ""),
            fix=f"kdface weights check {shlex.join(words)} published=FRACTION",
        )
    given.overrides.insert(0, f"evaluation={test}")
    found = evaluate_file(path, given)
    measured = (found["metrics"].get(metric) or {}).get("value")
    if measured is None:
        raise UserError(f"evaluation={test} has no {metric}.", expected=f"one of {', '.join(found['metrics'])}")
    print(f"{metric}  measured {measured:.4f}, published {published:.4f}, tolerance {tolerance:g}")
    if measured >= published - tolerance:
        print("as published: safe to distil from")
        return 0
    print(
        "NOT as published: wrong card (colour order, mean and scale, template) or different file. "
        "Do not distil from it until this is resolved."
    )
    return 1
