"""What can be found wrong in the `search` node by its values alone."""

from typing import Any

from omegaconf import DictConfig, OmegaConf

from pipeline.errors import ConfigError
from pipeline.launch.units import seconds_of

LEAST = {"n_trials": 1, "workers": 1, "max_failures": 0, "final_seeds": 0}
# What may be said anew when a search is taken up again; all else would make another one of it.
CHANGEABLE = ("n_trials", "workers", "timeout", "max_failures", "final_seeds")


def check_settings(settings: DictConfig) -> None:
    """Raises ConfigError for numbers and times with which there is no search, and for what cannot be looked for."""
    for name, least in LEAST.items():
        value = settings[name]
        is_all = name == "n_trials" and value is None
        if not is_all and (not isinstance(value, int) or value < least):
            raise ConfigError(f"search.{name}={value}: expected {least} or more, such as search.{name}={least}")
    if settings.timeout is not None:
        seconds_of(settings.timeout, "search.timeout")
    objectives: Any = OmegaConf.to_container(settings.objectives) if settings.objectives else None
    if not isinstance(objectives, dict) or not objectives:
        raise ConfigError("search.objectives: expected a metric and its direction, such as {val/accuracy: maximize}")
    for metric, direction in objectives.items():
        if direction not in ("maximize", "minimize"):
            raise ConfigError(f"search.objectives.{metric}={direction}: expected maximize or minimize")
        if str(metric).startswith("test/"):
            raise ConfigError(
                f"search.objectives.{metric}: the test set is not searched on; take val/{str(metric)[5:]}"
            )
