"""What a launcher must offer."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


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
