"""Which of several processes is to blame: the first that failed, or the one that all others wait for."""

import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from pipeline import pulse
from pipeline.errors import DONE, INTERRUPTED, PREEMPTED
from pipeline.launch.devices import oom_kills

STEPS_SEEN = 4  # beats before a process is held to its pace: the first steps take what they take
PACE = 10  # a beat may come this many times later than the slowest before it
SIGKILL = -9
ENDS_AS_ASKED = (DONE, PREEMPTED, INTERRUPTED)


@dataclass(frozen=True)
class Failure:
    """`code` as subprocess gives it, 0 for a process that still runs."""

    rank: int
    code: int
    what: str


def first_failure(
    processes: Sequence[subprocess.Popen[bytes]],
    pulses: Path,
    hang_seconds: float | None,
    oom_kills_before: int | None = None,
) -> Failure | None:
    """`oom_kills_before` is what `oom_kills` said when they were started."""
    codes = [process.poll() for process in processes]
    failed = [(rank, code) for rank, code in enumerate(codes) if code not in (None, *ENDS_AS_ASKED)]
    if failed:
        # When one is killed, those that talk to it fail in the next moment: what a signal ended came first.
        rank, code = min(failed, key=lambda each: (each[1] or 0) >= 0)
        assert code is not None
        return Failure(rank, code, _how(code, oom_kills_before))
    if hang_seconds is None or len(processes) == 1:
        return None
    return _stopped(processes, pulses, hang_seconds) or _hanging(processes, pulses, hang_seconds)


def _how(code: int, oom_kills_before: int | None) -> str:
    if code == SIGKILL and oom_kills_before is not None:
        by_kernel = oom_kills() != oom_kills_before
        return f"was killed {'by the kernel, because memory ran out' if by_kernel else 'by somebody'} (SIGKILL)"
    if code == SIGKILL:
        return "ran out of memory or was killed by somebody (SIGKILL)"
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"failed with exit code {code}"


def _hanging(processes: Sequence[subprocess.Popen[bytes]], pulses: Path, hang_seconds: float) -> Failure | None:
    """When all wait for something, the one that got the least far."""
    beats = [pulse.read(pulses, rank) for rank in range(len(processes))]
    if any(beat is None or not beat.waited or beat.count < STEPS_SEEN for beat in beats):
        return None
    known = [beat for beat in beats if beat is not None]
    silent = time.monotonic() - max(beat.at for beat in known)
    if silent < max(hang_seconds, PACE * max(beat.longest for beat in known)):
        return None
    rank = min(range(len(known)), key=lambda rank: known[rank].count)
    return Failure(rank, 0, f"has not moved for {silent:.0f} s while the others wait for it")


def _stopped(processes: Sequence[subprocess.Popen[bytes]], pulses: Path, hang_seconds: float) -> Failure | None:
    """One that somebody stopped (SIGSTOP) and that nobody let go on."""
    for rank, process in enumerate(processes):
        beat = pulse.read(pulses, rank)
        silent = 0.0 if beat is None else time.monotonic() - beat.at
        if silent >= hang_seconds and process.poll() is None:
            try:
                if psutil.Process(process.pid).status() == psutil.STATUS_STOPPED:
                    return Failure(rank, 0, f"was stopped by a signal {silent:.0f} s ago, and the others wait for it")
            except psutil.NoSuchProcess:
                continue
    return None
