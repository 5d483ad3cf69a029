"""kdface train -m: Hydra's sweepers over our launcher. Hydra runs once, here; every job is a process of its own.

All jobs are composed and checked before the first one starts. Jobs are told apart by their run folders, so the same
or an overlapping sweep runs only what is missing and goes on with what was interrupted.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import Queue

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.hydra import Hydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus

from kdface.commands.arguments import Arguments
from kdface.commands.prepare import prepare_run
from kdface.config.compose import CONFIG, compose_in, hydra_context, load
from kdface.errors import UserError
from kdface.hardware import cores
from kdface.progress import clock
from kdface.reports.summary import shown
from kdface.runs.folder import RunFolder

_LAUNCHER = "hydra_plugins.kdface.ProcessLauncher"


def sweep(arguments: Arguments) -> int:
    """Run a sweep to its end, whatever single jobs do. Exit code 1 where one failed, after a list of those."""
    failed: list[str] = []
    with hydra_context(arguments.config_dirs) as hydra:
        _check(hydra, arguments)

        def start(jobs: Sequence[Sequence[str]], n_jobs: int) -> Sequence[JobReturn]:
            codes = _run_jobs(hydra, jobs, arguments, n_jobs)
            failed.extend(" ".join(job) for job, code in zip(jobs, codes, strict=True) if code)
            return [_returned(job, code) for job, code in zip(jobs, codes, strict=True)]

        hydra.multirun(
            config_name=CONFIG,
            task_function=start,  # type: ignore[arg-type]  # handed through to the launcher, never called by Hydra
            overrides=arguments.overrides,
            with_log_configuration=False,
        )
    for job in failed:
        print(f"failed: {job}", file=sys.stderr)
    return 1 if failed else 0


def _check(hydra: Hydra, arguments: Arguments) -> None:
    """Tell every mistake in our words before Hydra's sweeper meets it: each job is composed and checked here."""
    fixed = load(hydra, [each for each in arguments.overrides if not _is_swept(each)])
    launcher = fixed.hydra.launcher
    if launcher.get("_target_") != _LAUNCHER:
        raise UserError("jobs are started by kdface's own launcher.", expected="hydra/launcher=process")
    if not isinstance(launcher.n_jobs, int) or launcher.n_jobs < 1:
        raise UserError(f"hydra.launcher.n_jobs = {launcher.n_jobs!r}.", expected="a whole number, 1 or more")
    parsed = OverridesParser.create(hydra.config_loader).parse_overrides(arguments.overrides)
    for batch in BasicSweeper.split_arguments(parsed, max_batch_size=None):
        for job in batch:
            compose_in(hydra, list(job))


def _run_jobs(hydra: Hydra, jobs: Sequence[Sequence[str]], arguments: Arguments, n_jobs: int) -> list[int]:
    folders = []
    for job in jobs:
        own = Arguments(overrides=list(job), config_dirs=arguments.config_dirs)
        folders.append(prepare_run(compose_in(hydra, list(job)), own))
    print(f"{len(jobs)} jobs, {sum(folder.done for folder in folders)} of them finished already", flush=True)
    slots: Queue[int] = Queue()
    for slot in range(n_jobs):
        slots.put(slot)

    def run(number: int) -> int:
        slot = slots.get()
        try:
            return _run_job(number, folders[number], jobs[number], slot, n_jobs)
        finally:
            slots.put(slot)

    with ThreadPoolExecutor(n_jobs) as threads:
        return list(threads.map(run, range(len(jobs))))


def _run_job(number: int, folder: RunFolder, job: Sequence[str], slot: int, n_jobs: int) -> int:
    """Run one job on its share of the cores; its output goes to output.log in its folder."""
    title = f"[{number}] {' '.join(job)}"
    if folder.done:
        print(f"{title}: finished already, {shown(folder.root)}", flush=True)
        return 0
    began = time.monotonic()
    mine = sorted(os.sched_getaffinity(0))[slot::n_jobs] if n_jobs <= cores() else []
    with open(folder.root / "output.log", "ab") as log:
        command = [sys.executable, "-m", "kdface", "run", str(folder.root)]
        child = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        if mine:
            os.sched_setaffinity(child.pid, mine)
        try:
            code = child.wait()
        except BaseException:
            child.terminate()
            raise
    said = "done" if code == 0 else f"FAILED with exit code {code}, see {shown(folder.root)}/output.log"
    print(f"{title}: {said} in {clock(time.monotonic() - began)}", flush=True)
    return code


def _returned(job: Sequence[str], code: int) -> JobReturn:
    """Hydra's sweeper would stop at a failed job and hide the rest, so each counts as completed; the code says more."""
    returned = JobReturn(overrides=job, status=JobStatus.COMPLETED)
    returned.return_value = code
    return returned


def _is_swept(override: str) -> bool:
    try:
        return bool(OverridesParser.create().parse_override(override).is_sweep_override())
    except Exception:  # what cannot be read is told of when it is composed
        return False
