"""Whether a configured value fits a type annotation, told from the annotation's source."""

import ast
from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.config import source
from pipeline.config.source import Definition, Module

LISTS = {"list", "List", "Sequence", "MutableSequence", "Iterable", "Collection", "set", "Set", "frozenset"}
TUPLES = {"tuple", "Tuple"}
MAPPINGS = {"dict", "Dict", "Mapping", "MutableMapping"}
PLAIN = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "text", "None": "null"}
PLURALS = {"int": "whole numbers", "float": "numbers", "bool": "true and false", "str": "texts"}


def fits(value: Any, annotation: ast.expr, module: Module) -> bool | None:
    """None where it cannot be told: the annotation names a class, or something that only running code would give.

    An int fits a float, a bool fits only a bool, and a text never stands for a number.
    """
    if isinstance(value, Mapping) and "_target_" in value:
        return None  # becomes an object first
    answers = [_fits_one(value, alternative, module) for alternative in alternatives(annotation, module)]
    if any(answers):
        return True
    return None if None in answers else False


def describe(annotation: ast.expr, module: Module) -> str:
    """In words: "a list of whole numbers, a number or null"."""
    words = [_describe_one(alternative, module) for alternative in alternatives(annotation, module)]
    if "a number" in words and "a whole number" in words:
        words.remove("a whole number")
    *others, last = dict.fromkeys(words)
    return f"{', '.join(others)} or {last}" if others else last


def _describe_one(annotation: ast.expr, module: Module) -> str:
    name = _name(annotation)
    if isinstance(annotation, ast.Constant):
        return "null" if annotation.value is None else str(annotation.value)
    if name in LISTS | TUPLES:
        element = _members(annotation)[0] if isinstance(annotation, ast.Subscript) else annotation
        return f"a list of {PLURALS[_name(element)]}" if _name(element) in PLURALS else "a list"
    return "keys and values" if name in MAPPINGS else PLAIN.get(name, name)


def literals(annotation: ast.expr, module: Module) -> list[str]:
    """The texts that an annotation with Literal lists."""
    constants = (each for each in alternatives(annotation, module) if isinstance(each, ast.Constant))
    return [each.value for each in constants if isinstance(each.value, str)]


def alternatives(annotation: ast.expr, module: Module) -> Iterator[ast.expr]:
    """The members of unions, Optional and Literal, through aliases; anything else is its own only one."""
    name = _name(annotation)
    if isinstance(annotation, ast.BinOp):
        yield from alternatives(annotation.left, module)
        yield from alternatives(annotation.right, module)
    elif isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        yield from alternatives(_parsed(annotation.value), module)
    elif isinstance(annotation, ast.Subscript) and name in ("Optional", "Union", "Annotated", "Final"):
        members = _members(annotation)[:1] if name == "Annotated" else _members(annotation)
        for member in members:
            yield from alternatives(member, module)
        if name == "Optional":
            yield ast.Constant(None)
    elif isinstance(annotation, ast.Subscript) and name == "Literal":
        yield from (member for member in _members(annotation) if isinstance(member, ast.Constant))
    else:
        alias = None if name in PLAIN else source.resolve(annotation, module)
        if isinstance(alias, Definition) and isinstance(alias.node, ast.expr):
            yield from alternatives(alias.node, alias.module)
        else:
            yield annotation


def _fits_one(value: Any, annotation: ast.expr, module: Module) -> bool | None:
    name = _name(annotation)
    if isinstance(annotation, ast.Constant):  # None, or one value of a Literal; True is not 1 here
        return type(value) is type(annotation.value) and bool(value == annotation.value)
    if name in ("Any", "object"):
        return True
    if name in PLAIN:
        return is_a(value, name)
    if name in LISTS | TUPLES:
        return _fits_list(value, annotation, module)
    if name in MAPPINGS:
        return isinstance(value, Mapping)
    return None


def _fits_list(value: Any, annotation: ast.expr, module: Module) -> bool | None:
    if not isinstance(value, list):
        return False
    if not isinstance(annotation, ast.Subscript):
        return True
    members = _members(annotation)
    is_fixed = _name(annotation) in TUPLES and not (len(members) == 2 and ast.unparse(members[1]) == "...")
    if is_fixed and len(value) != len(members):
        return False
    kinds = members if is_fixed else [members[0]] * len(value)
    answers = [fits(element, kind, module) for element, kind in zip(value, kinds, strict=True)]
    if False in answers:
        return False
    return None if None in answers else True


def is_a(value: Any, name: str) -> bool:
    """Whether a value out of YAML is an int, float, bool, str or None in the sense of `fits`."""
    if isinstance(value, bool):
        return name == "bool"
    if value is None:
        return name == "None"
    return isinstance(value, {"int": int, "float": int | float, "str": str}.get(name, ()))


def _members(annotation: ast.Subscript) -> list[ast.expr]:
    return annotation.slice.elts if isinstance(annotation.slice, ast.Tuple) else [annotation.slice]


def _name(annotation: ast.expr) -> str:
    """`typing.Optional[int]` -> Optional"""
    if isinstance(annotation, ast.Subscript):
        return _name(annotation.value)
    if isinstance(annotation, ast.Constant) and annotation.value is None:
        return "None"
    return getattr(annotation, "id", getattr(annotation, "attr", ""))


def _parsed(text: str) -> ast.expr:
    try:
        return ast.parse(text, mode="eval").body
    except SyntaxError:
        return ast.Name("Any")
