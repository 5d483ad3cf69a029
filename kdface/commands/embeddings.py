"""kdface evaluate embeddings=FILE or run=FILE: evaluate a file of embeddings, or a network in a file."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdface.atomic import write_json
from kdface.commands.arguments import Arguments, require_only
from kdface.errors import UserError
from kdface.reports.summary import tell
from kdface.terminal import shown

if TYPE_CHECKING:
    from kdface.evaluation import Outcome
    from kdface.evaluation.embed import Embedder

_ALLOWED = ("evaluation", "paths")


def evaluate_stored(path: Path, arguments: Arguments) -> int:
    """Evaluate embeddings. Results, scores and figures are written to paths.runs/embeddings/NAME-DIGEST/PROTOCOLS."""
    from kdface.datasets.embedding_file import EmbeddingFile
    from kdface.evaluation.embed import StoredEmbeddings

    file = EmbeddingFile(path)
    evaluate_embedder(StoredEmbeddings(file), "embeddings", path, file.fingerprint, arguments)
    return 0


def evaluate_file(path: Path, arguments: Arguments) -> dict[str, Any]:
    """Evaluate a network in a file. Writes to paths.runs/files/NAME-DIGEST/PROTOCOLS and returns the results."""
    import torch

    from kdface.assembly.load import load_network
    from kdface.evaluation.embed import Embedder, require_sees

    teacher = load_network(path)
    teacher.require_finite()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    embedder = Embedder(lambda images, _: teacher.embed(images), device).frozen(teacher)
    height, width = teacher.preprocessing.size
    arguments.overrides = [f"+dataset.size=[{height},{width}]", *arguments.overrides]  # for test sets of its size

    def check(faces: Any) -> None:
        require_sees(teacher, faces, ())

    return evaluate_embedder(embedder, "files", path, teacher.fingerprint, arguments, check)


def evaluate_embedder(
    embedder: Embedder,
    kind: str,
    path: Path,
    digest: str,
    arguments: Arguments,
    check: Callable[[Any], None] = lambda faces: None,
) -> dict[str, Any]:
    """Run an embedder on the protocols; write and print the results.

    Args:
        kind: subfolder of paths.runs, and the key of the file in results.json.
        path, digest: of the file.
        check: raises if a test set does not fit the embedder.
    """
    from kdface.assembly.build import build
    from kdface.assembly.load import load_network
    from kdface.config.compose import compose
    from kdface.datasets.checks import card
    from kdface.evaluation.protocol import outcome_of
    from kdface.training.identity import sets_of

    own = [word for word in arguments.overrides if not word.startswith("+dataset.size=")]
    what = "embeddings from a file" if kind == "embeddings" else "a file"
    require_only(own, _ALLOWED, f" cannot be changed for {what}")
    tree = compose(arguments.overrides, arguments.config_dirs, trains=False).tree
    if not tree["evaluation"]:
        raise UserError("no evaluation is selected.", fix="evaluation=CHOICE   (kdface list evaluation)")
    shared: dict[str, object] = {}
    protocols = {
        name: build(node, path=f"evaluation.{name}", shared=shared, load_network=load_network)
        for name, node in tree["evaluation"].items()
    }
    for faces in sets_of(protocols).values():
        check(faces)
    outcomes = {name: outcome_of(protocol, embedder, f"evaluation.{name}") for name, protocol in protocols.items()}
    target = Path(tree["paths"]["runs"]) / kind / f"{path.stem}-{digest[:8]}" / "+".join(protocols)
    about = {
        kind: {"file": str(path.absolute()), "sha256": digest},
        "evaluation": tree["evaluation"],
        "data": {name: card(faces) for name, faces in sets_of(protocols).items()},
    }
    found = write_results(target, about, outcomes)
    tell_results(target, found)
    print(f"written  {shown(target)}")
    return found


def write_results(target: Path, about: Mapping[str, Any], outcomes: dict[str, Outcome]) -> dict[str, Any]:
    """Write scores, figures and results of an evaluation to a folder. Returns the results, which begin with `about`."""
    from kdface.reports.draw import draw_scores
    from kdface.training.outcomes import results_of, write_scores

    write_scores(target / "scores", outcomes)
    draw_scores(target / "scores", target / "figures")
    found = {**about, **results_of(outcomes), "time": round(time.time(), 3)}
    write_json(target / "results.json", found)
    return found


def tell_results(target: Path, found: Mapping[str, Any]) -> None:
    """Print the results in a folder."""
    print("\n".join(tell(found["metrics"], found["counts"], f"{shown(target)}/results.json")))
    for name, symptoms in found["symptoms"].items():
        for symptom in symptoms:
            print(f"warning: {name}: {symptom}")
