"""kdface doctor: report installed packages, hardware profile, data folder, and problems."""

from __future__ import annotations

import os
from pathlib import Path

from kdface.commands.arguments import Parser

_MALICIOUS_LIGHTNING = ("2.6.2", "2.6.3")


def run(words: list[str]) -> int:
    """Run `kdface doctor`. Returns exit code 0 if there are no problems, otherwise 2."""
    Parser("doctor", __doc__).read(words)
    from kdface.config.paths import conf_folder
    from kdface.hardware import cores, detect_by_system
    from kdface.runs.environment import version_of, versions

    wrong: list[str] = []
    print("packages")
    for name, version in versions().items():
        print(f"  {name:<24} {version or 'not installed'}")
        if version is None:
            wrong.append(f"{name} is not installed: pip install {name}")
    if version_of("pytorch-lightning") in _MALICIOUS_LIGHTNING:
        wrong.append("this release of pytorch-lightning is malicious: uninstall it now, install 2.6.6 or later")
    if version_of("albumentationsx"):
        wrong.append("albumentationsx (AGPL) shadows albumentations: pip uninstall albumentationsx")
    profile = detect_by_system()
    print("hardware")
    print(
        f"  profile                  {profile.name}: {profile.precision}, "
        f"{'channels_last' if profile.channels_last else 'contiguous'}"
    )
    print(f"  because                  {profile.reason}")
    print(f"  cores                    {cores()}")
    print("places")
    print(f"  conf/                    {conf_folder()}")
    data = Path(os.environ.get("KDFACE_DATA", "./data"))
    whence = "$KDFACE_DATA" if "KDFACE_DATA" in os.environ else "the default; set $KDFACE_DATA or paths.data"
    print(f"  paths.data               {data.absolute()}  ({whence})")
    if data.is_dir():
        print(f"    holds                  {', '.join(sorted(path.name for path in data.iterdir())[:12]) or 'nothing'}")
    else:
        print("    does not exist: generated faces (dataset=toy_faces) do not need it")
        if "KDFACE_DATA" in os.environ:
            wrong.append(f"$KDFACE_DATA names {data}, which does not exist")
    print("\n".join(["", "fix:", *(f"  {line}" for line in wrong)]) if wrong else "\nno problems found")
    return 2 if wrong else 0
