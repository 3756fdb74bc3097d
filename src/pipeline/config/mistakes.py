"""Hydra's refusals in words that say what was meant and what to type."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra.errors import MissingConfigException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import InterpolationKeyError, InterpolationToMissingValueError

from pipeline.config import places
from pipeline.config.overrides import unknown_option
from pipeline.config.places import Groups, read_file
from pipeline.config.suggestions import all_of, did_you_mean, nearest
from pipeline.errors import ConfigError


def explain(problem: Exception, groups: Groups) -> ConfigError:
    """What went wrong when Hydra put the chosen options together."""
    text = str(problem)
    if isinstance(problem, yaml.YAMLError):
        return ConfigError(f"a configuration file is not valid YAML: {text}")
    if isinstance(problem, MissingConfigException):
        return _missing_file(problem, groups)
    twice = re.match(r"Multiple values for (.+?)\.", text)
    if twice is not None:
        group = twice.group(1)
        return ConfigError(f"{group} is chosen already: to choose another option leave out the plus, {group}=OPTION")
    lines = (line.strip() for line in text.splitlines())
    return ConfigError("\n  ".join(line for line in lines if line and "https://" not in line))


def unknown_primary(name: str, folders: Sequence[Path]) -> ConfigError:
    known = places.primaries(folders)
    suggestions = [f"--config-name {each}" for each in nearest(name, known)]
    return ConfigError(
        f"--config-name {name} does not exist{did_you_mean(suggestions)}{all_of('all names', known)}"
        f"{all_of('searched in', map(str, folders))}"
    )


def unknown_key(key: str, tree: DictConfig, groups: Groups) -> ConfigError:
    """A key that is not in the tree: what is near it there, or has that name elsewhere."""
    parent, name, siblings = _deepest(key, tree)
    if siblings is None:
        value = OmegaConf.select(tree, parent, throw_on_resolution_failure=False)
        return ConfigError(f"{key} does not exist: {parent} is a value ({value}) and has no keys")
    missing = f"{parent}.{name}" if parent else name
    owners = [f"{parent}={option}" for option, path in groups.get(parent, {}).items() if name in read_file(path)]
    suggestions = [
        f"{parent}.{each}" if parent else each for each in nearest(name, [*siblings, *([] if parent else groups)])
    ]
    everywhere = list(keys_of(tree))
    last = key.rpartition(".")[2]
    same = [path for path in everywhere if path.rpartition(".")[2] == last]
    if not suggestions and not same and not owners:
        names = nearest(last, [path.rpartition(".")[2] for path in everywhere])
        same = [path for path in everywhere if path.rpartition(".")[2] in names]
    listing = all_of(f"all keys of {parent}", siblings) if parent else all_of("all groups and keys", siblings)
    belongs = f"\n  it is a key of  {' and '.join(owners)}" if owners else ""
    return ConfigError(f"{missing} does not exist{did_you_mean((same or suggestions)[:3])}{belongs}{listing}")


def unresolvable(problem: Exception) -> ConfigError:
    """An interpolation that leads nowhere, or to a value that must be given and was not."""
    key = getattr(problem, "full_key", None)
    reason = str(problem).partition("\n")[0]
    if isinstance(problem, InterpolationToMissingValueError):
        missing = reason.rpartition(": ")[2]
        return ConfigError(f"{key} refers to what has no default and must be given: {missing}=VALUE")
    if isinstance(problem, InterpolationKeyError):
        return ConfigError(
            f"{key} refers to nothing: {reason[:1].lower()}{reason[1:]}\n"
            "  an interpolation is the full path of another key, such as ${optimizer.learning_rate}"
        )
    reason = reason.partition("while resolving interpolation: ")[2].strip("'\"") or reason
    return ConfigError(f"{key} cannot be resolved: {reason}" if key else reason)


def exists(key: str, tree: DictConfig) -> bool:
    parent, _, name = key.rpartition(".")
    node = OmegaConf.select(tree, parent, throw_on_missing=False) if parent else tree
    if isinstance(node, ListConfig):
        return name.isdecimal() and int(name) < len(node)
    return isinstance(node, DictConfig) and name in node.keys()  # noqa: SIM118  # `in node` denies what is missing


def keys_of(tree: DictConfig) -> Iterator[str]:
    """All paths to a value, without what is Hydra's (_target_, _partial_)."""

    def walk(node: dict[Any, Any], prefix: str) -> Iterator[str]:
        for name, value in node.items():
            if not str(name).startswith("_"):
                yield f"{prefix}{name}"
                if isinstance(value, dict):
                    yield from walk(value, f"{prefix}{name}.")

    plain = OmegaConf.to_container(tree, resolve=False)
    assert isinstance(plain, dict)
    return walk(plain, "")


def _deepest(key: str, tree: DictConfig) -> tuple[str, str, list[str] | None]:
    """How far a path goes: (what exists of it, the first name that does not, the names there are instead).

    The names are None where the path goes through a value.
    """
    node: Any = tree
    reached: list[str] = []
    for name in key.split("."):
        if not isinstance(node, DictConfig):
            return ".".join(reached), name, None
        if name not in node.keys():  # noqa: SIM118
            return ".".join(reached), name, [str(each) for each in node if not str(each).startswith("_")]
        node = node._get_node(name)
        reached.append(name)
    return ".".join(reached[:-1]), reached[-1], []


def _missing_file(problem: MissingConfigException, groups: Groups) -> ConfigError:
    """An option that some file's defaults list names, but nobody has."""
    named = re.match(r"In '(.+?)'", str(problem))
    group, _, option = str(problem.missing_cfg_file).rpartition("/")
    where = f"in {named.group(1)}.yaml: " if named else ""
    return ConfigError(f"{where}{unknown_option(group, option, groups)}")
