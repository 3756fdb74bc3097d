"""Which of several processes is to blame: the first that failed, or those that all others wait for."""

import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import psutil

from pipeline.errors import DONE, INTERRUPTED, PREEMPTED
from pipeline.launch.devices import oom_kills
from pipeline.system import heartbeat
from pipeline.system.heartbeat import HeartbeatState, Phase

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


BEATS_SEEN = 4  # of a phase, before a process is held to its pace: the first ones take what they take
PACE = 10  # a beat may come this many times later than the slowest before it
LONG = 12  # times hang_seconds: for set-up, checkpoints, the end of an epoch, and whatever else has no pace
ASLEEP_SECONDS = 2.0  # between two looks: the watch itself was stopped, or all of the machine
SIGKILL = -9
ENDS_AS_ASKED = (DONE, PREEMPTED, INTERRUPTED)

Processes = Sequence[subprocess.Popen[bytes]]


@dataclass(frozen=True)
class Failure:
    """ranks  who is to blame; nobody in particular where it is empty
    code   as subprocess gives it, 0 for processes that still run
    what   they did or do not do
    """

    ranks: tuple[int, ...]
    code: int
    what: str

    @property
    def is_hang(self) -> bool:
        return self.code == 0


def first_failure(processes: Processes, oom_kills_before: int | None = None) -> Failure | None:
    """Of those that have ended. `oom_kills_before` is what `oom_kills` said when they were started."""
    codes = [process.poll() for process in processes]
    failed = [(rank, code) for rank, code in enumerate(codes) if code not in (None, *ENDS_AS_ASKED)]
    if not failed:
        return None
    # When one is killed, those that talk to it fail in the next moment: what a signal ended came first.
    rank, code = min(failed, key=lambda each: (each[1] or 0) >= 0)
    assert code is not None
    return Failure((rank,), code, _how(code, oom_kills_before))


def _how(code: int, oom_kills_before: int | None) -> str:
    if code == SIGKILL and oom_kills_before is not None:
        by_kernel = oom_kills() != oom_kills_before
        return f"was killed {'by the kernel, because memory ran out' if by_kernel else 'by somebody'} (SIGKILL)"
    if code == SIGKILL:
        return "ran out of memory or was killed by somebody (SIGKILL)"
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"failed with exit code {code}"


class FailureDetector:
    """Over processes that live: notices when they do not get on, and which of them the others wait for.

    All must be silent for `hang_seconds`, and those that are waited for as long as what they do may take: PACE times
    the slowest beat of their phase so far, or LONG times `hang_seconds` for what has no pace (yet). Whoever uses the
    CPU or a disk is given LONG times its limit in a phase that has a pace (it may go in circles), else all the time it
    takes. A process alone has always LONG times `hang_seconds`: nobody waits for it.
    """

    def __init__(self, processes: Processes, pages: Path, hang_seconds: float) -> None:
        self.processes = processes
        self.pages = pages
        self.hang_seconds = hang_seconds
        self.activities = [Activity(process.pid) for process in processes]
        self.awake_since = self.looked_at = time.monotonic()

    def hang(self) -> Failure | None:
        now = time.monotonic()
        if now - self.looked_at > ASLEEP_SECONDS:
            self.awake_since = now
        self.looked_at = now
        running = [rank for rank, process in enumerate(self.processes) if process.poll() is None]
        beats = {rank: heartbeat.read_heartbeat(self.pages, rank) for rank in running}
        silent = {rank: now - max(beat.at, self.awake_since) for rank, beat in beats.items()}
        for rank in running:
            if silent[rank] > WINDOW_SECONDS:
                self.activities[rank].look()
        if not running or min(silent.values()) < self.hang_seconds:
            return None
        stopped = [rank for rank in running if _status(self.processes[rank]) == psutil.STATUS_STOPPED]
        if stopped:
            return self._stopped(stopped, silent)
        awaited = awaited_of(beats)
        if not all(self._is_overdue(rank, beats[rank], silent[rank], now) for rank in awaited):
            return None
        return _failure(awaited, beats, min(silent[rank] for rank in awaited), len(self.processes))

    def _is_overdue(self, rank: int, beat: HeartbeatState, silent: float, now: float) -> bool:
        active_at = self.activities[rank].seen_at
        idle = silent if active_at is None else min(silent, now - active_at)
        if not beat.phase.is_paced or beat.count < BEATS_SEEN or len(self.processes) == 1:
            return idle >= LONG * self.hang_seconds
        limit = max(self.hang_seconds, PACE * beat.longest)
        return idle >= limit or silent >= LONG * limit

    def _stopped(self, stopped: list[int], silent: dict[int, float]) -> Failure | None:
        """By somebody (SIGSTOP) who let nobody go on. One alone may wait: that was the wish."""
        if len(self.processes) == 1:
            return None
        seconds = min(silent[rank] for rank in stopped)
        return Failure(tuple(stopped), 0, f"was stopped by a signal {seconds:.0f} s ago, and the others wait for it")


def awaited_of(beats: dict[int, HeartbeatState]) -> list[int]:
    """The processes that the others wait for; all, where nobody waits for anybody in particular."""
    present = {rank: beat for rank, beat in beats.items() if beat.phase is not Phase.MEETING}
    fewest = min((beat.collectives for beat in present.values()), default=0)
    return [rank for rank, beat in present.items() if beat.collectives == fewest] or list(beats)


def _failure(awaited: list[int], beats: dict[int, HeartbeatState], seconds: float, count: int) -> Failure:
    if count == 1:
        return Failure((0,), 0, f"has not moved for {seconds:.0f} s ({beats[0].phase.title})")
    doing = ", ".join(dict.fromkeys(beats[rank].phase.title for rank in awaited))
    if len(awaited) == len(beats) > 1:
        return Failure((), 0, f"not moved for {seconds:.0f} s ({doing}), and none waits for another in particular")
    others = "the others wait for it" if len(beats) > 1 else "the others are done"
    return Failure(tuple(awaited), 0, f"has not moved for {seconds:.0f} s ({doing}), and {others}")


def _status(process: subprocess.Popen[bytes]) -> str | None:
    try:
        return str(psutil.Process(process.pid).status())
    except psutil.Error:
        return None
