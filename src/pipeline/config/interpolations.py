"""`${...}` in a configuration: what refers to other keys is filled in, what refers to the environment stays as written.

A variable may hold a password. What a run keeps and sends names it, `${oc.env:TOKEN}`; its value is read where it is
used, by the process that uses it.
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
    """(key, text) of every value that refers to something else."""
    raw: Any = OmegaConf.to_container(node, resolve=False)
    for key in raw if isinstance(raw, dict) else range(len(raw)):
        where = f"{path}.{key}" if path else str(key)
        if OmegaConf.is_interpolation(node, key):
            yield where, raw[key]
        elif isinstance(raw[key], dict | list):
            yield from interpolations(node[key], where)


def raw_value(config: DictConfig, key: str) -> Any:
    """The value of a key that is there, with its interpolations."""
    node: Any = OmegaConf.to_container(config, resolve=False)
    for name in key.split("."):
        node = node[int(name)] if isinstance(node, list) else node[name]
    return node


def resolved_values(config: DictConfig) -> dict[str, Any]:
    """Plain values. Raises OmegaConfBaseException for what refers to nothing, or to a variable that is not set."""
    with _kept_environment():
        plain: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    return plain


@contextmanager
def _kept_environment() -> Iterator[None]:
    values: dict[str, str | None] = {}  # {interpolation: what it stands for}

    def keep(key: str, default: Any = NO_DEFAULT) -> str:
        if key not in os.environ and default is NO_DEFAULT:
            raise KeyError(f"the environment variable {key} is not set: export {key}=VALUE")
        text = "" if default is NO_DEFAULT else ",null" if default is None else f",{_quoted(str(default))}"
        kept = f"${{{ENVIRONMENT}:{key}{text}}}"
        values[kept] = os.environ.get(key, None if default in (NO_DEFAULT, None) else str(default))
        return kept

    def decode(expression: str | None, _parent_: Any, _node_: Any) -> Any:
        """A number, truth or list out of the environment is a setting, which a run keeps; a text stays there."""
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
