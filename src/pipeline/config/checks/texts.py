"""Where a text may be empty: nowhere that we read one, since it is mostly what an unset variable of a shell left."""

import re
from collections.abc import Iterator
from typing import Any

from pipeline.config.target_allowlist import IMPORTABLE
from pipeline.errors import ConfigError

SEPARATOR = "separator"  # whose names end so stands between labels, and may well be a blank


def check_not_empty(key: str, value: str, *, without: str) -> None:
    """Raises ConfigError for an empty text after `key=`; `without` says what holds if it is left out."""
    if not value.strip():
        raise ConfigError(
            f"{key}= has nothing after it: is a variable of your shell not set?\n"
            f"  to give it  {key}=VALUE\n  else        {without}"
        )


def check_no_empty_text(config: dict[str, Any], shipped: dict[str, Any]) -> None:
    """Raises ConfigError for the first empty text that is a setting of ours or of a library's."""
    for key, value in _settings(config):
        if value if key.endswith(SEPARATOR) else value.strip():
            continue
        default: Any = shipped
        for name in key.split("."):
            default = default.get(name) if isinstance(default, dict) else None
        check_not_empty(key, "", without=f"{key}=null" if default is None else f"leave it out, it is {default} then")


def _settings(node: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """(key, text); not those of a class of the user's own, nor what an argument of keys and values has in it."""
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
RESERVED = {"latest": "the newest run", "all": "every run"}  # what the word means after run=
NAME_PATTERN = re.compile(r"\w[\w.+-]*")


def check_run_name(name: Any) -> None:
    """Raises ConfigError, with a name that would do."""
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
