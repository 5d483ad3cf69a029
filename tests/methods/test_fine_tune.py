"""Weights to start from, parts that are frozen or slower: bits that do not move, rates by hand, one run resumed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from kdface.config.compose import compose
from kdface.config.fingerprint import fingerprint
from kdface.errors import UserError
from kdface.heads import CosFace
from kdface.methods import Method, Optimization, SphereFaceR, Views
from kdface.methods.schedules import constant
from tests.conftest import TINY, UNTESTED, Kdface, only_run
from tests.methods.test_distillation import SMALL, small_network
from tests.runs.test_resume import records, weights

SOURCE = [*UNTESTED, "trainer.max_steps=2", "paths.runs=source"]
# Other people, and fewer of them.
TUNED = [*UNTESTED, "dataset.people=4", "dataset.seed=1", "trainer.max_steps=5", "resume.every_n_train_steps=2"]
TUNED += ["freeze=[backbone.conv1,backbone.bn1,backbone.layer*.0.bn1]", "lr_scale={backbone:0.1}", "ema.decay=0.9"]
ALWAYS = "backbone.features.weight"  # fixed at 1 in this architecture
FROZEN = (ALWAYS, "backbone.conv1.", "backbone.bn1.", *(f"backbone.layer{layer}.0.bn1." for layer in (1, 2, 3, 4)))


def _method() -> Method:
    return SphereFaceR(small_network(), CosFace(8, 3), SMALL, Views("image"))


def _planned(method: Method, **options: dict[str, float]) -> Method:
    method.optimize_with(
        Optimization(
            optimizer=lambda groups: torch.optim.SGD(groups, 0.5),
            schedule=lambda optimizer, steps, epoch: constant(optimizer, steps),
            total_steps=1,
            steps_per_epoch=1,
            seed=0,
            lr_scale=options.get("lr_scale", {}),
        )
    )
    return method


def test_a_run_is_fine_tuned_on_other_people(kdface: Kdface, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = kdface("train", *SOURCE)
    assert said.code == 0, said.err
    source = only_run(tmp_path / "source")
    words = [*TUNED, "weights=run", "weights.run=source", "paths.runs=straight"]
    assert kdface("train", *words).code == 0
    straight = only_run(tmp_path / "straight")
    before, after = weights(source), weights(straight)
    assert before["head.weight"].shape[0] == 6 and after["head.weight"].shape[0] == 4
    for name, value in before.items():
        if name.startswith("backbone."):
            moved = value.numpy().tobytes() != after[name].numpy().tobytes()
            assert moved is not name.startswith(FROZEN), name

    # Stopped after step 3, it goes on from the checkpoint of step 2 to the same bytes, whatever is left of the source.
    words[-1] = "paths.runs=stopped"
    original = Method.on_train_batch_start

    def stop(self: Method, batch: object, batch_idx: int) -> None:
        if self.trainer.global_step == 3:
            raise RuntimeError("stopped")
        original(self, batch, batch_idx)  # type: ignore[arg-type]

    with monkeypatch.context() as stopping, pytest.raises(RuntimeError, match="stopped"):
        stopping.setattr(Method, "on_train_batch_start", stop)
        kdface("train", *words)
    stopped = only_run(tmp_path / "stopped")
    assert not (stopped / "DONE").exists()
    said = kdface("train", *words)
    assert said.code == 0, said.err
    found = weights(stopped)
    assert all(value.numpy().tobytes() == found[name].numpy().tobytes() for name, value in after.items())
    assert records(stopped) == records(straight)

    # The same from a file that the run was exported to.
    assert kdface("export", f"run={source}", "network.pt").code == 0
    said = kdface("train", *TUNED, "weights=file", "weights.file=network.pt", "paths.runs=file")
    assert said.code == 0, said.err
    found = weights(only_run(tmp_path / "file"))
    assert all(value.numpy().tobytes() == found[name].numpy().tobytes() for name, value in after.items())

    for more, told in (
        (["backbone.embedding_size=12"], "The weights do not fit"),
        (["backbone.blocks=[2,1,1,1]"], "missing (layer1.1."),
        (["method=aikd", "teacher.run=source", "freeze=null", "lr_scale=null"], "method.start"),
        (["weights.run=nowhere"], "nowhere"),
    ):
        said = kdface("train", *TUNED, "weights=run", "weights.run=source", *more)
        assert said.code == 2 and told in " ".join(said.err.split()), said.err


def test_frozen_statistics_stay_and_the_rest_is_trained() -> None:
    method = _method()
    method.freeze_parts(["backbone.layer1", "backbone.bn2.weight"])
    before = {name: value.clone() for name, value in method.state_dict().items()}
    optimizer = torch.optim.SGD(
        [parameter for parameter in method.parameters() if parameter.requires_grad], 0.1, weight_decay=0.1
    )
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    method.train()
    loss = method.head(method.backbone(images), torch.tensor([0, 1, 2, 0])).loss  # type: ignore[misc]
    torch.autograd.backward(loss)
    optimizer.step()
    for name, value in method.state_dict().items():
        still = name.startswith("backbone.layer1.") or name in ("backbone.bn2.weight", ALWAYS)
        assert torch.equal(value, before[name]) is still, name


def test_rates_by_the_longest_name() -> None:
    method = _planned(_method(), lr_scale={"backbone": 0.1, "backbone.layer4": 0.5, "backbone.*.bias": 2.0})
    plan = method.configure_optimizers()["optimizer"]
    rates = {id(parameter): group["lr"] for group in plan.param_groups for parameter in group["params"]}
    names = {name: value for name, value in method.named_parameters() if name != ALWAYS}
    assert len(rates) == len(names) == sum(len(group["params"]) for group in plan.param_groups)
    for name, value in names.items():
        scale = 1.0 if name.startswith("head") else 0.1
        scale = 0.5 if name.startswith("backbone.layer4") else scale
        if len("backbone.*.bias") >= len("backbone.layer4") and name.startswith("backbone") and name.endswith(".bias"):
            scale = 0.5 if name.startswith("backbone.layer4") else 2.0  # of equally long names the last in the alphabet
        assert rates[id(value)] == pytest.approx(0.5 * scale), name


def test_names_that_nothing_has() -> None:
    with pytest.raises(UserError, match=r"freeze names 'backbone\.layr1'") as told:
        _method().freeze_parts(["backbone.layr1"])
    assert told.value.nearest == "backbone.layer1"
    with pytest.raises(UserError, match="names 'head'"):
        _method().freeze_parts(["head"])
    frozen = _method()
    frozen.head = None
    with pytest.raises(UserError, match="leaves nothing to train"):
        frozen.freeze_parts(["backbone"])
    method = _method()
    method.freeze_parts(["backbone.layer1"])
    with pytest.raises(UserError, match=r"lr_scale names 'backbone\.layer1'"):
        _planned(method, lr_scale={"backbone.layer1": 0.1})
    assert isinstance(method.backbone, nn.Module)


def test_runs_that_start_from_nothing_keep_their_name() -> None:
    tree = compose(TINY).tree
    bare = {key: value for key, value in tree.items() if key not in ("weights", "freeze", "lr_scale")}
    assert fingerprint(bare) == fingerprint(tree) == fingerprint({**tree, "freeze": [], "lr_scale": {}})
    others: list[dict[str, object]] = [
        {"freeze": ["backbone.fc"]},
        {"lr_scale": {"backbone": 0.1}},
        {"weights": {"_target_": "x", "file": "y"}},
    ]
    assert len({fingerprint({**tree, **other}) for other in others} | {fingerprint(tree)}) == 4
