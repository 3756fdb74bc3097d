"""Where the processes of a run wait until all have come: for a time, after which they say who is missing."""

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
SET_UP_SECONDS = 1800.0  # torch's own limit for what they do together next
TELL_SECONDS = 15.0
POLL_SECONDS = 0.1
STORE_SECONDS = timedelta(seconds=60)


class Rendezvous:
    """At MASTER_ADDR:MASTER_PORT, where torch.distributed meets as well. One process alone waits for nobody."""

    def __init__(self, here: Rank, pulse: HeartbeatWriter, console: Console, interruption: Interruption) -> None:
        self.here, self.pulse, self.console, self.interruption = here, pulse, console, interruption
        self.store: TCPStore | None = None

    def wait_until_started(self) -> None:
        """Raises TrainingFailed, naming those that did not come."""
        self._wait("started", START_SECONDS)

    def wait_until_set_up(self) -> None:
        """Raises TrainingFailed, naming those that did not come."""
        self._wait("set up", SET_UP_SECONDS)

    def _wait(self, what: str, seconds: float) -> None:
        if self.here.world_size == 1:
            return
        self.pulse.beat(Phase.MEETING)
        began = time.monotonic()
        told = False
        while missing := self._missing(what):
            waited = time.monotonic() - began
            if waited > TELL_SECONDS and not told:
                self.console.print(f"waiting for {_named(missing, self.here.world_size)}", soft_wrap=True)
                told = True
            if waited > seconds:
                raise TrainingFailed(
                    f"process {self.here.rank} waited {seconds:g} s for {_named(missing, self.here.world_size)}, "
                    f"which did not come to {self._place}. {unset_command()}"
                )
            if self.interruption.signal_number:
                raise Interrupted(self.interruption.signal_number, None)
            time.sleep(POLL_SECONDS)
        self.pulse.beat(Phase.SET_UP)

    def _missing(self, what: str) -> list[int]:
        """The processes that have not come so far; the first where there is nobody at all."""
        if self.store is None:
            self.store = self._open()
        if self.store is None:
            return [0]
        try:
            self.store.set(f"{what}/{self.here.rank}", "here")
            return [rank for rank in range(self.here.world_size) if not self.store.check([f"{what}/{rank}"])]
        except DistError as problem:
            raise TrainingFailed(
                f"process {self.here.rank} waited for the others at {self._place}, and process 0, which holds the "
                f"place, ended: read what that says. {unset_command()}"
            ) from problem

    def _open(self) -> TCPStore | None:
        """None as long as nobody listens there."""
        address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        hosts = self.here.is_first and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
        try:
            if not hosts:
                socket.create_connection((address, port), timeout=STORE_SECONDS.total_seconds()).close()
            # multi_tenant: torch.distributed finds the same one, instead of a port that is taken.
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
        except DistError as problem:
            if not hosts:
                return None
            raise TrainingFailed(
                f"process 0 cannot wait for the others at {self._place}: {str(problem).splitlines()[0]}. "
                f"Choose a free port: MASTER_PORT=... {unset_command()}"
            ) from problem

    @property
    def _place(self) -> str:
        return f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"


def _named(ranks: list[int], count: int) -> str:
    numbers = ", ".join(str(rank) for rank in ranks[:10]) + (" ..." if len(ranks) > 10 else "")
    return f"process{'es' if len(ranks) > 1 else ''} {numbers} of {count}"
