"""Check that required values are given: a YAML file marks them with `???` and a comment that explains them."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import yaml
from omegaconf import DictConfig, OmegaConf

from pipeline.config import search_path
from pipeline.config.search_path import MISSING, Choice
from pipeline.errors import ConfigError


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
