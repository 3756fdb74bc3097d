"""What `pipeline.constraints` means, told from the source of an annotation."""

import ast
from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite
from typing import Any

from pipeline.config import source
from pipeline.config.source import Definition, Module
from pipeline.errors import ConfigError

BOUNDS: dict[str, tuple[str, Callable[[Any, Any], bool]]] = {
    "ge": ("from", lambda value, bound: bool(value >= bound)),
    "gt": ("above", lambda value, bound: bool(value > bound)),
    "le": ("to", lambda value, bound: bool(value <= bound)),
    "lt": ("below", lambda value, bound: bool(value < bound)),
}


@dataclass(frozen=True)
class Constraint:
    """words     what is expected, to stand after the name of the type: "from 0 to 1"
    choices      of texts, those that will do, where they can be counted
    """

    holds: Callable[[Any], bool]
    words: str
    choices: tuple[str, ...] = ()


def read(metadata: ast.expr, module: Module) -> Constraint | None:
    """None for what nobody here knows; bounds are known by their names (ge, gt, le, lt), whoever's class has them."""
    if not isinstance(metadata, ast.Call):
        return None
    name = getattr(metadata.func, "id", getattr(metadata.func, "attr", ""))
    if name == "KeyOf":
        return _key_of(metadata.args[0], module)
    if name == "NameIn":
        return _name_in(str(_literal(metadata.args[0])))
    bounds = {str(each.arg): _literal(each.value) for each in metadata.keywords if each.arg in BOUNDS}
    bounds = {bound: value for bound, value in bounds.items() if isinstance(value, int | float)}
    if not bounds:
        return None
    return _length(bounds) if name == "Length" else _range(bounds)


def _range(bounds: dict[str, float]) -> Constraint:
    def holds(value: Any) -> bool:
        return (isinstance(value, int) or isfinite(value)) and _within(value, bounds)

    return Constraint(holds, _in_words(bounds))


def _length(bounds: dict[str, float]) -> Constraint:
    return Constraint(lambda value: _within(len(value), bounds), f"(at least {bounds.get('ge', 0)})")


def _key_of(table: ast.expr, module: Module) -> Constraint | None:
    found = source.resolve(table, module)
    if not isinstance(found, Definition) or not isinstance(found.node, ast.Dict):
        return None
    keys = tuple(str(each.value) for each in found.node.keys if isinstance(each, ast.Constant))
    return Constraint(lambda value: value in keys, ", ".join(keys), keys)


def _name_in(package: str) -> Constraint:
    def holds(value: str) -> bool:
        if not value.startswith(f"{package}."):
            return False
        try:
            source.find(value)
        except source.NotFound:
            return False
        return True

    return Constraint(holds, f"a name in {package}")


def _within(value: float, bounds: dict[str, float]) -> bool:
    return all(BOUNDS[bound][1](value, limit) for bound, limit in bounds.items())


def _in_words(bounds: dict[str, float]) -> str:
    words = [f"{BOUNDS[bound][0]} {limit}" for bound, limit in bounds.items()]
    return (" " if "le" in bounds and "ge" in bounds else " and ").join(words)


def _literal(expression: ast.expr) -> Any:
    try:
        return ast.literal_eval(expression)
    except ValueError:
        raise ConfigError(f"{ast.unparse(expression)} is no literal, so that no check can read it") from None
