"""Whether a configured value fits a type annotation, told from the annotation's source."""

import ast
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.config import source
from pipeline.config.constraint import Constraint, read
from pipeline.config.source import Definition, Module

LISTS = {"list", "List", "Sequence", "MutableSequence", "Iterable", "Collection", "set", "Set", "frozenset"}
TUPLES = {"tuple", "Tuple"}
MAPPINGS = {"dict", "Dict", "Mapping", "MutableMapping"}
PLAIN = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "text", "None": "null"}
PLURALS = {"int": "whole numbers", "float": "numbers", "bool": "true and false", "str": "texts"}


@dataclass(frozen=True)
class Alternative:
    """One member of a union, in the names of `module`, and what its values must keep beside."""

    type: ast.expr
    module: Module
    constraints: tuple[Constraint, ...] = ()


def fits(value: Any, annotation: ast.expr, module: Module) -> bool | None:
    """None where it cannot be told: the annotation names a class, or something that only running code would give.

    An int fits a float, a bool fits only a bool, and a text never stands for a number.
    """
    return _any_of(value, annotation, module, lambda each: each.constraints)


def is_of_type(value: Any, annotation: ast.expr, module: Module) -> bool:
    """Whether only the constraints can be at odds with it."""
    return _any_of(value, annotation, module, lambda each: ()) is True


def _any_of(
    value: Any, annotation: ast.expr, module: Module, kept: Callable[[Alternative], tuple[Constraint, ...]]
) -> bool | None:
    if isinstance(value, Mapping) and "_target_" in value:
        return None  # becomes an object first
    answers = []
    for each in alternatives(annotation, module):
        answer = _fits_one(value, each.type, each.module)
        answers.append(all(constraint.holds(value) for constraint in kept(each)) if answer else answer)
    if any(answers):
        return True
    return None if None in answers else False


def describe(annotation: ast.expr, module: Module) -> str:
    """In words: "a list of whole numbers, a number from 0 to 1 or null"."""
    words = [_describe_one(each) for each in alternatives(annotation, module)]
    if "a number" in words and "a whole number" in words:
        words.remove("a whole number")
    *others, last = dict.fromkeys(words)
    return f"{', '.join(others)} or {last}" if others else last


def _describe_one(each: Alternative) -> str:
    if each.constraints and _name(each.type) == "str":
        return ", ".join(constraint.words for constraint in each.constraints)
    return " ".join([_describe_type(each.type, each.module), *(constraint.words for constraint in each.constraints)])


def _describe_type(annotation: ast.expr, module: Module) -> str:
    name = _name(annotation)
    if isinstance(annotation, ast.Constant):
        return "null" if annotation.value is None else str(annotation.value)
    if name in LISTS | TUPLES:
        members = _members(annotation) if isinstance(annotation, ast.Subscript) else []
        count = f"{len(members)} " if _is_fixed(annotation) else ""
        return f"a list{_plural(members[0], module, count) if members else ''}"
    return "keys and values" if name in MAPPINGS else PLAIN.get(name, name)


def _plural(element: ast.expr, module: Module, count: str) -> str:
    found = list(alternatives(element, module))
    name = _name(found[0].type)
    if len(found) > 1 or name not in PLURALS:
        return f" of {count.strip()}" if count else ""
    return " ".join([f" of {count}{PLURALS[name]}", *(constraint.words for constraint in found[0].constraints)])


def literals(annotation: ast.expr, module: Module) -> list[str]:
    """The texts that an annotation lists, with Literal or as the keys of a table."""
    found: list[str] = []
    for each in alternatives(annotation, module):
        if isinstance(each.type, ast.Constant) and isinstance(each.type.value, str):
            found.append(each.type.value)
        found += [choice for constraint in each.constraints for choice in constraint.choices]
    return found


def alternatives(
    annotation: ast.expr, module: Module, constraints: tuple[Constraint, ...] = ()
) -> Iterator[Alternative]:
    """The members of unions, Optional and Literal, through aliases; anything else is its own only one."""
    name = _name(annotation)
    if isinstance(annotation, ast.BinOp):
        yield from alternatives(annotation.left, module, constraints)
        yield from alternatives(annotation.right, module, constraints)
    elif isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        yield from alternatives(_parsed(annotation.value), module, constraints)
    elif isinstance(annotation, ast.Subscript) and name == "Annotated":
        plain, *metadata = _members(annotation)
        more = (read(each, module) for each in metadata)
        yield from alternatives(plain, module, (*constraints, *(each for each in more if each is not None)))
    elif isinstance(annotation, ast.Subscript) and name in ("Optional", "Union", "Final"):
        for member in _members(annotation):
            yield from alternatives(member, module, constraints)
        if name == "Optional":
            yield Alternative(ast.Constant(None), module)
    elif isinstance(annotation, ast.Subscript) and name == "Literal":
        for member in _members(annotation):
            value = member if isinstance(member, ast.Constant) else _number(member)
            if value is not None:
                yield Alternative(value, module)
    else:
        alias = None if name in PLAIN else source.resolve(annotation, module)
        if isinstance(alias, Definition) and isinstance(alias.node, ast.expr):
            yield from alternatives(alias.node, alias.module, constraints)
        else:
            yield Alternative(annotation, module, constraints)


def _number(expression: ast.expr) -> ast.Constant | None:
    """-1 is no constant in a syntax tree."""
    try:
        return ast.Constant(ast.literal_eval(expression))
    except ValueError:
        return None


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
    is_fixed = _is_fixed(annotation)
    if is_fixed and len(value) != len(members):
        return False
    kinds = members if is_fixed else [members[0]] * len(value)
    answers = [fits(element, kind, module) for element, kind in zip(value, kinds, strict=True)]
    if False in answers:
        return False
    return None if None in answers else True


def _is_fixed(annotation: ast.expr) -> bool:
    """A tuple of so many, not `tuple[int, ...]`."""
    if not isinstance(annotation, ast.Subscript) or _name(annotation) not in TUPLES:
        return False
    members = _members(annotation)
    return not (len(members) == 2 and ast.unparse(members[1]) == "...")


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
