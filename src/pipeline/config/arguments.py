"""Whether a node's keys are what its `_target_` takes."""

from collections.abc import Collection, Mapping
from typing import Any

from pipeline.config.signature import Signature
from pipeline.config.suggestions import all_of, did_you_mean, nearest
from pipeline.errors import ConfigError

# What the run itself passes when it builds a node, as far as the node's class takes it.
AT_RUN_TIME: Mapping[str, frozenset[str]] = {
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
}


def check_arguments(path: str, node: Mapping[str, Any], signature: Signature) -> None:
    """Raises ConfigError for a key that the target does not take, or a missing one that it needs."""
    target, supplied = node["_target_"], AT_RUN_TIME.get(path, frozenset())
    given = [name for name in node if not is_special(name)]
    taken = [name for name in signature.parameters if name not in supplied]
    for name in given:
        if name in supplied:
            raise ConfigError(f"{path}.{name} cannot be set: the run passes it to {target} by itself")
        if name not in taken and not signature.takes_any:
            raise _unknown(path, name, target, taken)
    if node.get("_partial_") or node.get("_args_"):
        return  # the rest is given when it is called, or by position
    missing = [name for name in signature.required() if name not in given and name not in supplied]
    if missing:
        raise ConfigError(
            f"{path}: {target} needs {_listing(missing)}, which nothing gives\n  to give it  +{path}.{missing[0]}=VALUE"
        )


def is_special(name: str) -> bool:
    """Instructions to Hydra, not arguments."""
    return name in ("_target_", "_partial_", "_recursive_", "_convert_", "_args_")


def _unknown(path: str, name: str, target: str, taken: Collection[str]) -> ConfigError:
    suggestions = [f"{path}.{each}" for each in nearest(name, taken)]
    nothing = "" if taken else "\n  it takes no arguments"
    return ConfigError(
        f"{path}.{name}: {target} takes no argument {name}{did_you_mean(suggestions)}"
        f"{all_of('all its arguments', taken)}{nothing}"
    )


def _listing(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
