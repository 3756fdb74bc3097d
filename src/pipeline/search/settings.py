"""What can be found wrong in the `search` node by its values alone."""

import re
from typing import Any

from omegaconf import DictConfig, OmegaConf

from pipeline import metrics
from pipeline.config.checks.addresses import check_secrets, check_store
from pipeline.config.checks.texts import check_name
from pipeline.config.suggestions import all_of, did_you_mean, nearest
from pipeline.config.target_allowlist import targets
from pipeline.errors import ConfigError
from pipeline.launch.units import seconds_of

LEAST = {"n_trials": 1, "workers": 1, "max_failures": 0, "final_seeds": 0}
# What may be said anew when a search is taken up again; all else would make another one of it.
CHANGEABLE = ("n_trials", "workers", "timeout", "max_failures", "final_seeds", "save_as")
BOUNDS = ("min", "max")
PARTS = ("train", "validation", "test")
DIRECTIONS: dict[metrics.Mode, str] = {"min": "minimize", "max": "maximize"}
COUNTED_ONCE = "parameters"  # known before training
OURS = ("pipeline.", "pytorch_lightning.", "kornia.")


def check_settings(settings: DictConfig) -> None:
    """Raises ConfigError for numbers and times with which there is no search, and for what cannot be looked for."""
    for name, least in LEAST.items():
        value = settings[name]
        is_all = name == "n_trials" and value is None
        if not is_all and (not isinstance(value, int) or value < least):
            raise ConfigError(f"search.{name}={value}: expected {least} or more, such as search.{name}={least}")
    if settings.timeout is not None:
        seconds_of(settings.timeout, "search.timeout")
    check_storage(settings.storage)
    if settings.save_as is not None:
        try:
            check_name(settings.save_as)
        except ConfigError as problem:
            raise ConfigError(f"search.save_as: {problem}") from None
    _check_constraints(settings.constraints)
    for part in settings.get("judged", []):
        if part not in PARTS:
            raise ConfigError(f"search.judged: {part} is no part of the data; choose among {', '.join(PARTS)}")
    objectives: Any = OmegaConf.to_container(settings.objectives) if settings.objectives else None
    if not isinstance(objectives, dict) or not objectives:
        raise ConfigError("search.objectives: expected a metric and its direction, such as {val/accuracy: maximize}")
    for metric, direction in objectives.items():
        if direction not in ("maximize", "minimize"):
            raise ConfigError(f"search.objectives.{metric}={direction}: expected maximize or minimize")
        ours = metrics.of_ours(str(metric).removesuffix("_epoch"))
        if ours is not None:
            check_direction(str(metric), direction, ours.mode)
        if str(metric).startswith("test/"):
            raise ConfigError(
                f"search.objectives.{metric}: the test set is not searched on; take val/{str(metric)[5:]}"
            )


def check_direction(metric: str, direction: str, better: metrics.Mode) -> None:
    """Raises ConfigError for a metric whose worst value would be searched for."""
    if direction != DIRECTIONS[better]:
        raise ConfigError(
            f"search.objectives.{metric}={direction}: it is better when it is "
            f"{'lower' if better == 'min' else 'higher'}; use 'search.objectives={{{metric}: {DIRECTIONS[better]}}}'"
        )


def check_storage(address: Any) -> None:
    if address is None:
        return
    if not re.match(r"postgresql://[^/]+/\w", str(address)):
        raise ConfigError(
            "search.storage: expected postgresql://USER@HOST/DATABASE, or null for a file in the search's directory"
        )
    check_secrets({"search": {"storage": address}})
    check_store("search.storage", str(address))


def _check_constraints(constraints: Any) -> None:
    for metric, bounds in (constraints or {}).items():
        said = f"search.constraints.{metric}"
        if str(metric).startswith("test/"):
            raise ConfigError(f"{said}: the test set is not searched on; take val/{str(metric)[5:]}")
        plain: Any = OmegaConf.to_container(bounds) if OmegaConf.is_config(bounds) else bounds
        if not isinstance(plain, dict) or not plain or set(plain) - set(BOUNDS):
            raise ConfigError(f"{said}={plain}: expected bounds, such as {{max: 100000}} or {{min: 0.9, max: 1}}")
        for bound, value in plain.items():
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ConfigError(f"{said}.{bound}={value}: expected a number")


def check_metrics(settings: DictConfig, config: DictConfig) -> None:
    """Raises ConfigError for a metric that nothing of ours measures, whatever the data; of others' code who knows?"""
    nodes: Any = OmegaConf.to_container(config)
    own = nodes["task"].pop("metrics", None) or {}
    nodes["task"].pop("loss", None)
    named = [node["_target_"] for _, node in targets({name: nodes[name] for name in ("model", "task", "callbacks")})]
    if not all(str(target).startswith(OURS) for target in named):
        return
    validation, training = [*metrics.OURS, *own], list(metrics.OURS)
    known = [COUNTED_ONCE, *(f"val/{name}" for name in validation), *(f"train/{name}" for name in training)]
    for group in ("objectives", "constraints"):
        for metric in settings[group] or {}:
            if str(metric).removesuffix("_epoch") not in known:
                raise ConfigError(
                    f"search.{group}.{metric}: nothing measures that{did_you_mean(nearest(str(metric), known))}"
                    f"{all_of('what there may be, by the task', known[: len(validation) + 1])}"
                )
