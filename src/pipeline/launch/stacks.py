"""Where processes that hang stand: they tell when they are asked (SIGUSR2, faulthandler), whatever they wait for."""

import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from pipeline.system.heartbeat import stack_file

ANSWER_SECONDS = 1.0
WRITE_SECONDS = 5.0  # the file system of the run may be what they hang in
LINES_SHOWN, LINES_KEPT = 15, 200
OWN_THREAD = "(most recent call first):"


def ask(processes: Sequence[subprocess.Popen[bytes]], pages: Path) -> list[list[str]]:
    """The lines that each process answers; of one that cannot answer, why not."""
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGUSR2)
    deadline = time.monotonic() + ANSWER_SECONDS
    while time.monotonic() < deadline and not all(_read(pages, rank) for rank in range(len(processes))):
        time.sleep(0.05)
    time.sleep(0.05)  # one that is there may not be whole
    return [_read(pages, rank) or [_why_silent(process)] for rank, process in enumerate(processes)]


def short(lines: list[str]) -> list[str]:
    """The thread that trains, from where it stands."""
    own = [number for number, line in enumerate(lines) if line.startswith("Current thread")]
    begin = own[0] + 1 if own else 0
    end = next((number for number in range(begin, len(lines)) if not lines[number].strip()), len(lines))
    return [line.strip() for line in lines[begin:end]][:LINES_SHOWN]


def keep(log: Path, sentence: str, answers: list[list[str]]) -> None:
    """All of them at the end of the run's log, as far as it can be written."""
    parts = [f"\n{time.strftime('%Y-%m-%d %H:%M:%S')} {sentence}\n"]
    parts += [f"process {rank}:\n" + "\n".join(lines) + "\n" for rank, lines in enumerate(answers)]

    def write() -> None:
        with log.open("a", encoding="utf-8") as file:
            file.write("".join(parts))

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    writer.join(WRITE_SECONDS)


def _read(pages: Path, rank: int) -> list[str]:
    try:
        return stack_file(pages, rank).read_text(errors="replace").splitlines()[:LINES_KEPT]
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
        return "it waits in the kernel for a disk or a network file system, and does not hear"
    if status == psutil.STATUS_STOPPED:
        return "it is stopped by a signal (SIGSTOP), and does not hear"
    return f"it does not say where it stands ({status})"
