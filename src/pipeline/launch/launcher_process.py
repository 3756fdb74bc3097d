"""The process of this machine that launched a run and stands by it, found again by whoever asks later."""

import os
import signal
import socket
import time
from pathlib import Path

import psutil

from pipeline.launch import job_record

PROCESS = "pid"  # only a note about a process of one machine has it
POLL_SECONDS = 0.1
CANCEL_SECONDS = 60  # torchrun alone gives its processes 30


def note(folder: Path, launcher: str) -> None:
    """This process launches the run."""
    here = psutil.Process(os.getpid())
    facts = {PROCESS: here.pid, "started_at": here.create_time()}
    job_record.note(folder, launcher=launcher, host=socket.gethostname(), **facts)


def of(folder: Path, launcher: str) -> psutil.Process | None:
    """Which process did, if it is on this machine and alive."""
    facts = job_record.read(folder)
    if (
        facts is None
        or facts.get("launcher") != launcher
        or facts.get("host") != socket.gethostname()
        or not facts.get(PROCESS)
    ):
        return None
    try:
        process = psutil.Process(facts[PROCESS])
        # Two processes may have the same number, one after the other; not the same beginning. And one that nobody
        # has waited for keeps its number after its end.
        alive = process.create_time() == facts.get("started_at") and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.NoSuchProcess, ValueError):  # a number that none can have
        return None
    return process if alive else None


def cancel(folder: Path, launcher: str) -> str:
    """Tell it to end its processes, and wait for it; what came of it in a few words."""
    parent = of(folder, launcher)
    if parent is None:
        facts = job_record.read(folder) or {}
        elsewhere = facts.get("host") not in (None, socket.gethostname())
        return f"it was started on {facts['host']}: cancel it there" if elsewhere else "it has ended"
    parent.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + CANCEL_SECONDS
    while of(folder, launcher) is not None:
        if time.monotonic() > deadline:
            return f"told to end, which it has not done within {CANCEL_SECONDS} s"
        time.sleep(POLL_SECONDS)
    return "saved and ended"
