"""kdface data: verify, describe and preview a dataset; cut aligned crops from photographs.

verify decodes every image and lists broken images, duplicates, and overlap with OTHER_DATASET; card prints counts,
size, licence and fingerprint; preview writes a contact sheet of the views; align cuts aligned crops from photographs.
The overrides of a dataset follow its name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kdface.commands import align
from kdface.commands.arguments import Arguments, Parser, act, is_override
from kdface.datasets.images import ALIGN
from kdface.errors import UserError

_MOST_LISTED = 10


def run(words: list[str]) -> int:
    """Run `kdface data` and return the exit code. Raises `UserError` for invalid arguments."""

    def parser(action: str, about: str, *more: str) -> Parser:
        return Parser(f"data {action}", about, "DATASET", *more, overrides=is_override).config_dir()

    return act(
        "data",
        __doc__,
        words,
        verify=(parser("verify", __doc__, "[OTHER_DATASET]"), _verify),
        card=(parser("card", "Print counts, size, licence and fingerprint."), _card),
        preview=(parser("preview", "Write a contact sheet of the views."), _preview),
        align=(align.parser(), align.align),
    )


def _sets(given: Arguments) -> list[tuple[Any, dict[str, Any]]]:
    """The datasets with their configurations."""
    named: list[tuple[str, list[str]]] = []  # a dataset and the overrides that follow it
    for word in given.words:
        if word.startswith("dataset=") and named:  # a suggested fix: another dataset instead
            named[-1] = (word.removeprefix("dataset="), named[-1][1])
        elif not is_override(word):
            named.append((word, []))
        elif named:
            named[-1][1].append(word)
    return [_build(name, overrides, given.config_dirs) for name, overrides in named]


def _build(name: str, overrides: list[str], config_dirs: list[Path]) -> tuple[Any, dict[str, Any]]:
    from kdface.assembly.build import build
    from kdface.config.compose import compose
    from kdface.config.source import signature

    tree = compose([f"dataset={name}", "evaluation=none", *overrides], config_dirs, trains=False).tree
    if given := next((word for word in overrides if word.startswith("name=")), ""):
        own = f"dataset.{given}" if "name" in signature(tree["dataset"]["_target_"]) else ""
        raise UserError(
            "name is that of a run, and kdface data looks at a dataset.",
            nearest=own,
            origin=f"command line: {given}",
            fix=own or "remove name",
        )
    return build(tree["dataset"], "dataset"), tree


def _card(given: Arguments) -> int:
    from kdface.config.fingerprint import flatten
    from kdface.datasets.checks import card

    ((faces, _),) = _sets(given)
    for key, value in flatten(card(faces)).items():
        print(f"{key:<26} {value}")
    return 0


def _preview(given: Arguments) -> int:
    from kdface.assembly.parts import build_augmentation
    from kdface.reports.draw import views_sheet
    from kdface.reports.plotting import save

    ((faces, tree),) = _sets(given)
    augmentation = build_augmentation(tree, faces.preprocessing)
    path = Path(f"preview_{faces.name}.png")
    save(views_sheet(faces, augmentation, int(tree["seed"] or 0)), path)
    print(f"written  {path}  (views: {', '.join(augmentation.views)})")
    return 0


def _verify(given: Arguments) -> int:
    """Verify a dataset, or its overlap with another. Returns exit code 2 if an image is unusable."""
    from kdface.datasets.checks import fingerprint, verify

    (faces, _), *others = _sets(given)
    if others:
        return _overlap(faces, others[0][0])
    found = verify(faces, progress=_progress(f"verifying {faces.name}", len(faces)))
    spread = found.images_per_person
    print(f"{found.name}: {found.images} images of {found.people} people")
    print(f"  images per person  {spread.minimum} to {spread.maximum}, median {spread.median:g}")
    print(f"  broken             {len(found.broken)}")
    _list([f"{image.key}: {image.reason}" for image in found.broken])
    across = [duplicate for duplicate in found.duplicates if duplicate.across_people]
    inside = [duplicate for duplicate in found.duplicates if not duplicate.across_people]
    print(f"  one photograph under two names  {len(across)}")
    _list([f"{pair.first} = {pair.second}{'' if pair.exact else ' (nearly)'}" for pair in across])
    print(f"  duplicates inside a person      {len(inside)} ({sum(pair.exact for pair in inside)} exact)")
    _list([f"{pair.first} = {pair.second}{'' if pair.exact else ' (nearly)'}" for pair in inside])
    if found.passed_over:
        print(f"  files skipped      {len(found.passed_over)}")
        _list(list(found.passed_over))
    print(f"  implausible landmarks  {len(found.implausible)}")
    _list([f"{image.key}: {image.reason}" for image in found.implausible])
    sizes = Counter(image.size for image in found.broken if image.size)
    if sizes:
        raise _not_aligned(faces, sizes, found.images)
    if found.broken:
        raise _broken(found.broken, found.images, found.name)
    if found.implausible:
        raise UserError(
            f"{len(found.implausible)} of {found.images} images of {found.name} have implausible landmarks.",
            expected="left eye, right eye, nose, left and right mouth corner, as seen in the image, (x, y) in pixels",
            fix="correct the landmark file; kdface data preview DATASET shows the aligned faces",
        )
    print(f"  fingerprint        {fingerprint(faces)}")
    _compare_with_published(faces)
    return 0


def _compare_with_published(faces: Any) -> None:
    """Compare the counts of a well-known dataset with the published ones. Raises `UserError` if they differ."""
    from kdface.datasets.checks import published

    known = published(faces.name)
    if not known:
        return
    found = {"people": len(faces.people), "images": len(faces), "pairs": len(getattr(faces, "same", ()))}
    wrong = [f"{found[key]:,} {key} instead of {count:,}" for key, count in known.counts.items() if found[key] != count]
    if wrong:
        raise UserError(
            f"{faces.name} does not match the published dataset: {', '.join(wrong)}.",
            expected=f"the counts of {known.source}",
            fix=f"a complete copy ({known.request}), or dataset.name=NAME for your own dataset",
        )
    print(f"  as published       {', '.join(f'{count:,} {key}' for key, count in known.counts.items())}")


def _broken(found: Sequence[Any], images: int, name: str) -> UserError:
    return UserError(
        f"{len(found)} of {images} images of {name} are unusable.",
        fix="restore or remove them; kdface train ... dataset.on_error=skip trains without them",
    )


def _not_aligned(faces: Any, sizes: Counter[tuple[int, int]], images: int) -> UserError:
    """The error for intact images whose size differs from that of the dataset's crops."""
    from kdface.datasets.checks import sized, stored

    size = stored(faces)[0].preprocessing.size
    shown = ", ".join(f"{found[0]}x{found[1]}" for found, _ in sizes.most_common(3))
    alone = next(iter(sizes)) if len(sizes) == 1 and sizes.total() == images else None
    crops = f"for aligned crops {sized(faces, alone)}; for photographs " if alone else ""
    return UserError(
        f"{sizes.total()} of {images} images of {faces.name} are not aligned crops of {size[0]}x{size[1]}: they are "
        f"{shown}{' and others' if len(sizes) > 3 else ''} (height x width).",
        fix=f"{crops}{ALIGN}; or dataset=raw_folder dataset.root=FOLDER dataset.landmarks=FILE",
    )


def _overlap(first: Any, second: Any) -> int:
    from kdface.datasets.checks import overlap

    found = overlap(first, second, _progress("comparing", len(first) + len(second)))
    print(f"{found.first} and {found.second}")
    print(f"  people in both       {len(found.people)}")
    _list([one if one == two else f"{one} = {two}" for one, two in found.people])
    print(f"  photographs in both  {len(found.images)}")
    _list([f"{image.first} = {image.second}" for image in found.images])
    if found.unnamed:
        print(f"  {found.unnamed} people have only a number and cannot be compared by name")
    if found.broken:
        _list([f"{image.key}: {image.reason}" for image in found.broken])
        raise _broken(found.broken, len(first) + len(second), f"{found.first} and {found.second}")
    return 0


def _list(rows: list[str]) -> None:
    for row in rows[:_MOST_LISTED]:
        print(f"      {row}")
    if len(rows) > _MOST_LISTED:
        print(f"      ... and {len(rows) - _MOST_LISTED} more")


def _progress(what: str, total: int) -> Any:
    from kdface.progress import Meter

    meter = Meter(what, total)

    def told(done: int, _: int) -> None:
        meter.advance(done - meter.done)
        if done >= total:
            meter.close()

    return told
