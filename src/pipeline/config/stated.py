"""What a class says of itself in its body, read without importing it."""

import ast
from collections.abc import Iterator
from typing import Any

from pipeline.config import source
from pipeline.config.source import Definition

LIGHTNING = ("LightningModule", "LightningDataModule")


def stated(target: Any, name: str) -> Any:
    """The literal that a class, or the nearest of its bases, binds to a name; None where reading tells of none."""
    for owner in _lineage(_class_of(target)):
        if owner is None:
            return None
        for statement in owner.node.body if isinstance(owner.node, ast.ClassDef) else []:
            if (value := _bound(statement, name)) is not None:
                return _literal(value)
    return None


def is_lightning(target: Any) -> bool:
    """A whole LightningModule or LightningDataModule of the user's own, as far as reading tells; ours are none."""
    lineage = [] if str(target).startswith("pipeline.") else _lineage(_class_of(target))
    return any(isinstance(each, Definition) and getattr(each.node, "name", "") in LIGHTNING for each in lineage)


def _class_of(target: Any) -> Definition | None:
    try:
        found = source.find(target) if isinstance(target, str) else None
    except source.NotFound:
        return None
    return found if isinstance(found, Definition) and isinstance(found.node, ast.ClassDef) else None


def _lineage(owner: Definition | None) -> Iterator[Definition | None]:
    """A class and its bases, depth first; None for one that cannot be read."""
    yield owner
    if owner is not None:
        for base in source.bases(owner):
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
