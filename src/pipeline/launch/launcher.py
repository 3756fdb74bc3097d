"""The protocol of launchers, which start the processes of a run here or hand them to a cluster."""

import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pipeline.errors import ConfigError

FORWARDED_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)  # to the processes that a launcher waits for


@dataclass(frozen=True)
class Resources:
    """The nodes of a run and the processes on each, one for each device."""

    nodes: int
    processes_per_node: int


class Launcher(Protocol):
    """Starts one process for each device."""

    def resources(self, *, devices: int | str | list[int], accelerator: str, num_nodes: int) -> Resources:
        """Return what the run will have, from Lightning's settings or the launcher's own.

        Raises ConfigError for what the launcher cannot provide.
        """

    def run(self, command: list[str], resources: Resources, folder: Path) -> int:
        """Run `command` in every process, with the environment that holds its rank.

        Processes other than the first write to `folder`/rankN.log. Returns 0, or the exit code of the first
        process that failed, after all have ended; a launcher that only submits returns after that.
        """

    def state(self, folder: Path) -> str | None:
        """Return PENDING, RUNNING or another state of the cluster; None for a run that is not active."""

    def cancel(self, folder: Path) -> str:
        """Ask the processes to save and end, and return a few words about the effect."""


def check_resources_agree(
    given: Resources, *, devices: int | str | list[int], num_nodes: int, settings: str
) -> Resources:
    """Return `given`; raise ConfigError where trainer.devices or trainer.num_nodes ask for something else.

    `settings` names the launcher's own setting, with {} for the number.
    """
    if num_nodes not in (1, given.nodes):
        raise ConfigError(
            f"trainer.num_nodes={num_nodes}, but launch.nodes={given.nodes}: leave trainer.num_nodes out and type "
            f"launch.nodes={num_nodes}"
        )
    requested = len(devices) if isinstance(devices, list) else devices
    if isinstance(requested, int) and requested not in (-1, given.processes_per_node):
        raise ConfigError(
            f"trainer.devices={devices} asks for {requested} processes on each node, but the launcher starts "
            f"{given.processes_per_node}: leave trainer.devices out and type {settings.format(requested)}"
        )
    return given
