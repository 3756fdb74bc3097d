"""Decide whose code a `_target_` may call: a configuration often comes from others and must not run any code."""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pipeline.errors import ConfigError

# Packages that may be imported because a configuration names something in them.
IMPORTABLE = (
    "pipeline.data",
    "pipeline.launch",
    "pipeline.models",
    "pipeline.training",
    "torch.optim",
    "torch.nn",
    "pytorch_lightning.Trainer",
    "pytorch_lightning.trainer",
    "pytorch_lightning.callbacks",
    "pytorch_lightning.loggers",
    "torchmetrics",
    "kornia",
    "optuna.samplers",
    "optuna.pruners",
)
# Modules that may define a class of a `_target_`. Making an object of them loads, writes, downloads or starts nothing.
CALLABLE_CLASSES = (
    "pipeline.data",
    "pipeline.launch",
    "pipeline.models",
    "pipeline.training.callbacks",
    "pipeline.training.regularizers",
    "pipeline.training.task",
    "torch.optim",
    "torch.nn.modules",
    "pytorch_lightning.trainer.trainer",
    "pytorch_lightning.callbacks",
    "pytorch_lightning.loggers.csv_logs",
    "pytorch_lightning.loggers.tensorboard",
    "torchmetrics.aggregation",
    "torchmetrics.classification",
    "torchmetrics.regression",
    "kornia.augmentation",
    "optuna.samplers",
    "optuna.pruners",
)
# Making an object of these downloads a network.
EXCLUDED = ("kornia.augmentation._2d.intensity.dissolving",)
CALLABLE_FUNCTIONS = (
    "pipeline.training.optimizers",
    "pipeline.training.schedules",
    "pipeline.training.task.task_for_data",
    "torch.nn.functional",
    "torch.nn.init",
)


def target_nodes(node: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (path, node) of every node with a `_target_`, at any depth, also inside lists."""
    children: Sequence[tuple[Any, Any]] = []
    if isinstance(node, dict):
        if "_target_" in node:
            yield path, node
        children = list(node.items())
    elif isinstance(node, list):
        children = list(enumerate(node))
    for name, child in children:
        yield from target_nodes(child, f"{path}.{name}" if path else str(name))


def allowed_packages(config: Mapping[str, Any]) -> list[str]:
    """Return the packages that the user allows. Raise ConfigError if it is no list of top-level packages."""
    packages = config.get("allow_packages") or []
    if isinstance(packages, str | Mapping) or not all(
        isinstance(name, str) and name.isidentifier() for name in packages
    ):
        raise ConfigError(
            f"allow_packages={packages}: expected a list of top-level packages, such as allow_packages=[my_package]"
        )
    return list(packages)


def check_target_name(dotted: str, path: str, packages: Sequence[str]) -> None:
    """Raise ConfigError for a name that may not be imported."""
    is_private = any(part.startswith("_") for part in dotted.split("."))
    if not _is_in(dotted, packages) and (is_private or not _is_in(dotted, IMPORTABLE)):
        raise _refusal(dotted, path, packages)


def check_target_origin(origin: str, dotted: str, path: str, packages: Sequence[str], *, is_class: bool) -> None:
    """Raise ConfigError for an object that may not be called; `origin` is the full name of its definition."""
    ours = (
        () if _is_in(origin, EXCLUDED) else (*CALLABLE_FUNCTIONS, *CALLABLE_CLASSES) if is_class else CALLABLE_FUNCTIONS
    )
    if not _is_in(origin, [*packages, *ours]):
        raise _refusal(dotted, path, packages, origin)


def _is_in(dotted: str, places: Iterable[str]) -> bool:
    return any(f"{dotted}.".startswith(f"{place}.") for place in places)


def _refusal(dotted: str, path: str, packages: Sequence[str], origin: str | None = None) -> ConfigError:
    found = f" (it stands for {origin})" if origin not in (None, dotted) else ""
    top = (origin or dotted).partition(".")[0]
    is_library = top == "pipeline" or top in sys.stdlib_module_names or not top.isidentifier()
    remedy = "call it in a package of your own" if is_library else f"'allow_packages=[{','.join([*packages, top])}]'"
    return ConfigError(
        f"{path}._target_={dotted}{found} is not in a package that a configuration may call\n"
        f"  to allow it  {remedy}\n  allowed: classes in {', '.join([*CALLABLE_CLASSES])}; all in "
        f"{', '.join([*CALLABLE_FUNCTIONS, *packages])}"
    )
