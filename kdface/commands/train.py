"""kdface train [OVERRIDES]: compose, check, and train one run, or a sweep with -m."""

from __future__ import annotations

from kdface.commands.arguments import Arguments, parse


def run(words: list[str]) -> int:
    arguments = parse(
        "train", words, "Train, evaluate and draw one run; the same command again goes on or says it is done."
    )
    from omegaconf.errors import OmegaConfBaseException

    from kdface.config.compose import CONFIG, hydra_context, load
    from kdface.errors import UserError

    if arguments.cfg or arguments.info:
        with hydra_context(arguments.config_dirs) as hydra:
            load(hydra, arguments.overrides)  # a mistake is told in our words
            try:
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
            except OmegaConfBaseException as error:
                raise UserError(f"the configuration cannot be shown: {str(error).splitlines()[0]}") from None
        return 0
    if arguments.multirun:
        from kdface.commands.sweep import sweep

        return sweep(arguments)
    return _train_one(arguments)


def _train_one(arguments: Arguments) -> int:
    from kdface.commands.prepare import prepare_run, run_folder
    from kdface.commands.run import execute
    from kdface.config.assemble import assemble
    from kdface.config.compose import compose

    composed = compose(arguments.overrides, arguments.config_dirs)
    if not run_folder(composed).done:
        assemble(composed.tree)  # data that is not there is told of before a folder is made
    return execute(prepare_run(composed, arguments))
