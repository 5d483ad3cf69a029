"""kdface train [OVERRIDES]: compose, check, and train one run, or a sweep with -m."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from kdface.commands.arguments import Arguments, parse


def run(words: list[str]) -> int:
    arguments = parse(
        "train", words, "Train, evaluate and draw one run; the same command again goes on or says it is done."
    )
    from kdface.config.compose import CONFIG, hydra_context, load

    if arguments.cfg or arguments.info:
        with hydra_context(arguments.config_dirs) as hydra:
            load(hydra, arguments.overrides)  # a mistake is told in our words
            if arguments.info:
                hydra.show_info(arguments.info, config_name=CONFIG, overrides=arguments.overrides)
            elif arguments.cfg:
                hydra.show_cfg(
                    config_name=CONFIG,
                    overrides=arguments.overrides,
                    cfg_type=arguments.cfg,
                    package=arguments.package,
                    resolve=arguments.resolve,
                )
        return 0
    if arguments.multirun:
        from kdface.commands.sweep import sweep

        return sweep(arguments)
    return _train_one(arguments)


def _train_one(arguments: Arguments) -> int:
    from kdface.commands.run import execute
    from kdface.config.compose import compose

    folder = prepare_run(compose(arguments.overrides, arguments.config_dirs), arguments)
    return execute(folder)


def prepare_run(composed: Any, arguments: Arguments) -> Any:
    """The run folder of a composed job, made where there is none. A seed of null is drawn here and recorded."""
    import secrets

    from kdface.config.fingerprint import fingerprint
    from kdface.runs.folder import prepare

    tree = composed.tree
    if tree["seed"] is None:
        tree["seed"] = secrets.randbelow(2**31)
        composed.origins.set("seed", "drawn, since seed=null")
    root = Path(tree["paths"]["runs"]) / tree["name"] / f"seed{tree['seed']}-{fingerprint(tree)[:8]}"
    about = {
        "command": ["kdface", "train", *arguments.overrides],
        "choices": composed.choices,
        "where": composed.origins.where,
        "python": sys.executable,
    }
    return prepare(root, tree, about)
