"""The private names of Hydra and OmegaConf that we use; tests/test_private_names.py fails if an upgrade moves one."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import hydra
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, ListConfig


@contextmanager
def hydra_search_path(folders: Sequence[Path]) -> Iterator[None]:
    """Let hydra.compose search these folders; the first one wins.

    hydra.initialize_config_dir takes only one folder, and those that hydra.searchpath adds come after it, so that the
    files of a user would never win over ours.
    """
    *own, shipped = folders
    search_path = create_config_search_path(str(shipped))
    for folder in own:
        search_path.prepend(provider="user", path=f"file://{folder}", anchor="main")
    hydra.version.setbase("1.3")
    Hydra.create_main_hydra2(task_name="pipeline", config_search_path=search_path)
    try:
        yield
    finally:
        GlobalHydra.instance().clear()


def node_path(node: DictConfig | ListConfig) -> str:
    """Return where a node stands in its configuration, such as data.source."""
    return str(node._get_full_key(None))
