"""Heartbeats: the processes of a run report their phase and progress to the process that started them."""

import faulthandler
import mmap
import os
import signal
import struct
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

FOLDER_VARIABLE = "PIPELINE_PULSE"  # set by who starts the processes and watches over them
STATE_LAYOUT = struct.Struct("qqdd")  # aligned, so that each number changes at once
COLLECTIVES_LAYOUT = struct.Struct("q")  # behind it: a thread of its own writes it
SIZE = STATE_LAYOUT.size + COLLECTIVES_LAYOUT.size
COUNT_SECONDS = 0.25


class Phase(IntEnum):
    SET_UP = 0
    MEETING = 1  # until all others have come
    EPOCH_START = 2  # its first batch is on the way
    TRAINING = 3
    VALIDATION = 4
    TEST = 5
    EPOCH_END = 6  # figures over all of it, and what callbacks do then
    CHECKPOINT = 7
    CLOSING = 8

    @property
    def is_paced(self) -> bool:
        """Return whether each beat of the phase takes about as long as the next."""
        return self in (Phase.EPOCH_START, Phase.TRAINING, Phase.VALIDATION, Phase.TEST)

    @property
    def title(self) -> str:
        return PHASE_NAMES[self]


PHASE_NAMES = {
    Phase.SET_UP: "setting up",
    Phase.MEETING: "meeting the others",
    Phase.EPOCH_START: "fetching the first batch of an epoch",
    Phase.TRAINING: "training",
    Phase.VALIDATION: "validating",
    Phase.TEST: "testing",
    Phase.EPOCH_END: "ending an epoch",
    Phase.CHECKPOINT: "saving a checkpoint",
    Phase.CLOSING: "finishing the run",
}


@dataclass(frozen=True)
class HeartbeatState:
    """The newest heartbeat of a process.

    phase        where the process is
    count        beats of this phase so far
    at           time.monotonic() of the newest, which all processes of a machine share
    longest      seconds between two of this phase that followed each other, at most so far
    collectives  operations of all processes together that this one has entered: of those that wait for each other, the
                 one that all wait for has the fewest
    """

    phase: Phase
    count: int
    at: float
    longest: float
    collectives: int


class HeartbeatWriter:
    """Write the heartbeats of this process to a memory-mapped file: a beat costs no system call."""

    def __init__(self, rank: int) -> None:
        folder = os.environ.get(FOLDER_VARIABLE)
        self._page = bytearray(SIZE) if folder is None else _page_of(heartbeat_file(Path(folder), rank))
        self._stacks = sys.stderr if folder is None else stack_file(Path(folder), rank).open("w")
        self._phase, self._at = Phase.SET_UP, time.monotonic()
        self._counts, self._longest = [0] * len(Phase), [0.0] * len(Phase)

    def beat(self, phase: Phase) -> None:
        """Record that the process is in `phase`, or has done one more step of it."""
        now = time.monotonic()
        if phase is self._phase and now - self._at > self._longest[phase]:
            self._longest[phase] = now - self._at
        self._phase, self._at = phase, now
        self._counts[phase] += 1
        STATE_LAYOUT.pack_into(self._page, 0, phase, self._counts[phase], now, self._longest[phase])

    def tell_where_it_stands(self) -> None:
        """Dump the stacks of this process on SIGUSR2: to its watcher's file, else to stderr.

        To be said again when Lightning's Trainer is done: it resets all signals that Python has no handler for.
        """
        faulthandler.unregister(signal.SIGUSR2)
        with suppress(AttributeError, OSError, ValueError):  # no such stream (`>&-`)
            faulthandler.register(signal.SIGUSR2, file=self._stacks)

    def count_collectives(self, entered: Callable[[], int]) -> None:
        """Start a thread that records how many collectives this process has entered: it may be waiting in one."""

        def watch() -> None:
            known = 0
            while True:
                newest = entered()
                # Where nothing is new nothing is written: it would count as use of a disk. 0: their group is no more.
                if newest > known:
                    known = newest
                    COLLECTIVES_LAYOUT.pack_into(self._page, STATE_LAYOUT.size, known)
                time.sleep(COUNT_SECONDS)

        threading.Thread(target=watch, name="pulse", daemon=True).start()


def create_heartbeat(folder: Path, rank: int) -> None:
    """Create the file of a process that is about to start: it may hang before its first beat."""
    first = STATE_LAYOUT.pack(Phase.SET_UP, 0, time.monotonic(), 0.0) + COLLECTIVES_LAYOUT.pack(0)
    heartbeat_file(folder, rank).write_bytes(first)


def read_heartbeat(folder: Path, rank: int) -> HeartbeatState:
    content = heartbeat_file(folder, rank).read_bytes()
    phase, count, at, longest = STATE_LAYOUT.unpack_from(content)
    (collectives,) = COLLECTIVES_LAYOUT.unpack_from(content, STATE_LAYOUT.size)
    return HeartbeatState(Phase(phase), count, at, longest, collectives)


def heartbeat_file(folder: Path, rank: int) -> Path:
    return folder / f"rank{rank}"


def stack_file(folder: Path, rank: int) -> Path:
    """Return the file for a process's stacks: not in the run directory, whose file system may be what it hangs in."""
    return folder / f"rank{rank}.stack"


def _page_of(path: Path) -> "mmap.mmap":
    descriptor = os.open(path, os.O_RDWR)
    try:
        return mmap.mmap(descriptor, SIZE)
    finally:
        os.close(descriptor)
