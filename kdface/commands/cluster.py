"""kdface cluster: group the aligned crops of a folder by person, with a contact sheet.

The two most similar clusters are merged until the mean cosine of their pairs falls below threshold=COSINE, or below the
threshold that was evaluated for the false-accept rate far=RATE.
"""

from __future__ import annotations

from pathlib import Path

from kdface.commands.arguments import Parser
from kdface.commands.verify import COSINE, FAR

_ROWS, _COLUMNS = 24, 10  # size of the contact sheet


def run(words: list[str]) -> int:
    """Run `kdface cluster` and return the exit code. Raises `UserError` for invalid arguments."""
    given = Parser(
        "cluster",
        __doc__,
        "FOLDER",
        keys={"run": str, "far": FAR, "threshold": COSINE, "test": str},
        needs=("run",),
        output="FOLDER",
    ).read(words)
    import numpy as np

    from kdface.atomic import write_text
    from kdface.csv_files import csv_text
    from kdface.evaluation.clustering import agglomerative
    from kdface.recogniser.crops import listed, pixels
    from kdface.recogniser.load import load
    from kdface.recogniser.points import choose
    from kdface.reports.contact_sheet import contact_sheet
    from kdface.reports.plotting import save
    from kdface.terminal import shown

    recogniser = load(given.values["run"])
    folder, output = given.paths[0], given.values.get("output", Path())
    threshold = given.values.get("threshold")
    if threshold is None:
        threshold = choose(recogniser.points, given.values.get("far"), given.values.get("test")).threshold
    files = listed(folder)
    # For unit vectors, the mean squared distance is 2 - 2 times the mean cosine.
    found = agglomerative(recogniser.embed(files), 2 - 2 * threshold)
    sizes = np.bincount(found)
    order = np.lexsort((np.arange(len(sizes)), -sizes))  # largest first
    members = [[files[row] for row in np.flatnonzero(found == cluster)] for cluster in order]
    rows = [(file.relative_to(folder).as_posix(), number) for number, cluster in enumerate(members) for file in cluster]
    table, sheet = (output / f"clusters_{folder.resolve().name}{suffix}" for suffix in (".csv", ".png"))
    write_text(table, csv_text([("key", "cluster"), *rows]))
    together = [cluster for cluster in members if len(cluster) > 1]
    single = [cluster[0] for cluster in members if len(cluster) == 1]
    rests = [single[start : start + _COLUMNS] for start in range(0, len(single), _COLUMNS)]
    shown_rows = [*together[:_ROWS], *rests[: max(1, _ROWS - len(together))]]
    images = [
        [pixels(file, recogniser.size, recogniser.resizes)[0] for file in cluster[:_COLUMNS]] for cluster in shown_rows
    ]
    titles = [f"{number}: {len(cluster)} images" for number, cluster in enumerate(together[:_ROWS])]
    titles += ["single images"] * (len(shown_rows) - len(titles))
    save(contact_sheet(images, titles), sheet)
    alone = int((sizes == 1).sum())
    print(f"{len(files)} images in {len(sizes)} clusters, {alone} of a single image (mean cosine >= {threshold:.4f})")
    print(f"written  {shown(table)}")
    print(f"look at  {shown(sheet)}")
    return 0
