"""Whether finished runs were taught by what lies in the place of their teachers today."""

from __future__ import annotations

import json
from collections.abc import Iterable

from kdface.errors import UserError
from kdface.runs.folder import RunFolder
from kdface.runs.identity import teacher_identity


def require_same_teachers(runs: Iterable[RunFolder]) -> None:
    """Raise `UserError`, naming them all, where teachers of finished runs have changed since: they are not the runs
    that were asked for. Each teacher is looked at once; one that is not there (any more, or not yet) says nothing."""
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
            f"{names}: finished, and its teacher has changed since: it taught with other weights or labels.",
            fix=f"restore the teacher, or train anew: rm -r {' '.join(changed)}",
        )
