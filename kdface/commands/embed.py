"""kdface embed: embed every aligned crop of a folder and its subfolders, keyed by its path.

Rerun the same command to resume, or to update the file after images were added, changed or removed. run=PATH names a
run, a pack or an exported file; mirror=false disables the mirrored image.
"""

from __future__ import annotations

import sys
from pathlib import Path

from kdface.atomic import write_text
from kdface.commands.arguments import Parser

_LISTED = 10  # most broken files listed one by one


def run(words: list[str]) -> int:
    """Run `kdface embed` and return the exit code. Raises `UserError` for invalid arguments."""
    given = Parser(
        "embed", __doc__, "FOLDER", keys={"run": str, "mirror": bool}, needs=("run",), output="FILE.npz|FILE.parquet"
    ).read(words)
    from kdface.recogniser.load import load
    from kdface.recogniser.store import embed_folder, formats
    from kdface.terminal import shown, tell_passed_over

    folder = given.paths[0]
    target = given.values.get("output") or Path(f"embeddings_{folder.resolve().name}.npz")
    formats(target)  # reject an unsupported format before loading anything
    found = embed_folder(load(given.values["run"]), folder, target, given.values.get("mirror", True))
    for reason in list(found.broken.values())[:_LISTED]:
        print(f"left out  {reason}", file=sys.stderr)
    listed = target.with_name(f"{target.name}.broken.txt")
    listed.unlink(missing_ok=True)  # left by an earlier command
    if found.broken:
        write_text(listed, "".join(f"{key}\t{reason}\n" for key, reason in sorted(found.broken.items())))
        print(f"left out  {len(found.broken)} broken files, listed in {shown(listed)}")
    if found.replaced:
        print(f"replaced  {found.replaced} embeddings of images that have changed since an earlier command")
    if found.dropped:
        print(f"dropped  {found.dropped} embeddings of images that are no longer in {shown(folder)}")
    tell_passed_over(found.passed_over)
    more = f", {found.before} of them by an earlier command" if found.before else ""
    print(f"written  {shown(target)}  ({found.embedded} embeddings{more})")
    return 0
