"""The process of this machine that launched a run and stands by it, found again by whoever asks later."""

import os
import signal
import socket
from pathlib import Path

import psutil

from pipeline.launch import job

PROCESS = "pid"  # only a note about a process of one machine has it
CANCEL_SECONDS = 60  # torchrun alone gives its processes 30


def note(folder: Path, launcher: str) -> None:
    """This process launches the run."""
    job.note(folder, launcher=launcher, host=socket.gethostname(), **_identity(os.getpid()))


def of(folder: Path, launcher: str) -> psutil.Process | None:
    """Which process did, if it is on this machine and alive."""
    facts = job.read(folder)
    if facts is None or facts.get("launcher") != launcher or facts.get("host") != socket.gethostname():
        return None
    try:
        process = psutil.Process(facts[PROCESS])
        # A killed one stays as a zombie until somebody asks how it ended.
        is_alive = process.status() != psutil.STATUS_ZOMBIE and process.create_time() == facts["started_at"]
        return process if is_alive else None
    except psutil.NoSuchProcess:
        return None


def cancel(folder: Path, launcher: str) -> str:
    """Tell it to end its processes, and wait for it; what came of it in a few words."""
    parent = of(folder, launcher)
    if parent is None:
        facts = job.read(folder) or {}
        elsewhere = facts.get("host") not in (None, socket.gethostname())
        return f"it was started on {facts['host']}: cancel it there" if elsewhere else "it has ended"
    parent.send_signal(signal.SIGTERM)
    try:
        parent.wait(CANCEL_SECONDS)
    except psutil.TimeoutExpired:
        return f"told to end, which it has not done within {CANCEL_SECONDS} s"
    return "saved and ended"


def _identity(pid: int) -> dict[str, float]:
    """Two processes may have the same number, one after the other; not the same beginning."""
    return {PROCESS: pid, "started_at": psutil.Process(pid).create_time()}
