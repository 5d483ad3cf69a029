"""kdface evaluate embeddings=FILE evaluation=CHOICE: embeddings that are there already, under any protocol."""

from __future__ import annotations

import time
from pathlib import Path

from kdface.commands.arguments import Arguments
from kdface.errors import UserError

_ALLOWED = ("evaluation", "paths")


def evaluate_stored(path: Path, arguments: Arguments) -> int:
    """Evaluate a file of embeddings; results, scores and figures go to paths.runs/embeddings/NAME-DIGEST/PROTOCOLS."""
    from kdface.commands.run import sets_of
    from kdface.config.build import build
    from kdface.config.compose import compose
    from kdface.config.load import load_network
    from kdface.datasets.checks import card
    from kdface.datasets.embedding_file import EmbeddingFile
    from kdface.evaluation.stored import StoredEmbeddings
    from kdface.reports.draw import draw_scores
    from kdface.reports.summary import shown, tell
    from kdface.runs.folder import write_json
    from kdface.runs.train import metrics_of, points_of, write_scores

    for word in arguments.overrides:
        if word.lstrip("+~").partition("=")[0].split(".")[0] not in _ALLOWED:
            raise UserError(
                f"{word}: embeddings from a file are evaluated as they are.",
                expected=f"overrides of {', '.join(_ALLOWED)}",
                origin=f"command line: {word}",
                fix="leave it out",
            )
    file = EmbeddingFile(path)
    embeddings = StoredEmbeddings(file)
    tree = compose(arguments.overrides, arguments.config_dirs, trains=False).tree
    if not tree["evaluation"]:
        raise UserError("there is nothing to evaluate.", fix="evaluation=CHOICE   (kdface list evaluation)")
    shared: dict[str, object] = {}
    protocols = {
        name: build(node, shared=shared, load_network=load_network) for name, node in tree["evaluation"].items()
    }
    outcomes = {name: protocol.evaluate(embeddings) for name, protocol in protocols.items()}
    name = f"{path.stem}-{file.fingerprint[:8]}"
    target = Path(tree["paths"]["runs"]) / "embeddings" / name / "+".join(protocols)
    write_scores(target / "scores", outcomes)
    draw_scores(target / "scores", target / "figures")
    found = {
        "embeddings": {"file": str(path.absolute()), "sha256": file.fingerprint},
        "evaluation": tree["evaluation"],
        "data": {name: card(faces) for name, faces in sets_of(protocols).items()},
        "metrics": metrics_of(outcomes),
        "counts": {name: outcome.counts for name, outcome in outcomes.items()},
        "symptoms": {name: outcome.symptoms for name, outcome in outcomes.items() if outcome.symptoms},
        "operating_points": points_of(outcomes),
        "choices": {name: outcome.choices for name, outcome in outcomes.items() if outcome.choices},
        "time": round(time.time(), 3),
    }
    write_json(target / "results.json", found)
    print("\n".join(tell(found["metrics"], found["counts"], f"{shown(target)}/results.json")))
    for name, outcome in outcomes.items():
        for symptom in outcome.symptoms:
            print(f"warning: {name}: {symptom}")
    print(f"written  {shown(target)}")
    return 0
