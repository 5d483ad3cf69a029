"""Suggest replacements for unknown names: common aliases from the field, then similar names.

A suggestion is made only if the command composes and passes the checks with it.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kdface.config.paths import choices
from kdface.errors import UserError, alike, nearest

# Our key -> its names in Lightning, timm, the Hydra template and published code, by key or its last part.
# The first key that accepts the value is suggested. Entries with a value are complete overrides.
_MEANT: dict[str, str] = {
    "head.scale": "s logit_scale",
    "head.margin": "m",
    "optimizer": "optim opt",
    "optimizer.lr": "lr learning_rate base_lr init_lr",
    "optimizer.weight_decay": "weight_decay wd",
    "optimizer.momentum": "momentum",
    "scheduler": "lr_scheduler sched schedule",
    "loader.batch_size": "batch_size bs batch train_batch_size per_device_train_batch_size",
    "loader.num_workers": "num_workers workers n_workers dataloader_num_workers",
    "trainer.max_epochs": "epochs num_epochs n_epochs max_epoch num_train_epochs",
    "trainer.max_steps": "steps num_steps n_steps max_step max_iters iterations",
    "trainer.devices": "gpus num_gpus n_gpus nproc_per_node ngpus world_size",
    "trainer.num_nodes": "nodes nnodes num_machines",
    "trainer.gradient_clip_val": "clip_norm grad_clip gradient_clip clip_grad clip_grad_norm max_grad_norm",
    "trainer.accumulate_grad_batches": "accumulate grad_accum gradient_accumulation_steps accumulation_steps",
    "trainer.log_every_n_steps": "log_steps log_every log_interval print_freq logging_steps",
    "trainer.check_val_every_n_epoch": "evaluate_epochs eval_every eval_interval",
    "trainer.precision": "dtype",
    "trainer.precision=16-mixed": "fp16",
    "trainer.precision=bf16-mixed": "bf16 amp",
    "hardware.compile": "torch_compile",
    "ema.decay": "ema ema_decay model_ema model_ema_decay",
    "dataset": "data datamodule data_module train_dataset train_set",
    "dataset.root": "root",
    "dataset.size": "img_size image_size input_size crop_size",
    "paths.data": "data_dir data_root data_path root_dir datasets_dir",
    "paths.runs": "output_dir out_dir save_dir log_dir log_root work_dir default_root_dir runs results_dir",
    "name": "task_name exp_name run_name experiment_name",
    "seed": "random_seed manual_seed seed_everything",
    "method": "model algorithm",
    "backbone": "arch network model net encoder model_name student",
    "backbone.embedding_size": "embedding_dim emb_dim embed_dim feat_dim feature_dim num_features emb_size",
    "backbone.dropout": "drop_rate",
    "head": "loss criterion loss_fn classifier margin_loss",
    "augmentation": "aug augment augmentations transform transforms",
    "evaluation": "eval protocol protocols benchmark test_set testset",
    "teacher.run": "teacher_ckpt teacher_path teacher_checkpoint",
    "method.temperature": "T tau",
    "logger": "log loggers",
    "callbacks": "callback",
}


def _by_other_name(table: dict[str, str]) -> dict[str, list[str]]:
    """Other name -> our names, in order, from a table of our name -> its other names."""
    found: dict[str, list[str]] = {}
    for ours, names in table.items():
        for name in names.split():
            found.setdefault(name, []).append(ours)
    return found


ALIASES = _by_other_name(_MEANT)
# The order in which groups are searched for a key of the same name.
_GROUPS = ("trainer", "loader", "optimizer", "head", "backbone", "method", "dataset")
CLOSE = 0.75  # similarity from which one key may be a misspelling of another, at most 1
LIKELY = 0.1  # names less similar than the best one by more than this are not suggested
_LISTED = 40  # with more choices, only the nearest and the folders are listed
# Other launchers of Hydra, and their keys that ours share.
LAUNCHERS = _by_other_name({"process": "joblib basic local submitit_local rq", "slurm": "submitit_slurm submitit"})
LAUNCHER_KEYS = _by_other_name(
    {"minutes": "timeout_min", "cores": "cpus_per_task", "gpus": "gpus_per_node gpus_per_task", "memory_gb": "mem_gb"}
    | {"n_jobs": "array_parallelism"}
)
SWEEPERS = _by_other_name({"optuna": "ax nevergrad bayes", "basic": "grid"})
# Other names of choices -> ours.
_CHOICES = {
    **{"model_checkpoint": "best", "checkpoint": "best", "learning_rate_monitor": "lr_monitor"},
    **{"auto": "default", "cuda": "gpu", "true": "default", "step": "multistep", "step_lr": "multistep"},
    **{"cosine_annealing": "cosine", "fast_dev_run": "fdr", "rich": "rich_progress_bar", "kd": "logits"},
    **{"rkd": "relational", "sp": "similarity", "pkt": "probabilistic", "at": "attention", "vid": "variational"},
    **{"fitnets": "hint", "mnist_optuna": "optuna", "none": "constant", "null": "constant"},
    **dict.fromkeys(("plateau", "reduce_on_plateau", "reduce_lr_on_plateau", "reducelronplateau"), "multistep"),
}
# Groups that often take parts from Lightning, torch or the user.
_FOREIGN = ("optimizer", "scheduler", "callbacks", "logger", "backbone", "head")


def typed(value: Any) -> str:
    """A plain value as it is typed in an override."""
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{key}:{typed(item)}' for key, item in value.items())}}}"
    if isinstance(value, list):
        return f"[{','.join(map(typed, value))}]"
    return value if isinstance(value, str) and re.fullmatch(r"[\w./@+-]+", value) else json.dumps(value)


@dataclass(frozen=True)
class Trial:
    """How to try a command line.

    Attributes:
        keys: returns all keys and groups that it composes to. Raises `UserError`.
        problem: composes and checks it and returns its first error.
    """

    keys: Callable[[list[str]], list[str]]
    problem: Callable[[list[str]], UserError | None]


def candidates(key: str, value: str, keys: Iterable[str]) -> Iterator[str]:
    """Overrides that `key=value` may have meant, most likely first.

    Args:
        key: unknown dotted key or group.
        value: its value as typed.
        keys: known keys and groups.
    """
    of_hydra = key.startswith("hydra")
    known = [other for other in dict.fromkeys(keys) if other.startswith("hydra") == of_hydra]
    parent, _, leaf = key.rpartition(".")
    if key in known:  # given with a superfluous +
        yield f"{key}={value}"
    named = [ours for name in (key, leaf) for ours in ALIASES.get(name, ()) if ours.partition("=")[0] in known]
    yield from (ours if "=" in ours else f"{ours}={value}" for ours in named)
    there = [(ours, choice) for ours in named if "." not in ours for choice in choices(ours)]
    ratios = [difflib.SequenceMatcher(None, value, choice).ratio() for _, choice in there]
    if ratios and max(ratios) > 0.7:  # a group; its choice may also have another name
        yield "=".join(there[ratios.index(max(ratios))])
    siblings = [key for key in known if key.rpartition(".")[0] == parent]
    beside = _alike(leaf, siblings, 0.6)
    yield from (f"{parent}.{near}={value}" if parent else f"{near}={value}" for near in beside)
    same = [other for other in known if other.rpartition(".")[2] == leaf and other != key]
    yield from (f"{other}={value}" for other in sorted(same, key=_place))
    others = [other for other in known if other not in siblings] if beside else known
    yield from (f"{match}={value}" for match in alike(key, others, CLOSE)[:4])
    for near in _alike(leaf, known, 0.8):
        yield from (f"{other}={value}" for other in sorted(known, key=_place) if other.rpartition(".")[2] == near)


def meant(given: str, keys: Iterable[str], overrides: Sequence[str], trial: Trial) -> str:
    """The override that can replace a rejected one and composes; empty if there is none.

    Args:
        given: the rejected override of the command line `overrides`.
        keys: keys of the configuration without it.
        trial: tries the command line with each candidate.
    """
    key, _, value = given.lstrip("+~").partition("=")
    place = list(overrides).index(given)
    near = dict.fromkeys(candidates(key, value, keys))
    return next((word for word in near if works(word, [*overrides[:place], word, *overrides[place + 1 :]], trial)), "")


def works(word: str, overrides: Sequence[str], trial: Trial) -> bool:
    """Whether a command line composes, or fails because of another word than this one of it."""
    found = trial.problem(list(overrides))
    return found is None or (found.origin != f"command line: {word}" and _names_not(found, word))


def renamed(key: str, keys: Iterable[str]) -> str:
    """Our key for a common alias, regardless of the value; empty if it is not an alias."""
    named = [ours for name in (key, key.rpartition(".")[2]) for ours in ALIASES.get(name, ()) if "=" not in ours]
    return next((ours for ours in named if "." in ours and ours in set(keys)), "")


def or_another(group: str) -> str:
    """How to give a part that is not a choice of its group."""
    name = f"{group}.NAME" if group in ("callbacks", "logger") else group
    return f", or another one by {name}._target_=package.Class" if group in _FOREIGN else ""


def _names_not(error: UserError, word: str) -> bool:
    """Whether an error is about another word of the command line."""
    key = word.partition("=")[0]
    return not re.search(rf"(?<![\w.]){re.escape(key)}(?![\w])", error.problem)


def among(choice: str, listed: Sequence[str]) -> tuple[str, list[str]]:
    """(nearest choice, choices to list): those of a folder if one was named, otherwise all, or a few of many.

    Args:
        choice: the given choice, such as `maskinv/smal_hg`.
        listed: all choices of the group, with their folders.
    """
    if _CHOICES.get(choice.lower()) in listed:
        return _CHOICES[choice.lower()], list(listed)
    for folder in (choice, choice.rpartition("/")[0]):
        inside = [entry for entry in listed if folder and entry.startswith(f"{folder}/")]
        if inside:
            return nearest(choice, inside), inside
    close = alike(choice, listed)[:5]
    if not close:  # a misspelt folder, or a choice given without its folder
        parts = {part: choice for choice in reversed(listed) for part in choice.split("/")}
        close = [parts[part] for part in alike(choice, parts, 0.6)[:5]]
    if len(listed) <= _LISTED:
        return (close[0] if close else ""), list(listed)
    names = dict.fromkeys(entry.partition("/")[0] + "/..." * ("/" in entry) for entry in listed)
    return (close[0] if close else ""), list(dict.fromkeys([*close, *names]))


def _alike(leaf: str, keys: Iterable[str], cutoff: float) -> list[str]:
    return alike(leaf, (key.rpartition(".")[2] for key in keys), cutoff, LIKELY)[:3]


def _place(key: str) -> tuple[int, int, str]:
    group = key.partition(".")[0]
    return (key.count("."), _GROUPS.index(group) if group in _GROUPS else len(_GROUPS), key)
