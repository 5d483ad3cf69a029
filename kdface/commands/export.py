"""kdface export run=PATH [FILE]: the weights of the network that a run ships, alone, for use without the run."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from kdface.errors import UserError


def run(words: list[str]) -> int:
    runs = [word.removeprefix("run=") for word in words if word.startswith("run=")]
    files = [word for word in words if not word.startswith(("run=", "-"))]
    if len(runs) != 1 or len(files) > 1 or len(runs) + len(files) != len(words):
        raise UserError(
            f"kdface export {' '.join(words)}: which run goes where is not clear.",
            expected="run=PATH, and at most one file to write",
            mend="kdface export run=runs/NAME/seed0-1a2b3c4d embedder.pt",
        )
    return _export(runs[0], Path(files[0] if files else "embedder.pt").expanduser())


def _export(run_path: str, file: Path) -> int:
    """Writes {"state_dict": ..., "kdface": {...}}: tensors and plain values, loaded with `weights_only=True`."""
    from kdface.config.load import load_run
    from kdface.reports.summary import shown
    from kdface.runs.folder import write_atomic

    loaded = load_run(run_path)
    network, preprocessing = loaded.method.embedder, loaded.method.preprocessing
    content = {
        "state_dict": network.state_dict(),
        "kdface": {
            "backbone": loaded.config["backbone"],
            "preprocessing": preprocessing.to_dict(),
            "embedding_size": int(network.embedding_size),  # type: ignore[arg-type]
            "step": loaded.step,
        },
    }
    write_atomic(file, partial(_save, content))
    count = sum(each.numel() for each in network.parameters())
    print(f"written  {shown(file.absolute())}  ({count:,} parameters, {preprocessing.template} {preprocessing.size})")
    return 0


def _save(content: dict[str, Any], path: Path) -> None:
    import torch

    torch.save(content, path)
