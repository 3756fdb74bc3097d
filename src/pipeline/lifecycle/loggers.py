"""Loggers of Lightning's beside the journal: they are given what it is given."""

from pathlib import Path

from omegaconf import DictConfig
from pytorch_lightning.loggers import Logger

from pipeline.config import resolve, signature
from pipeline.errors import ConfigError
from pipeline.system.process import Place

FOLDER = "loggers"  # of a run


def build_loggers(config: DictConfig, folder: Path, here: Place) -> list[Logger]:
    """Those that the configuration names, which write to the run's directory unless it says otherwise.

    Only the first process has any, as it alone has the journal. A run that goes on gets a new version of each: what
    was written before stays.
    """
    nodes = config.get("loggers") or {} if here.is_first else {}
    return [_build(config, str(name), folder) for name in nodes]


def _build(config: DictConfig, name: str, folder: Path) -> Logger:
    node = config.loggers[name]
    taken = signature.of_object(resolve.target_of(node, config))
    offered = {"save_dir": str(folder / FOLDER), "name": name}
    given = {
        key: value for key, value in offered.items() if taken is None or (key in taken.parameters and key not in node)
    }
    try:
        logger = resolve.instantiate(node, config, **given)
    except ModuleNotFoundError as problem:
        raise ConfigError(f"loggers.{name} needs a package that is not installed: {problem}") from problem
    if not isinstance(logger, Logger):
        raise ConfigError(
            f"loggers.{name}._target_={node._target_} makes a {type(logger).__name__}; expected a Logger of "
            "pytorch_lightning"
        )
    return logger
