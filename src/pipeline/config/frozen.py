"""Load the configuration in the directory of a run or a search, and trust it only if this user wrote it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig, open_dict

from pipeline import run_files
from pipeline.config import compose
from pipeline.config.interpolations import interpolations
from pipeline.config.target_allowlist import allowed_packages
from pipeline.errors import ConfigError
from pipeline.run_files import RunFile
from pipeline.system import seal

MADE_HERE_FLAG = "--made-here"


@dataclass(frozen=True)
class TrustPolicy:
    """How far a configuration in a directory is trusted.

    packages      the packages that were typed for this directory
    is_made_here  whether the parent process found that this user made the directory (this process may not have the
                  user's key); None: check it here
    sealed        the files that the seal must cover
    """

    packages: tuple[str, ...] = ()
    is_made_here: bool | None = None
    sealed: tuple[str, ...] = seal.RUN_FILES

    @classmethod
    def from_arguments(cls, arguments: Sequence[str]) -> "TrustPolicy":
        return cls(is_made_here=True) if MADE_HERE_FLAG in arguments else cls(tuple(arguments), is_made_here=False)

    def arguments(self, folder: Path) -> list[str]:
        """Return the arguments that hand this policy for a directory to a process that we start."""
        return [MADE_HERE_FLAG] if self.applies_to(folder) else list(self.packages)

    def applies_to(self, folder: Path) -> bool:
        return seal.is_made_here(folder, self.sealed) if self.is_made_here is None else self.is_made_here


def load_trusted_config(folder: Path, trust: TrustPolicy, file: RunFile = run_files.CONFIG) -> DictConfig:
    """Return the configuration; if another user made it, only typed packages are allowed, whatever it says.

    Raise DamagedFileError, and ConfigError if another user's configuration would read our environment.
    """
    config = compose.load_frozen_config(folder, file)
    is_ours = trust.applies_to(folder)
    if not is_ours:
        for key, text in interpolations(config):
            raise ConfigError(
                f"{folder / file.name} was not made here, and {key} in it is {text}, which would be filled in with "
                "values of this machine: write the value itself there, if you know it"
            )
    allowed = [*(allowed_packages(config) if is_ours else []), *trust.packages]
    if allowed or "allow_packages" in config:
        with open_dict(config):
            config.allow_packages = list(dict.fromkeys(allowed))
    return config
