"""Keys that have another name now: told on the command line and in files, read in earlier runs, hashed as before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kdface.config.check import check_tree
from kdface.config.compose import compose
from kdface.config.fingerprint import fingerprint
from kdface.config.renamed import RENAMED, upgraded
from kdface.errors import UserError

# overrides -> the fingerprint that the same run had under the old names
NAMED_BEFORE = {
    (): "a4834becec70",
    ("experiment=demo",): "d523d018b430",
    ("experiment=maskinv/small_teacher",): "0d3615079ca7",
    ("experiment=spherefacer/vggface2_sfnet20_ga_softmax",): "14e49bd49043",
    ("experiment=spherefacer/ms1mv2_r100_sphereface",): "170d9626891d",
    ("experiment=facenet/pins90_nano",): "ca495deba2ac",
    (
        *("loader.batch_size=64", "trainer.accumulate_grad_batches=2", "trainer.gradient_clip_val=5"),
        *("trainer.num_nodes=2", "trainer.max_steps=7", "hardware.profile=plain", "hardware.compile=true"),
        *("ema.decay=0.9", "trainer.check_val_every_n_epoch=1", "validation=evaluation", "evaluate_untrained=true"),
        *("trainer.sync_batchnorm=true", "trainer.devices=2", "trainer.strategy=ddp", "trainer.precision=bf16-mixed"),
        "trainer.deterministic=false",
    ): "b3788cc9e731",
    (
        *("hardware.threads=1", "loader.num_workers=3", "trainer.log_every_n_steps=1"),
        *("resume.every_n_train_steps=3", "trainer.profiler=simple"),
    ): "a4834becec70",
}


@pytest.mark.parametrize(("words", "before"), NAMED_BEFORE.items(), ids=lambda words: str(words)[:40])
def test_runs_of_before_keep_their_fingerprint(words: tuple[str, ...], before: str) -> None:
    assert fingerprint(compose(list(words)).tree) == before


def _written_before(tree: dict[str, Any], **trainer: Any) -> dict[str, Any]:
    """The configuration as it was written under the old names."""
    names = {new: old.partition(".")[2] for old, new in RENAMED.items()}
    kept = ("max_epochs", "devices", "strategy", "precision", "deterministic", "sync_batchnorm")
    before: dict[str, Any] = {name: tree["trainer"][name] for name in kept}
    for new, old in names.items():
        node, _, key = new.rpartition(".")
        before[old] = (tree[node] if node else tree)[key]
    moved = {new.partition(".")[0] for new in RENAMED.values()} | {"validation"}
    rest = {key: value for key, value in tree.items() if key not in moved}
    return {**rest, "trainer": {**before, "max_steps": None, "evaluate_epochs": None, **trainer}}


@pytest.mark.parametrize(("every", "words"), [(None, []), (2, ["validation=evaluation"])])
def test_the_configuration_of_an_earlier_run_is_read_under_the_new_names(every: int | None, words: list[str]) -> None:
    now = compose([*words, f"trainer.check_val_every_n_epoch={every or 1}", "trainer.max_steps=-1"]).tree
    before = _written_before(now, evaluate_epochs=every)
    read = upgraded(before)
    check_tree(read)
    assert "batch_size" in before["trainer"] and fingerprint(before) == fingerprint(read) == fingerprint(now)
    later = {"timeout": now["loader"]["timeout"]}  # earlier runs did not have it
    assert {**read["loader"], **later} == now["loader"] and read["trainer"]["max_steps"] == -1
    assert (read.get("validation") or None) == now["validation"]


@pytest.mark.parametrize("old", [*RENAMED, "trainer.max_steps"])
def test_an_old_name_is_an_error_whose_fix_works(old: str, tmp_path: Path) -> None:
    value = {"trainer.profile": "plain", "trainer.ema_decay": "0.9", "trainer.max_steps": "null"}.get(old, "2")
    value = "true" if old in ("trainer.compile", "trainer.evaluate_untrained") else value
    for words in ([f"{old}={value}"], [f"+{old}={value}"]):
        with pytest.raises(UserError) as told:
            compose(words)
        assert words[0] in told.value.origin
        compose(told.value.fix.split())
    node, _, key = old.partition(".")
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment/mine.yaml").write_text(f"# @package _global_\n{node}:\n  {key}: {value}\n")
    with pytest.raises(UserError) as told:
        compose(["experiment=mine"], [tmp_path])
    assert "mine.yaml:3" in told.value.origin
    compose(told.value.fix.split())
