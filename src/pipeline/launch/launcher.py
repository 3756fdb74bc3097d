"""What a launcher must offer."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pipeline.errors import ConfigError


@dataclass(frozen=True)
class Resources:
    """What a run asks for: `processes_per_node` is one for each device."""

    nodes: int
    processes_per_node: int


class Launcher(Protocol):
    """Starts one process for each device, here or by way of a cluster."""

    def resources(self, *, devices: int | str | list[int], accelerator: str, num_nodes: int) -> Resources:
        """What the run will have, from Lightning's settings or the launcher's own.

        Raises ConfigError for what it cannot give.
        """

    def run(self, command: list[str], resources: Resources, folder: Path) -> int:
        """Run `command` in every process, with the environment that tells it its place.

        Processes other than the first write to `folder`/rankN.log. Returns 0, or the exit code of the first
        process that failed, after all have ended; a launcher that only submits returns when that is done.
        """

    def state(self, folder: Path) -> str | None:
        """PENDING, RUNNING or what the cluster calls it; None for a run that is not under way."""

    def cancel(self, folder: Path) -> str:
        """Ask the processes to save and end, and tell in a few words what was done."""


def check_agrees(given: Resources, *, devices: int | str | list[int], num_nodes: int, settings: str) -> Resources:
    """What is given, unless trainer.devices or trainer.num_nodes ask for something else.

    `settings` are those that decide it here, {} for the number. Raises ConfigError.
    """
    if num_nodes not in (1, given.nodes):
        raise ConfigError(
            f"trainer.num_nodes={num_nodes}, but launch.nodes={given.nodes}: leave trainer.num_nodes out and type "
            f"launch.nodes={num_nodes}"
        )
    asked = len(devices) if isinstance(devices, list) else devices
    if isinstance(asked, int) and asked not in (-1, given.processes_per_node):
        raise ConfigError(
            f"trainer.devices={devices} asks for {asked} processes on each node, but the launcher starts "
            f"{given.processes_per_node}: leave trainer.devices out and type {settings.format(asked)}"
        )
    return given
