"""kdface verify: do two aligned crops show the same person?

far=RATE uses the threshold evaluated for this false-accept rate, threshold=COSINE your own; by default, all evaluated
thresholds are shown.
"""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Gt, Le, Lt

from kdface.commands.arguments import Parser
from kdface.errors import UserError
from kdface.metric_names import rate

FAR = Annotated[float, Gt(0), Lt(1)]
COSINE = Annotated[float, Ge(-1), Le(1)]


def run(words: list[str]) -> int:
    """Run `kdface verify` and return the exit code. Raises `UserError` for invalid arguments."""
    given = Parser(
        "verify", __doc__, "A", "B", keys={"run": str, "far": FAR, "threshold": COSINE, "test": str}, needs=("run",)
    ).read(words)
    from kdface.recogniser.load import load

    recogniser = load(given.values["run"])
    far, threshold, test = (given.values.get(key) for key in ("far", "threshold", "test"))
    first, second = given.paths
    if far is not None and threshold is not None:
        raise UserError("far and threshold are mutually exclusive.", expected="one of them")
    if far is not None or threshold is not None:
        found = recogniser.verify(first, second, far=far, threshold=threshold, test=test)
        print(f"score      {found.score:.4f}")
        print(
            f"threshold  {found.threshold:.4f}"
            + ("" if far is None or threshold is not None else f"  (far={rate(far)})")
        )
        print("same person" if found.same else "different people")
        return 0
    (score,) = recogniser.scores(first, second)
    print(f"score  {score:.4f}")
    for name, points in recogniser.points.items():
        for point in points if test in (None, name) else ():
            low, high = ("?" if end is None else f"{end:.4f}" for end in (point.low, point.high))
            said = "same person" if score >= point.threshold else "different people"
            print(f"{name}  far={rate(point.far)}  threshold {point.threshold:.4f} ({low} to {high})  {said}")
    if not recogniser.points:
        print("no thresholds yet: find them with kdface evaluate run=RUN evaluation=lfw")
    return 0
