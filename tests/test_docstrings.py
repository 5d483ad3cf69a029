"""Whatever kdface offers by a public name says what it is."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]


def _unsaid(node: ast.Module | ast.ClassDef, name: str) -> Iterator[str]:
    for statement in node.body:
        if isinstance(
            statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
        ) and not statement.name.startswith("_"):
            decorators = [ast.unparse(decorator) for decorator in statement.decorator_list]
            if not ast.get_docstring(statement) and not any("overload" in d or ".setter" in d for d in decorators):
                yield f"{name}:{statement.name}"
            if isinstance(statement, ast.ClassDef):
                yield from _unsaid(statement, f"{name}:{statement.name}")


def test_every_public_name_has_a_docstring() -> None:
    unsaid: list[str] = []
    for path in sorted(ROOT.glob("kdface/**/*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        where = path.relative_to(ROOT).as_posix()
        if tree.body and not ast.get_docstring(tree):
            unsaid.append(where)
        unsaid += _unsaid(tree, where)
    assert unsaid == []
