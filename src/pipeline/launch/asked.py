"""How many processes a user asks for may stand in two places: Lightning's settings and the launcher's own."""

from pipeline.errors import ConfigError
from pipeline.launch.launcher import Resources


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
