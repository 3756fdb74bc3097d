"""Check the type of a value."""

from collections.abc import Mapping
from typing import Any

import yaml

from pipeline.config.static.annotation import TYPE_NAMES, describe_annotation, fits, is_a, is_of_type, literals
from pipeline.config.static.signature import Parameter
from pipeline.config.suggestions import did_you_mean, nearest_names
from pipeline.errors import ConfigError

UNKNOWN = object()  # no default is known: null is one


def check_type(path: str, value: Any, default: Any, parameter: Parameter | None) -> None:
    """Raise ConfigError for a value that fits neither its annotation nor its shipped default.

    The annotation decides. If it tells nothing, or contradicts the shipped default, the type of the default decides;
    a default of null allows any type.
    """
    annotated = _by_annotation(value, parameter)
    if annotated or (annotated is None and fits_default(value, default)):
        return
    if default is not UNKNOWN and _by_annotation(default, parameter) is False and fits_default(value, default):
        return
    if isinstance(default, Mapping):
        raise _node_replaced(path, value, default)
    expected = _expected(default, parameter)
    is_clear = value is None or (isinstance(value, list) and expected.startswith("a list"))
    found = ":" if is_clear or _is_of_type(value, parameter) else f" is {type_name(value)};"
    raise ConfigError(
        f"{path}={as_typed(value)}{found} expected {expected}"
        f"{did_you_mean(f'{path}={each}' for each in _meant(value, parameter))}"
    )


def fits_default(value: Any, default: Any) -> bool:
    """Return whether a value has the type of the default; an int fits a float, elements of lists are compared."""
    if default is None or default is UNKNOWN:
        return True
    if isinstance(default, Mapping):
        return isinstance(value, Mapping)
    if isinstance(default, list):
        fitting = (any(fits_default(each, model) for model in default) for each in value or [])
        return isinstance(value, list) and (not default or all(fitting))
    return is_a(value, type(default).__name__)


def type_name(value: Any) -> str:
    """Return the type of a value in words."""
    if isinstance(value, list):
        return "a list"
    if isinstance(value, Mapping):
        return "keys and values"
    return "a decimal number" if isinstance(value, float) else TYPE_NAMES.get(type(value).__name__, "null")


def as_typed(value: Any) -> str:
    """Return a value as typed after `key=`; a text that reads like another type is in quotes."""
    if isinstance(value, list):
        return f"[{','.join(as_typed(each) for each in value)}]"
    if isinstance(value, str):
        return value if isinstance(_read(value), str) else f"'{value}'"
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{name}:{as_typed(each)}' for name, each in value.items())}}}"
    return (
        {None: "null", True: "true", False: "false"}[value] if value is None or isinstance(value, bool) else str(value)
    )


def _by_annotation(value: Any, parameter: Parameter | None) -> bool | None:
    if parameter is None or parameter.annotation is None or parameter.module is None:
        return None
    return fits(value, parameter.annotation, parameter.module)


def _is_of_type(value: Any, parameter: Parameter | None) -> bool:
    """Return whether a value has the right type and only its size or wording is wrong."""
    if parameter is None or parameter.annotation is None or parameter.module is None:
        return False
    is_listed = isinstance(value, str) and bool(literals(parameter.annotation, parameter.module))
    return is_listed or is_of_type(value, parameter.annotation, parameter.module)


def _expected(default: Any, parameter: Parameter | None) -> str:
    if parameter is not None and parameter.annotation is not None and parameter.module is not None:
        words = describe_annotation(parameter.annotation, parameter.module)
    else:
        words = "a number" if isinstance(default, float) else type_name(default)
    is_example = default is not None and default is not UNKNOWN and _by_annotation(default, parameter) is not False
    return f"{words}, such as the default {as_typed(default)}" if is_example else words


def _meant(value: Any, parameter: Parameter | None) -> list[str]:
    """Return values that would fit: a number without quotes, a listed text, a round number as an int."""
    if parameter is None or parameter.annotation is None or parameter.module is None:
        return []
    candidate = _read(value) if isinstance(value, str) else value
    if isinstance(candidate, float) and candidate.is_integer():
        candidate = int(candidate)
    if candidate is not value and fits(candidate, parameter.annotation, parameter.module):
        return [as_typed(candidate)]
    return nearest_names(value, literals(parameter.annotation, parameter.module)) if isinstance(value, str) else []


def _read(text: str) -> Any:
    """Return the value that YAML reads from a text."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def _node_replaced(path: str, value: Any, default: Mapping[str, Any]) -> ConfigError:
    keys = [f"{path}.{name}" for name in default if not name.startswith("_")]
    remedy = f"set {', '.join(keys)}" if keys else f"choose another class with {path}._target_"
    return ConfigError(
        f"{path}={as_typed(value)} cannot replace what has keys of its own: {remedy}\n  to leave it out  ~{path}"
    )
