"""Check that data from outside (a file, a server's answer) has the expected shape."""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

MAX_INTEGER = 2**63  # a larger whole number is no count, time or step, and fits into no float


class FiniteNumber(float):
    """The shape of a number that is neither NaN nor infinite."""


class PositiveNumber(int):
    """The shape of a whole number of 1 or more."""


TYPE_NAMES = {
    str: "text",
    int: "a whole number",
    PositiveNumber: "a whole number above 0",
    float: "a number",
    FiniteNumber: "a finite number",
    bool: "true or false",
    object: "there",
}


@dataclass(frozen=True)
class ListOf:
    """The shape of a list whose values have one shape."""

    shape: Any


@dataclass(frozen=True)
class DictOf:
    """The shape of an object with any keys, whose values have one shape."""

    shape: Any


@dataclass(frozen=True)
class Nullable:
    """The shape of a value that may also be null or missing."""

    shape: Any


def find_mismatch(value: Any, shape: Any, where: str = "") -> str | None:
    """Describe the first difference between a value and a shape; return None if there is none.

    `shape` is str, int, PositiveNumber, float (any number is one), FiniteNumber, bool or object (anything but null), a
    pattern of a whole text, a ListOf, DictOf or Nullable, or {key: shape} for an object with these keys and perhaps
    others.
    """
    if isinstance(shape, Nullable):
        return None if value is None else find_mismatch(value, shape.shape, where)
    if isinstance(shape, Mapping):
        if not isinstance(value, dict):
            return _expected(where, "an object")
        return _first(
            find_mismatch(value.get(key), inner, f"{where}.{key}" if where else key) for key, inner in shape.items()
        )
    if isinstance(shape, ListOf | DictOf):
        if not isinstance(value, list if isinstance(shape, ListOf) else dict):
            return _expected(where, "a list" if isinstance(shape, ListOf) else "an object")
        items = value.values() if isinstance(value, dict) else value
        return _first(
            find_mismatch(item, shape.shape, f"each value of {where}" if where else "each value") for item in items
        )
    if isinstance(shape, re.Pattern):
        matches = isinstance(value, str) and shape.fullmatch(value)
        return None if matches else _expected(where, f"of the form {shape.pattern}")
    return None if _is(value, shape) else _expected(where, TYPE_NAMES[shape])


def _is(value: Any, kind: type) -> bool:
    if kind is PositiveNumber:
        return _is(value, int) and value > 0
    if kind is FiniteNumber:
        return _is(value, float) and math.isfinite(value)
    if kind is float:
        return isinstance(value, float) or _is(value, int)
    if kind is int:
        return type(value) is int and abs(value) < MAX_INTEGER
    return value is not None and isinstance(value, kind)


def _first(problems: Iterable[str | None]) -> str | None:
    return next((problem for problem in problems if problem is not None), None)


def _expected(where: str, what: str) -> str:
    return f"{where or 'it'} is not {what}"
