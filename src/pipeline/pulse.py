"""How the processes of a run show whoever started them that they get on."""

import os
import struct
import time
from dataclasses import dataclass
from pathlib import Path

FOLDER = "PIPELINE_PULSE"  # set by who starts the processes and watches over them
FORM = struct.Struct("=qdd?")


@dataclass(frozen=True)
class Beat:
    """count    beats so far
    at       time.monotonic() of the newest, which all processes of a machine share
    longest  seconds between two, at most so far
    waited   whether the next one is due (not: a checkpoint is being written, figures are being drawn)
    """

    count: int
    at: float
    longest: float
    waited: bool


class Pulse:
    """Of this process. A beat takes two microseconds; without a FOLDER in the environment, nothing."""

    def __init__(self, rank: int) -> None:
        folder = os.environ.get(FOLDER)
        self.descriptor = None if folder is None else os.open(file_of(Path(folder), rank), os.O_WRONLY | os.O_CREAT)
        self.newest = Beat(0, time.monotonic(), 0.0, False)

    def beat(self) -> None:
        """One step of the way is done, and the next one will not take much longer than those before."""
        last, now = self.newest, time.monotonic()
        longest = max(last.longest, now - last.at) if last.waited else last.longest
        self._write(Beat(last.count + 1, now, longest, True))

    def rest(self) -> None:
        """What comes now may take its time."""
        self._write(Beat(self.newest.count, time.monotonic(), self.newest.longest, False))

    def _write(self, beat: Beat) -> None:
        self.newest = beat
        if self.descriptor is not None:
            os.pwrite(self.descriptor, FORM.pack(beat.count, beat.at, beat.longest, beat.waited), 0)


def read(folder: Path, rank: int) -> Beat | None:
    """The newest beat of a process; None before its first."""
    try:
        content = file_of(folder, rank).read_bytes()
    except FileNotFoundError:
        return None
    return Beat(*FORM.unpack(content)) if len(content) == FORM.size else None


def file_of(folder: Path, rank: int) -> Path:
    return folder / f"rank{rank}"
