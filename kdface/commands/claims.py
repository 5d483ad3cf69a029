"""kdface claims: test the claims of papers against the tables; write FILE.md and a forest plot, FILE.png."""

from __future__ import annotations

from kdface.commands.arguments import Parser


def run(words: list[str]) -> int:
    """Run `kdface claims` and return the exit code. Raises `UserError` for invalid arguments."""
    (path,) = Parser("claims", __doc__, "FILE.yaml").read(words).paths
    from kdface.atomic import write_text
    from kdface.reports.claims import findings, forest_figure, markdown
    from kdface.reports.plotting import save

    found = findings(path)
    figure = path.with_suffix(".png")
    text = markdown(found, str(path), figure.name)
    write_text(path.with_suffix(".md"), text)
    save(forest_figure(found), figure)
    print(text, end="")
    print(f"\nwritten  {path.with_suffix('')}{{.md,.png}}")
    return 0
