"""Whose code a `_target_` may call. A configuration is often somebody else's: it must not run what it likes."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipeline.errors import ConfigError

ALLOWED = (
    "pipeline.data",
    "pipeline.launch",
    "pipeline.models",
    "pipeline.training",
    "torch.optim",
    "torch.nn",
    "pytorch_lightning.Trainer",
    "pytorch_lightning.trainer",
    "pytorch_lightning.callbacks",
    "torchmetrics",
    "kornia",
    "optuna.samplers",
    "optuna.pruners",
)


def targets(node: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """(path, node) of every node with a `_target_`, at any depth, also inside lists."""
    children: Sequence[tuple[Any, Any]] = []
    if isinstance(node, dict):
        if "_target_" in node:
            yield path, node
        children = list(node.items())
    elif isinstance(node, list):
        children = list(enumerate(node))
    for name, child in children:
        yield from targets(child, f"{path}.{name}" if path else str(name))


def packages_of(config: Mapping[str, Any]) -> list[str]:
    """What the user allows beyond ours. Raises ConfigError for what is no list of top-level packages."""
    packages = config.get("allow_packages") or []
    if isinstance(packages, str) or not all(isinstance(name, str) and name.isidentifier() for name in packages):
        raise ConfigError(
            f"allow_packages={packages}: expected a list of top-level packages, such as allow_packages=[my_package]"
        )
    return list(packages)


def check_allowed(dotted: str, path: str, packages: Sequence[str], *, stands_for: str | None = None) -> None:
    """Raises ConfigError for a name outside the list.

    `stands_for` is the module in which the object was really defined, once that is known.
    """
    if any(f"{stands_for or dotted}.".startswith(f"{prefix}.") for prefix in (*ALLOWED, *packages)):
        return
    found = f" (it stands for something in {stands_for})" if stands_for else ""
    top = (stands_for or dotted).partition(".")[0]
    is_library = top == "pipeline" or top in sys.stdlib_module_names or not top.isidentifier()
    remedy = "call it in a package of your own" if is_library else f"'allow_packages=[{','.join([*packages, top])}]'"
    raise ConfigError(
        f"{path}._target_={dotted}{found} is not in a package that a configuration may call\n"
        f"  to allow it  {remedy}\n  allowed: {', '.join([*ALLOWED, *packages])}"
    )
