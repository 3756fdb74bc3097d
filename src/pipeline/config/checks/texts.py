"""Refuse empty texts, which mostly come from an unset variable of a shell, and names that no run can have."""

import re
from collections.abc import Iterator
from typing import Any

from pipeline.config.target_allowlist import IMPORTABLE
from pipeline.errors import ConfigError

SEPARATOR = "separator"  # a key with this ending separates labels, and may be a blank


def check_not_empty(key: str, value: str, *, without: str) -> None:
    """Raise ConfigError for an empty text after `key=`; `without` says what holds if it is left out."""
    if not value.strip():
        raise ConfigError(
            f"{key}= has nothing after it: is a variable of your shell not set?\n"
            f"  to give it  {key}=VALUE\n  else        {without}"
        )


def check_no_empty_text(config: dict[str, Any], shipped: dict[str, Any]) -> None:
    """Raise ConfigError for the first empty text that is a setting of ours or of a library."""
    for key, value in _settings(config):
        if value if key.endswith(SEPARATOR) else value.strip():
            continue
        default: Any = shipped
        for name in key.split("."):
            default = default.get(name) if isinstance(default, dict) else None
        check_not_empty(key, "", without=f"{key}=null" if default is None else f"leave it out, it is {default} then")


def _settings(node: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield (key, text), without those of a user's own class and those inside an argument that is a dictionary."""
    is_called = isinstance(node, dict) and "_target_" in node
    if is_called and not str(node["_target_"]).startswith(IMPORTABLE):
        return
    children = node.items() if isinstance(node, dict) else enumerate(node)
    for name, value in children:
        where = f"{path}.{name}" if path else str(name)
        if isinstance(value, str):
            yield where, value
        elif isinstance(value, list) or (isinstance(value, dict) and (not is_called or "_target_" in value)):
            yield from _settings(value, where)


MAX_NAME_LENGTH = 100
RESERVED = {"latest": "the newest run", "all": "every run"}  # the meaning of the word after run=
NAME_PATTERN = re.compile(r"\w[\w.+-]*")


def check_run_name(name: Any) -> None:
    """Raise ConfigError for a name that cannot be part of a directory's name; it suggests one that can."""
    if isinstance(name, str):
        check_not_empty("name", name, without="name=null")
    if isinstance(name, str) and name in RESERVED:
        raise ConfigError(f"name={name} is taken: run={name} means {RESERVED[name]}; such as  name=my-{name}")
    if isinstance(name, str) and len(name) <= MAX_NAME_LENGTH and NAME_PATTERN.fullmatch(name):
        return
    cleaned = re.sub(r"[^\w.+]+", "-", str(name)).strip("-.+")[:MAX_NAME_LENGTH] or "run"
    if not isinstance(name, str):
        cleaned = f"run-{cleaned}"
    raise ConfigError(
        f"name={name} cannot be part of a directory's name: expected a text of letters, digits, '-', '_', '.' "
        f"and '+', {MAX_NAME_LENGTH} at most\n  such as  name={cleaned}"
    )
