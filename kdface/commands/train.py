"""kdface train [OVERRIDES]: compose, check, and train one run, or a sweep with -m."""

from __future__ import annotations

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
    from kdface.commands.prepare import prepare_run
    from kdface.commands.run import execute
    from kdface.config.compose import compose

    folder = prepare_run(compose(arguments.overrides, arguments.config_dirs), arguments)
    return execute(folder)
