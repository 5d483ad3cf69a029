"""kdface evaluate run=PATH evaluation=CHOICE: a trained run under any protocol, without retyping its configuration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kdface.commands.arguments import Arguments, parse
from kdface.errors import UserError

_ALLOWED = ("evaluation", "paths", "trainer", "hardware", "loader")


def run(words: list[str]) -> int:
    arguments = parse("evaluate", words, "Evaluate a run:  run=PATH evaluation=CHOICE [evaluation.NAME.KEY=VALUE]")
    given = [word for word in arguments.overrides if word.startswith("run=")]
    if not given:
        raise UserError("kdface evaluate needs a run.", expected="run=PATH", mend="kdface evaluate run=runs/...")
    arguments.overrides = [word for word in arguments.overrides if word not in given]
    for word in arguments.overrides:
        if word.lstrip("+~").partition("=")[0].split(".")[0] not in _ALLOWED:
            raise UserError(
                f"{word}: a run is evaluated as it was trained.",
                expected=f"overrides of {', '.join(_ALLOWED)}",
                origin=f"command line: {word}",
                mend="leave it out, or train a run with it",
            )
    return _evaluate(Path(given[-1].removeprefix("run=")), arguments)


def _evaluate(path: Path, arguments: Arguments) -> int:
    import logging

    from kdface.commands.run import sets_of
    from kdface.config.assemble import build_protocols, settings_of
    from kdface.config.compose import compose
    from kdface.config.load import load_run
    from kdface.datasets.checks import card
    from kdface.reports.draw import draw_scores
    from kdface.reports.summary import shown, tell
    from kdface.runs.environment import environment
    from kdface.runs.folder import write_json
    from kdface.runs.train import evaluate, machine, metrics_of, write_scores

    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    loaded = load_run(path)
    composed = compose(arguments.overrides, arguments.config_dirs, around=loaded.config).tree
    tree = _laid_over(loaded.config, composed, arguments.overrides)
    if not tree["evaluation"]:
        raise UserError("there is nothing to evaluate.", mend="evaluation=CHOICE   (kdface list evaluation)")
    protocols = build_protocols(tree, loaded.method)
    profile, threads = machine(settings_of(tree))
    method = loaded.method.to("cuda" if profile.accelerator == "gpu" else "cpu")
    method.use_memory_format(profile.channels_last)
    outcomes = evaluate(protocols, method, profile)
    metrics = metrics_of(outcomes)
    target = loaded.folder.root / "evaluations" / "+".join(protocols)
    write_scores(target / "scores", outcomes)
    draw_scores(target / "scores", target / "figures")
    found = {
        "metrics": metrics,
        "counts": {name: outcome.counts for name, outcome in outcomes.items()},
        "symptoms": {name: outcome.symptoms for name, outcome in outcomes.items() if outcome.symptoms},
        "choices": {name: outcome.choices for name, outcome in outcomes.items() if outcome.choices},
        "checkpoint": str(loaded.checkpoint),
        "step": loaded.step,
        "evaluation": tree["evaluation"],
        "paths": {key: str(tree["paths"][key]) for key in ("data", "runs")},
        "data": {name: card(faces) for name, faces in sets_of(protocols).items()},
        "environment": environment(profile, threads, world=1),
    }
    write_json(target / "results.json", found)
    print("\n".join(tell(metrics, found["counts"], f"{shown(target)}/results.json")))
    for name, outcome in outcomes.items():
        for symptom in outcome.symptoms:
            print(f"warning: {name}: {symptom}")
    print(f"weights  {shown(loaded.checkpoint)} (step {loaded.step})")
    print(f"written  {shown(target)}")
    return 0


def _laid_over(config: dict[str, Any], composed: dict[str, Any], overrides: list[str]) -> dict[str, Any]:
    """The run's own configuration, with what the command line gives in its place."""
    keys = [word.lstrip("+~").partition("=")[0] for word in overrides]
    tree = dict(config)
    for node, _, key in (key.partition(".") for key in keys):
        if node in ("trainer", "hardware", "loader") and key:
            tree[node] = {**tree[node], key: composed[node][key]}
    if any(key.partition(".")[0] == "evaluation" for key in keys):
        tree["evaluation"], tree["paths"] = composed["evaluation"], composed["paths"]
    elif "paths.data" in keys:
        tree["paths"] = composed["paths"]
        before, after = str(config["paths"]["data"]), str(composed["paths"]["data"])
        tree["evaluation"] = json.loads(json.dumps(config["evaluation"]).replace(before, after))
    return tree
