"""Which names a source file binds at its top level, and by which statement."""

import ast
import functools
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Bindings:
    bound: dict[str, ast.AST]
    stars: list[ast.ImportFrom]


@functools.cache
def bindings_of(file: Path) -> Bindings:
    """What a file's own statements bind, also under `if` and `try`."""
    names = Bindings({}, [])
    try:
        tree = ast.parse(file.read_bytes(), filename=str(file))
    except (OSError, SyntaxError, ValueError):
        names.bound["__getattr__"] = ast.Pass()  # unreadable: nothing can be said against any name
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
