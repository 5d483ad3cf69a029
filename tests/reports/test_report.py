"""The report holds what run folders hold, and nothing in them can break out of the page."""

from __future__ import annotations

import fcntl
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kdface.errors import UserError
from kdface.reports.curves import FAR_GRID
from kdface.reports.html.page import Reader, inert, report
from kdface.reports.html.payload import bands, payload
from kdface.reports.html.runs import read_run, run_folders
from kdface.runs.folder import RunFolder
from kdface.stored import tail
from tests.reports.folders import config, make_run

ACCURACY = "lfw/accuracy"
SCORES = ([0.9, 0.8, 0.15, 0.7, 0.2, 0.1], [True, True, True, False, False, False])


def _payload(root: Path) -> dict[str, Any]:
    return payload([read_run(folder, root) for folder in run_folders(root)], "t")


def test_seeds_of_one_configuration_are_one_group(tmp_path: Path) -> None:
    for seed in (0, 1):
        make_run(tmp_path, config(tmp_path, seed=seed), {ACCURACY: 0.9})
    make_run(tmp_path, config(tmp_path, head__margin=0.3), {ACCURACY: 0.8})
    found = _payload(tmp_path)
    assert sorted(len(group["runs"]) for group in found["groups"]) == [1, 2]
    assert sorted(group["label"] for group in found["groups"]) == ["demo · margin=0.3", "demo · margin=0.5"]
    assert found["base"]["head.scale"] == 64.0
    assert all(set(group["config"]) == {"head.margin"} for group in found["groups"])


def test_a_configuration_is_named_after_its_training_first(tmp_path: Path) -> None:
    other = {"lfw": {"_target_": "kdface.evaluation.lfw_verification", "pairs": "/nowhere/data/view1.txt"}}
    make_run(tmp_path, config(tmp_path, head__margin=0.3), {ACCURACY: 0.9})
    make_run(tmp_path, config(tmp_path, head__margin=0.5, evaluation=other), {ACCURACY: 0.8})
    make_run(tmp_path, config(tmp_path, name="same"), {ACCURACY: 0.9})
    make_run(tmp_path, config(tmp_path, name="same", evaluation=other), {ACCURACY: 0.8})
    assert sorted(group["label"] for group in _payload(tmp_path)["groups"]) == [
        "demo · margin=0.3",
        "demo · margin=0.5",
        "same · lfw.pairs=pairs.txt",
        "same · lfw.pairs=view1.txt",
    ]


def test_where_data_and_runs_lie_is_not_told_and_is_no_difference(tmp_path: Path) -> None:
    for place in ("here", "there"):
        runs = tmp_path / place
        tree = config(runs, teacher={"_target_": "kdface.teachers.from_run", "run": f"{runs}/teacher"})
        origin = make_run(runs, tree, {ACCURACY: 0.9}) / "origin.json"
        origin.write_text(json.dumps({"command": ["kdface", "train", f"teacher.run={runs}/teacher"]}))
    found = _payload(tmp_path)
    assert len(found["groups"]) == 1
    assert found["base"]["teacher.run"] == "<runs>/teacher"
    assert found["base"]["evaluation.lfw.pairs"] == "<data>/pairs.txt"
    assert {run["command"] for run in found["runs"]} == {"kdface train teacher.run=<runs>/teacher"}
    assert str(tmp_path) not in json.dumps(found) and "/nowhere" not in json.dumps(found)


def test_bands_are_mean_lowest_and_highest_seed() -> None:
    x = np.array([0.0, 10.0, 20.0])
    found = bands([(x, np.array([1.0, 2.0, 3.0])), (x[:2], np.array([3.0, 2.0]))])
    assert found == {"x": [0, 10, 20], "y": [2, 2, 3], "low": [1, 2, 3], "high": [3, 2, 3]}


def test_long_curves_are_averaged_within_ranges_of_steps() -> None:
    x = np.arange(1000.0)
    found = bands([(x, 2 * x)], points=10)
    assert len(found["x"]) == 10
    # The range limits lie at 99.9, 199.8, ...: the first range holds steps 0 to 99.
    assert found["x"][0] == 49.5 and found["y"][0] == 99.0
    assert "low" not in found


def test_roc_is_the_exact_one_on_the_grid(tmp_path: Path) -> None:
    make_run(tmp_path, config(tmp_path), {ACCURACY: 0.9}, scores=SCORES)
    (folder,) = run_folders(tmp_path)
    tar = read_run(folder, tmp_path).curves["roc"]["lfw"]
    scores, same = np.array(SCORES[0]), np.array(SCORES[1])
    for far, found in zip(FAR_GRID, tar, strict=True):
        if far < 1 / 3 - 1e-9:
            assert np.isnan(found)  # three impostor pairs cannot show it
            continue
        thresholds = [t for t in scores if (scores[~same] >= t).mean() <= far + 1e-9]
        assert found == (scores[same] >= min(thresholds)).mean()


def test_det_leaves_out_what_its_axes_cannot_show(tmp_path: Path) -> None:
    make_run(tmp_path, config(tmp_path), {ACCURACY: 0.9}, scores=SCORES)
    band = _payload(tmp_path)["curves"]["lfw"]["0"]
    # At FAR 1/3 two of three genuine pairs are accepted: FNMR 1/3, normal deviate -0.43073. In the end, all are.
    assert band["fnmr_tar"][0] == pytest.approx(-0.43073, abs=1e-4)
    assert band["fnmr_tar"][-1] is None


def test_unfinished_runs_show_the_end_of_their_log(tmp_path: Path) -> None:
    log = "".join(f"line {k}\n" for k in range(500)) + "working 50%\rworking 100%\nRuntimeError: no\n"
    root = make_run(tmp_path, config(tmp_path), None, log=log)
    (run,) = _payload(tmp_path)["runs"]
    assert run["status"] == "stopped" and run["step"] == 30
    assert run["log"].splitlines()[-1] == "RuntimeError: no"
    assert len(run["log"].splitlines()) == 40
    with open(root / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert _payload(tmp_path)["runs"][0]["status"] == "running"


def test_the_log_of_a_finished_run_is_not_carried(tmp_path: Path) -> None:
    make_run(tmp_path, config(tmp_path), {ACCURACY: 0.9}, log="secret")
    assert _payload(tmp_path)["runs"][0]["log"] == ""


def test_a_tail_of_a_small_or_missing_file(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"a\n\xff\n")
    assert tail(tmp_path / "log", 5) == ["a", "\N{REPLACEMENT CHARACTER}"]
    assert tail(tmp_path / "none", 5) == []


@pytest.mark.parametrize("file", ["results.json", "origin.json", "data.json", "metrics.jsonl", "scores/lfw.npz"])
def test_a_broken_file_is_told_and_hides_nothing_else(tmp_path: Path, file: str) -> None:
    root = make_run(tmp_path, config(tmp_path), {ACCURACY: 0.9}, scores=SCORES)
    make_run(tmp_path, config(tmp_path, seed=1), {ACCURACY: 0.9}, scores=SCORES)
    (root / file).write_text('{"kind": "train"}\n' if file == "metrics.jsonl" else "{")
    runs = {run["seed"]: run for run in _payload(tmp_path)["runs"]}
    assert file.partition("/")[2] in runs[0]["problem"] and runs[0]["problem"]
    assert runs[1]["problem"] == ""


@pytest.mark.parametrize(
    ("file", "text", "told"),
    [
        ("config.yaml", "trainer: [", "config.yaml cannot be read: while parsing"),
        ("config.yaml", "just words", "config.yaml cannot be read: "),
        ("config.yaml", "name: demo", "config.yaml cannot be read: seed: field required"),
        ("results.json", '{"metrics": {"lfw/accuracy": 0.9}}', "results.json cannot be read: metrics.lfw/accuracy: "),
        ("environment.json", '{"git": "abc"}', "environment.json cannot be read: git"),
    ],
)
def test_a_run_that_cannot_be_read_is_told_and_hides_nothing_else(
    tmp_path: Path, file: str, text: str, told: str
) -> None:
    broken = make_run(tmp_path, config(tmp_path), {ACCURACY: 0.9})
    make_run(tmp_path, config(tmp_path, seed=1), {ACCURACY: 0.8})
    unfinished = make_run(tmp_path, config(tmp_path, seed=2), None, log="RuntimeError: no\n")
    for root in (broken, unfinished):
        (root / file).write_text(text)
    found = _payload(tmp_path)
    stub, healthy, stopped = found["runs"]
    assert told in stub["problem"] and told in stopped["problem"]
    unknown = file == "config.yaml"  # of what its configuration tells, the rest is still shown
    assert (stub["path"], stub["status"]) == (f"demo/{broken.name}", "done")
    assert (stub["group"] is None) == (stopped["group"] is None) == unknown
    assert (stopped["status"], stopped["log"]) == ("stopped", "RuntimeError: no")
    assert healthy["problem"] == "" and healthy["group"] == 0
    assert [group["runs"] for group in found["groups"]] == [[1] if unknown else [0, 1, 2]] and found["ranked"] == [0]


def test_a_report_of_nothing_that_can_be_read(tmp_path: Path) -> None:
    (make_run(tmp_path, config(tmp_path), {ACCURACY: 0.9}) / "config.yaml").write_text("[")
    found = _payload(tmp_path)
    assert found["groups"] == [] and found["runs"][0]["problem"]
    assert "config.yaml cannot be read: " in _page(tmp_path, "t")


HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(1)>&lt;{{library}}\u2028"


class _Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.scripts: list[dict[str, str | None]] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag == "script":
            self.scripts.append(dict(attrs))


def _page(root: Path, title: str) -> str:
    pytest.importorskip("plotly", reason='the charting library: pip install "kdface[report]"')
    return report(Reader(root).runs(), title)


def test_nothing_from_a_run_folder_breaks_out(tmp_path: Path) -> None:
    name = HOSTILE.replace("/", "|")
    make_run(
        tmp_path,
        config(tmp_path, name=name, method___target_=HOSTILE),
        {HOSTILE: 0.5},
        data=HOSTILE,
    )
    make_run(tmp_path, config(tmp_path, name=HOSTILE.replace("/", "|"), seed=7), None, log=HOSTILE)
    plain = tmp_path / "plain"
    make_run(plain, config(plain), {ACCURACY: 0.5})
    make_run(plain, config(plain, name="other", seed=7), None, log="stopped")
    page, harmless = _page(tmp_path, HOSTILE), _page(plain, "plain")
    found, expected = _Elements(), _Elements()
    found.feed(page)
    expected.feed(harmless)
    assert found.scripts == expected.scripts
    assert found.tags == expected.tags
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    assert data is not None
    kept = json.loads(data[1])
    assert kept["title"] == HOSTILE
    assert any(run["log"].startswith("</script>") for run in kept["runs"])


def test_inert_json_is_the_same_json() -> None:
    assert json.loads(inert(json.dumps(HOSTILE))) == HOSTILE
    assert not set("<>&") & set(inert(json.dumps(HOSTILE)))


def test_the_page_needs_no_network(tmp_path: Path) -> None:
    make_run(tmp_path, config(tmp_path), {ACCURACY: 0.5})
    page = _page(tmp_path, "t")
    page = re.sub(r'<script type="text/plain" id="library">.*?</script>', "", page, flags=re.S)
    assert not re.findall(r'(?:src|href)\s*=\s*"(?!#)[^"]*"', page)
    addresses = set(re.findall(r"https?://[^\s\"'<]+", page))
    assert addresses == {"http://www.w3.org/2000/svg"}  # a name, not an address that is fetched
    assert "{{" not in page.split("<script>")[0].split('id="data"')[0]


def test_the_scripts_set_text_only() -> None:
    from importlib import resources

    for file in (resources.files("kdface.reports.html") / "assets").iterdir():
        if file.name.endswith(".js"):
            assert not re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", file.read_text())


def test_only_changed_runs_are_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from kdface.reports.html import page

    first = make_run(tmp_path, config(tmp_path), {ACCURACY: 0.5})
    make_run(tmp_path, config(tmp_path, seed=1), None)
    reader = Reader(tmp_path)
    reader.runs()
    state = reader.state()
    assert reader.state() == state
    asked: list[Path] = []

    def noted(folder: RunFolder, root: Path) -> Any:
        asked.append(folder.root)
        return read_run(folder, root)

    monkeypatch.setattr(page, "read_run", noted)
    with open(first / "metrics.jsonl", "a") as file:
        file.write(json.dumps({"kind": "train", "step": 99, "loss": 0.1, "time": 9.0}) + "\n")
    assert reader.state() != state
    reader.runs()
    assert asked == [first]


def test_folders_without_runs_are_told(tmp_path: Path) -> None:
    for empty in (tmp_path, tmp_path / "none"):
        assert Reader(empty).state() is None
        with pytest.raises(UserError, match="no run under"):
            Reader(empty).runs()
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="not a folder"):
        Reader(tmp_path / "file").runs()


def test_cmc_and_edc_with_bands_over_seeds(tmp_path: Path) -> None:
    for seed, level in ((0, 0.25), (1, 0.75)):
        arrays = {
            "who": {"cmc": np.array([level, 1.0])},
            # Steps at 0, 10 and 20 % of the pairs, dropped in groups.
            "grade": {"discarded": np.array([0.0, 0.1, 0.2]), "errors": level * np.array([1.0, 0.5, 0.25])},
        }
        make_run(tmp_path, config(tmp_path, seed=seed), {ACCURACY: 0.9}, arrays=arrays)
    found = _payload(tmp_path)
    assert found["cmc"]["who"]["0"] == {"y": [0.5, 1.0], "low": [0.25, 1.0], "high": [0.75, 1.0]}
    band = dict(zip(found["discard"], found["edc"]["grade"]["0"]["y"], strict=True))
    assert [band[share] for share in (0.0, 0.0975, 0.1, 0.1975, 0.2, 0.3)] == [0.5, 0.5, 0.25, 0.25, 0.125, 0.125]
    assert found["curves"] == {}


def _evaluated(root: Path, name: str, checkpoint: str = "last.ckpt", **more: Any) -> None:
    folder = root / "evaluations" / name
    (folder / "scores").mkdir(parents=True)
    np.savez(folder / "scores" / f"{name}.npz", cmc=np.array([0.5]))
    later = {"metrics": {f"{name}/rank1": {"value": 0.5}}, "checkpoint": f"/x/{checkpoint}", "evaluation": {name: {}}}
    (folder / "results.json").write_text(json.dumps({**later, **more}))


def test_later_evaluations_of_the_last_checkpoint_count(tmp_path: Path) -> None:
    root = make_run(tmp_path, config(tmp_path), {ACCURACY: 0.9}, scores=SCORES)
    _evaluated(root, "ijb", step=30)
    _evaluated(root, "early", "step10.ckpt", step=30)
    _evaluated(root, "lfw", step=30)  # which training has tested itself
    _evaluated(root, "before", step=20)  # of last.ckpt, before training went on to step 30
    (run,) = _payload(tmp_path)["runs"]
    assert set(run["metrics"]) == {ACCURACY, "ijb/rank1"}
    assert set(_payload(tmp_path)["cmc"]) == {"ijb"}


def test_an_unfinished_run_has_no_step_that_later_evaluations_must_have(tmp_path: Path) -> None:
    root = make_run(tmp_path, config(tmp_path), None)
    _evaluated(root, "ijb", step=20)
    (run,) = _payload(tmp_path)["runs"]
    assert set(run["metrics"]) == {"ijb/rank1"}
    assert [(source["file"], source["step"]) for source in run["sources"]] == [("evaluations/ijb/results.json", 20)]


def test_every_metric_has_its_file_and_what_it_was_computed_with(tmp_path: Path) -> None:
    root = make_run(tmp_path, config(tmp_path), {ACCURACY: 0.9, "toy/eer": 0.1})
    made = {
        "packages": {"torch": "3.0", "hydra-core": "1.3"},
        "processor": "two",
        "gpu": None,
        "profile": {"precision": "32-true", "name": "cpu"},
        "git": {"commit": "def456", "diff": "+ a line"},
    }
    _evaluated(root, "ijb", step=30, environment=made)
    _evaluated(root, "plain", step=30)  # of before, when no environment was written
    (run,) = _payload(tmp_path)["runs"]
    assert {source["file"]: source["tests"] for source in run["sources"]} == {
        "results.json": ["lfw", "toy"],
        "evaluations/ijb/results.json": ["ijb"],
        "evaluations/plain/results.json": ["plain"],
    }
    assert [source["step"] for source in run["sources"]] == [30, 30, 30]
    assert run["environment"]["commit"] == "abc123"
    told = {source["file"]: source["environment"] for source in run["sources"]}  # the newest one first
    assert told["results.json"] == told["evaluations/plain/results.json"] == {}
    assert told["evaluations/ijb/results.json"] == {
        "commit": "def456",
        "changed": True,
        "machine": "two",
        "precision": "32-true",
        "packages": {"torch": "3.0"},
    }
