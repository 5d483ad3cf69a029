"""kdface evaluate: evaluate a trained run on evaluation=CHOICE, without repeating its configuration.

run=FILE names a network in a file, such as .onnx; embeddings=FILE replaces the run by embeddings of any recogniser
(see `kdface.commands.embeddings`). checkpoint=best selects another checkpoint;
evaluation.NAME.KEY=VALUE changes a test.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kdface.commands.arguments import Arguments, Parser, is_override, require_only
from kdface.commands.embeddings import evaluate_file, evaluate_stored, tell_results, write_results
from kdface.config.fingerprint import difference, moved, portable
from kdface.errors import UserError
from kdface.runs.folder import RunFolder
from kdface.startup import without_collection
from kdface.terminal import shown

_ALLOWED = ("evaluation", "paths", "trainer", "hardware", "loader", "data", "dataset.on_error", "hydra.searchpath")


def run(words: list[str]) -> int:
    """Run `kdface evaluate` and return the exit code. Raises `UserError` for invalid arguments."""
    keys = {"run": Path, "checkpoint": str, "embeddings": Path}
    arguments = Parser("evaluate", __doc__, keys=keys, overrides=is_override).config_dir().read(words)
    given = arguments.values
    if "run" in given and "embeddings" in given:
        raise UserError("run and embeddings are mutually exclusive.", expected="one of them")
    if "embeddings" in given:
        return evaluate_stored(given["embeddings"], arguments)
    if "run" not in given:
        raise UserError(
            "kdface evaluate needs a run.",
            expected="run=PATH, or embeddings=FILE",
            fix=" ".join(["kdface evaluate run=FOLDER", *words]),
        )
    path = given["run"]
    from kdface.assembly.model_file import is_model_file
    from kdface.assembly.plugs import named_checkpoint

    if "checkpoint" in given:
        path = named_checkpoint(path, given["checkpoint"])
    elif is_model_file(path):
        evaluate_file(path, arguments)
        return 0
    return evaluate_run(path, arguments)


def evaluate_run(path: Path, arguments: Arguments) -> int:
    """Evaluate a run, by folder or checkpoint. Raises `UserError` for overrides that would change its training."""
    require_only(
        arguments.overrides,
        _ALLOWED,
        ": evaluation cannot change how a run was trained",
        ", or train a run with it",
    )
    import logging

    with without_collection():
        from kdface.assembly.assemble import build_protocols, settings_of
        from kdface.assembly.load import load_run
        from kdface.commands.run import check_tests
        from kdface.config.compose import compose
        from kdface.datasets.checks import card
        from kdface.runs.environment import environment
        from kdface.teachers.frozen import fingerprint_of
        from kdface.training.identity import file_digests, sets_of
        from kdface.training.outcomes import evaluate
        from kdface.training.trainer import machine

    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    loaded = load_run(path)
    loaded.folder.require_own_files()
    composed = compose(arguments.overrides, arguments.config_dirs, around=loaded.config).tree
    tree = _laid_over(loaded.config, composed, arguments.overrides)
    if not tree["evaluation"]:
        raise UserError("no evaluation is selected.", fix="evaluation=CHOICE   (kdface list evaluation)")
    method, protocols = loaded.method, build_protocols(tree["evaluation"] or {}, loaded.method)
    check_tests(tree, {"evaluation": protocols})
    profile, threads = machine(settings_of(tree))
    about = {
        "checkpoint": str(loaded.checkpoint),
        "step": loaded.step,
        "weights": fingerprint_of(method.embedder),
        "precision": profile.precision,
        "evaluation": tree["evaluation"],
        "paths": {key: str(tree["paths"][key]) for key in ("data", "runs")},
        "data": {name: card(faces) for name, faces in sets_of(protocols).items()},
        "files": file_digests(tree["evaluation"]),
    }
    name = "+".join(protocols)
    if loaded.checkpoint.name != loaded.folder.weights.name:
        name = f"{name}@{loaded.checkpoint.stem}"
    target, found = _place(loaded.folder, name, about)
    written = f"written  {shown(target)}"
    if found is None:
        method.to("cuda" if profile.accelerator == "gpu" else "cpu")
        method.use_memory_format(profile.channels_last)
        outcomes = evaluate(protocols, method, profile)
        found = write_results(target, {**about, "environment": environment(profile, threads, world=1)}, outcomes)
    else:
        written += " by an earlier command, unchanged"
    tell_results(target, found)
    print(f"weights  {shown(loaded.checkpoint)} (step {loaded.step})")
    print(written)
    return 0


def _place(folder: RunFolder, name: str, about: dict[str, Any]) -> tuple[Path, dict[str, Any] | None]:
    """The folder of an evaluation, and the earlier results if it is unchanged: evaluations/NAME, or NAME plus a
    fingerprint if a different evaluation has that name, which is kept."""
    own = _compared(about)
    digest = hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()[:8]
    for target in (folder.evaluations / name, folder.evaluations / f"{name}-{digest}"):
        try:
            file = target / "results.json"
            found = folder.read_evaluation(file) if file.is_file() else {}
            earlier = _compared(found) if found else {}
        except (UserError, KeyError, TypeError, AttributeError) as error:
            print(f"warning: {target}/results.json is corrupted and recomputed ({type(error).__name__})")
            return target, None
        if not found:
            return target, None
        less = {"weights", "precision", "files"} - earlier.keys()  # older evaluations do not record these
        rows = [row for row in difference(earlier, own) if row[0].partition(".")[0] not in less]
        if not rows:
            return target, found
        if target.name == name:
            key, then, now = rows[0]
            print(f"{shown(target)} is a different evaluation and is kept ({key}: {then} there, {now} now)")
    raise AssertionError("two evaluations with one fingerprint")


def _compared(found: Mapping[str, Any]) -> dict[str, Any]:
    """What distinguishes evaluations of the same name, independent of paths."""
    compared = {key: found[key] for key in ("step", "weights", "precision", "files") if key in found}
    compared["evaluation"] = portable(found["evaluation"], found["paths"])
    compared["data"] = {name: card["fingerprint"] for name, card in found["data"].items()}
    return {**compared, "checkpoint": Path(found["checkpoint"]).name}


def _laid_over(config: dict[str, Any], composed: dict[str, Any], overrides: list[str]) -> dict[str, Any]:
    """The run's own configuration with the command line's values."""
    keys = [word.lstrip("+~").partition("=")[0] for word in overrides]
    tree = dict(config)
    for node, _, key in (key.partition(".") for key in keys):
        if node in ("trainer", "hardware", "loader", "data") and key:
            tree[node] = {**tree.get(node, {}), key: composed[node][key]}
    if left_out := [word.partition("=")[2] for word in overrides if word.startswith("dataset.on_error=")]:
        tree["dataset"] = {**tree["dataset"], "on_error": left_out[-1]}
    if any(key.partition(".")[0] == "evaluation" for key in keys):
        tree["evaluation"], tree["paths"] = composed["evaluation"], composed["paths"]
    elif "paths.data" in keys:
        tree["paths"] = composed["paths"]
        before, after = str(config["paths"]["data"]), str(composed["paths"]["data"])
        tree["evaluation"] = moved(config["evaluation"], {before: after})
    return tree
