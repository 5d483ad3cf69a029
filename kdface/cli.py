"""The command line. Imports heavy modules only when a command needs them; reports user errors as one message."""

from __future__ import annotations

import atexit
import gc
import importlib
import os
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

# command -> help; `run(arguments) -> exit code` is in the module of its name in kdface.commands
COMMANDS: dict[str, str] = {
    "train": "train, evaluate and draw one run, or a sweep with -m",
    "evaluate": "evaluate a run:  run=PATH evaluation=CHOICE",
    "table": "a paper table from run folders:  experiments/PAPER/TABLE.yaml [--run]",
    "claims": "verdicts on the claims of papers, by rule, and a forest plot:  FILE.yaml",
    "report": "every run below a folder in one HTML file:  DIR [TABLE ...] [-o FILE.html]",
    "reproduce": "run RUN, or a table's CELL, again: identical, or what differs first",
    "sync": "replay runs to a logger:  RUN [RUN ...] logger=wandb",
    "export": "write the network that a run ships:  run=PATH [FILE]",
    "pack": "a run as one file to share:  RUN [-o FILE.zip|FOLDER]",
    "weights": "list | inspect FILE | check FILE: published weights, what they are",
    "quality": "grade each image of a folder:  FOLDER run=PATH",
    "embed": "embeddings of a folder of crops:  FOLDER run=PATH [-o FILE.npz]",
    "verify": "do two crops show one person?  A B run=PATH [far=1e-3]",
    "identify": "who is on each probe:  GALLERY PROBES run=PATH",
    "cluster": "group the crops of a folder by person:  FOLDER run=PATH far=1e-3",
    "data": "verify | card | preview a dataset; align photographs",
    "config": "why KEY: where a value was set;  diff RUN RUN",
    "list": "the choices of a config group, one line each",
    "doctor": "what is installed, the hardware profile, where data is looked for",
    "sweep": "status | retry | stop a sweep:  sweep status runs/sweeps/NAME",
    "run": "resume a prepared run folder (used by sweeps and ranks)",
    "completion": "the line that switches on completion in bash or zsh",
}

HELP = """\
kdface: face recognition with knowledge distillation

usage: kdface COMMAND [ARGUMENTS]

{commands}

Configuration is Hydra's: GROUP=CHOICE and KEY=VALUE override, --cfg job shows it, -m sweeps.
  kdface train experiment=demo
  kdface train method=spherefacer backbone=iresnet18 head.margin=1.4 seed=0
  kdface list                     the groups;  kdface list backbone  their choices
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Exit codes: 0 success, 2 user error, 1 anything else, 130 interrupted."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words and words[0] == "--version":
        from kdface import __version__

        print(f"kdface {__version__}")
        return 0
    if not words or words[0] in ("-h", "--help", "help"):
        rows = "\n".join(f"  {name:<11} {text}" for name, text in COMMANDS.items())
        print(HELP.format(commands=rows))
        return 0
    from kdface.config.paths import expand_home
    from kdface.errors import UserError, nearest, of_memory, of_system
    from kdface.stored import printable
    from kdface.terminal import folded_message

    words = [expand_home(word) for word in words]
    tell_of_env_file()
    try:
        if words[0] not in COMMANDS:
            near = nearest(words[0], COMMANDS)
            raise UserError(
                f"kdface has no command {words[0]!r}.",
                expected=f"one of {', '.join(COMMANDS)}",
                nearest=f"kdface {near}" if near else "",
                fix="kdface --help",
            )
        command = importlib.import_module(f"kdface.commands.{words[0]}")
        run: Callable[[list[str]], int] = command.run
        return run(words[1:])
    except UserError as error:
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            traceback.print_exc()
        print(folded_message(f"error: {printable(str(error))}"), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; rerun the same command to resume from the last checkpoint", file=sys.stderr)
        return 130
    except (MemoryError, RuntimeError) as error:
        if (told := of_memory(error)) is None:
            raise
        print(f"error: {told}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader of the pipe is gone
        sys.stderr.close()
        return 0
    except OSError as error:
        if error.errno is None:  # raised by a library, not by the system
            raise
        print(f"error: {of_system(error)}", file=sys.stderr)
        return 1


def tell_of_env_file() -> None:
    """Warn that .env is not read if it sets variables used by kdface or a logger: it could allow plug-ins."""
    file = Path(".env")
    if not file.is_file():
        return
    text = file.read_text(encoding="utf-8", errors="replace")
    names = re.findall(r"^\s*(?:export\s+)?((?:KDFACE|HYDRA|WANDB|MLFLOW)_\w+)=", text, re.MULTILINE)
    if unset := [name for name in names if name not in os.environ]:
        print(f"warning: .env is not read ({', '.join(unset)}); to use it: set -a; . ./.env; set +a", file=sys.stderr)


def console() -> None:
    """The entry point of the installed script. Prints warnings as one line, without code location."""
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
    os.environ["PYTHONSAFEPATH"] = "1"  # also for ranks and cluster workers: never run files from the current folder
    atexit.register(gc.freeze)  # otherwise the interpreter looks for garbage in all that was imported: a second or two
    sys.exit(main())
