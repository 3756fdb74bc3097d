"""Refuse missing required values, and values that nothing reads and that no other value refers to.

A YAML file marks a required value with `???` and a comment that explains it.
"""

import functools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from pipeline.config import search_path
from pipeline.config.checks.types import as_typed
from pipeline.config.compose import Composed
from pipeline.config.search_path import MISSING, Choice
from pipeline.config.suggestions import did_you_mean, listing, nearest_names
from pipeline.config.target_allowlist import target_nodes
from pipeline.errors import ConfigError

GLOBAL = "_global_"
PACKAGE = re.compile(r"^#\s*@package\s+(\S+)", re.MULTILINE)


def check_required_values(config: DictConfig, choices: Mapping[str, Choice], folders: Sequence[Path]) -> None:
    """Raise ConfigError for all missing values, each with the comment in its file.

    The files are those of the `choices` {group: option} in `folders`.
    """
    missing = sorted(OmegaConf.missing_keys(config))
    if not missing:
        return
    typed = [f"{key}=VALUE" for key in missing]
    width = max(map(len, typed))
    notes = [_note(key, choices, folders) for key in missing]
    lines = [f"\n  {word:<{width}}  {note}".rstrip() for word, note in zip(typed, notes, strict=True)]
    has = "have" if len(missing) > 1 else "has"
    raise ConfigError(f"{' and '.join(missing)} {has} no default and must be given{''.join(lines)}")


def _note(key: str, choices: Mapping[str, Choice], folders: Sequence[Path]) -> str:
    chosen = [(group, each) for group, choice in choices.items() for each in _each(choice)]
    notes = (
        comment_beside(key.removeprefix(f"{group.replace('/', '.')}."), file)
        for group, option in chosen
        if key.startswith(f"{group.replace('/', '.')}.")
        for file in _files(f"{group}/{option}", folders)
    )
    return next(filter(None, notes), "")


def _each(choice: Choice) -> list[str]:
    return choice if isinstance(choice, list) else [] if choice is None else [choice]


def _files(name: str, folders: Sequence[Path]) -> Iterator[Path]:
    """Yield the file of an option, then those of its group that it includes, in order of precedence."""
    file = search_path.find_config(name, folders)
    if file is not None:
        yield file
        for entry in reversed(search_path.read_yaml(file).get("defaults", [])):
            if isinstance(entry, str) and entry != "_self_":
                yield from _files(f"{name.rpartition('/')[0]}/{entry}", folders)


def comment_beside(key: str, file: Path) -> str:
    """Return the comment beside a `???`; empty if there is none, or if the value is another one."""
    text = file.read_text(encoding="utf-8")
    node = yaml.compose(text, yaml.SafeLoader)
    for name in key.split("."):
        pairs = node.value if isinstance(node, yaml.MappingNode) else []
        node = next((value for each, value in pairs if each.value == name), None)
    if not isinstance(node, yaml.ScalarNode) or node.value != MISSING:
        return ""
    return text.splitlines()[node.end_mark.line][node.end_mark.column :].strip().lstrip("# ")


def check_unread_keys(composed: Composed) -> None:
    """Raise ConfigError for the first unread value, with the line that is missing in its file."""
    config: dict[str, Any] = OmegaConf.to_container(composed.unresolved, resolve=False)  # type: ignore[assignment]
    known = _known(composed.config_name)
    for name, node in config.items():
        if name not in known and name not in _referred_to(config, but_in=name):
            raise _unread_key_error(name, node, known, composed.files)
        if isinstance(node, dict) and "_target_" not in node and name in known:
            _check_keys(name, node, known[name], _referred_to(config))


def _check_keys(name: str, node: dict[str, Any], known: Iterable[str], referred: set[str]) -> None:
    for key, value in node.items():
        is_object = any(True for _ in target_nodes(value))
        if key not in known and not is_object and value is not None and key not in referred:
            raise ConfigError(
                f"{name}.{key} does not exist{did_you_mean(f'{name}.{each}' for each in nearest_names(key, known))}"
                f"{listing(f'all keys of {name}', known)}"
            )


@functools.cache
def _known(config_name: str) -> dict[str, list[str]]:
    """Return {key: the keys in it} of the shipped file and of all options of its groups."""
    shipped = [search_path.shipped_folder()]
    primary = config_name if search_path.find_config(config_name, shipped) is not None else search_path.PRIMARY
    groups = search_path.option_groups(shipped)
    known: dict[str, list[str]] = {}
    for name in (search_path.PRIMARY, primary):
        content = {key: value for key, value in search_path.read_config(name, shipped).items() if key != "defaults"}
        known |= {key: list(value) if isinstance(value, dict) else [] for key, value in content.items()}
        for group in search_path.default_choices(name, shipped):
            files = [file for file in groups.get(group, {}).values() if _package(file, group) == group]
            if files:  # options of other groups set values all over the configuration
                keys = (key for file in files for key in search_path.read_yaml(file))
                known[group] = [*dict.fromkeys(key for key in keys if key != "defaults")]
    return known


def _package(file: Path, group: str) -> str:
    """Return the Hydra package of an option: the node that its values go to."""
    named = PACKAGE.search(file.read_text(encoding="utf-8", errors="replace"))
    return group.replace("/", ".") if named is None else named.group(1)


def _referred_to(config: dict[str, Any], *, but_in: str | None = None) -> set[str]:
    """Return all names in interpolations."""
    texts = (text for name, node in config.items() if name != but_in for text in _texts(node))
    return {word for text in texts if "${" in text for word in re.findall(r"\w+", text)}


def _texts(node: Any) -> Iterator[str]:
    if isinstance(node, str):
        yield node
    for inner in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from _texts(inner)


def _unread_key_error(name: str, node: Any, known: Iterable[str], files: dict[Path, str]) -> ConfigError:
    for file, group in files.items():
        package = _package(file, group) if group else GLOBAL
        if package.partition(".")[0] == name:
            content = search_path.read_yaml(file)
            keys = ", ".join(key for key in content if key != "defaults")
            first = PACKAGE.search(file.read_text(encoding="utf-8", errors="replace"))
            where = "" if first is None else f" in place of  {first.group()}"
            return ConfigError(
                f"{file} sets {keys} below {package}, where nothing reads it\n  make its first line{where}\n"
                f"    # @package {GLOBAL}"
            )
        if package == GLOBAL and name in search_path.read_yaml(file):
            return _unknown_name_error(name, node, known, f" in {file}")
    return _unknown_name_error(name, node, known, "")


def _unknown_name_error(name: str, node: Any, known: Iterable[str], where: str) -> ConfigError:
    close = nearest_names(name, known, at_most=1)
    if close and not isinstance(node, dict):
        return ConfigError(f"{name}{where} does not exist{did_you_mean(close)}")
    return ConfigError(
        f"{name}{f'={as_typed(node)}' if not isinstance(node, dict) else ''}{where}: nothing reads it, and no other "
        f"value refers to it (${{{name}}}): leave it out{did_you_mean(close)}{listing('all that is read', known)}"
    )
