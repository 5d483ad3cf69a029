"""kdface evaluate run=PATH evaluation=CHOICE: evaluate a trained run without repeating its configuration.

run=FILE names a network in a file, such as .onnx; embeddings=FILE replaces the run by embeddings of any recogniser
(see `kdface.commands.embeddings`).
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdface.commands.arguments import Arguments, parse, require_only
from kdface.commands.embeddings import evaluate_file, evaluate_stored
from kdface.config.fingerprint import difference, moved, portable
from kdface.errors import UserError
from kdface.reports.summary import shown
from kdface.runs.folder import RunFolder
from kdface.startup import without_collection

if TYPE_CHECKING:
    from kdface.evaluation import EvaluationProtocol
    from kdface.hardware import Profile
    from kdface.methods import Method

_ALLOWED = ("evaluation", "paths", "trainer", "hardware", "loader", "data", "dataset.on_error", "hydra.searchpath")


def run(words: list[str]) -> int:
    """Run `kdface evaluate` and return the exit code. Raises `UserError` for invalid arguments."""
    about = "Evaluate a run:  run=PATH [checkpoint=best] [evaluation=CHOICE] [evaluation.NAME.KEY=VALUE]"
    arguments = parse("evaluate", words, about)
    stored = [word for word in arguments.overrides if word.startswith("embeddings=")]
    given = [word for word in arguments.overrides if word.startswith("run=")]
    if stored and not given:
        arguments.overrides = [word for word in arguments.overrides if word not in stored]
        return evaluate_stored(Path(stored[-1].removeprefix("embeddings=")).expanduser(), arguments)
    if not given:
        raise UserError(
            "kdface evaluate needs a run.",
            expected="run=PATH, or embeddings=FILE",
            fix=" ".join(["kdface evaluate run=FOLDER", *words]),
        )
    checkpoints = [word for word in arguments.overrides if word.startswith("checkpoint=")]
    arguments.overrides = [word for word in arguments.overrides if word not in (*given, *checkpoints)]
    path = Path(given[-1].removeprefix("run=")).expanduser()
    from kdface.config.model_file import is_model_file

    if is_model_file(path) and not checkpoints:
        evaluate_file(path, arguments)
        return 0
    if checkpoints:
        from kdface.config.plugs import named_checkpoint

        path = named_checkpoint(path, checkpoints[-1].removeprefix("checkpoint="))
    return evaluate_run(path, arguments)


def evaluate_run(path: Path, arguments: Arguments) -> int:
    """Evaluate a run, by folder or checkpoint. Raises `UserError` for overrides that would change its training."""
    require_only(
        arguments.overrides,
        _ALLOWED,
        ": evaluation cannot change how a run was trained",
        ", or train a run with it",
    )
    return _evaluate(path, arguments)


def _evaluate(path: Path, arguments: Arguments) -> int:
    import logging

    with without_collection():
        from kdface.commands.run import check_tests, sets_of
        from kdface.config.assemble import build_protocols, settings_of
        from kdface.config.compose import compose
        from kdface.config.load import load_run
        from kdface.datasets.checks import card
        from kdface.reports.summary import tell
        from kdface.runs.identity import file_digests
        from kdface.runs.trainer import machine
        from kdface.teachers.frozen import fingerprint_of

    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    loaded = load_run(path)
    loaded.folder.require_own_files()
    composed = compose(arguments.overrides, arguments.config_dirs, around=loaded.config).tree
    tree = _laid_over(loaded.config, composed, arguments.overrides)
    if not tree["evaluation"]:
        raise UserError("no evaluation is selected.", fix="evaluation=CHOICE   (kdface list evaluation)")
    protocols = build_protocols(tree, loaded.method)
    check_tests(tree, {"evaluation": protocols})
    profile, threads = machine(settings_of(tree))
    about = {
        "checkpoint": str(loaded.checkpoint),
        "step": loaded.step,
        "weights": fingerprint_of(loaded.method.embedder),
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
        found = _measure(target, about, loaded.method, protocols, profile, threads)
    else:
        written += " by an earlier command, unchanged"
    print("\n".join(tell(found["metrics"], found["counts"], f"{shown(target)}/results.json")))
    for name, symptoms in found["symptoms"].items():
        for symptom in symptoms:
            print(f"warning: {name}: {symptom}")
    print(f"weights  {shown(loaded.checkpoint)} (step {loaded.step})")
    print(written)
    return 0


def _measure(
    target: Path,
    about: Mapping[str, Any],
    method: Method,
    protocols: dict[str, EvaluationProtocol],
    profile: Profile,
    threads: int,
) -> dict[str, Any]:
    """Evaluate, and write scores, figures and results to `target`. Returns the results."""
    with without_collection():
        from kdface.atomic import write_json
        from kdface.reports.draw import draw_scores
        from kdface.runs.environment import environment
        from kdface.runs.outcomes import evaluate, results_of, write_scores

    method.to("cuda" if profile.accelerator == "gpu" else "cpu")
    method.use_memory_format(profile.channels_last)
    outcomes = evaluate(protocols, method, profile)
    write_scores(target / "scores", outcomes)
    draw_scores(target / "scores", target / "figures")
    found = {
        **about,
        **results_of(outcomes),
        "environment": environment(profile, threads, world=1),
        "time": round(time.time(), 3),
    }
    write_json(target / "results.json", found)
    return found


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
