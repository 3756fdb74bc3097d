"""Wait until all processes of a run have come, for a limited time, and say which are missing."""

import os
import socket
import time
from datetime import timedelta

from rich.console import Console
from torch.distributed import DistError, TCPStore  # type: ignore[attr-defined]

from pipeline.errors import TrainingFailed
from pipeline.system.heartbeat import HeartbeatWriter, Phase
from pipeline.system.process import Rank, unset_command
from pipeline.training.interruption import Interrupted, Interruption

START_SECONDS = 300.0  # all are started at the same time, but some may import from a slow file system
SET_UP_SECONDS = 1800.0  # torch's own limit for the collective operation that comes next
TELL_SECONDS = 15.0
POLL_SECONDS = 0.1
STORE_SECONDS = timedelta(seconds=60)


class Rendezvous:
    """A store at MASTER_ADDR:MASTER_PORT, which torch.distributed uses as well. A single process does not wait."""

    def __init__(self, here: Rank, heartbeat: HeartbeatWriter, console: Console, interruption: Interruption) -> None:
        self.here, self.heartbeat, self.console, self.interruption = here, heartbeat, console, interruption
        self.store: TCPStore | None = None

    def wait_until_started(self) -> None:
        """Raise TrainingFailed with the processes that did not come."""
        self._wait("started", START_SECONDS)

    def wait_until_set_up(self) -> None:
        """Raise TrainingFailed with the processes that did not come."""
        self._wait("set up", SET_UP_SECONDS)

    def _wait(self, phase: str, seconds: float) -> None:
        if self.here.world_size == 1:
            return
        self.heartbeat.beat(Phase.MEETING)
        began = time.monotonic()
        is_reported = False
        while missing := self._missing(phase):
            waited = time.monotonic() - began
            if waited > TELL_SECONDS and not is_reported:
                self.console.print(f"waiting for {_names_of(missing, self.here.world_size)}", soft_wrap=True)
                is_reported = True
            if waited > seconds:
                raise TrainingFailed(
                    f"process {self.here.rank} waited {seconds:g} s for {_names_of(missing, self.here.world_size)}, "
                    f"which did not come to {self._endpoint}. {unset_command()}"
                )
            if self.interruption.signal_number:
                raise Interrupted(self.interruption.signal_number, None)
            time.sleep(POLL_SECONDS)
        self.heartbeat.beat(Phase.SET_UP)

    def _missing(self, phase: str) -> list[int]:
        """Return the processes that have not come so far; [0] if the store is not there yet."""
        if self.store is None:
            self.store = self._open()
        if self.store is None:
            return [0]
        try:
            self.store.set(f"{phase}/{self.here.rank}", "here")
            return [rank for rank in range(self.here.world_size) if not self.store.check([f"{phase}/{rank}"])]
        except DistError as error:
            raise TrainingFailed(
                f"process {self.here.rank} waited for the others at {self._endpoint}, and process 0, which holds the "
                f"place, ended: read what that says. {unset_command()}"
            ) from error

    def _open(self) -> TCPStore | None:
        """Return the store, or None as long as the first process does not listen."""
        address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        hosts = self.here.is_first and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
        try:
            if not hosts:
                socket.create_connection((address, port), timeout=STORE_SECONDS.total_seconds()).close()
            # multi_tenant: torch.distributed uses the same store, and does not find its port taken.
            return TCPStore(
                address,
                port,
                self.here.world_size,
                is_master=hosts,
                timeout=STORE_SECONDS,
                wait_for_workers=False,
                multi_tenant=True,
            )
        except OSError:
            return None
        except DistError as error:
            if not hosts:
                return None
            raise TrainingFailed(
                f"process 0 cannot wait for the others at {self._endpoint}: {str(error).splitlines()[0]}. "
                f"Choose a free port: MASTER_PORT=... {unset_command()}"
            ) from error

    @property
    def _endpoint(self) -> str:
        return f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"


def _names_of(ranks: list[int], count: int) -> str:
    numbers = ", ".join(str(rank) for rank in ranks[:10]) + (" ..." if len(ranks) > 10 else "")
    return f"process{'es' if len(ranks) > 1 else ''} {numbers} of {count}"
