"""Check values against type annotations, which are read as source."""

import ast
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

from pipeline.config.static import lookup
from pipeline.config.static.lookup import Definition, Module
from pipeline.errors import ConfigError

BOUNDS: dict[str, tuple[str, Callable[[Any, Any], bool]]] = {
    "ge": ("from", lambda value, bound: bool(value >= bound)),
    "gt": ("above", lambda value, bound: bool(value > bound)),
    "le": ("to", lambda value, bound: bool(value <= bound)),
    "lt": ("below", lambda value, bound: bool(value < bound)),
}


@dataclass(frozen=True)
class Constraint:
    """A condition on a value beside its type.

    words        what is expected, to follow the name of the type: "from 0 to 1"
    choices      the allowed texts, if they are listed
    """

    holds: Callable[[Any], bool]
    words: str
    choices: tuple[str, ...] = ()


def read_constraint(metadata: ast.expr, module: Module) -> Constraint | None:
    """Return the constraint in `Annotated`; None if it is unknown. Bounds (ge, gt, le, lt) may be of any class."""
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
    found = lookup.resolve_name(table, module)
    if not isinstance(found, Definition) or not isinstance(found.node, ast.Dict):
        return None
    keys = tuple(str(each.value) for each in found.node.keys if isinstance(each, ast.Constant))
    return Constraint(lambda value: value in keys, ", ".join(keys), keys)


def _name_in(package: str) -> Constraint:
    def holds(value: str) -> bool:
        if not value.startswith(f"{package}."):
            return False
        try:
            lookup.find_entity(value)
        except lookup.NotFound:
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


LISTS = {"list", "List", "Sequence", "MutableSequence", "Iterable", "Collection", "set", "Set", "frozenset"}
TUPLES = {"tuple", "Tuple"}
MAPPINGS = {"dict", "Dict", "Mapping", "MutableMapping"}
TYPE_NAMES = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "text", "None": "null"}
PLURALS = {"int": "whole numbers", "float": "numbers", "bool": "true and false", "str": "texts"}


@dataclass(frozen=True)
class Alternative:
    """One member of a union, in the names of `module`, and the constraints on its values."""

    type: ast.expr
    module: Module
    constraints: tuple[Constraint, ...] = ()


def fits(value: Any, annotation: ast.expr, module: Module) -> bool | None:
    """Return whether a value fits; None if reading cannot tell, as for a class or a name made at run time.

    An int fits a float, a bool fits only a bool, and a text never fits a number.
    """
    return _any_of(value, annotation, module, lambda each: each.constraints)


def is_of_type(value: Any, annotation: ast.expr, module: Module) -> bool:
    """Return whether a value has the type of the annotation, whatever its constraints."""
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


def describe_annotation(annotation: ast.expr, module: Module) -> str:
    """Return an annotation in words: "a list of whole numbers, a number from 0 to 1 or null"."""
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
    return "keys and values" if name in MAPPINGS else TYPE_NAMES.get(name, name)


def _plural(element: ast.expr, module: Module, count: str) -> str:
    found = list(alternatives(element, module))
    name = _name(found[0].type)
    if len(found) > 1 or name not in PLURALS:
        return f" of {count.strip()}" if count else ""
    return " ".join([f" of {count}{PLURALS[name]}", *(constraint.words for constraint in found[0].constraints)])


def literals(annotation: ast.expr, module: Module) -> list[str]:
    """Return the texts that an annotation lists, with Literal or as the keys of a table."""
    found: list[str] = []
    for each in alternatives(annotation, module):
        if isinstance(each.type, ast.Constant) and isinstance(each.type.value, str):
            found.append(each.type.value)
        found += [choice for constraint in each.constraints for choice in constraint.choices]
    return found


def alternatives(
    annotation: ast.expr, module: Module, constraints: tuple[Constraint, ...] = ()
) -> Iterator[Alternative]:
    """Yield the members of unions, Optional and Literal, through aliases; any other annotation yields itself."""
    name = _name(annotation)
    if isinstance(annotation, ast.BinOp):
        yield from alternatives(annotation.left, module, constraints)
        yield from alternatives(annotation.right, module, constraints)
    elif isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        yield from alternatives(_parsed(annotation.value), module, constraints)
    elif isinstance(annotation, ast.Subscript) and name == "Annotated":
        plain, *metadata = _members(annotation)
        more = (read_constraint(each, module) for each in metadata)
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
        alias = None if name in TYPE_NAMES else lookup.resolve_name(annotation, module)
        if isinstance(alias, Definition) and isinstance(alias.node, ast.expr):
            yield from alternatives(alias.node, alias.module, constraints)
        else:
            yield Alternative(annotation, module, constraints)


def _number(expression: ast.expr) -> ast.Constant | None:
    """Return a number as a constant: in a syntax tree -1 is an expression. None for anything else."""
    try:
        return ast.Constant(ast.literal_eval(expression))
    except ValueError:
        return None


def _fits_one(value: Any, annotation: ast.expr, module: Module) -> bool | None:
    name = _name(annotation)
    if isinstance(annotation, ast.Constant):  # None or a value of a Literal; True does not equal 1 here
        return type(value) is type(annotation.value) and bool(value == annotation.value)
    if name in ("Any", "object"):
        return True
    if name in TYPE_NAMES:
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
    """Return whether an annotation is a tuple of fixed length, not `tuple[int, ...]`."""
    if not isinstance(annotation, ast.Subscript) or _name(annotation) not in TUPLES:
        return False
    members = _members(annotation)
    return not (len(members) == 2 and ast.unparse(members[1]) == "...")


def is_a(value: Any, name: str) -> bool:
    """Return whether a value from YAML is an int, float, bool, str or None in the sense of `fits`."""
    if isinstance(value, bool):
        return name == "bool"
    if value is None:
        return name == "None"
    return isinstance(value, {"int": int, "float": int | float, "str": str}.get(name, ()))


def _members(annotation: ast.Subscript) -> list[ast.expr]:
    return annotation.slice.elts if isinstance(annotation.slice, ast.Tuple) else [annotation.slice]


def _name(annotation: ast.expr) -> str:
    """Return the last name of an annotation: Optional for `typing.Optional[int]`."""
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
