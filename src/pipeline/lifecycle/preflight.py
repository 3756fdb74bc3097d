"""Whether a configuration is accepted: what `pipeline train` checks, and whoever prints a command to be typed."""

from collections.abc import Sequence
from importlib.util import find_spec

from omegaconf import DictConfig

from pipeline.config.check import check
from pipeline.config.compose import Composed, compose
from pipeline.config.given import check_given
from pipeline.config.unread import check_read
from pipeline.errors import ConfigError, UserError
from pipeline.lifecycle.own_files import check_own_files

TENSORBOARD = ("tensorboard", "tensorboardX")  # either will do


def check_composed(composed: Composed) -> None:
    """Raise UserError for the first mistake that shows before torch is imported."""
    check_read(composed)
    check(composed.config, composed.shipped)
    check_given(composed.config, composed.choices, composed.folders)
    check_own_files(composed.config)
    check_installed(composed.config)


def check_installed(config: DictConfig) -> None:
    """Raise ConfigError for a logger whose package is not brought along and not there."""
    for name, node in (config.get("loggers") or {}).items():
        if str(node.get("_target_")).endswith(".TensorBoardLogger") and not any(map(find_spec, TENSORBOARD)):
            raise ConfigError(
                f"loggers.{name} needs the package tensorboard, which is not installed: python -m pip install "
                "tensorboard, or loggers=csv, which needs nothing"
            )


def is_accepted(overrides: Sequence[str]) -> bool:
    """Return whether `pipeline train` takes these overrides, typed where this process stands."""
    try:
        check_composed(compose(overrides))
    except UserError:
        return False
    return True
