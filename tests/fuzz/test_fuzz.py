"""Damaged inputs end in one clear message or are accepted: never a traceback, a hang, exhausted memory, or other values
than those that a checksum vouches for.

KDFACE_FUZZ=N reads N inputs in the fast test too, KDFACE_FUZZ_SEED=S begins with another seed. One input again:
`python -m tests.fuzz.worker FOLDER KIND:SEED:1`.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fuzz.all_kinds import KINDS
from tests.fuzz.worker import SECONDS

_FAST = 100
_SILENT_SECONDS = 60 + 3 * SECONDS  # a worker that says nothing for so long hangs where no alarm reaches it
_ROOT = Path(__file__).resolve().parents[2]
_GOOD = ("refused", "same", "changed")


def read_all(folder: Path, jobs: list[str]) -> Iterator[dict[str, Any]]:
    """What became of each input; a worker that dies or hangs is one, and another goes on behind it."""
    while jobs:
        words = [sys.executable, "-m", "tests.fuzz.worker", str(folder), *jobs]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
        begun: dict[str, Any] = {}
        with (
            open(folder / "worker.log", "a") as log,
            subprocess.Popen(
                words, cwd=_ROOT, env=environment, stdout=subprocess.PIPE, stderr=log, bufsize=0
            ) as worker,
        ):
            assert worker.stdout is not None
            hangs = False
            while True:
                if not select.select([worker.stdout], [], [], _SILENT_SECONDS)[0]:
                    worker.kill()
                    hangs = True
                    break
                if not (line := worker.stdout.readline()):
                    break
                found = json.loads(line)
                if "outcome" in found:
                    yield found
                begun = {} if "outcome" in found else found
        if not begun:
            assert worker.returncode == 0, (folder / "worker.log").read_text()[-2000:]
            return
        yield {**begun, "outcome": "hang" if hangs else "died", "damage": "", "said": f"exit code {worker.returncode}"}
        place = [job.partition(":")[0] for job in jobs].index(begun["kind"])
        name, first, count = jobs[place].split(":")
        done = int(begun["seed"]) + 1 - int(first)
        jobs = [f"{name}:{begun['seed'] + 1}:{int(count) - done}", *jobs[place + 1 :]]


def told(found: list[dict[str, Any]]) -> str:
    """A line a kind with its counts, then what is wrong."""
    counts = Counter((record["kind"], record["outcome"]) for record in found)
    outcomes = sorted({outcome for _, outcome in counts}, key=lambda outcome: (outcome not in _GOOD, outcome))
    rows = [f"{'kind':<12} " + " ".join(f"{outcome:>9}" for outcome in outcomes)]
    rows += [
        f"{kind:<12} " + " ".join(f"{counts[kind, outcome] or '-':>9}" for outcome in outcomes)
        for kind in dict.fromkeys(record["kind"] for record in found)
    ]
    wrong = [record for record in found if record["outcome"] not in _GOOD]
    return "\n".join(
        [*rows, *(f"{record['kind']}:{record['seed']}:1 {record['damage']}\n{record['said']}" for record in wrong)]
    )


def fuzz(folder: Path, total: int, slow: bool) -> None:
    """Read about `total` inputs of every kind and require that each ends well."""
    seed = int(os.environ.get("KDFACE_FUZZ_SEED", 0))
    kinds = [kind for kind in KINDS.values() if slow or not kind.slow]
    shares = sum(kind.share for kind in kinds)
    jobs = [f"{kind.name}:{seed}:{max(1, round(total * kind.share / shares))}" for kind in kinds]
    found = list(read_all(folder, jobs))
    print(f"\n{told(found)}")
    assert all(record["outcome"] in _GOOD for record in found), told(found)
    for kind in kinds:  # what refuses nothing has not been damaged
        mine = [record["outcome"] for record in found if record["kind"] == kind.name]
        assert mine and (len(mine) < 30 or "refused" in mine), f"{kind.name}: nothing is refused"


def test_damaged_inputs(tmp_path: Path) -> None:
    fuzz(tmp_path, int(os.environ.get("KDFACE_FUZZ", _FAST)), slow=False)


@pytest.mark.slow
def test_many_damaged_inputs(tmp_path: Path) -> None:
    fuzz(tmp_path, 3600, slow=True)
