"""The places of the package that make a message with a fix."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tests.advice.calls import PACKAGE
from tests.advice.suggestions import parsed


@dataclass(frozen=True)
class Site:
    """A place of the package that makes a message with a fix.

    Attributes:
        file: in the package.
        first, last: its lines.
        begins: how the message begins.
        applicable: a machine can apply what is suggested; otherwise it is advice in words.
    """

    file: str
    first: int
    last: int
    begins: str
    applicable: bool

    def __str__(self) -> str:
        return f"{self.file}:{self.first} {self.begins}"

    def reached(self, raised: Iterable[tuple[str, int]]) -> bool:
        """Whether one of these messages, by file and line, was made here."""
        return any(at == self.file and self.first <= line <= self.last for at, line in raised)


@functools.cache
def sites() -> list[Site]:
    """Every place that makes a message with a fix of its own. What another message said and is told again
    (`fix=error.fix`) is not counted twice."""
    found = []
    for file in sorted(PACKAGE.rglob("*.py")):
        text = file.read_text(encoding="utf-8")
        nodes = [*ast.walk(ast.parse(text))] if "Error(" in text else []
        values = {
            node.targets[0].id: node.value
            for node in nodes
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
        }
        for node in nodes:
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            given = {keyword.arg: keyword.value for keyword in node.keywords}
            fix = given.get("fix")
            retold = isinstance(fix, ast.Attribute) and fix.attr == "fix"
            if node.func.id not in ("UserError", "DataError") or retold or not given.keys() & {"fix", "nearest"}:
                continue
            texts = [] if fix is None else _texts(fix, values)
            applicable = "nearest" in given or any(text is None or [*parsed(text)] for text in texts)
            name = file.relative_to(PACKAGE).as_posix()
            found.append(Site(name, node.lineno, node.end_lineno or node.lineno, _start(node), applicable))
    return found


def _texts(node: ast.expr, values: Mapping[str, ast.expr]) -> list[str | None]:
    """Every text that an expression may be, with X for what is only known when it runs; None: nothing is known."""
    match node:
        case ast.Constant():
            return [str(node.value)]
        case ast.IfExp():
            return [*_texts(node.body, values), *_texts(node.orelse, values)]
        case ast.BinOp():
            return _joined(_texts(node.left, values), _texts(node.right, values))
        case ast.JoinedStr():
            whole: list[str | None] = [""]
            for part in node.values:
                inner = part.value if isinstance(part, ast.FormattedValue) else part
                known = isinstance(inner, ast.IfExp | ast.Constant | ast.JoinedStr)
                whole = _joined(whole, _texts(inner, values) if known else ["X"])
            return whole
        case ast.Name() if node.id in values:
            return _texts(values[node.id], {name: each for name, each in values.items() if name != node.id})
    return [None]


def _joined(left: list[str | None], right: list[str | None]) -> list[str | None]:
    return [f"{'X' if one is None else one}{'X' if two is None else two}" for one in left for two in right]


def _start(node: ast.Call) -> str:
    """How a message begins."""
    return re.sub(r"^f?['\"]", "", ast.unparse(node.args[0]))[:70] if node.args else ""
