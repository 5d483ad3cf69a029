"""kdface identify: find the most similar person for each probe.

GALLERY contains one folder of aligned crops per person, PROBES is a crop or a folder of crops. far=RATE or
threshold=COSINE decides which probes are unknown.
"""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge

from kdface.atomic import write_text
from kdface.commands.arguments import Parser
from kdface.commands.verify import COSINE, FAR
from kdface.csv_files import csv_text


def run(words: list[str]) -> int:
    """Run `kdface identify` and return the exit code. Raises `UserError` for invalid arguments."""
    given = Parser(
        "identify",
        __doc__,
        "GALLERY",
        "PROBES",
        keys={"run": str, "top": Annotated[int, Ge(1)], "far": FAR, "threshold": COSINE, "test": str},
        needs=("run",),
        output="FILE.csv",
    ).read(words)
    from kdface.recogniser.load import load
    from kdface.terminal import shown

    gallery, probes = given.paths
    output = given.values.pop("output", None)
    found = load(given.values.pop("run")).identify(gallery, probes, **given.values)
    rows: list[list[object]] = [["probe", "rank", "name", "score", "known"]]
    for probe in found:
        for rank, candidate in enumerate(probe.candidates, 1):
            known = "" if probe.known is None else str(candidate.score >= (probe.threshold or 0)).lower()
            rows.append([probe.probe, rank, candidate.name, f"{candidate.score:.6f}", known])
            if output is None:
                mark = "  unknown" if known == "false" else ""
                print(f"{probe.probe}  {rank}  {candidate.score:.4f}  {candidate.name}{mark}")
    if output is not None:
        write_text(output, csv_text(rows))
        print(f"written  {shown(output)}  ({len(found)} probes)")
    return 0
