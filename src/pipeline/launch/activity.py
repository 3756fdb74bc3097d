"""Whether a process is doing anything, as the system sees it."""

import time
from typing import NamedTuple

import psutil

WINDOW_SECONDS = 1.0
# A second. Threads that only look now and then, and write down what they see, use less.
LEAST_CPU_SECONDS = 0.03
LEAST_DISK_BYTES = 1 << 18


class _Used(NamedTuple):
    cpu_seconds: float
    disk_bytes: int


class Activity:
    """Of a process and those that it started, such as the workers that fetch its data."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.seen_at: float | None = None  # time.monotonic() of the newest sign
        self._looked_at = time.monotonic()
        self._before: dict[int, _Used] = {}

    def look(self) -> None:
        """To be called again and again; looks once in WINDOW_SECONDS, because to go through all processes of a machine
        costs milliseconds."""
        now = time.monotonic()
        window = now - self._looked_at
        if window < WINDOW_SECONDS:
            return
        found = _used_by(self.pid)
        before_that = self._before if window < 3 * WINDOW_SECONDS else {}  # what was long ago says nothing of now
        for pid, used in found.items():
            before = before_that.get(pid)
            if before is not None and (
                used.cpu_seconds - before.cpu_seconds >= LEAST_CPU_SECONDS * window
                or used.disk_bytes - before.disk_bytes >= LEAST_DISK_BYTES * window
            ):
                self.seen_at = now
        self._looked_at, self._before = now, found


def _used_by(pid: int) -> dict[int, _Used]:
    try:
        first = psutil.Process(pid)
        family = [first, *first.children(recursive=True)]
    except psutil.Error:
        return {}
    found: dict[int, _Used] = {}
    for each in family:
        try:
            times = each.cpu_times()
            disk = each.io_counters() if hasattr(each, "io_counters") else None  # not on a Mac
            moved = 0 if disk is None else disk.read_bytes + disk.write_bytes
            found[each.pid] = _Used(times.user + times.system, moved)
        except psutil.Error:
            continue
    return found
