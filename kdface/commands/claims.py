"""kdface claims FILE.yaml: test the papers' claims against the tables; writes FILE.md and a forest plot, FILE.png."""

from __future__ import annotations

from pathlib import Path

from kdface.errors import UserError


def run(words: list[str]) -> int:
    """Run `kdface claims` and return the exit code. Raises `UserError` for invalid arguments."""
    if len(words) != 1:
        raise UserError("kdface claims takes one file.", expected="kdface claims experiments/claims.yaml")
    from kdface.atomic import write_text
    from kdface.reports.claims import findings, forest_figure, markdown
    from kdface.reports.plotting import save

    path = Path(words[0])
    found = findings(path)
    figure = path.with_suffix(".png")
    text = markdown(found, str(path), figure.name)
    write_text(path.with_suffix(".md"), text)
    save(forest_figure(found), figure)
    print(text, end="")
    print(f"\nwritten  {path.with_suffix('')}{{.md,.png}}")
    return 0
