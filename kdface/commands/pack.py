"""kdface pack: pack a finished run into one file to share, without this machine's paths.

A pack holds weights as safetensors, configuration, preprocessing, environment, fingerprints, metrics and a model card.
kdface.load, kdface evaluate and teacher.run accept a pack like a run.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from kdface.atomic import write_atomic, write_json, write_text
from kdface.commands.arguments import Parser
from kdface.errors import UserError


def run(words: list[str]) -> int:
    """Run `kdface pack` and return the exit code. Raises `UserError` for invalid arguments."""
    given = Parser("pack", __doc__, "RUN", output="FILE.zip|FOLDER").read(words)
    from kdface.terminal import shown

    (path,) = given.paths
    target = given.values.get("output") or Path(f"{path.resolve().name}.zip")
    if target.exists():
        raise UserError(f"{target} already exists and is not overwritten.", fix="another name after -o")
    count, size = pack(path, target)
    print(f"written  {shown(target.absolute())}  ({count} files, {size / (1 << 20):.1f} MiB)")
    return 0


def pack(path: Path, target: Path) -> tuple[int, int]:
    """Write a pack: a zip file if its name ends in .zip, otherwise a folder. Returns its number of files and bytes.

    Raises `UserError` if the run is not finished.
    """
    from kdface.assembly.shipped import shipped
    from kdface.config.files import paths_in, replace_paths
    from kdface.config.fingerprint import fingerprint, portable
    from kdface.reports.card import model_card
    from kdface.runs.checkpoint import save_safetensors
    from kdface.runs.folder import config_text
    from kdface.runs.opened import open_run
    from kdface.runs.pack import FINGERPRINTS, WEIGHTS, digest_of, zipped
    from kdface.teachers.frozen import fingerprint_of

    opened = open_run(path)
    folder = opened.folder
    if not folder.done:
        raise UserError(f"{folder.root} is not finished.", fix=f"kdface run {folder.root}")
    paths = opened.config["paths"]
    made = shipped(opened)
    network = made.network
    config = portable(opened.config, paths)
    elsewhere = {key: f"<elsewhere>/{Path(place).name}" for key, place in paths_in(config) if not place.startswith("<")}
    config = replace_paths(config, elsewhere)
    results = folder.read_all_results()
    environment = {key: value for key, value in folder.read_environment().items() if key != "git"}
    environment["commit"] = (folder.read_environment().get("git") or {}).get("commit")
    data = folder.read_data()
    name = f"{opened.config['name']}-seed{opened.config['seed']}"
    about = {
        "preprocessing": made.preprocessing.to_dict(),
        "embedding_size": int(network.embedding_size),  # type: ignore[arg-type]
        "step": opened.step,
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
    }
    with tempfile.TemporaryDirectory(dir=target.absolute().parent, prefix=".pack-") as temporary:
        root = Path(temporary) / "pack"
        root.mkdir()
        saved = json.dumps({**opened.about, "config": config})  # as a single entry, since their order is not fixed
        save_safetensors(opened.weights, root / WEIGHTS, {"kdface": saved})
        write_text(root / "config.yaml", config_text(config))
        origin = folder.read_origin()
        command = portable(list(origin.get("command") or []), paths)
        write_json(root / "origin.json", {"command": command, "choices": origin.get("choices", {})})
        write_json(root / "environment.json", environment)
        write_json(root / "data.json", data)
        write_json(root / "results.json", results)
        write_text(root / "README.md", model_card(name, config, about, results, data, target.name))
        write_text(root / "DONE", "finished\n")
        files = {file.name: digest_of(file) for file in sorted(root.iterdir())}
        own = {"configuration": fingerprint(opened.config), "network": fingerprint_of(network)}
        write_json(root / FINGERPRINTS, {**own, "files": files})
        size = sum(file.stat().st_size for file in root.iterdir())
        if target.suffix.lower() == ".zip":
            write_atomic(target, lambda file: zipped(root, file))
        else:
            root.rename(target)
    return len(files) + 1, size
