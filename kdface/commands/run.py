"""kdface run FOLDER: train the run whose configuration lies in FOLDER. Ranks and sweeps call this."""

from __future__ import annotations

import logging
import sys
from typing import Any

from kdface.errors import UserError
from kdface.runs.folder import RunFolder, find_run, write_json


def run(words: list[str]) -> int:
    if len(words) != 1:
        raise UserError("kdface run takes one run folder.", mend="kdface run runs/NAME/seed0-1a2b3c4d")
    return execute(find_run(words[0]))


def execute(folder: RunFolder) -> int:
    """Train to the end, or say that it is done. Only rank 0 holds the folder's lock and speaks."""
    from kdface.reports.summary import summary
    from kdface.runs.train import launched_rank

    if folder.done:
        print(f"this run is finished: {folder.root}")
        print(summary(folder))
        return 0
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("kdface").setLevel(logging.INFO)
    if launched_rank() != 0:  # rank 0 holds the lock for all
        return _train(folder)
    with folder.locked():
        return _train(folder)


def _train(folder: RunFolder) -> int:
    from kdface.config.assemble import assemble
    from kdface.config.check import check_tree
    from kdface.config.origin import Origins
    from kdface.config.schema import Configuration
    from kdface.reports.draw import draw_run
    from kdface.reports.summary import shown, summary
    from kdface.runs.train import launched_rank, train

    tree = folder.read_config()
    check_tree(tree, Configuration, Origins())
    job = assemble(tree)
    rank_zero = launched_rank() == 0
    if rank_zero:
        _note_data(folder, job)
        print(f"run folder: {shown(folder.root)}", file=sys.stderr)
    # A further rank is started with this command line, so it reads this folder and composes nothing.
    sys.argv = [sys.argv[0], "run", str(folder.root)]
    train(job, folder)
    if rank_zero:
        try:
            draw_run(folder, job.training)
        except Exception as error:  # the numbers are there; a picture must not withhold them
            logging.getLogger("kdface").warning("the figures could not be drawn: %s", error)
        folder.mark_done()
        print(summary(folder))
    return 0


def _note_data(folder: RunFolder, job: Any) -> None:
    """Write data.json at the first start; later, refuse to go on with other data."""
    import json

    from kdface.datasets.checks import card, shared_people

    for name, protocol in job.protocols.items():
        if shared := shared_people(job.training.faces, protocol.dataset):
            logging.getLogger("kdface").warning(
                "%d people of evaluation.%s are in the training set too (%s, ...): its numbers will flatter",
                len(shared),
                name,
                shared[0][0],
            )
    path = folder.root / "data.json"
    sets = {"train": job.training.faces}
    sets |= {f"evaluation.{name}": protocol.dataset for name, protocol in job.protocols.items()}
    now = {name: card(faces) for name, faces in sets.items()}
    if not path.is_file():
        write_json(path, now)
        return
    before = json.loads(path.read_text(encoding="utf-8"))
    for name, each in now.items():
        if before.get(name, {}).get("fingerprint") != each["fingerprint"]:
            raise UserError(
                f"the data of {folder.root} has changed since the run began ({name}: fingerprint "
                f"{before.get(name, {}).get('fingerprint', 'none')[:12]} then, {each['fingerprint'][:12]} now).",
                mend=f"restore the data, or start anew: rm -r {folder.root}",
            )
