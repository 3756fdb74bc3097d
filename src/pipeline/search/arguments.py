"""The words of the command line of a search: values to search, settings of the search, and what all trials share."""

from collections.abc import Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from pipeline.config.overrides import parse_overrides
from pipeline.errors import ConfigError

OWN = "search"  # the node, and the group, that a trial has not
OF_THE_SEARCH = ("name", "runs_dir")  # rather than of its trials


def sorted_out(typed: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """({key: values to search}, all other words)"""
    parser = OverridesParser.create()
    values: dict[str, str] = {}
    rest: list[str] = []
    for word in typed:
        try:
            override = parser.parse_override(word)
        except HydraException:
            rest.append(word)  # refused with the others, in their words
            continue
        if not override.is_sweep_override() or is_own(word):
            rest.append(word)
        elif override.is_add() or override.is_force_add() or override.is_delete():
            raise ConfigError(f"{word}: several values are given to a key that exists, without + or ~ before it")
        else:
            values[override.key_or_group] = word.partition("=")[2]
    return values, rest


def mapping(word: str) -> dict[str, Any]:
    (override,) = parse_overrides([word])
    value = override.value()
    if not isinstance(value, dict):
        raise ConfigError(f"{word}: expected keys and values, such as {word.partition('=')[0]}={{KEY: VALUE}}")
    return {str(key): item for key, item in value.items()}


def is_own(word: str) -> bool:
    key = word.lstrip("+~").partition("=")[0]
    return key == OWN or key.startswith((f"{OWN}.", f"{OWN}/"))


def is_of_the_search(word: str) -> bool:
    return word.partition("=")[0] in OF_THE_SEARCH


def is_about_launching(word: str) -> bool:
    """For the workers alone: a trial is trained where its worker runs."""
    return word.lstrip("+~").partition("=")[0].partition(".")[0] == "launch"
