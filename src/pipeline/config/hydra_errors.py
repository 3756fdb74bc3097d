"""Turn errors of Hydra into messages that say what was expected and what to type."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra.errors import MissingConfigException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import InterpolationKeyError, InterpolationToMissingValueError

from pipeline.config import search_path
from pipeline.config.overrides import unknown_option
from pipeline.config.search_path import Groups, read_yaml
from pipeline.config.suggestions import did_you_mean, listing, nearest_names
from pipeline.errors import ConfigError

# Names that other programs use for settings that have another name here, or that are not needed here.
WITHOUT_WORKERS = "data is fed without worker processes, from memory or a file that is mapped: leave it out"
ON_GPUS = "type  trainer.accelerator=gpu trainer.devices=1"
OTHER_NAMES = {
    **dict.fromkeys(("num_workers", "workers", "prefetch_factor", "persistent_workers"), WITHOUT_WORKERS),
    "pin_memory": "samples are on the device, or on their way there, by themselves: leave it out",
    "shuffle": "each epoch has an order of its own, which follows from seed: leave it out",
    **dict.fromkeys(("gpus", "gpu", "num_gpus", "cuda", "device"), ON_GPUS),
    **dict.fromkeys(("lr", "learningrate", "rate"), "type  optimizer.learning_rate=VALUE"),
    **dict.fromkeys(("wd", "decay"), "type  optimizer.weight_decay=VALUE"),
    **dict.fromkeys(("epochs", "num_epochs", "n_epochs"), "type  trainer.max_epochs=VALUE"),
    **dict.fromkeys(("path", "dir", "folder", "data_dir", "dataset_path"), "type  data.root=PATH"),
}


def explain_hydra_error(problem: Exception, groups: Groups) -> ConfigError:
    """Return the error to raise for an error that Hydra raised while it composed the chosen options."""
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


def unknown_config_name(name: str, folders: Sequence[Path]) -> ConfigError:
    known = search_path.primary_configs(folders)
    suggestions = [f"--config-name {each}" for each in nearest_names(name, known)]
    return ConfigError(
        f"--config-name {name} does not exist{did_you_mean(suggestions)}{listing('all names', known)}"
        f"{listing('searched in', map(str, folders))}"
    )


def unknown_key(key: str, tree: DictConfig, groups: Groups) -> ConfigError:
    """Return the error for a key that does not exist, with similar keys and keys of the same name elsewhere."""
    parent, name, siblings = _deepest(key, tree)
    if siblings is None:
        value = OmegaConf.select(tree, parent, throw_on_resolution_failure=False)
        return ConfigError(f"{key} does not exist: {parent} is a value ({value}) and has no keys")
    missing = f"{parent}.{name}" if parent else name
    owners = [f"{parent}={option}" for option, path in groups.get(parent, {}).items() if name in read_yaml(path)]
    last = key.rpartition(".")[2]
    values = list(leaf_paths(tree))
    same = [path for path in values if path.rpartition(".")[2] == last]
    typed = re.findall(r"(\w+(?:\.\w+)+)=", OTHER_NAMES.get(last, ""))
    if last in OTHER_NAMES and not same and all(key_exists(each, tree) for each in typed):
        return ConfigError(f"{missing} does not exist: {OTHER_NAMES[last]}")
    suggestions = [
        f"{parent}.{each}" if parent else each for each in nearest_names(name, [*siblings, *([] if parent else groups)])
    ]
    if not suggestions and not same and not owners and not parent:
        names = nearest_names(last, [path.rpartition(".")[2] for path in values])
        same = [path for path in values if path.rpartition(".")[2] in names]
    everything = listing(f"all keys of {parent}" if parent else "all groups and keys", siblings)
    belongs = f"\n  it is a key of  {' and '.join(owners)}" if owners else ""
    return ConfigError(f"{missing} does not exist{did_you_mean((same or suggestions)[:3])}{belongs}{everything}")


def unresolvable(problem: Exception) -> ConfigError:
    """Return the error for an interpolation that refers to nothing, or to a required value that was not given."""
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


def key_exists(key: str, tree: DictConfig) -> bool:
    parent, _, name = key.rpartition(".")
    node = OmegaConf.select(tree, parent, throw_on_missing=False) if parent else tree
    if isinstance(node, ListConfig):
        return name.isdecimal() and int(name) < len(node)
    return isinstance(node, DictConfig) and name in node.keys()  # noqa: SIM118  # `in node` denies what is missing


def leaf_paths(tree: DictConfig) -> Iterator[str]:
    """Return the paths of all values that have no keys of their own, without Hydra's (_target_, _partial_)."""

    def walk(node: dict[Any, Any], prefix: str) -> Iterator[str]:
        for name, value in node.items():
            if isinstance(value, dict):
                yield from walk(value, f"{prefix}{name}.")
            elif not str(name).startswith("_"):
                yield f"{prefix}{name}"

    plain = OmegaConf.to_container(tree, resolve=False)
    assert isinstance(plain, dict)
    return walk(plain, "")


def _deepest(key: str, tree: DictConfig) -> tuple[str, str, list[str] | None]:
    """Return (the part of a path that exists, the first name that does not, the names that exist beside it).

    The names are None if the path goes through a value.
    """
    node: Any = tree
    reached: list[str] = []
    for name in key.split("."):
        if not isinstance(node, DictConfig):
            return ".".join(reached), name, None
        if name not in node.keys():  # noqa: SIM118
            return ".".join(reached), name, [str(each) for each in node if not str(each).startswith("_")]
        node = dict(node.items_ex(resolve=False))[name]
        reached.append(name)
    return ".".join(reached[:-1]), reached[-1], []


def _missing_file(problem: MissingConfigException, groups: Groups) -> ConfigError:
    """Return the error for an option in the defaults list of a file that does not exist."""
    named = re.match(r"In '(.+?)'", str(problem))
    group, _, option = str(problem.missing_cfg_file).rpartition("/")
    where = f"in {named.group(1)}.yaml: " if named else ""
    return ConfigError(f"{where}{unknown_option(group, option, groups)}")
