"""Models that come from packages which are not installed by default."""

import importlib
from types import ModuleType

from pipeline.errors import ConfigError


def package(name: str, *, model: str) -> ModuleType:
    """Raises ConfigError, with what to type, where it is not installed or does not fit what is."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as problem:
        raise ConfigError(
            f"model={model} needs the package {problem.name}, which is not installed: python -m pip install {name}"
        ) from problem
    except (ImportError, RuntimeError) as problem:  # torchvision's way to say that it was built for another torch
        raise ConfigError(
            f"model={model}: the package {name} cannot be imported ({problem}). Where torch is a build for the CPU, "
            "torchvision has to be one, too: python -m pip install --force-reinstall torchvision "
            "--index-url https://download.pytorch.org/whl/cpu"
        ) from problem
