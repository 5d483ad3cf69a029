"""`trainer` takes what pl.Trainer takes, and refuses with the reason what would break a promise."""

from __future__ import annotations

import pytest
import yaml

from kdface.config.compose import compose
from kdface.errors import UserError

TAKEN = [
    "trainer.gradient_clip_algorithm=value",
    "trainer.val_check_interval=0.5",
    "trainer.limit_train_batches=0.5",
    "trainer.limit_val_batches=3",
    "trainer.num_sanity_val_steps=2",
    "trainer.overfit_batches=2",
    "trainer.fast_dev_run=true",
    "trainer.fast_dev_run=3",
    "trainer.profiler=simple",
    "trainer.detect_anomaly=true",
    "trainer.benchmark=true",
    "trainer.max_time=00:01:00:00",
    "trainer.max_time={minutes:30}",
    "trainer.accelerator=gpu",
    "trainer.devices=auto",
    "trainer.devices=-1",
    "trainer.devices=[0,2]",
    "trainer.strategy=ddp_find_unused_parameters_true",
    "trainer.strategy=fsdp",
    "trainer.precision=32",
    "trainer.precision=bf16",
    "trainer.deterministic=warn",
    "trainer.min_epochs=2",
    "trainer.inference_mode=false",
    "trainer=cpu",
    "trainer=gpu",
    "trainer=ddp",
    "trainer=ddp_sim",
    "trainer=mps",
]
REFUSED = {
    "trainer.logger=false": ["their own group", "logger=csv"],
    "trainer.callbacks=[]": ["their own group", "callbacks=best"],
    "trainer.enable_checkpointing=false": ["the checkpoint that it resumes from"],
    "trainer.use_distributed_sampler=true": ["splits each batch over the ranks"],
    "trainer.reload_dataloaders_every_n_epochs=1": ["continues in the middle of its loader"],
    "trainer.barebones=true": ["recording and saving"],
    "trainer.default_root_dir=x": ["under paths.runs"],
    "trainer.strategy=ddp_spawn": ["from a running process", "trainer.strategy=ddp"],
    "trainer.strategy=dpp": ["trainer.strategy=ddp"],
    "trainer.accelerator=gpuu": ["trainer.accelerator=gpu"],
    "trainer.profiler=simpel": ["trainer.profiler=simple"],
    "trainer.devices=many": ["is not a valid choice of devices"],
    "trainer.max_epochs=-1": ["a schedule needs a limit"],
    "trainer.precision=bf17": ["trainer.precision"],
    "trainer.limit_train_batch=2": ["trainer.limit_train_batches=2"],
    "trainer.gradient_clip_val=-1": ["greater than 0"],
}


@pytest.mark.parametrize("word", TAKEN)
def test_an_argument_of_the_trainer_is_taken(word: str) -> None:
    composed = compose([word])
    key, _, value = word.partition("=")
    if key == "trainer":
        assert composed.choices["trainer"] == value
    else:
        assert composed.tree["trainer"][key.partition(".")[2]] == yaml.safe_load(value.replace(":30", ": 30"))


def test_epochs_without_end_need_steps() -> None:
    trainer = compose(["trainer.max_epochs=-1", "trainer.max_steps=5"]).tree["trainer"]
    assert (trainer["max_epochs"], trainer["max_steps"]) == (-1, 5)


@pytest.mark.parametrize("word", REFUSED)
def test_what_would_break_a_promise_is_refused_with_the_reason(word: str) -> None:
    with pytest.raises(UserError) as told:
        compose([word])
    for text in REFUSED[word]:
        assert text in str(told.value)
    assert word in told.value.origin
