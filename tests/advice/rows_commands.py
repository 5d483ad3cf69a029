"""Mistakes in the words of commands other than train."""

from __future__ import annotations

import functools
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

from kdface.cli import main
from tests.advice.fixtures import FOLDER, SMALL, both, broken, faces, text
from tests.advice.row import Row, copied
from tests.conftest import TINY, UNTESTED, only_run
from tests.fuzz.data_kinds import _landmarks

CROPS = "image_folder dataset.root=faces dataset.size=[32,32]"
_CROPS = CROPS.split()
SMALL_FACES = ["toy_faces", "dataset.people=2", "dataset.images_per_person=2"]


@functools.cache
def _graded() -> Path:
    """A run of one step whose head grades."""
    runs = Path(tempfile.mkdtemp(prefix="kdface-advice-"))
    assert main(["train", *UNTESTED, "head=magface", "trainer.max_steps=1", f"paths.runs={runs}"]) == 0
    return only_run(runs)


def _grading(folder: Path) -> None:
    shutil.copytree(_graded(), folder / "graded")
    faces(folder)


def _without(*names: str) -> Callable[[Path], None]:
    """The run, some of its files left out."""

    def set_up(folder: Path) -> None:
        copied(folder)
        for name in names:
            (folder / "run" / name).unlink()

    return set_up


def _sweep(folder: Path) -> None:
    """A sweep of nothing, as if it had just begun."""
    (folder / "runs" / "sweeps" / "one").mkdir(parents=True)
    (folder / "runs" / "sweeps" / "one" / "sweep.json").write_text("{}")


def _other_weights(folder: Path) -> None:
    from kdface.backbones import iresnet18

    torch.save(iresnet18(8, image_size=(32, 32)).state_dict(), folder / "w.pt")


def _card(folder: Path) -> None:
    """Weights of the smallest network, and a card that misspells an argument of it."""
    from kdface.backbones import iresnet_nano

    torch.save(iresnet_nano(8, image_size=(32, 32)).state_dict(), folder / "w.pt")
    node = "{_target_: kdface.backbones.iresnet_nano, embedding_size: 8, drpout: 0.0}"
    about = "preprocessing: {template: arcface, size: [32, 32], color: rgb, mean: 127.5, std: 127.5}"
    (folder / "w.pt.yaml").write_text(f"backbone: {node}\n{about}\n")


def _exported(folder: Path) -> None:
    copied(folder)
    assert main(["export", "run=run", "net.pt"]) == 0


_OVERRIDES = ", ".join(f'"{word}"' for word in (*TINY, "trainer.max_steps=1"))
TABLE = f"""title: t
seeds: [0]
baseline: plain
rows:
  - {{label: plain, overrides: [{_OVERRIDES}]}}
columns:
  - {{label: AUC, metric: toy_pairs/auc}}
"""
PUBLISHED = (
    TABLE.replace("label: plain,", "label: plain, published: {methd: M},").replace(
        "metric: toy_pairs/auc", "metric: toy_pairs/auc, published: {dataset: D}"
    )
    + "published: {}\n"
)
NUMBERS = "paper,table,method,dataset,value,spread,unit,provenance\nP,1,M,D,0.9,,fraction,paper\n"


def _measured(table: str) -> Callable[[Path], None]:
    """A table, and the run that it is about."""

    def set_up(folder: Path) -> None:
        assert main(["train", *TINY, "seed=0", "trainer.max_steps=1"]) == 0
        (folder / "t.yaml").write_text(table)

    return set_up


CLAIM = "- {paper: P, claim: a, results: t.csv, row: a, less: b, column: x, page: x.md, states: gain}\n"
VALUES = 'group,row,column,seeds,values\n,a,x,"0 1","0.9 0.8"\n,b,x,"0 1","0.5 0.6"\n'


def _claims(right: str, wrong: str) -> Callable[[Path], None]:
    return both(text("claims.yaml", CLAIM.replace(right, wrong)), text("t.csv", VALUES))


ROWS = [
    # data
    Row(("data", "verfy", *_CROPS), "invalid arguments", set_up=faces),
    Row(
        ("data", "verify", "image_folder", "dataset.root=faces", "dataset.size=[64,64]"),
        "are not aligned crops",
        set_up=faces,
    ),
    Row(
        ("data", "verify", *_CROPS),
        "are unusable",
        set_up=broken,
        fill={"...": " ".join(FOLDER[1:]), "DATASET": CROPS},
    ),
    Row(
        ("data", "verify", "raw_folder", "dataset.root=raw", "dataset.landmarks=points.csv", "dataset.size=[32,32]"),
        "implausible landmarks",
        set_up=both(_landmarks, lambda folder: _mirror(folder / "points.csv")),
        fill={"DATASET": "raw_folder dataset.root=raw dataset.landmarks=points.csv dataset.size=[32,32]"},
    ),
    Row(
        ("data", "verify", *_CROPS, "dataset.name=ms1mv2"),
        "does not match the published dataset",
        set_up=faces,
        fill={"NAME": "mine"},
    ),
    Row(("data", "verify", *_CROPS, "name=x"), "name is that of a run", set_up=faces),
    Row(("data", "card", *SMALL_FACES, "name=x"), "name is that of a run"),
    # weights
    Row(("weights", "lst"), "invalid arguments"),
    Row(("weights", "list", "arcface_r100"), "the catalogue has no entry"),
    Row(("weights", "inspect", "w.pt"), "drpout", set_up=_card),
    Row(
        ("weights", "check", "net.pt", "--dataset", *SMALL.split(), "tolerance=1"),
        "no published accuracy on toy_pairs",
        set_up=_exported,
        fill={"FRACTION": "0.9"},
    ),
    # evaluate, export, quality
    Row(("evaluate", "evaluation=toy_pairs", *SMALL.split()[1:]), "needs a run", set_up=copied, fill={"FOLDER": "run"}),
    Row(
        ("evaluate", "run=run", "optimizer.lr=0.5", *f"evaluation={SMALL}".split()), "cannot change how", set_up=copied
    ),
    Row(("evaluate", "run=run"), "no evaluation is selected", set_up=copied, fill={"CHOICE": SMALL}),
    Row(("evaluate", "run=run", "checkpoint=lst", *f"evaluation={SMALL}".split()), "has no checkpoint", set_up=copied),
    Row(("evaluate", "run=run", "checkpoint=best"), "has no best checkpoint", set_up=copied),
    Row(
        ("export", "run=run", "a.pt", "b.pt"),
        "b.pt is one word too many",
        set_up=copied,
        fill={"runs/NAME/seed0-1a2b3c4d": "run"},
    ),
    Row(("export", "run=run", "net.safetensor"), "unsupported format", set_up=copied),
    Row(("quality", "faces", "--all"), "unrecognized", set_up=faces),
    Row(
        ("quality", "faces"),
        "run= is missing",
        set_up=_grading,
        fill={"FOLDER": "faces", "runs/aikd/...": "graded"},
    ),
    Row(("report", "--all"), "kdface report"),
    Row(("report", "faces/p0/x.png"), "is not a folder", set_up=faces),
    Row(("table", "--all"), "kdface table"),
    Row(("table", "seed=0"), "TABLE.yaml is missing"),
    # runs
    Row(("reproduce", "run"), "is not finished", set_up=_without("DONE"), apply=False),  # trains it again: minutes
    Row(
        ("run",),
        "FOLDER is missing",
        set_up=copied,
    ),
    Row(
        ("train", *UNTESTED, "method=distillation", "teacher.run=run"),
        "the teacher run",
        set_up=_without("DONE"),
        build=True,
    ),
    Row(("export", "run=run", "a.pt"), "no such checkpoint", set_up=_without("checkpoints/last.ckpt")),
    # sync and sweep
    Row(("sync", "run"), "invalid arguments", set_up=copied),
    Row(("sync", "run", "logger=none"), "choose a logger to replay to", set_up=copied),
    Row(("sync", "run", "logger=csv"), "has no metrics.jsonl", set_up=_without("metrics.jsonl", "DONE")),
    Row(
        ("sync", "run", "logger=tensorboard"),
        "already exists",
        set_up=both(copied, lambda folder: (folder / "run" / "tensorboard").mkdir()),
    ),
    Row(
        ("sweep", "staus", "runs/sweeps/one"),
        "kdface sweep staus runs/sweeps/one: invalid arguments",
        set_up=_sweep,
        fill={"DIR": "runs/sweeps/one"},
        apply=False,
    ),  # of a sweep that has begun
    Row(("sweep", "status", "runs/sweeps/won"), "contains no sweep", set_up=_sweep, apply=False),
    Row(
        ("sweep", "retry", "runs/sweeps/one"),
        "points outside the folder of runs",
        set_up=both(_sweep, text("runs/sweeps/one/jobs/x.json", '{"run": "../x"}')),
    ),
    # configuration
    Row(("config", "diff", "run", "run", "-cd", "mine"), "unrecognized arguments: -cd mine", set_up=copied),
    Row(("train", "--cfg", "job", "--package", "nothing"), "the configuration has no such node", run=True),
    Row(
        ("train", "-cd", "mine", *UNTESTED, "experiment=x"),
        "there is no config group",
        set_up=text("mine/experiment/x.yaml", "# @package _global_\ndefaults:\n  - /bakbone: iresnet_nano\n"),
    ),
    Row(("train", *UNTESTED, "optimizer.lr=(0.1"), "cannot read the override", fill={"'KEY=\"VALUE, VALUE\"'": ""}),
    Row(
        ("train", *UNTESTED, "+callbacks.x={_target_:kdface.runs.Nothing}"), "outside the packages", apply=False
    ),  # of a package of one's own
    Row(("train", *UNTESTED, "head={_target_:kdface.heads.ArcFac}"), "exports no"),
    Row(
        ("train", *UNTESTED, "+evaluation.x={_target_:kdface.evaluation.fold_identification}"),
        "has no value",
        fill={"...": "{_target_:kdface.datasets.ToyFaces,people:6,images_per_person:6,size:[32,32]}"},
    ),
    Row(
        ("train", "-cd", "mine", *UNTESTED, "experiment=x"),
        "hydra.callbacks.x._target_ = 'os.system' is not allowed here",
        set_up=text(
            "mine/experiment/x.yaml", "# @package _global_\nhydra:\n  callbacks:\n    x: {_target_: os.system}\n"
        ),
        apply=False,
    ),  # of a file of the user's
    Row(
        ("train", *(word for word in UNTESTED if "backbone." not in word), "weights=file", "weights.file=w.pt"),
        "do not fit",
        set_up=_other_weights,
        build=True,
        apply=False,  # of another backbone, whose keys are others
    ),
    # tables, claims
    Row(("table", "tables/smal.yaml"), "there is no table definition", set_up=text("tables/small.yaml", TABLE)),
    Row(("table", "t.yaml"), "unknown key", set_up=text("t.yaml", TABLE.replace("seeds:", "seds:"))),
    Row(
        ("table", "t.yaml"), "is not a row", set_up=text("t.yaml", TABLE.replace("baseline: plain", "baseline: plian"))
    ),
    Row(("reproduce", "t.yaml:plian/AUC"), "no cell is called", set_up=text("t.yaml", TABLE), apply=False),  # trains
    Row(
        ("table", "t.yaml"),
        "has no metric 'toy_pairs/aucc'",
        set_up=_measured(TABLE.replace("toy_pairs/auc", "toy_pairs/aucc")),
    ),
    Row(
        ("table", "t.yaml"),
        "has no column 'methd'",
        set_up=both(text("t.yaml", PUBLISHED), text("published.csv", NUMBERS)),
    ),
    Row(
        ("python", "parts.reproduced_in_vain('t.yaml:plain/AUC')"),
        "its runs failed",
        set_up=both(text("t.yaml", TABLE), text("t.csv", VALUES.replace("b,x", "plain,AUC"))),
    ),
    Row(("reproduce", "t.yaml:plain/AUC"), "this cell has no run", set_up=text("t.yaml", TABLE)),
    Row(
        (
            "python",
            "reports.claims.findings(Path('claims.yaml'))",
        ),
        "has no column",
        set_up=_claims("column: x", "column: xs"),
    ),
    Row(
        (
            "python",
            "reports.claims.findings(Path('claims.yaml'))",
        ),
        "margn",
        set_up=_claims("states: gain", "states: gain, margn: 0"),
    ),
]


def _mirror(points: Path) -> None:
    """Left and right are swapped in the last row."""
    lines = points.read_text().splitlines()
    row = lines[-1].split(",")
    lines[-1] = ",".join([row[0], *row[3:5], *row[1:3], *row[5:7], *row[9:11], *row[7:9]])
    points.write_text("\n".join([*lines, ""]))
