"""Which of the run's processes this one is. The only reader of the launcher's environment."""

import os
import signal
import sys
import threading
import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """rank in 0..world_size-1 over all nodes; local_rank among the processes of this node."""

    rank: int
    world_size: int
    local_rank: int
    node: int

    @property
    def is_first(self) -> bool:
        return self.rank == 0


def place() -> Place:
    """As told by our launcher or torchrun (RANK, WORLD_SIZE, LOCAL_RANK, GROUP_RANK); alone without them."""
    read = os.environ.get
    return Place(
        rank=int(read("RANK", "0")),
        world_size=int(read("WORLD_SIZE", "1")),
        local_rank=int(read("LOCAL_RANK", "0")),
        node=int(read("GROUP_RANK", read("NODE_RANK", "0"))),
    )


def environment_of(place: Place, *, master_address: str, master_port: int) -> dict[str, str]:
    """The variables that make `place()` (and Lightning, and torch.distributed) answer this in a new process."""
    return {
        "RANK": str(place.rank),
        "WORLD_SIZE": str(place.world_size),
        "LOCAL_RANK": str(place.local_rank),
        "NODE_RANK": str(place.node),
        "GROUP_RANK": str(place.node),
        "MASTER_ADDR": master_address,
        "MASTER_PORT": str(master_port),
    }


def module_command(module: str, *arguments: str) -> list[str]:
    """A command that runs one of our modules in a new process.

    `-P`, because `-m` alone puts the working directory before everything that is installed: a user's folder named
    `data` or `pipeline` would be imported in place of a package.
    """
    return [sys.executable, "-P", "-m", module, *arguments]


def see_working_directory() -> None:
    """Let the user's own packages in the working directory be found, after all that is installed."""
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())


def follow_parent(*, poll_seconds: float = 0.5, grace_seconds: float = 15.0) -> None:
    """End this process, saved, soon after the one that started it is gone: it must not go on unseen.

    The parent may die by `kill -9` and tell nobody. A thread sends SIGTERM to this process, and ends it the hard
    way when that does not help within `grace_seconds`.
    """
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(poll_seconds)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(grace_seconds)
        os._exit(1)

    threading.Thread(target=watch, name="follow-parent", daemon=True).start()
