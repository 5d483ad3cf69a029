"""kdface identify GALLERY PROBES run=PATH [top=1] [far=1e-3|threshold=0.3] [-o FILE.csv]: identify each probe."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge

from kdface.atomic import write_text
from kdface.commands.given import read, recogniser_of
from kdface.commands.verify import COSINE, FAR
from kdface.csv_files import csv_text


def run(words: list[str]) -> int:
    """Run `kdface identify` and return the exit code. Raises `UserError` for invalid arguments."""
    given = read(
        "identify",
        words,
        "Find the most similar person for each probe. GALLERY contains one folder of aligned crops per person, PROBES "
        "is a crop or a folder of crops. far=RATE or threshold=COSINE decides which probes are unknown.",
        ("GALLERY", "PROBES"),
        {"run": str, "top": Annotated[int, Ge(1)], "far": FAR, "threshold": COSINE, "test": str},
        output="file",
    )
    from kdface.terminal import shown

    recogniser = recogniser_of(given)
    gallery, probes = given.things
    asked = {key: value for key, value in given.values.items() if key != "run"}
    found = recogniser.identify(gallery, probes, **asked)
    rows: list[list[object]] = [["probe", "rank", "name", "score", "known"]]
    for probe in found:
        for rank, candidate in enumerate(probe.candidates, 1):
            known = "" if probe.known is None else str(candidate.score >= (probe.threshold or 0)).lower()
            rows.append([probe.probe, rank, candidate.name, f"{candidate.score:.6f}", known])
            if given.output is None:
                mark = "  unknown" if known == "false" else ""
                print(f"{probe.probe}  {rank}  {candidate.score:.4f}  {candidate.name}{mark}")
    if given.output is not None:
        write_text(given.output, csv_text(rows))
        print(f"written  {shown(given.output)}  ({len(found)} probes)")
    return 0
