"""Run folders, checkpoints, tables and the ledgers of sweeps."""

from __future__ import annotations

import copy
import functools
import gzip
import json
import re
from functools import partial
from pathlib import Path
from random import Random
from typing import Any
from unittest import mock

import numpy as np
import torch
import yaml

from kdface.errors import UserError
from kdface.runs.folder import RunFolder
from tests.conftest import TINY, UNTESTED, only_run
from tests.fuzz.damage import damaged_tree, spoil
from tests.fuzz.kinds import Kind, command, refusals, tried
from tests.reports.folders import evaluate_later, fail, make_run

_RUN = "runs/fuzz/seed0-*"
_OWN = tuple(
    f"{_RUN}/{name}"
    for name in ("*.json", "metrics.jsonl", "config.yaml", ".lock", "DONE", "output.log", "images.jsonl.gz")
)
# What would leak if a reader caught an error of ours that it should not have met: "KeyError: 'x'".
_LEAKED = re.compile(r"\b(?!UserError|DataError|OSError)[A-Z][A-Za-z]+(?:Error|Exception)\b")


@functools.cache
def _composed() -> dict[str, Any]:
    from kdface.config.compose import compose

    return compose([*TINY, "name=fuzz", "paths.runs=/fuzz/runs"]).tree


def _tree(folder: Path, seed: int) -> dict[str, Any]:
    tree = copy.deepcopy(_composed())
    return {**tree, "seed": seed, "paths": {**tree["paths"], "runs": str(folder / "runs")}}


def make_runs(folder: Path) -> None:
    """Two finished runs, the first with a checkpoint and a later evaluation."""
    from kdface.assembly.method import build_method
    from kdface.faces import Preprocessing
    from kdface.runs.checkpoint import CHECKPOINT_FORMAT, write_checkpoint

    rng = np.random.default_rng(0)
    same = np.tile(np.arange(8) < 4, 2)
    tree = _tree(folder, 0)
    for seed in (0, 1):
        arrays = {"toy_pairs": {"scores": rng.normal(size=16) + same, "same": same}}
        found = {"toy_pairs/accuracy": 0.75 + seed / 8, "toy_pairs/eer": 0.25, "toy_pairs/fmr100": None}
        root = make_run(folder / "runs", {**tree, "seed": seed}, found, arrays=arrays, log="trained\n")
        (root / "plan.json").write_text('{"total_steps": 30}')
        (root / ".lock").write_text("1234")
        with gzip.open(root / "images.jsonl.gz", "wb") as file:
            file.writelines(json.dumps([f"p/{k}.jpg", "p", "0" * 64]).encode() + b"\n" for k in range(4))
        if seed == 0:
            evaluate_later(root)
            torch.manual_seed(0)
            preprocessing = Preprocessing(size=(32, 32))
            method = build_method(tree, preprocessing, 6, load_network=None)
            about = {"format": CHECKPOINT_FORMAT, "config": tree, "preprocessing": preprocessing.to_dict()}
            about |= {"num_classes": 6, "people": [f"p{k}" for k in range(6)], "seed": 0, "step": 30, "batches": 30}
            write_checkpoint({"state_dict": method.state_dict(), "kdface": about}, RunFolder(root).last)


def _first(folder: Path) -> RunFolder:
    found = sorted(folder.glob(_RUN))
    return RunFolder(found[0])


def _read_report(folder: Path) -> object:
    """A bad run is told with its reason, and the other one is there whole."""
    from kdface.reports.html import page
    from kdface.reports.html.payload import payload

    runs = page.Reader(folder / "runs").runs()
    good = next(run for run in runs if "seed1-" in run.path)
    assert not good.problem and good.metrics["toy_pairs/accuracy"]["value"] == 0.875 and good.curves
    for run in runs:
        if run.problem:
            assert not _LEAKED.search(run.problem), f"the report shows {run.problem}"
            refusals.append(run.problem)
    told = json.dumps(payload(runs, "runs"), allow_nan=False)
    with mock.patch.object(page, "_library", lambda: ""):  # it is large and always the same
        page.report(runs, "runs", sweeps=[], images=False)
    return told


def _read_loaded(folder: Path) -> object:
    from kdface.assembly.load import load_run

    loaded = load_run(_first(folder).root)
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8))
    with torch.inference_mode():
        rows = loaded.method.embed(images, loaded.method.preprocessing).numpy()
    return [rows, loaded.step, loaded.method.preprocessing]


def _pixels() -> Any:
    return np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)


def _read_in_use(folder: Path) -> object:
    """As `kdface.load` opens a run, without its method."""
    import kdface

    recogniser = kdface.load(_first(folder).root, "cpu")
    return [recogniser.embed(_pixels()), recogniser.points]


def _make_exported(folder: Path) -> None:
    make_runs(folder)
    for suffix in (".pt", ".safetensors"):
        command("export", f"run={_first(folder).root}", str(folder / f"network{suffix}"))


def _read_exported(folder: Path) -> object:
    import kdface

    loaded = [partial(kdface.load, folder / f"network{suffix}", "cpu") for suffix in (".pt", ".safetensors")]
    return [tried(lambda network=network: network().embed(_pixels())) for network in loaded]  # type: ignore[misc]


def _spoil_exported(path: Path, rng: Random) -> str:
    """Another file, whole and of plain values, in its place."""
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    from kdface.backbones.weights import digest_of

    if path.suffix == ".pt":
        return _spoil_checkpoint(path, rng)
    with safe_open(path, "pt") as file:
        metadata = dict(file.metadata())
    about, told = damaged_tree(json.loads(metadata["kdface"]), rng)
    tensors, text = load_file(path), json.dumps(about)
    save_file(tensors, path, {**metadata, "kdface": text, "sha256": digest_of(tensors, text)})
    return told


def _spoil_checkpoint(path: Path, rng: Random) -> str:
    """Another checkpoint, whole and of plain values, in its place."""
    content = torch.load(path, weights_only=True)
    if rng.random() < 0.3:
        weights = content["state_dict"]
        key = rng.choice([name for name, value in weights.items() if value.is_floating_point()])
        old = weights[key]
        wrong = (None, "x", [old], old[..., None], old.half(), torch.full_like(old, torch.nan), old.to_sparse())
        weights[key] = rng.choice((*wrong, torch.zeros(1).expand(1 << 40), old.to(torch.complex64)))
        told = f"{key} is {type(weights[key]).__name__}"
    else:
        rest, told = damaged_tree({key: value for key, value in content.items() if key != "state_dict"}, rng)
        content = {"state_dict": content["state_dict"], **rest} if isinstance(rest, dict) else rest
    torch.save(content, path)
    return told


def _read_finished(folder: Path) -> object:
    """What commands say of a finished run."""
    from kdface.commands.reproduce import compare
    from kdface.reports.summary import summary

    first, second = (RunFolder(path) for path in sorted(folder.glob("runs/fuzz/*")))
    return [
        tried(lambda: command("run", str(first.root))),
        tried(lambda: command("config", "diff", str(first.root), str(second.root))),
        tried(lambda: summary(first)),
        tried(lambda: compare(first, second)),
        tried(lambda: first.scores_of("toy_pairs")),
        tried(lambda: first.scores_of("later")),
    ]


def _make_table(folder: Path) -> None:
    make_runs(folder)
    rows = [{"label": f"row {k}", "overrides": [f"x={k}"], "published": {"method": f"m{k}"}} for k in (0, 1)]
    definition = {
        "title": "Fuzz",
        "seeds": [0],
        "baseline": "row 0",
        "contrasts": [["row 1", "row 0"]],
        "rows": [*rows, {"label": "published", "published": {"method": "m2"}}],
        "columns": [
            {"label": "accuracy", "metric": "toy_pairs/accuracy", "published": {"dataset": "LFW"}},
            {"label": "mean", "metric": ["toy_pairs/accuracy", "toy_pairs/eer"], "digits": 3},
            {"label": "later", "metric": "later/accuracy", "evaluation": "later"},
        ],
        "published": {"file": "published.csv", "where": {"table": "III"}},
    }
    (folder / "table.yaml").write_text(yaml.safe_dump(definition, sort_keys=False))
    lines = ["paper,table,method,dataset,value,spread,unit,provenance"]
    lines += [f"Paper 2020,III,m{k},LFW,{90 + k}.5,{'0.1' if k else ''},percent,paper" for k in range(3)]
    (folder / "published.csv").write_text("\n".join(lines) + "\n")


def _read_table(folder: Path) -> object:
    """All forms of a table whose rows are the two runs; a bad run is a missing one with its reason."""
    from kdface.reports.tables import collect, read_definition, tabulate
    from kdface.reports.tables.render_csv import csv_text
    from kdface.reports.tables.render_html import html
    from kdface.reports.tables.render_latex import latex
    from kdface.reports.tables.render_markdown import markdown

    runs = sorted(folder.glob("runs/fuzz/*"))
    definition = read_definition(folder / "table.yaml")
    collected = collect(definition, lambda words: RunFolder(runs["x=1" in words]))
    refusals.extend(cell.why for cell in collected.missing if cell.why not in ("not run", "not evaluated"))
    assert not any(_LEAKED.search(cell.why) for cell in collected.missing)
    table = tabulate(definition, collected, folder)
    return [render(table) for render in (csv_text, html, latex, markdown)]


def _read_row(folder: Path) -> object:
    """As `_read_table`, where only a run can be bad: the other row is there whole."""
    try:
        told: Any = _read_table(folder)
    except UserError as error:
        raise AssertionError("a bad run stops the table") from error
    assert "row 1,accuracy,toy_pairs/accuracy,0.875," in told[0]
    return told


def _make_sweep(folder: Path) -> None:
    from kdface.config.fingerprint import fingerprint
    from kdface.sweeps.ledger import Entry, Ledger

    runs = folder / "runs"
    ledger = Ledger.of(runs, ["fuzz"], ["head.margin", "seed"])
    ledger.note_launcher(["hydra/launcher=process"])
    make_runs(folder)
    done = sorted(folder.glob("runs/fuzz/*"))
    tree = _tree(folder, 2)
    stopped = make_run(runs, tree, None, log="went on\n\x1b[2Jand on\n")
    assert fingerprint(tree)[:8] in stopped.name
    fail(RunFolder(runs / "fuzz" / "failed"), "the loss diverged")
    for number, run in enumerate((*done, stopped, runs / "fuzz" / "failed", runs / "fuzz" / "waiting")):
        point = {"head.margin": f"0.{number}", "seed": "0"}
        words = [f"{key}={value}" for key, value in point.items()]
        ledger.write(Entry(run.relative_to(runs).as_posix(), words, point, base="abcd1234"))


def _read_sweep(folder: Path) -> object:
    from kdface.reports.html.sweeps import read_sweeps
    from kdface.sweeps.ledger import Entry, Ledger

    (root,) = (folder / "runs" / "sweeps").iterdir()
    ledger = Ledger(root)
    tree = _tree(folder, 3)
    new = Entry("fuzz/new", [], {"head.margin": "0.9", "seed": "0"}, base="ffff0000")
    sweeps = read_sweeps(folder / "runs")
    refusals.extend(sweep["problem"] for sweep in sweeps if sweep["problem"])
    said = tried(lambda: command("sweep", "status", str(root)))
    assert isinstance(said, str)
    refusals.extend(line for line in said.splitlines() if "damaged" in line or "cannot be read" in line)
    written = [(root / name).read_text() for name in ("results.csv", "results.json") if (root / name).is_file()]
    return [
        json.loads(json.dumps(sweeps, allow_nan=False)),
        said,
        written,
        tried(lambda: ledger.changes(new, tree, ["head.margin", "seed"])),
        tried(lambda: ledger.launcher),
        tried(lambda: ledger.write(new)),
        tried(lambda: ledger.find("fuzz/failed")),
    ]


def _make_unfinished(folder: Path) -> None:
    """A run that was killed between its last step and the end."""
    command("train", *UNTESTED, "name=fuzz", f"paths.runs={folder}/runs")
    run = only_run(folder / "runs")
    for name in ("DONE", "results.json"):
        (run / name).unlink()


def _read_resumed(folder: Path) -> object:
    run = RunFolder(next(folder.glob(_RUN)))
    command("run", str(run.root))
    results = run.read_results()
    return [results["step"], results["metrics"], torch.load(run.last, weights_only=True)["state_dict"]]


def _spoil_unfinished(path: Path, rng: Random) -> str:
    return _spoil_checkpoint(path, rng) if path.suffix == ".ckpt" else spoil(path, rng)


KINDS = [
    Kind("report", make_runs, (*_OWN, f"{_RUN}/scores/*", f"{_RUN}/evaluations/*/results.json"), _read_report, share=4),
    Kind("finished", make_runs, (*_OWN, f"{_RUN}/evaluations/*/*.json"), _read_finished, share=3),
    Kind(
        "loaded",
        make_runs,
        tuple(
            f"{_RUN}/{name}" for name in ("checkpoints/*", "checkpoints/*.ckpt", "config.yaml", "origin.json", "DONE")
        ),
        _read_loaded,
        sealed=True,
        share=3,
    ),
    Kind("checkpoints", make_runs, (f"{_RUN}/checkpoints/*",), _read_loaded, spoil=_spoil_checkpoint, share=3),
    Kind("in use", make_runs, (f"{_RUN}/checkpoints/*", f"{_RUN}/*.yaml", f"{_RUN}/*.json"), _read_in_use, sealed=True),
    Kind("exported", _make_exported, ("network.pt", "network.safetensors"), _read_exported, sealed=True),
    Kind(
        "exporting",
        _make_exported,
        ("network.pt", "network.safetensors"),
        _read_exported,
        spoil=_spoil_exported,
        share=2,
    ),
    Kind("tables", _make_table, ("table.yaml", "published.csv"), _read_table, share=4),
    Kind("rows", _make_table, (*_OWN, f"{_RUN}/evaluations/*/results.json"), _read_row, share=3),
    Kind("sweeps", _make_sweep, ("runs/sweeps/*/*.json", "runs/sweeps/*/jobs/*"), _read_sweep, share=3),
    Kind("jobs", _make_sweep, ("runs/fuzz/*/*.json", "runs/fuzz/*/metrics.jsonl", "runs/fuzz/*/*.yaml"), _read_sweep),
    Kind(
        "resumed",
        _make_unfinished,
        (f"{_RUN}/checkpoints/*", f"{_RUN}/*.json", f"{_RUN}/*.jsonl", f"{_RUN}/*.yaml", f"{_RUN}/*.gz"),
        _read_resumed,
        spoil=_spoil_unfinished,
        slow=True,
    ),
]
