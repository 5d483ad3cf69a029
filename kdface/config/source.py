"""Read signatures and class attributes of parts from source, without importing them.

Parts import torch, which takes seconds; typos, `--cfg job` and `config why` need only names, hints and defaults. Hints
keep what can be checked (numbers, bounds, literals, paths, dataclasses); a class from a heavy module becomes a
stand-in that no plain value matches. Parts that cannot be read this way are imported.
"""

from __future__ import annotations

import ast
import builtins
import copy
import dataclasses
import functools
import importlib
import importlib.util
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kdface.config.locate import (
    PART_ROOMS,
    Parameter,
    Parameters,
    fields,
    locate,
    parameters,
    require_exported,
    require_target,
)

# Light modules, whose objects are imported directly.
_LIGHT = ("typing", "typing_extensions", "collections", "pathlib", "annotated_types", "os", "datetime", "types")
_PLAIN_BASES = ("object", "ABC", "Protocol", "Generic", "NamedTuple")
_KEEP_SIGNATURE = {
    *("_defaults_from_env_vars", "no_grad", "cache", "lru_cache", "override", "final", "runtime_checkable", "checked"),
    "dataclass",
}
# What a hint may contain: it is evaluated, and may call only bounds such as `Ge(1)`.
_HINT = (
    *(ast.Name, ast.Attribute, ast.Subscript, ast.BinOp, ast.BitOr, ast.Constant, ast.Tuple, ast.List),
    *(ast.Load, ast.Call, ast.keyword, ast.UnaryOp, ast.USub),
)


class UnreadableError(Exception):
    """The source cannot be analysed without importing it."""


_UNREADABLE = (UnreadableError, SyntaxError, RecursionError, ValueError)


class _Opaque(type):
    """The type of stand-ins for classes and functions that are not imported: they support subscripts and unions, and
    match no plain value.

    Attributes:
        __source__: module and node of the definition; null if it was not found. Stand-ins for dataclasses have it too,
            under a name that no field has.
    """

    __source__: tuple[str, ast.ClassDef | ast.FunctionDef] | None = None

    def __getitem__(cls, item: Any) -> Any:
        return cls


class _Module(dict[str, Any]):
    """A module whose names are resolved when they are used: those of its own hints, and in hints of others, such as
    `nn.Module`."""

    def __init__(self, name: str) -> None:
        super().__init__(__builtins__={})
        self._name = name

    def __missing__(self, name: str) -> Any:
        if hasattr(builtins, name) and name not in _names(self._name):
            return getattr(builtins, name)
        try:
            return _resolved(self._name, name)
        except UnreadableError:
            return _Opaque(name, (), {})

    __getattr__ = __missing__


def signature(target: str, origin: str = "", path: str = "") -> Parameters:
    """The parameters of an allowed `_target_` of the node at a dotted path. Raises `UserError` like `locate`."""
    module, name = require_target(target, origin=origin, path=path)
    if module in PART_ROOMS:
        require_exported(name, module, _exported(module), origin)
    found = _signature(module, name)
    return parameters(locate(target, origin=origin, path=path)) if found is None else found


def trusted_signature(module: str, name: str) -> Parameters:
    """The parameters of a callable named by kdface itself."""
    found = _signature(module, name)
    return parameters(getattr(importlib.import_module(module), name)) if found is None else found


@functools.cache
def _signature(module: str, name: str) -> Parameters | None:
    """The parameters of a callable, null if they cannot be read."""
    try:
        return _parameters(_resolved(module, name))
    except _UNREADABLE:
        return None


def attribute(target: str, name: str, default: Any = None, inherited: bool = True) -> Any:
    """A literal class attribute of a `_target_`, own or inherited."""
    module, part = require_target(target)
    try:
        found = _attribute(_resolved(module, part), name, inherited)
    except _UNREADABLE:
        made = locate(target)
        return getattr(made, name, default) if inherited else vars(made).get(name, default)
    return default if found is None else found[0]


def constant(module: str, name: str) -> Any:
    """A literal defined by a module."""
    node = _names(module)[name]
    assert isinstance(node, ast.expr)
    return ast.literal_eval(node)


@functools.cache
def _file(module: str) -> Path:
    """The source file of a module, found without importing its parents."""
    first, *rest = module.split(".")
    try:
        spec = importlib.util.find_spec(first)
    except (ImportError, ValueError) as error:
        raise UnreadableError(module) from error
    if spec is None:
        raise UnreadableError(module)
    places = [Path(place) for place in spec.submodule_search_locations or ()]
    if not rest:
        found = [place / "__init__.py" for place in places] or [Path(spec.origin or "")]
    else:
        below = [place.joinpath(*rest) for place in places]
        found = [file for path in below for file in (path / "__init__.py", path.with_name(f"{path.name}.py"))]
    for file in found:
        if file.suffix == ".py" and file.is_file():
            return file
    raise UnreadableError(module)


@functools.cache
def _names(module: str) -> Mapping[str, ast.AST]:
    """Names defined or imported at a module's top level -> their statements."""
    found: dict[str, ast.AST] = {}
    for node in _statements(ast.parse(_file(module).read_text(encoding="utf-8")).body):
        match node:
            case ast.FunctionDef() | ast.ClassDef():
                found[node.name] = node
            case (
                ast.Assign(targets=[ast.Name(id=name)], value=value)
                | ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value)
            ):
                found[name] = value
            case ast.Import() | ast.ImportFrom():
                for alias in node.names:
                    found[alias.asname or alias.name.partition(".")[0]] = node
    return found


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    for node in body:
        if isinstance(node, ast.If | ast.Try):
            yield from _statements([*node.orelse, *getattr(node, "finalbody", [])])
            yield from _statements(node.body)
        else:
            yield node


def _exported(module: str) -> list[str]:
    names = _names(module)
    if isinstance(names.get("__all__"), ast.List):
        return list(ast.literal_eval(names["__all__"]))
    return [name for name, node in names.items() if isinstance(node, ast.ClassDef | ast.FunctionDef) and name[0] != "_"]


@functools.cache
def _resolved(module: str, name: str) -> Any:
    """What a module's name stands for, following imports. Raises `UnreadableError` if it is not found."""
    if module.partition(".")[0] in _LIGHT:
        return getattr(importlib.import_module(module), name)
    match node := _names(module).get(name):
        case None:
            _file(f"{module}.{name}")
            return _Module(f"{module}.{name}")
        case ast.Import() | ast.ImportFrom():
            alias = next(each for each in node.names if (each.asname or each.name.partition(".")[0]) == name)
            if isinstance(node, ast.Import):
                return _Module(alias.name if alias.asname else name)
            package = _imported_from(module, node)
            if (package, alias.name) == (module, name):  # a package imports its own module
                return _Module(f"{module}.{name}")
            return _resolved(package, alias.name)
        case ast.ClassDef() if "dataclass" in _decorators(node):
            return Any if node in _unfinished else _dataclass(module, node)
        case ast.ClassDef() | ast.FunctionDef():
            return _Opaque(name, (), {"__source__": (module, node)})
        case ast.expr():
            return _hint(node, module)
    raise UnreadableError(f"{module}.{name}")


def _imported_from(module: str, node: ast.ImportFrom) -> str:
    """The absolute name of the module of an import."""
    package = module if _file(module).name == "__init__.py" else module.rpartition(".")[0]
    return importlib.util.resolve_name("." * node.level + (node.module or ""), package)


def _parameters(part: Any) -> Parameters:
    if dataclasses.is_dataclass(part) and isinstance(part, type):
        return Parameters(fields(part), any_key=False)
    if not isinstance(part, _Opaque) or part.__source__ is None:
        raise UnreadableError
    module, node = part.__source__
    if set(_decorators(node)) - _KEEP_SIGNATURE:
        raise UnreadableError
    if isinstance(node, ast.FunctionDef):
        return _of_function(node, module)
    for statement in node.body:
        if isinstance(statement, ast.FunctionDef) and statement.name == "__init__":
            if set(_decorators(statement)) - _KEEP_SIGNATURE:
                raise UnreadableError
            return _of_function(statement, module, skip=1)
    base = next((base for base in node.bases if _last_name(base) not in _PLAIN_BASES), None)
    return Parameters({}, any_key=False) if base is None else _parameters(_hint(base, module))


def _of_function(node: ast.FunctionDef, module: str, skip: int = 0) -> Parameters:
    given = node.args
    positional = [*given.posonlyargs, *given.args]
    defaults = [*[None] * (len(positional) - len(given.defaults)), *given.defaults]
    pairs = [*zip(positional, defaults, strict=True)][skip:]
    found = {
        argument.arg: Parameter(
            Any if argument.annotation is None else _hint(argument.annotation, module),
            default is None,
            None if default is None else _literal(default),
        )
        for argument, default in [*pairs, *zip(given.kwonlyargs, given.kw_defaults, strict=True)]
    }
    return Parameters(found, any_key=given.kwarg is not None)


_unfinished: list[ast.ClassDef] = []  # dataclasses whose hints are being read: one may refer to itself


def _dataclass(module: str, node: ast.ClassDef) -> type:
    """A dataclass with the same fields as one that is not imported."""
    _unfinished.append(node)
    try:
        return _made(module, node)
    finally:
        _unfinished.remove(node)


def _made(module: str, node: ast.ClassDef) -> type:
    found: list[tuple[str, Any, Any]] = []
    for statement in node.body:
        match statement:
            case ast.AnnAssign(target=ast.Name(id=name), annotation=hint, value=value):
                options: dict[str, Any] = {} if value is None else {"default": _literal(value)}
                if isinstance(value, ast.Call) and _last_name(value) == "field":
                    options = {str(word.arg): _literal(word.value) for word in value.keywords if word.arg != "metadata"}
                if "default_factory" in options:
                    options["default_factory"] = dict
                if "ClassVar" not in ast.unparse(hint) and options.get("init", True):
                    found.append((name, _hint(hint, module), dataclasses.field(**options)))
    bases: list[Any] = [_hint(base, module) for base in node.bases if _last_name(base) not in _PLAIN_BASES]
    return dataclasses.make_dataclass(
        node.name,
        found,
        bases=tuple(base for base in bases if isinstance(base, type) and dataclasses.is_dataclass(base)),
        namespace={"__source__": (module, node)},
        frozen=True,
        kw_only=True,
    )


def _attribute(part: Any, name: str, inherited: bool) -> tuple[Any] | None:
    """The value of a class attribute, in a tuple; null if there is none."""
    module, node = getattr(part, "__source__", None) or ("", None)
    if not isinstance(node, ast.ClassDef):
        return None
    for statement in node.body:
        match statement:
            case (
                ast.AnnAssign(target=ast.Name(id=given), value=ast.expr() as value)
                | ast.Assign(targets=[ast.Name(id=given)], value=value)
            ) if given == name:
                return (ast.literal_eval(value),)
            case ast.FunctionDef(name=given) if given == name:
                raise UnreadableError(name)
    for base in node.bases if inherited else ():
        if (found := _attribute(_hint(base, module), name, inherited)) is not None:
            return found
    return None


def _literal(node: ast.expr) -> Any:
    """The value of a default; its text if it is not a literal."""
    try:
        return ast.literal_eval(node)
    except ValueError:
        return ast.unparse(node)


def _decorators(node: ast.ClassDef | ast.FunctionDef) -> list[str]:
    return [_last_name(decorator) for decorator in node.decorator_list]


def _last_name(node: ast.expr) -> str:
    node = node.func if isinstance(node, ast.Call) else node
    node = node.value if isinstance(node, ast.Subscript) else node
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


class _Forward(ast.NodeTransformer):
    """Replaces forward references, `list["Head"]`, by what they name."""

    def visit_Constant(self, node: ast.Constant) -> ast.expr:
        return ast.parse(node.value, mode="eval").body if isinstance(node.value, str) else node

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        if _last_name(node.value) == "Literal":
            return node
        if _last_name(node.value) == "Annotated" and isinstance(node.slice, ast.Tuple):
            node.slice.elts[0] = self.visit(node.slice.elts[0])
            return node
        return self.generic_visit(node)


def _hint(node: ast.expr, module: str) -> Any:
    """The type of a hint's source. Unsupported hints become `Any`."""
    try:
        node = _Forward().visit(copy.deepcopy(node))
        for inner in ast.walk(node):
            if not isinstance(inner, _HINT) or (isinstance(inner, ast.Call) and not _is_bound(inner, module)):
                return Any
        return eval(compile(ast.Expression(node), "<hint>", "eval"), _Module(module))
    except Exception:  # unions with forward references, hints of future Python versions
        return Any


def _is_bound(node: ast.Call, module: str) -> bool:
    """Whether a call in a hint is a bound of annotated_types, such as `Ge(1)`."""
    source = _names(module).get(node.func.id) if isinstance(node.func, ast.Name) else None
    return isinstance(source, ast.ImportFrom) and source.module == "annotated_types"
