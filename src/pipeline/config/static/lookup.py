"""Find the definition of a dotted name by reading source files, without importing anything.

`torch.optim.AdamW` is the class statement in torch/optim/adamw.py, found in milliseconds; to import torch takes
seconds. Re-exports, aliases and star imports are followed. What only running code can tell (C extensions, names made
at run time) is None: the check after the imports covers it.
"""

import ast
import functools
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Bindings:
    bound: dict[str, ast.AST]
    stars: list[ast.ImportFrom]


@functools.cache
def bindings_of(file: Path) -> Bindings:
    """Return the names that the statements of a file bind, also under `if` and `try`."""
    names = Bindings({}, [])
    try:
        tree = ast.parse(file.read_bytes(), filename=str(file))
    except (OSError, SyntaxError, ValueError):
        names.bound["__getattr__"] = ast.Pass()  # unreadable: any name may exist
        return names
    _bind(tree.body, names)
    return names


def _bind(statements: list[ast.stmt], names: Bindings) -> None:
    for statement in statements:
        if isinstance(statement, ast.ClassDef | ast.FunctionDef):
            names.bound[statement.name] = statement
        elif isinstance(statement, ast.ImportFrom) and statement.names[0].name == "*":
            names.stars.append(statement)
        elif isinstance(statement, ast.Import | ast.ImportFrom):
            for alias in statement.names:
                names.bound[alias.asname or alias.name.partition(".")[0]] = statement
        elif isinstance(statement, ast.Assign):
            for target in statement.targets:
                if isinstance(target, ast.Name):
                    names.bound.setdefault(target.id, statement.value)
        elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name) and statement.value:
            names.bound.setdefault(statement.target.id, statement.value)
        else:
            for block in ("body", "orelse", "finalbody"):
                _bind(getattr(statement, block, []), names)
            for handler in getattr(statement, "handlers", []):
                _bind(handler.body, names)


class NotFound(Exception):
    """`name` does not exist in `place`, whose names are `known`."""

    def __init__(self, place: str, name: str, known: list[str]) -> None:
        super().__init__(f"{place} has no {name}" if place else f"{name} is not installed")
        self.place, self.name, self.known = place, name, known


@dataclass(frozen=True)
class Module:
    name: str
    file: Path | None  # None: a namespace package, or compiled code
    folder: Path | None  # where its submodules lie, if it is a package

    @property
    def package(self) -> str:
        return self.name if self.folder is not None else self.name.rpartition(".")[0]


@dataclass(frozen=True)
class Definition:
    """A statement or an assigned expression, and the module whose names it uses."""

    module: Module
    node: ast.AST
    is_bound: bool = False  # a method that is called through its class: `self` is not an argument


Entity = Module | Definition | None


def find_entity(dotted: str) -> Entity:
    """Return what a dotted name stands for; None if reading cannot tell. Raise NotFound if it does not exist."""
    top, *rest = dotted.split(".")
    entity: Entity = find_module(top)
    if entity is None:
        raise NotFound("", top, [])
    for index, name in enumerate(rest):
        entity = _attribute(entity, name, is_last=index == len(rest) - 1)
    return entity


def find_module(name: str) -> Module | None:
    """Return a module by its name; None if the file system has none."""
    parent, _, last = name.rpartition(".")
    if parent:
        package = find_module(parent)
        return None if package is None else _submodule(package, last)
    try:
        spec = importlib.util.find_spec(name)  # of a top-level name: nothing is imported
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    source = Path(spec.origin) if spec.origin is not None and spec.origin.endswith(".py") else None
    locations = list(spec.submodule_search_locations or [])
    return Module(name, source, Path(locations[0]) if locations else None)


@functools.cache
def _submodule(package: Module, name: str) -> Module | None:
    if package.folder is None:
        return None
    full, path = f"{package.name}.{name}", package.folder / name
    if (path / "__init__.py").is_file():
        return Module(full, path / "__init__.py", path)
    if path.with_name(f"{name}.py").is_file():
        return Module(full, path.with_name(f"{name}.py"), None)
    if any(package.folder.glob(f"{name}.*.so")):
        return Module(full, None, None)
    return Module(full, None, path) if path.is_dir() else None


def _attribute(entity: Entity, name: str, *, is_last: bool) -> Entity:
    if isinstance(entity, Module):
        submodule = _submodule(entity, name)
        if submodule is not None and not is_last:
            return submodule
        try:
            return find_in_module(entity, name)
        except NotFound:
            if submodule is not None:
                return submodule
            raise
    if isinstance(entity, Definition) and isinstance(entity.node, ast.ClassDef):
        return find_method(entity, name)
    return None


def find_in_module(module: Module, name: str, seen: frozenset[tuple[str, str]] = frozenset()) -> Entity:
    """Return what `name` stands for in a module; None if reading cannot tell. Raise NotFound if it does not exist."""
    if module.file is None or (module.name, name) in seen:
        return None
    seen |= {(module.name, name)}
    names = bindings_of(module.file)
    if name in names.bound:
        return _follow(module, names.bound[name], name, seen)
    for star in names.stars:
        exporter = find_module(_absolute(module, star))
        if exporter is None or exporter.file is None:
            return None
        try:
            return find_in_module(exporter, name, seen)
        except NotFound:
            continue
    submodule = _submodule(module, name)
    if submodule is None and "__getattr__" not in names.bound:
        raise NotFound(module.name, name, names_in(module))
    return submodule


def _follow(module: Module, node: ast.AST, name: str, seen: frozenset[tuple[str, str]]) -> Entity:
    """Return what a name stands for, from the statement that binds it."""
    if isinstance(node, ast.ImportFrom):
        original = next(alias.name for alias in node.names if (alias.asname or alias.name) == name)
        exporter = find_module(_absolute(module, node))
        if exporter is None:
            return None
        submodule = _submodule(exporter, original)
        try:
            return find_in_module(exporter, original, seen) or submodule
        except NotFound:
            return submodule
    if isinstance(node, ast.Import):
        alias = next(alias for alias in node.names if (alias.asname or alias.name.partition(".")[0]) == name)
        return find_module(alias.name if alias.asname else name)
    if isinstance(node, ast.Name | ast.Attribute):
        return resolve_name(node, module, seen)
    return Definition(module, node)


def resolve_name(expression: ast.AST, module: Module, seen: frozenset[tuple[str, str]] = frozenset()) -> Entity:
    """Return what a name or dotted name in the code of a module stands for; None if reading cannot tell."""
    try:
        if isinstance(expression, ast.Name):
            return find_in_module(module, expression.id, seen)
        if isinstance(expression, ast.Attribute):
            owner = resolve_name(expression.value, module, seen)
            return _attribute(owner, expression.attr, is_last=True)
    except NotFound:
        return None
    return None


def find_method(owner: Definition, name: str) -> Entity:
    """Return a method of a class or of its base classes; None if reading does not find it."""
    assert isinstance(owner.node, ast.ClassDef)
    for statement in owner.node.body:
        if isinstance(statement, ast.FunctionDef) and statement.name == name:
            decorators = {each.id for each in statement.decorator_list if isinstance(each, ast.Name)}
            return Definition(owner.module, statement, is_bound="classmethod" in decorators)
    for base in base_classes(owner):
        found = None if base is None else find_method(base, name)
        if found is not None:
            return found
    return None


def base_classes(owner: Definition) -> Iterator[Definition | None]:
    """Yield the base classes; None for one that cannot be read."""
    assert isinstance(owner.node, ast.ClassDef)
    for expression in owner.node.bases:
        # Generic[T] stands for Generic
        plain = expression.value if isinstance(expression, ast.Subscript) else expression
        found = resolve_name(plain, owner.module)
        is_class = isinstance(found, Definition) and isinstance(found.node, ast.ClassDef)
        if not (isinstance(plain, ast.Name) and plain.id == "object"):
            yield found if is_class and isinstance(found, Definition) else None


def names_in(module: Module) -> list[str]:
    """Return the public names in a module: its classes, functions, imports and submodules."""
    known: list[str] = []
    if module.file is not None:
        names = bindings_of(module.file)
        known += names.bound
        for star in names.stars:
            exporter = find_module(_absolute(module, star))
            known += [] if exporter is None or exporter == module else names_in(exporter)
    if module.folder is not None:
        beside = sorted(module.folder.glob("[!_.]*"))
        known += [path.stem for path in beside if path.suffix == ".py" or (path / "__init__.py").is_file()]
    return list(dict.fromkeys(name for name in known if not name.startswith("_")))


def classes_in(module: Module) -> list[str]:
    """Return the public classes that a module defines itself."""
    bound = {} if module.file is None else bindings_of(module.file).bound
    return [name for name, node in bound.items() if isinstance(node, ast.ClassDef) and not name.startswith("_")]


def _absolute(module: Module, statement: ast.ImportFrom) -> str:
    """Return the absolute name of the module in `from ... import`."""
    if statement.level == 0:
        return statement.module or ""
    parts = module.package.split(".")
    package = ".".join(parts[: len(parts) - statement.level + 1])
    return f"{package}.{statement.module}" if statement.module else package


LIGHTNING = ("LightningModule", "LightningDataModule")


def class_constant(target: Any, name: str) -> Any:
    """Return the literal that a class or its nearest base binds to a name; None if reading finds none."""
    for owner in _lineage(_class_of(target)):
        if owner is None:
            return None
        for statement in owner.node.body if isinstance(owner.node, ast.ClassDef) else []:
            if (value := _bound(statement, name)) is not None:
                return _literal(value)
    return None


def is_lightning(target: Any) -> bool:
    """Return whether a target is a user's own LightningModule or LightningDataModule, as far as reading tells."""
    lineage = [] if str(target).startswith("pipeline.") else _lineage(_class_of(target))
    return any(isinstance(each, Definition) and getattr(each.node, "name", "") in LIGHTNING for each in lineage)


def _class_of(target: Any) -> Definition | None:
    try:
        found = find_entity(target) if isinstance(target, str) else None
    except NotFound:
        return None
    return found if isinstance(found, Definition) and isinstance(found.node, ast.ClassDef) else None


def _lineage(owner: Definition | None) -> Iterator[Definition | None]:
    """Yield a class and its bases, depth first; None for one that cannot be read."""
    yield owner
    if owner is not None:
        for base in base_classes(owner):
            yield from _lineage(base)


def _bound(statement: ast.stmt, name: str) -> ast.expr | None:
    if isinstance(statement, ast.Assign):
        targets: list[ast.expr] = statement.targets
    else:
        targets = [statement.target] if isinstance(statement, ast.AnnAssign) else []
    is_named = any(isinstance(each, ast.Name) and each.id == name for each in targets)
    return statement.value if is_named and isinstance(statement, ast.Assign | ast.AnnAssign) else None


def _literal(value: ast.expr) -> Any:
    try:
        return ast.literal_eval(value)
    except ValueError:
        return None
