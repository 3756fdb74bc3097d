"""What an option's YAML gave to its own class, and another class that takes its place does not take."""

from collections.abc import Iterator, Sequence
from typing import Any

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, open_dict

from pipeline.config import signature, source
from pipeline.config.arguments import is_special, renamed
from pipeline.config.signature import Signature


def leave_out_leftovers(config: DictConfig, shipped: DictConfig, typed: Sequence[Override]) -> None:
    """Changes `config`: under a `_target_` that is not the option's, keys that are as shipped, that nobody typed and
    that the class does not take."""
    named = {key for override in typed for key in _keys(override.key_or_group, override.value())}
    _leave_out(config, shipped, "", named)


def _leave_out(node: DictConfig, shipped: Any, path: str, named: set[str]) -> None:
    if not isinstance(shipped, DictConfig):
        return
    # As they are written: interpolations and missing values, too.
    ours, theirs = ({str(name): value for name, value in each.items_ex(resolve=False)} for each in (node, shipped))
    is_other = "_target_" in theirs and ours.get("_target_", theirs["_target_"]) != theirs["_target_"]
    taken = _taken(str(ours["_target_"])) if is_other else None
    for name, value in ours.items():
        key, is_shipped = f"{path}{name}", name in theirs and value == theirs[name]
        if taken is not None and is_shipped and not _takes(taken, path[:-1], name) and key not in named:
            with open_dict(node):
                del node[name]
        elif isinstance(value, DictConfig):
            _leave_out(value, theirs.get(name), f"{key}.", named)


def _taken(target: str) -> Signature | None:
    """None where reading the source does not tell."""
    try:
        return signature.of_source(source.find(target))
    except source.NotFound:
        return None


def _takes(taken: Signature, path: str, name: str) -> bool:
    return is_special(name) or (theirs := renamed(path, name, taken)) is None or theirs in taken.parameters


def _keys(key: str, value: Any) -> Iterator[str]:
    """Of a value that is a dictionary also each key in it, and of each key those that it stands below."""
    parts = key.split(".")
    yield from (".".join(parts[:count]) for count in range(1, len(parts) + 1))
    for name, inner in value.items() if isinstance(value, dict) else ():
        yield from _keys(f"{key}.{name}", inner)
