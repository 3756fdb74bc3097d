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
    """Starts one process for each device and tells how it ended."""

    def run(self, command: list[str], resources: Resources, folder: Path) -> int:
        """Run `command` in every process, with the environment that tells it its place.

        Processes other than the first write to `folder`/rankN.log. Returns 0, or the exit code of the first
        process that failed, after all have ended.
        """
