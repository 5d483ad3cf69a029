"""What a name that is not there was meant to be: the field's usual names for ours, then names that are alike.

A suggestion is made only if the command composes and checks with it, so it is a key, of the kind of its value.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence

from kdface.config.paths import choices
from kdface.errors import UserError, alike, nearest

# Names of Lightning, timm, the Hydra template and published code -> ours, by key or by the key's last part.
# Of several the first that takes the value is suggested. Those with a value are whole overrides.
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
ALIASES: dict[str, list[str]] = {}
for _ours, _names in _MEANT.items():
    for _name in _names.split():
        ALIASES.setdefault(_name, []).append(_ours)
# The order in which groups are searched for a key of the same name.
_GROUPS = ("trainer", "loader", "optimizer", "head", "backbone", "method", "dataset")
CLOSE = 0.75  # how alike two keys are, of 1, if one may be the other misspelt
LIKELY = 0.1  # a name that is less alike than another by more than this was not meant, whatever its value
_LISTED = 40  # of more choices the nearest and the folders are listed
# Hydra's launchers by their names of elsewhere, and the keys of theirs that ours have too.
LAUNCHERS = {
    "joblib": "process",
    "basic": "process",
    "local": "process",
    "submitit_local": "process",
    "submitit_slurm": "slurm",
    "submitit": "slurm",
    "rq": "process",
}
LAUNCHER_KEYS = {
    "timeout_min": "minutes",
    "cpus_per_task": "cores",
    "gpus_per_node": "gpus",
    "gpus_per_task": "gpus",
    "mem_gb": "memory_gb",
    "array_parallelism": "n_jobs",
}
# Choices by their names of elsewhere.
_CHOICES = {
    **{"model_checkpoint": "best", "checkpoint": "best", "learning_rate_monitor": "lr_monitor"},
    **{"auto": "default", "cuda": "gpu", "true": "default", "step": "multistep", "step_lr": "multistep"},
    **{"cosine_annealing": "cosine", "fast_dev_run": "fdr", "rich": "rich_progress_bar", "kd": "logits"},
    **{"rkd": "relational", "sp": "similarity", "pkt": "probabilistic", "at": "attention", "vid": "variational"},
    **{"fitnets": "hint", "mnist_optuna": "optuna"},
}
# Groups whose parts are Lightning's, torch's or the user's own as often as ours.
_FOREIGN = ("optimizer", "scheduler", "callbacks", "logger", "backbone", "head")
SWEEPERS = {"ax": "optuna", "nevergrad": "optuna", "bayes": "optuna", "grid": "basic"}


def candidates(key: str, value: str, keys: Iterable[str]) -> Iterator[str]:
    """Overrides that may have been meant by `key=value`, the likeliest first.

    Args:
        key: a dotted key or group that is not there.
        value: as it was typed.
        keys: what is there, groups included.
    """
    of_hydra = key.startswith("hydra")
    known = [other for other in dict.fromkeys(keys) if other.startswith("hydra") == of_hydra]
    parent, _, leaf = key.rpartition(".")
    if key in known:  # given with a + that it must not have
        yield f"{key}={value}"
    named = [ours for name in (key, leaf) for ours in ALIASES.get(name, ()) if ours.partition("=")[0] in known]
    yield from (ours if "=" in ours else f"{ours}={value}" for ours in named)
    there = [(ours, choice) for ours in named if "." not in ours for choice in choices(ours)]
    ratios = [difflib.SequenceMatcher(None, value, choice).ratio() for _, choice in there]
    if ratios and max(ratios) > 0.7:  # a group, whose choice has another name too
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


def meant(
    given: str, keys: Iterable[str], overrides: Sequence[str], problem: Callable[[list[str]], UserError | None]
) -> str:
    """The override that takes the place of `given` and composes; empty if there is none.

    Args:
        given: the word that was refused.
        keys: what there is without it.
        overrides: the command line.
        problem: composes and checks a command line, and gives its first mistake.
    """
    key, _, value = given.lstrip("+~").partition("=")
    place = list(overrides).index(given)
    for word in dict.fromkeys(candidates(key, value, keys)):
        found = problem([*overrides[:place], word, *overrides[place + 1 :]])
        if found is None or (found.origin != f"command line: {word}" and _names_not(found, word)):
            return word
    return ""


def renamed(key: str, keys: Iterable[str]) -> str:
    """What the field's name for a key is here, whatever its value; empty if it is no such name."""
    named = [ours for name in (key, key.rpartition(".")[2]) for ours in ALIASES.get(name, ()) if "=" not in ours]
    return next((ours for ours in named if "." in ours and ours in set(keys)), "")


def close_to(key: str, keys: Iterable[str]) -> str:
    """The key that is most like a misspelt one, whatever its value; empty if none is."""
    return next(iter(alike(key, keys, CLOSE)), "")


def or_another(group: str) -> str:
    """How a part that is no choice of its group is given."""
    name = f"{group}.NAME" if group in ("callbacks", "logger") else group
    return f", or another one by {name}._target_=package.Class" if group in _FOREIGN else ""


def _names_not(error: UserError, word: str) -> bool:
    """A mistake elsewhere on the command line."""
    key = word.partition("=")[0]
    return not re.search(rf"(?<![\w.]){re.escape(key)}(?![\w])", error.problem)


def among(choice: str, listed: Sequence[str]) -> tuple[str, list[str]]:
    """(nearest of a group's choices, those to list): a folder's own if a folder was named, else all, or a few of many.

    Args:
        choice: what was given: `maskinv/smal_hg`.
        listed: all of the group, with their folders.
    """
    if _CHOICES.get(choice.lower()) in listed:
        return _CHOICES[choice.lower()], list(listed)
    for folder in (choice, choice.rpartition("/")[0]):
        inside = [entry for entry in listed if folder and entry.startswith(f"{folder}/")]
        if inside:
            return nearest(choice, inside), inside
    close = alike(choice, listed)[:5]
    if not close:  # a folder misspelt, or a choice of a folder given without it
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
