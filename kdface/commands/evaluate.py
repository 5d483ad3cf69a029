"""kdface evaluate run=PATH evaluation=CHOICE: a trained run under any protocol, without retyping its configuration."""

from __future__ import annotations

from pathlib import Path

from kdface.commands.arguments import Arguments, parse
from kdface.errors import UserError

_ALLOWED = ("evaluation", "paths", "trainer")


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

    from kdface.config.assemble import build_protocols
    from kdface.config.check import convert
    from kdface.config.compose import compose
    from kdface.config.load import load_run
    from kdface.reports.draw import draw_scores
    from kdface.reports.summary import render, shown, table_of
    from kdface.runs.folder import write_json
    from kdface.runs.settings import TrainerSettings
    from kdface.runs.train import evaluate, machine, metrics_of, write_scores

    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    loaded = load_run(path)
    composed = compose(arguments.overrides, arguments.config_dirs)
    if not any(word.lstrip("+").startswith("evaluation") for word in arguments.overrides):
        composed.tree["evaluation"] = loaded.config["evaluation"]
    protocols = build_protocols(composed.tree, loaded.preprocessing)
    settings: TrainerSettings = convert(TrainerSettings, composed.tree["trainer"])
    profile, _ = machine(settings)
    method = loaded.method.to("cuda" if profile.accelerator == "gpu" else "cpu")
    method.use_memory_format(profile.channels_last)
    outcomes = evaluate(protocols, method, profile)
    metrics = metrics_of(outcomes)
    target = loaded.folder.root / "evaluations" / "+".join(protocols)
    write_scores(target / "scores", outcomes)
    draw_scores(target / "scores", target / "figures")
    counts = {name: outcome.counts for name, outcome in outcomes.items()}
    write_json(target / "results.json", {"metrics": metrics, "counts": counts, "step": loaded.step})
    print(render(table_of(metrics)))
    print(f"weights  {shown(loaded.folder.root)} at step {loaded.step}")
    print(f"written  {shown(target)}")
    return 0
