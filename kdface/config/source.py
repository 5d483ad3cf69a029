"""Read signatures and class attributes of parts from source, without importing them.

Parts import torch, which takes seconds; typos, `--cfg job` and `config why` need only names, hints and defaults. Hints
keep what can be checked (numbers, bounds, literals, paths, dataclasses); a class from a heavy module becomes an opaque
type that no plain value matches. Parts that cannot be read this way are imported.
"""

from __future__ import annotations

import ast
import builtins
import dataclasses
import functools
import importlib
import importlib.util
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdface.config.locate import PART_ROOMS, Parameter, Parameters, locate, parameters, require_target
from kdface.errors import UserError, nearest

# Light modules, whose objects are imported directly.
_LIGHT = ("typing", "typing_extensions", "collections", "pathlib", "annotated_types", "os", "datetime", "types")
_PLAIN_BASES = ("object", "ABC", "Protocol", "Generic", "NamedTuple")
_KEEP_SIGNATURE = (
    "_defaults_from_env_vars",
    "no_grad",
    "cache",
    "lru_cache",
    "override",
    "final",
    "runtime_checkable",
    "checked",
)


class UnreadableError(Exception):
    """The source cannot be analysed without importing it."""


@dataclass(frozen=True)
class _Found:
    """A definition: its node, and the module that resolves its names."""

    module: str
    node: ast.AST


@functools.cache
def signature(target: str, origin: str = "") -> Parameters:
    """The parameters of an allowed `_target_`. Raises `UserError` like `locate`."""
    module, name = require_target(target, origin=origin)
    if module in PART_ROOMS and name not in (exported := _exported(module)):
        raise UserError(
            f"_target_ {target!r}: {module} exports no {name!r}.",
            nearest=f"{module}.{near}" if (near := nearest(name, exported)) else "",
            origin=origin,
        )
    try:
        return _parameters(_definition(module, name))
    except (UnreadableError, SyntaxError, RecursionError):
        return parameters(locate(target, origin=origin))


def attribute(target: str, name: str, default: Any = None, inherited: bool = True) -> Any:
    """A literal class attribute of a `_target_`, own or inherited."""
    module, part = require_target(target)
    try:
        found = _attribute(_definition(module, part), name, inherited)
    except (UnreadableError, SyntaxError, ValueError):
        made = locate(target)
        return getattr(made, name, default) if inherited else vars(made).get(name, default)
    return default if found is None else found[0]


def constant(module: str, name: str) -> Any:
    """A literal defined by a module."""
    node = _definition(module, name).node
    assert isinstance(node, ast.expr)
    return ast.literal_eval(node)


def trusted_signature(module: str, name: str) -> Parameters:
    """The parameters of a callable named by kdface itself."""
    try:
        return _parameters(_definition(module, name))
    except (UnreadableError, SyntaxError, RecursionError):
        return parameters(getattr(importlib.import_module(module), name))


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
            case ast.Assign(targets=[ast.Name(id=name)]):
                found[name] = node.value
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr()):
                assert node.value is not None
                found[name] = node.value
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
def _definition(module: str, name: str) -> _Found:
    """The definition of a module's name, following imports."""
    node = _names(module).get(name)
    if node is None:
        try:  # a module of a package
            _file(f"{module}.{name}")
        except UnreadableError:
            raise UnreadableError(f"{module}.{name}") from None
        return _Found(f"{module}.{name}", ast.Module([], []))
    if isinstance(node, ast.ImportFrom):
        real = next(alias.name for alias in node.names if (alias.asname or alias.name) == name)
        return _definition(_absolute(module, node), real)
    if isinstance(node, ast.Import):
        raise UnreadableError(f"{module}.{name}")
    return _Found(module, node)


def _absolute(module: str, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    package = module if _file(module).name == "__init__.py" else module.rpartition(".")[0]
    for _ in range(node.level - 1):
        package = package.rpartition(".")[0]
    return f"{package}.{node.module}" if node.module else package


def _parameters(found: _Found) -> Parameters:
    node = found.node
    if isinstance(node, ast.FunctionDef):
        _require_plain(node)
        return _of_function(node, found.module, skip=0)
    if not isinstance(node, ast.ClassDef):
        raise UnreadableError(found.module)
    decorators = [_last_name(decorator) for decorator in node.decorator_list]
    if "dataclass" in decorators:
        return Parameters({field.name: field for field in _fields(found)}, any_key=False)
    if set(decorators) - set(_KEEP_SIGNATURE):
        raise UnreadableError(f"{found.module}.{node.name}")
    for statement in node.body:
        if isinstance(statement, ast.FunctionDef) and statement.name == "__init__":
            _require_plain(statement)
            return _of_function(statement, found.module, skip=1)
    for base in node.bases:
        name = _last_name(base)
        if name not in _PLAIN_BASES:
            return _parameters(_base(base, found.module))
    return Parameters({}, any_key=False)


def _require_plain(node: ast.FunctionDef) -> None:
    if {_last_name(decorator) for decorator in node.decorator_list} - set(_KEEP_SIGNATURE):
        raise UnreadableError(node.name)


def _base(node: ast.expr, module: str) -> _Found:
    node = node.value if isinstance(node, ast.Subscript) else node
    if isinstance(node, ast.Name):
        return _definition(module, node.id)
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):  # nn.Module
        return _definition(_module_named(module, node.value.id), node.attr)
    raise UnreadableError(module)


def _module_named(module: str, name: str) -> str:
    node = _names(module).get(name)
    if isinstance(node, ast.Import):
        imported = next(alias for alias in node.names if (alias.asname or alias.name.partition(".")[0]) == name)
        return imported.name if imported.asname else name
    if isinstance(node, ast.ImportFrom):
        real = next(alias.name for alias in node.names if (alias.asname or alias.name) == name)
        return f"{_absolute(module, node)}.{real}"
    raise UnreadableError(f"{module}.{name}")


def _of_function(node: ast.FunctionDef, module: str, skip: int) -> Parameters:
    given = node.args
    positional = [*given.posonlyargs, *given.args][skip:]
    defaults: list[ast.expr | None] = [None] * (len(positional) - len(given.defaults)) + list(given.defaults)
    pairs = [*zip(positional, defaults, strict=True), *zip(given.kwonlyargs, given.kw_defaults, strict=True)]
    found = {
        argument.arg: Parameter(
            argument.arg,
            Any if argument.annotation is None else _hint(argument.annotation, module),
            default is None,
            None if default is None else _literal(default),
        )
        for argument, default in pairs
    }
    return Parameters(found, any_key=given.kwarg is not None)


def _fields(found: _Found) -> list[Parameter]:
    """The constructor fields of a dataclass, those of its bases first."""
    node = found.node
    assert isinstance(node, ast.ClassDef)
    fields: dict[str, Parameter] = {}
    for base in reversed(node.bases):
        if _last_name(base) not in _PLAIN_BASES:
            of_base = _base(base, found.module)
            is_dataclass = isinstance(of_base.node, ast.ClassDef) and "dataclass" in map(
                _last_name, of_base.node.decorator_list
            )
            fields.update({field.name: field for field in (_fields(of_base) if is_dataclass else ())})
    for statement in node.body:
        if not isinstance(statement, ast.AnnAssign) or not isinstance(statement.target, ast.Name):
            continue
        if "ClassVar" in ast.unparse(statement.annotation):
            continue
        name, default = statement.target.id, statement.value
        options = (
            {key.arg: key.value for key in default.keywords}
            if isinstance(default, ast.Call) and _last_name(default.func) == "field"
            else None
        )
        if options is not None:
            if isinstance(init := options.get("init"), ast.Constant) and init.value is False:
                continue
            default = options.get("default", options.get("default_factory"))
        value = None if default is None or (options and "default_factory" in options) else _literal(default)
        fields[name] = Parameter(name, _hint(statement.annotation, found.module), default is None, value)
    return list(fields.values())


def _attribute(found: _Found, name: str, inherited: bool) -> tuple[Any] | None:
    node = found.node
    if not isinstance(node, ast.ClassDef):
        return None
    for statement in node.body:
        match statement:
            case ast.AnnAssign(target=ast.Name(id=given), value=ast.expr()) if given == name:
                assert statement.value is not None
                return (ast.literal_eval(statement.value),)
            case ast.Assign(targets=[ast.Name(id=given)]) if given == name:
                return (ast.literal_eval(statement.value),)
            case ast.FunctionDef(name=given) if given == name:
                raise UnreadableError(name)
    for base in node.bases if inherited else ():
        try:
            if (of_base := _attribute(_base(base, found.module), name, inherited)) is not None:
                return of_base
        except UnreadableError:
            continue
    return None


def _literal(node: ast.expr) -> Any:
    """The value of a default; its text if it is not a literal."""
    try:
        return ast.literal_eval(node)
    except ValueError:
        return ast.unparse(node)


def _last_name(node: ast.expr) -> str:
    node = node.func if isinstance(node, ast.Call) else node
    node = node.value if isinstance(node, ast.Subscript) else node
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


class _Opaque(type):
    """The type of a class that is not imported: supports subscripts and unions, matches no plain value."""

    def __getitem__(cls, item: Any) -> Any:
        return cls


@functools.cache
def _opaque(name: str) -> type:
    return _Opaque(name.rpartition(".")[2], (), {"__doc__": f"Stands for {name}, which is not imported."})


@functools.cache
def _of_name(module: str, name: str) -> Any:
    """Resolve a name in a hint."""
    try:
        node = _names(module).get(name)
        if node is None and hasattr(builtins, name):
            return getattr(builtins, name)
        if isinstance(node, ast.Import):
            return _Package(_module_named(module, name))
        if isinstance(node, ast.ImportFrom):
            source = _absolute(module, node)
            real = next(alias.name for alias in node.names if (alias.asname or alias.name) == name)
            return _of_attribute(source, real)
        return _of_definition(_definition(module, name), name)
    except UnreadableError:
        return _opaque(f"{module}.{name}")


def _of_attribute(module: str, name: str) -> Any:
    if module.partition(".")[0] in _LIGHT:
        return getattr(importlib.import_module(module), name)
    try:
        _file(f"{module}.{name}")
        return _Package(f"{module}.{name}")
    except UnreadableError:
        pass
    try:
        return _of_definition(_definition(module, name), name)
    except UnreadableError:
        return _opaque(f"{module}.{name}")


def _of_definition(found: _Found, name: str) -> Any:
    node = found.node
    if isinstance(node, ast.Module):
        return _Package(found.module)
    if isinstance(node, ast.ClassDef):
        decorators = [_last_name(decorator) for decorator in node.decorator_list]
        if "dataclass" in decorators and found.module.startswith("kdface."):
            return _as_dataclass(found.module, name)
        return _opaque(f"{found.module}.{name}")
    if isinstance(node, ast.expr):
        return _hint(node, found.module)
    return _opaque(f"{found.module}.{name}")


@functools.cache
def _as_dataclass(module: str, name: str) -> type:
    """A dataclass with the same fields as one that is not imported."""
    fields = [
        (field.name, field.hint)
        if field.required
        else (field.name, field.hint, dataclasses.field(default_factory=functools.partial(_same, field.default)))
        for field in _fields(_definition(module, name))
    ]
    return dataclasses.make_dataclass(name, fields, frozen=True)


def _same(value: Any) -> Any:
    return value


class _Package:
    """A module in a hint: `nn.Module`, `np.ndarray`."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        return _of_attribute(self._name, name)


class _Namespace(dict[str, Any]):
    def __init__(self, module: str) -> None:
        super().__init__(__builtins__={})
        self.module = module

    def __missing__(self, name: str) -> Any:
        return _of_name(self.module, name)


def _hint(node: ast.expr, module: str) -> Any:
    """The type of a hint's source. Unsupported hints become `Any`."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        try:
            node = ast.parse(node.value, mode="eval").body
        except SyntaxError:
            return Any
    allowed = (
        *(ast.Name, ast.Attribute, ast.Subscript, ast.BinOp, ast.BitOr, ast.Constant, ast.Tuple, ast.List),
        *(ast.Load, ast.Call, ast.keyword, ast.UnaryOp, ast.USub),
    )
    for inner in ast.walk(node):
        if not isinstance(inner, allowed):
            return Any
        if isinstance(inner, ast.Call) and not _is_bound(inner, module):
            return Any
    try:
        return eval(compile(ast.Expression(node), "<hint>", "eval"), _Namespace(module))
    except Exception:  # unions with forward references, hints of future Python versions
        return Any


def _is_bound(node: ast.Call, module: str) -> bool:
    """Whether a call in a hint is a bound of annotated_types, such as `Ge(1)`."""
    if not isinstance(node.func, ast.Name):
        return False
    source = _names(module).get(node.func.id)
    return isinstance(source, ast.ImportFrom) and source.module == "annotated_types"
