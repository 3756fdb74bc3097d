"""Resolve `${...}` in a configuration: references to other keys are filled in, those to the environment stay.

A variable may hold a password. So the files of a run, and MLflow, get only its name, `${oc.env:TOKEN}`; the process
that uses the value reads it.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hydra.core.override_parser.types import Quote, QuotedString
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.resolvers import oc

ENVIRONMENT, DECODE = "oc.env", "oc.decode"
NO_DEFAULT = object()


def interpolations(node: DictConfig | ListConfig, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield (key, text) of every value that is an interpolation."""
    raw: Any = OmegaConf.to_container(node, resolve=False)
    for key in raw if isinstance(raw, dict) else range(len(raw)):
        where = f"{path}.{key}" if path else str(key)
        if OmegaConf.is_interpolation(node, key):
            yield where, raw[key]
        elif isinstance(raw[key], dict | list):
            yield from interpolations(node[key], where)


def raw_value(config: DictConfig, key: str) -> Any:
    """Return the value of a key that exists, with its interpolations unresolved."""
    node: Any = OmegaConf.to_container(config, resolve=False)
    for name in key.split("."):
        node = node[int(name)] if isinstance(node, list) else node[name]
    return node


def resolved_values(config: DictConfig) -> dict[str, Any]:
    """Return plain values. Raise OmegaConfBaseException for a reference to nothing or to a variable that is not set."""
    with _kept_environment():
        plain: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    return plain


@contextmanager
def _kept_environment() -> Iterator[None]:
    values: dict[str, str | None] = {}  # {interpolation: its value}

    def keep(key: str, default: Any = NO_DEFAULT) -> str:
        if key not in os.environ and default is NO_DEFAULT:
            raise KeyError(f"the environment variable {key} is not set: export {key}=VALUE")
        text = "" if default is NO_DEFAULT else ",null" if default is None else f",{_quoted(str(default))}"
        kept = f"${{{ENVIRONMENT}:{key}{text}}}"
        values[kept] = os.environ.get(key, None if default in (NO_DEFAULT, None) else str(default))
        return kept

    def decode(expression: str | None, _parent_: Any, _node_: Any) -> Any:
        """Return a number, boolean or list from the environment, as a setting to keep; a text stays a reference."""
        if expression is None or ENVIRONMENT not in expression:
            return oc.decode(expression, _parent_, _node_)
        text = expression
        for kept, value in values.items():
            text = text.replace(kept, value or "")
        found = oc.decode(text, _parent_, _node_)
        return f"${{{DECODE}:{expression}}}" if isinstance(found, str) else found

    OmegaConf.register_new_resolver(ENVIRONMENT, keep, replace=True)
    OmegaConf.register_new_resolver(DECODE, decode, replace=True)
    try:
        yield
    finally:
        OmegaConf.register_new_resolver(ENVIRONMENT, oc.env, replace=True)
        OmegaConf.register_new_resolver(DECODE, oc.decode, replace=True)


def _quoted(text: str) -> str:
    return QuotedString(text, Quote.double).with_quotes()
