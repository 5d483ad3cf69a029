"""Check that finished runs were trained with the current version of their teachers."""

from __future__ import annotations

import json
from collections.abc import Iterable

from kdface.errors import UserError
from kdface.runs.folder import RunFolder
from kdface.runs.identity import teacher_identity


def require_same_teachers(runs: Iterable[RunFolder]) -> None:
    """Raise `UserError`, listing all runs, if teachers of finished runs have changed since. Each teacher is checked
    once; missing teachers are ignored."""
    today: dict[str, str | None] = {}
    changed = []
    for run in runs:
        data = run.root / "data.json"
        if not run.done or not data.is_file() or (teacher := run.read_config()["teacher"]) is None:
            continue
        known = run.read_data().get("teacher")
        key = json.dumps(teacher, sort_keys=True)
        if known is not None and key not in today:
            today[key] = teacher_identity(teacher)
        if known is not None and today[key] not in (None, known["fingerprint"]):
            changed.append(str(run.root))
    if changed:
        names = ", ".join(changed)
        raise UserError(
            f"{names}: finished, but its teacher has changed since (different weights or labels).",
            fix=f"restore the teacher, or retrain: rm -r {' '.join(changed)}",
        )
