"""The record in the run directory of what a launcher started or submitted, and the process that launched a run here."""

import json
import os
import signal
import socket
import time
from pathlib import Path
from typing import Any

import psutil

from pipeline import run_files
from pipeline.system.files import write_atomically

JOB_FILE = run_files.JOB.name


def write_job_record(folder: Path, **facts: Any) -> None:
    """Write the record. Raises DamagedFileError where a folder is in the place of the file."""
    try:
        write_atomically(folder / JOB_FILE, json.dumps(facts, indent=2) + "\n")
    except IsADirectoryError as problem:
        raise run_files.JOB.damaged(folder, problem) from problem


def read_job_record(folder: Path) -> dict[str, Any] | None:
    """Return the record; None where nothing was started. Raises DamagedFileError."""
    return run_files.JOB.record(folder)


PID_KEY = "pid"  # only in the record of a process on one machine
POLL_SECONDS = 0.1
CANCEL_SECONDS = 60  # torchrun alone gives its processes 30


def record_this_process(folder: Path, launcher: str) -> None:
    """Record that this process launches the run."""
    here = psutil.Process(os.getpid())
    facts = {PID_KEY: here.pid, "started_at": here.create_time()}
    write_job_record(folder, launcher=launcher, host=socket.gethostname(), **facts)


def launcher_process_of(folder: Path, launcher: str) -> psutil.Process | None:
    """Return the process that launched the run, if it is on this machine and alive."""
    facts = read_job_record(folder)
    if (
        facts is None
        or facts.get("launcher") != launcher
        or facts.get("host") != socket.gethostname()
        or not facts.get(PID_KEY)
    ):
        return None
    try:
        process = psutil.Process(facts[PID_KEY])
        # A later process may have the same number, but not the same start. One that nobody has waited for keeps its
        # number after its end.
        alive = process.create_time() == facts.get("started_at") and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.NoSuchProcess, ValueError):  # no valid number
        return None
    return process if alive else None


def cancel_launcher(folder: Path, launcher: str) -> str:
    """Tell the launching process to end its processes, wait for it, and return a few words about the effect."""
    parent = launcher_process_of(folder, launcher)
    if parent is None:
        facts = read_job_record(folder) or {}
        elsewhere = facts.get("host") not in (None, socket.gethostname())
        return f"it was started on {facts['host']}: cancel it there" if elsewhere else "it has ended"
    parent.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + CANCEL_SECONDS
    while launcher_process_of(folder, launcher) is not None:
        if time.monotonic() > deadline:
            return f"asked to end, but still running after {CANCEL_SECONDS} s"
        time.sleep(POLL_SECONDS)
    return "saved and ended"
