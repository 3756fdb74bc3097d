"""Check that the keys of a node are arguments of its `_target_`."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, open_dict

from pipeline.config.static import lookup, signature
from pipeline.config.static.signature import Signature
from pipeline.config.suggestions import did_you_mean, listing, nearest_names
from pipeline.errors import ConfigError

# The arguments that the run itself passes when it builds a node, if the class of the node takes them.
PASSED_BY_RUN: Mapping[str, frozenset[str]] = {
    "data": frozenset({"seed", "rank", "world_size", "accumulate", "log_every_n_steps"}),
    "model": frozenset({"spec"}),
    "task": frozenset({"spec"}),
    "trainer": frozenset(
        {
            "callbacks",
            "default_root_dir",
            "enable_checkpointing",
            "enable_model_summary",
            "enable_progress_bar",
            "logger",
            "num_sanity_val_steps",
            "plugins",
            "use_distributed_sampler",
        }
    ),
    "scheduler": frozenset({"optimizer", "total_steps", "steps_per_epoch"}),
    "scheduler.schedulers.*": frozenset({"optimizer"}),
}
# The arguments that the run passes if the class takes them and the configuration does not set them.
PASSED_IF_ACCEPTED: Mapping[str, frozenset[str]] = {
    "task.metrics.*": frozenset({"task", "num_classes", "num_labels"}),
    "loggers.*": frozenset({"save_dir", "name"}),
}
# Keys that the run reads, unless the class of the node takes them itself. They can be set without a plus sign.
READ_BY_RUN: Mapping[str, frozenset[str]] = {
    "task": frozenset({"loss", "metrics"}),
    "scheduler": frozenset({"interval", "monitor"}),
}
# Our names for arguments that a class names differently: {node: {our name: its name}}.
ARGUMENT_ALIASES: Mapping[str, Mapping[str, str]] = {"optimizer": {"learning_rate": "lr"}}
# Nodes that are built later, from arguments that the run passes by position.
PARTIAL_NODES = ("optimizer", "scheduler", "scheduler.schedulers.*")


def node_pattern(path: str) -> str:
    """Return task.metrics.* of task.metrics.f2: the key of the tables above."""
    some = f"{path.rpartition('.')[0]}.*"
    return some if some in (*PASSED_BY_RUN, *PASSED_IF_ACCEPTED, *PARTIAL_NODES) else path


def argument_name(path: str, name: str, signature: Signature) -> str | None:
    """Return the name under which the target takes a key of its node; None for a key that the run reads."""
    if name in signature.parameters:
        return name
    if name in READ_BY_RUN.get(path, ()):
        return None
    theirs = ARGUMENT_ALIASES.get(path, {}).get(name)
    return theirs if theirs is not None and theirs in signature.parameters else name


def check_arguments(path: str, node: Mapping[str, Any], signature: Signature) -> None:
    """Raise ConfigError for a key that the target does not take, and for a missing one that it needs."""
    target, pattern = node["_target_"], node_pattern(path)
    supplied = PASSED_BY_RUN.get(pattern, frozenset())
    typed = {
        name: theirs for name in node if not is_hydra_key(name) and (theirs := argument_name(path, name, signature))
    }
    for name, theirs in typed.items():
        if name != theirs and theirs in node:
            raise ConfigError(f"{path}.{name} and {path}.{theirs} are the same: leave one out")
    given = list(typed.values())
    taken = [name for name in signature.parameters if name not in supplied]
    for name in given:
        if name in supplied:
            raise ConfigError(f"{path}.{name} cannot be set: the run passes it to {target} by itself")
        if name not in taken and not signature.takes_any:
            raise _unknown(path, name, target, taken)
    if node.get("_partial_") or node.get("_args_") or pattern in PARTIAL_NODES:
        return  # the rest is given when it is called, or by position
    known = {*given, *supplied, *PASSED_IF_ACCEPTED.get(pattern, ())}
    missing = [name for name in signature.required() if name not in known]
    if missing:
        raise ConfigError(
            f"{path}: {target} needs {_listing(missing)}, but no value is given\n"
            f"  to give it  +{path}.{missing[0]}=VALUE"
        )


def is_hydra_key(name: str) -> bool:
    """Return whether a key is an instruction to Hydra, not an argument."""
    return name in ("_target_", "_partial_", "_recursive_", "_convert_", "_args_")


def _unknown(path: str, name: str, target: str, taken: Collection[str]) -> ConfigError:
    suggestions = [f"{path}.{each}" for each in nearest_names(name, taken)]
    nothing = "" if taken else "\n  it takes no arguments"
    return ConfigError(
        f"{path}.{name}: {target} takes no argument {name}{did_you_mean(suggestions)}"
        f"{listing('all its arguments', taken)}{nothing}"
    )


def _listing(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def remove_unused_defaults(config: DictConfig, shipped: DictConfig, typed: Sequence[Override]) -> None:
    """Remove from `config` the defaults of an option that belong to another class than the one that was chosen.

    These are keys of a node whose `_target_` is not that of the option, which have their shipped values, which nobody
    typed, and which the new class does not take.
    """
    named = {key for override in typed for key in _keys(override.key_or_group, override.value())}
    _leave_out(config, shipped, "", named)


def _leave_out(node: DictConfig, shipped: Any, path: str, named: set[str]) -> None:
    if not isinstance(shipped, DictConfig):
        return
    # The values as written, including interpolations and missing values.
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
    """Return the signature of a target; None if reading the source does not tell."""
    try:
        return signature.signature_of_source(lookup.find_entity(target))
    except lookup.NotFound:
        return None


def _takes(taken: Signature, path: str, name: str) -> bool:
    return is_hydra_key(name) or (theirs := argument_name(path, name, taken)) is None or theirs in taken.parameters


def _keys(key: str, value: Any) -> Iterator[str]:
    """Yield a key with all its parents, and, if the value is a dictionary, every key in it."""
    parts = key.split(".")
    yield from (".".join(parts[:count]) for count in range(1, len(parts) + 1))
    for name, inner in value.items() if isinstance(value, dict) else ():
        yield from _keys(f"{key}.{name}", inner)
