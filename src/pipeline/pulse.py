"""How the processes of a run show whoever started them that they get on."""

import mmap
import os
import struct
import time
from dataclasses import dataclass
from pathlib import Path

FOLDER = "PIPELINE_PULSE"  # set by who starts the processes and watches over them
FORM = struct.Struct("qdd?")  # aligned, so that each number changes at once


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
    """Of this process. A beat costs no call of the system: the page that it is written to belongs to a file."""

    def __init__(self, rank: int) -> None:
        folder = os.environ.get(FOLDER)
        self._page = bytearray(FORM.size) if folder is None else _page_of(file_of(Path(folder), rank))
        self._count, self._at, self._longest, self._waited = 0, time.monotonic(), 0.0, False

    def beat(self) -> None:
        """One step of the way is done, and the next one will not take much longer than those before."""
        now = time.monotonic()
        if self._waited and now - self._at > self._longest:
            self._longest = now - self._at
        self._count, self._at, self._waited = self._count + 1, now, True
        FORM.pack_into(self._page, 0, self._count, now, self._longest, True)

    def rest(self) -> None:
        """What comes now may take its time."""
        self._at, self._waited = time.monotonic(), False
        FORM.pack_into(self._page, 0, self._count, self._at, self._longest, False)


def read(folder: Path, rank: int) -> Beat | None:
    """The newest beat of a process; None before its first."""
    try:
        content = file_of(folder, rank).read_bytes()
    except FileNotFoundError:
        return None
    beat = Beat(*FORM.unpack(content)) if len(content) == FORM.size else None
    return None if beat is None or beat.at == 0 else beat


def _page_of(path: Path) -> "mmap.mmap":
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        os.ftruncate(descriptor, FORM.size)
        return mmap.mmap(descriptor, FORM.size)
    finally:
        os.close(descriptor)


def file_of(folder: Path, rank: int) -> Path:
    return folder / f"rank{rank}"
