"""Whether what came from outside, a file or a server, has the shape that is expected of it."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

LARGEST = 2**63  # of a whole number; what is larger is no count, time or step, and fits into no float


class Finite(float):
    """As a shape: a number that is neither NaN nor infinite."""


class Positive(int):
    """As a shape: a whole number of 1 or more."""


NAMES = {
    str: "text",
    int: "a whole number",
    Positive: "a whole number above 0",
    float: "a number",
    Finite: "a finite number",
    bool: "true or false",
    object: "there",
}


@dataclass(frozen=True)
class Each:
    """A list, or with `named` an object with any keys, all of whose values have one shape."""

    shape: Any
    named: bool = True


@dataclass(frozen=True)
class Maybe:
    """Of this shape, or null, or not there."""

    shape: Any


def mismatch(value: Any, shape: Any, where: str = "") -> str | None:
    """The first difference in words, None where there is none.

    `shape` is str, int, Positive, float (any number is one), Finite, bool or object (anything but null), a pattern of a
    whole text, an Each or a Maybe, or {key: shape} for an object that has these keys, and perhaps others.
    """
    if isinstance(shape, Maybe):
        return None if value is None else mismatch(value, shape.shape, where)
    if isinstance(shape, Mapping):
        if not isinstance(value, dict):
            return _expected(where, "an object")
        return _first(
            mismatch(value.get(key), inner, f"{where}.{key}" if where else key) for key, inner in shape.items()
        )
    if isinstance(shape, Each):
        if not isinstance(value, dict if shape.named else list):
            return _expected(where, "an object" if shape.named else "a list")
        items = value.values() if isinstance(value, dict) else value
        return _first(
            mismatch(item, shape.shape, f"each value of {where}" if where else "each value") for item in items
        )
    if isinstance(shape, re.Pattern):
        matches = isinstance(value, str) and shape.fullmatch(value)
        return None if matches else _expected(where, f"of the form {shape.pattern}")
    return None if _is(value, shape) else _expected(where, NAMES[shape])


def _is(value: Any, kind: type) -> bool:
    if kind is Positive:
        return _is(value, int) and value > 0
    if kind is Finite:
        return _is(value, float) and math.isfinite(value)
    if kind is float:
        return isinstance(value, float) or _is(value, int)
    if kind is int:
        return type(value) is int and abs(value) < LARGEST
    return value is not None and isinstance(value, kind)


def _first(problems: Any) -> str | None:
    return next((problem for problem in problems if problem is not None), None)


def _expected(where: str, what: str) -> str:
    return f"{where or 'it'} is not {what}"
