"""Find the process that fails or hangs, and where hung processes are: by their stacks."""

import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import psutil

from pipeline.errors import DONE, INTERRUPTED, PREEMPTED
from pipeline.launch.devices import oom_kills
from pipeline.system import heartbeat
from pipeline.system.heartbeat import HeartbeatState, Phase, stack_file

WINDOW_SECONDS = 1.0
# Per second. Monitoring threads that only sample and log now and then use less.
MIN_CPU_SECONDS = 0.03
MIN_DISK_BYTES = 1 << 18


class _Usage(NamedTuple):
    cpu_seconds: float
    disk_bytes: int


class ProcessActivity:
    """CPU and disk use of a process and its children, such as the workers that fetch its data."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.active_at: float | None = None  # time.monotonic() of the newest activity
        self._sampled_at = time.monotonic()
        self._before: dict[int, _Usage] = {}

    def sample(self) -> None:
        """Sample once in WINDOW_SECONDS, however often it is called: listing the processes of a machine takes
        milliseconds.
        """
        now = time.monotonic()
        window = now - self._sampled_at
        if window < WINDOW_SECONDS:
            return
        usage = _usage_of(self.pid)
        earlier = self._before if window < 3 * WINDOW_SECONDS else {}  # an old sample says nothing about now
        for pid, used in usage.items():
            before = earlier.get(pid)
            if before is not None and (
                used.cpu_seconds - before.cpu_seconds >= MIN_CPU_SECONDS * window
                or used.disk_bytes - before.disk_bytes >= MIN_DISK_BYTES * window
            ):
                self.active_at = now
        self._sampled_at, self._before = now, usage


def _usage_of(pid: int) -> dict[int, _Usage]:
    try:
        first = psutil.Process(pid)
        family = [first, *first.children(recursive=True)]
    except psutil.Error:
        return {}
    usage: dict[int, _Usage] = {}
    for process in family:
        try:
            times = process.cpu_times()
            disk = process.io_counters() if hasattr(process, "io_counters") else None  # not on a Mac
            disk_bytes = 0 if disk is None else disk.read_bytes + disk.write_bytes
            usage[process.pid] = _Usage(times.user + times.system, disk_bytes)
        except psutil.Error:
            continue
    return usage


MIN_BEATS = 4  # of a phase, before its pace counts: the first ones may take any time
PACE_FACTOR = 10  # a beat may take this many times as long as the slowest before it
UNPACED_FACTOR = 12  # times hang_seconds: for set-up, checkpoints, the end of an epoch, and other phases without a pace
ASLEEP_SECONDS = 2.0  # between two calls: then this process itself was stopped, or the whole machine
SIGKILL = -9
ENDS_AS_ASKED = (DONE, PREEMPTED, INTERRUPTED)

Processes = Sequence[subprocess.Popen[bytes]]


@dataclass(frozen=True)
class Failure:
    """A failed or hung process.

    ranks        the processes at fault; empty where none can be told apart from the others
    code         as subprocess returns it, 0 for processes that still run
    description  what they did or do not do, for a sentence that begins with the process
    """

    ranks: tuple[int, ...]
    code: int
    description: str

    @property
    def is_hang(self) -> bool:
        return self.code == 0


def first_failure(processes: Processes, oom_kills_before: int | None = None) -> Failure | None:
    """Return the first failure of those that have ended; `oom_kills_before` is `oom_kills()` at their start."""
    codes = [process.poll() for process in processes]
    failed = [(rank, code) for rank, code in enumerate(codes) if code not in (None, *ENDS_AS_ASKED)]
    if not failed:
        return None
    # When one is killed, those that communicate with it fail right after it: a signal came first.
    rank, code = min(failed, key=lambda rank_and_code: (rank_and_code[1] or 0) >= 0)
    assert code is not None
    return Failure((rank,), code, _describe_exit(code, oom_kills_before))


def _describe_exit(code: int, oom_kills_before: int | None) -> str:
    if code == SIGKILL and oom_kills_before is not None:
        by_kernel = oom_kills() != oom_kills_before
        return f"was killed {'by the kernel, because memory ran out' if by_kernel else 'by somebody'} (SIGKILL)"
    if code == SIGKILL:
        return "ran out of memory or was killed by somebody (SIGKILL)"
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"failed with exit code {code}"


class FailureDetector:
    """Detects among running processes that none makes progress, and which of them the others wait for.

    All must be silent for `hang_seconds`, and those that the others wait for as long as their phase may take:
    PACE_FACTOR times the slowest beat of the phase so far, or UNPACED_FACTOR times `hang_seconds` where it has no pace
    (yet). A process that uses the CPU or a disk has UNPACED_FACTOR times its limit in a phase with a pace (it may be in
    an endless loop), else no limit. A single process always has UNPACED_FACTOR times `hang_seconds`.
    """

    def __init__(self, processes: Processes, pages: Path, hang_seconds: float) -> None:
        self.processes = processes
        self.pages = pages
        self.hang_seconds = hang_seconds
        self.activities = [ProcessActivity(process.pid) for process in processes]
        self.awake_since = self.checked_at = time.monotonic()

    def hang(self) -> Failure | None:
        """Return the hang of the processes, if they hang now; call it several times a second."""
        now = time.monotonic()
        if now - self.checked_at > ASLEEP_SECONDS:
            self.awake_since = now
        self.checked_at = now
        running = [rank for rank, process in enumerate(self.processes) if process.poll() is None]
        beats = {rank: heartbeat.read_heartbeat(self.pages, rank) for rank in running}
        silent = {rank: now - max(beat.at, self.awake_since) for rank, beat in beats.items()}
        for rank in running:
            if silent[rank] > WINDOW_SECONDS:
                self.activities[rank].sample()
        if not running or min(silent.values()) < self.hang_seconds:
            return None
        stopped = [rank for rank in running if _status(self.processes[rank]) == psutil.STATUS_STOPPED]
        if stopped:
            return self._stopped(stopped, silent)
        awaited = awaited_ranks(beats)
        if not all(self._is_overdue(rank, beats[rank], silent[rank], now) for rank in awaited):
            return None
        return _failure(awaited, beats, min(silent[rank] for rank in awaited), len(self.processes))

    def _is_overdue(self, rank: int, beat: HeartbeatState, silent: float, now: float) -> bool:
        active_at = self.activities[rank].active_at
        idle = silent if active_at is None else min(silent, now - active_at)
        if not beat.phase.is_paced or beat.count < MIN_BEATS or len(self.processes) == 1:
            return idle >= UNPACED_FACTOR * self.hang_seconds
        limit = max(self.hang_seconds, PACE_FACTOR * beat.longest)
        return idle >= limit or silent >= UNPACED_FACTOR * limit

    def _stopped(self, stopped: list[int], silent: dict[int, float]) -> Failure | None:
        """Return the failure of processes that SIGSTOP stopped; a single one may wait, as whoever stopped it wanted."""
        if len(self.processes) == 1:
            return None
        seconds = min(silent[rank] for rank in stopped)
        return Failure(tuple(stopped), 0, f"was stopped by a signal {seconds:.0f} s ago, and the others wait for it")


def awaited_ranks(beats: dict[int, HeartbeatState]) -> list[int]:
    """Return the processes that the others wait for; all, where no process is behind the others."""
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


STACK_SECONDS = 1.0
WRITE_SECONDS = 5.0  # the file system of the run may be the cause of the hang
STACK_LINES_SHOWN, MAX_LINES = 15, 200
OWN_THREAD = "(most recent call first):"


def collect_stacks(processes: Sequence[subprocess.Popen[bytes]], pages: Path) -> list[list[str]]:
    """Ask every process for its stacks (SIGUSR2, faulthandler) and return the lines of each.

    A process answers whatever it waits for; of one that cannot answer, the line says why.
    """
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGUSR2)
    deadline = time.monotonic() + STACK_SECONDS
    while time.monotonic() < deadline and not all(_read_stack(pages, rank) for rank in range(len(processes))):
        time.sleep(0.05)
    time.sleep(0.05)  # the last file may not be complete
    return [_read_stack(pages, rank) or [_why_silent(process)] for rank, process in enumerate(processes)]


def training_thread(lines: list[str]) -> list[str]:
    """Return the stack of the thread that trains, the innermost call first."""
    own = [number for number, line in enumerate(lines) if line.startswith("Current thread")]
    begin = own[0] + 1 if own else 0
    end = next((number for number in range(begin, len(lines)) if not lines[number].strip()), len(lines))
    return [line.strip() for line in lines[begin:end]][:STACK_LINES_SHOWN]


def append_stacks(log: Path, sentence: str, answers: list[list[str]]) -> None:
    """Append all stacks to the run's log, if it can be written within WRITE_SECONDS."""
    parts = [f"\n{time.strftime('%Y-%m-%d %H:%M:%S')} {sentence}\n"]
    parts += [f"process {rank}:\n" + "\n".join(lines) + "\n" for rank, lines in enumerate(answers)]

    def write() -> None:
        with log.open("a", encoding="utf-8") as file:
            file.write("".join(parts))

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    writer.join(WRITE_SECONDS)


def _read_stack(pages: Path, rank: int) -> list[str]:
    try:
        return stack_file(pages, rank).read_text(errors="replace").splitlines()[:MAX_LINES]
    except FileNotFoundError:
        return []


def _why_silent(process: subprocess.Popen[bytes]) -> str:
    if process.poll() is not None:
        return f"it has ended with exit code {process.returncode}"
    try:
        status = psutil.Process(process.pid).status()
    except psutil.Error:
        return "it has ended"
    if status == psutil.STATUS_DISK_SLEEP:
        return "it waits in the kernel for a disk or a network file system, and cannot answer"
    if status == psutil.STATUS_STOPPED:
        return "it is stopped by a signal (SIGSTOP), and cannot answer"
    return f"it does not answer ({status})"
