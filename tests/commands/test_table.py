"""kdface table finds runs by what they are, and --run makes those that are missing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from kdface.commands import table
from kdface.commands.prepare import run_folder
from kdface.commands.session import checked_node
from kdface.config.compose import compose, hydra_context, load
from kdface.errors import UserError
from tests.conftest import TINY, teach_otherwise

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"


def _definition(folder: Path) -> Path:
    path = folder / "tiny.yaml"
    tree = {
        "title": "Tiny",
        "seeds": [0],
        "overrides": [*TINY, "trainer.max_steps=1", f"paths.runs={folder}/runs", "name=tiny"],
        "baseline": "cos",
        "rows": [
            {"label": "cos", "overrides": ["head=cosface"]},
            {"label": "arc", "overrides": ["head=arcface"]},
        ],
        "columns": [{"label": "accuracy", "metric": "toy_pairs/accuracy"}],
    }
    path.write_text(yaml.safe_dump(tree))
    return path


def test_a_table_is_made_from_runs_and_mended_after_a_loss(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = _definition(tmp_path)
    assert table.run([str(path)]) == 0
    text = (tmp_path / "tiny.md").read_text()
    assert text.count("not run") == 2 and "| arc | — |" in text
    assert table.run([str(path), "--run"]) == 0
    made = {suffix: (tmp_path / f"tiny{suffix}").read_bytes() for suffix in (".md", ".tex", ".csv", ".html")}
    assert b"not run" not in made[".md"]
    overrides = [*yaml.safe_load(path.read_text())["overrides"], "head=arcface", "seed=0"]
    lost = run_folder(compose(overrides)).root  # just the folder that `kdface train` makes
    assert lost.is_dir()
    others = {file: file.stat().st_mtime_ns for file in (tmp_path / "runs").rglob("DONE") if file.parent != lost}
    assert len(others) == 1
    shutil.rmtree(lost)
    capsys.readouterr()
    assert table.run([str(path)]) == 0  # numbers of a run that is not here are not replaced by blanks
    said = capsys.readouterr().out
    assert "| arc | — |" in said and "1 of its cells have numbers of runs that are not in" in said
    assert {suffix: (tmp_path / f"tiny{suffix}").read_bytes() for suffix in made} == made
    assert table.run([str(path), "-o", str(tmp_path / "elsewhere")]) == 0
    assert "| arc | — |" in (tmp_path / "elsewhere" / "tiny.md").read_text()
    capsys.readouterr()
    assert table.run([str(path), "--run"]) == 0
    assert "1 jobs, 0 already finished" in capsys.readouterr().out
    assert {file: file.stat().st_mtime_ns for file in others} == others
    assert {suffix: (tmp_path / f"tiny{suffix}").read_bytes() for suffix in made} == made


def test_a_run_that_was_edited_is_not_a_row(tmp_path: Path) -> None:
    path = _definition(tmp_path)
    assert table.run([str(path), "--run"]) == 0
    overrides = [*yaml.safe_load(path.read_text())["overrides"], "head=arcface", "seed=0"]
    config = run_folder(compose(overrides)).config
    config.write_text(config.read_text().replace("lr: 0.01", "lr: 0.5"))
    assert table.run([str(path), "-o", str(tmp_path / "new")]) == 0
    text = (tmp_path / "new" / "tiny.md").read_text()
    assert "| arc | — |" in text and "optimizer.lr was 0.01 and is 0.5" in text


def test_a_row_waits_for_the_run_of_its_teacher(tmp_path: Path) -> None:
    """The student stands first, and two jobs could start at once; the teacher's folder is not there until it ends."""
    path = _definition(tmp_path)
    tree = yaml.safe_load(path.read_text())
    student = ["name=student", "method=distillation", "teacher.run=${paths.runs}/teacher/seed0"]
    tree["rows"] = [{"label": "cos", "overrides": student}, {"label": "teacher", "overrides": ["name=teacher"]}]
    path.write_text(yaml.safe_dump(tree))
    assert table.run([str(path), "--run", "hydra.launcher.n_jobs=2"]) == 0
    assert "| teacher |" in (tmp_path / "tiny.md").read_text()
    assert len(list((tmp_path / "runs").glob("*/*/DONE"))) == 2
    (ledger,) = (tmp_path / "runs" / "sweeps").iterdir()
    assert ledger.name.startswith(f"{tmp_path.name}-tiny-")  # a table's own, so that stopping one stops no other
    teach_otherwise(next((tmp_path / "runs").glob("teacher/*")))
    with pytest.raises(UserError, match=r"student/seed0-.*: finished, but its teacher has changed"):
        table.run([str(path), "--run"])


def test_what_rows_need_is_trained_first(tmp_path: Path) -> None:
    """Two tables need a teacher that is a row of neither, told in another order: one run, before its students."""
    path = _definition(tmp_path)
    tree = yaml.safe_load(path.read_text())
    tree["rows"] = [{"label": "cos", "overrides": ["name=student", "method=distillation"]}]
    tree["rows"][0]["overrides"].append("teacher.run=${paths.runs}/teacher/seed0")
    tree["needs"] = [[*tree["overrides"], "name=teacher", "seed=0"]]
    path.write_text(yaml.safe_dump(tree))
    other = tmp_path / "other.yaml"
    other.write_text(yaml.safe_dump({**tree, "needs": [[*tree["overrides"], "seed=0", "name=teacher"]]}))
    assert table.run([str(path), str(other)]) == 0
    assert "name=teacher seed=0   # what rows need: not run" in (tmp_path / "tiny.md").read_text()
    assert table.run([str(path), str(other), "--run", "hydra.launcher.n_jobs=2"]) == 0
    assert [file.parent.parent.name for file in sorted((tmp_path / "runs").glob("*/*/DONE"))] == ["student", "teacher"]


def test_columns_may_be_measured_after_training(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """One on images of the network's size, one on others, which is refused and leaves its cell empty."""
    path = _definition(tmp_path)
    tree = yaml.safe_load(path.read_text())
    tree["rows"] = tree["rows"][:1]
    choices = tmp_path / "conf" / "evaluation"
    choices.mkdir(parents=True)
    for name, size in (("again", 32), ("larger", 48)):
        faces = {"people": 4, "images_per_person": 4, "split": "test", "size": [size, size]}
        test = {
            "_target_": "kdface.evaluation.random_verification",
            "dataset": {"_target_": "kdface.datasets.ToyFaces", **faces},
            "folds": 2,
            "pairs_per_fold": 8,
            "fars": [0.25],
        }
        (choices / f"{name}.yaml").write_text(yaml.safe_dump({name: test}))
        tree["columns"].append({"label": name, "metric": f"{name}/accuracy", "evaluation": name})
    path.write_text(yaml.safe_dump(tree))
    words = ["--run", "--config-dir", str(tmp_path / "conf"), "hydra.launcher.n_jobs=2"]
    assert table.run([str(path), *words]) == 1
    said, told = capfd.readouterr()
    assert "again" in said
    assert told.count("failed with exit code 2: kdface evaluate") == 1 and "do not see the same kind of image" in told
    text = (tmp_path / "tiny.md").read_text()
    (row,) = (line for line in text.splitlines() if line.startswith("| cos |"))
    assert row.count("—") == 1 and row.split("|")[4].strip() == "—"
    assert f"evaluation=larger --config-dir {tmp_path}/conf   # cos, seed 0: not evaluated" in text
    tree["rows"][0]["evaluation"] = "of_this_row"  # a row's own choice goes before that of its columns
    path.write_text(yaml.safe_dump(tree))
    table.run([str(path), "--config-dir", str(tmp_path / "conf"), "-o", str(tmp_path / "out")])
    text = (tmp_path / "out" / "tiny.md").read_text()
    assert "evaluation=of_this_row" in text and "evaluation=larger" not in text


@pytest.mark.parametrize(
    ("words", "count"),
    [
        ([], None),
        (["hydra.launcher.n_jobs=null"], None),
        (["++hydra.launcher.n_jobs=3"], 3),
        (["hydra/launcher=slurm", "hydra.launcher.n_jobs=64"], None),  # jobs of the cluster, not of this machine
    ],
)
def test_evaluations_at_a_time_are_those_of_this_machine(words: list[str], count: int | None) -> None:
    with hydra_context([]) as hydra:
        assert table.at_once(checked_node(load(hydra, words), "launcher")) == count


def test_a_launcher_that_is_not_valid_is_refused_before_training(tmp_path: Path) -> None:
    for word in ("hydra.launcher.n_jobs=0", "+hydra.launcher.n_job=3"):  # and is no override of a row
        with pytest.raises(UserError, match=r"hydra\.launcher"):
            table.run([str(_definition(tmp_path)), "--run", word])
    assert not (tmp_path / "runs").exists()


def test_several_tables_are_made_at_once(tmp_path: Path) -> None:
    path = _definition(tmp_path)
    other = tmp_path / "other.yaml"
    other.write_text(path.read_text())
    assert table.run([str(path), str(other)]) == 0
    assert (tmp_path / "tiny.md").read_bytes() == (tmp_path / "other.md").read_bytes()
    (tmp_path / "elsewhere").mkdir()
    namesake = _definition(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"two tables would be written to .*out/tiny"):
        table.run([str(path), str(namesake), "-o", str(tmp_path / "out")])


def test_overrides_of_the_command_line_come_last(tmp_path: Path) -> None:
    path = _definition(tmp_path)
    out = tmp_path / "elsewhere"
    assert table.run([str(path), "trainer.max_steps=3", "-o", str(out)]) == 0
    assert "trainer.max_steps=3 seed=0" in (out / "tiny.md").read_text()


def test_published_cells_are_in_the_tables(tmp_path: Path) -> None:
    """Some cells of each file of published numbers, as they stand there."""
    for name, cells in {
        "facenet/table3": ["87.9 ± 1.9", "51.9 ± 2.9"],
        "elasticface/table3": ["98.73", "93.28"],
        "aikd/misaligned": ["0.748", "0.737"],
        "ckd/identification": ["95.59", "63.49"],
        "spherefacer/ijb": ["32.53", "95.47", "94.51"],
    }.items():
        assert table.run([str(EXPERIMENTS / f"{name}.yaml"), "-o", str(tmp_path)]) == 0
        text = (tmp_path / f"{Path(name).stem}.md").read_text()
        for cell in cells:
            assert f"| {cell}" in text or f"<sub>{cell}" in text, (name, cell)


def test_a_definition_that_is_not_there_is_told(tmp_path: Path) -> None:
    _definition(tmp_path)
    with pytest.raises(UserError, match="no table definition") as caught:
        table.run([str(tmp_path / "tinny.yaml")])
    assert caught.value.nearest.endswith("tiny.yaml")
    with pytest.raises(UserError, match="--help"):
        table.run([])
