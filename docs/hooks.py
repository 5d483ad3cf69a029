"""What MkDocs does besides: the pages of keys, those that lie elsewhere in the repository, and formulas as MathML."""

from __future__ import annotations

import html
import posixpath
import re
from pathlib import Path
from typing import Any

from keys import pages  # type: ignore[import-not-found]  # mkdocs puts this folder on the path
from latex2mathml.converter import convert
from mkdocs.structure.files import File, Files

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
# Shown as they are, where they lie.
ELSEWHERE = ("CONTRIBUTING.md", "CHANGELOG.md", "CITATION.cff", "LICENSE")
_LINK = re.compile(r"(\]\()((?:\.\./)+[^)#]+)")
_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', flags=re.DOTALL)


def on_files(files: Files, config: Any) -> Files:
    """Add the pages of keys, and what lies outside docs/."""
    for name, content in pages(ROOT / "conf").items():
        files.append(File.generated(config, f"keys/{name}.md", content=content))
    experiments = [
        file.relative_to(ROOT).as_posix()
        for suffix in ("md", "png")
        for file in ROOT.glob(f"experiments/**/*.{suffix}")
    ]
    for name in (*ELSEWHERE, *sorted(experiments)):
        files.append(File(name, str(ROOT), config.site_dir, config.use_directory_urls))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """A link from docs/ to a file of the repository becomes one within the site, where that file lies at the root."""
    folder = posixpath.dirname(page.file.src_uri)

    def within(link: re.Match[str]) -> str:
        outside = posixpath.normpath(posixpath.join(folder, link[2])).startswith("..")
        return link[1] + (link[2].removeprefix("../") if outside else link[2])

    return _LINK.sub(within, markdown)


def on_page_content(html_text: str, **_: Any) -> str:
    r"""\(...\) and \[...\] as MathML, which browsers draw by themselves."""
    return _FORMULA.sub(
        lambda found: convert(html.unescape(found[2]), display="block" if found[1] == "div" else "inline"), html_text
    )
