"""Count the devices and cores of this machine without importing torch (1.5-2.5 s)."""

import os
import subprocess
from pathlib import Path

import psutil

BUSY_SAMPLE_SECONDS = 0.1


def gpu_count() -> int:
    """Return the number of NVIDIA GPUs that a process started here would see."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([device for device in visible.split(",") if device.strip() not in ("", "-1")])
    cards = Path("/proc/driver/nvidia/gpus")
    if cards.is_dir():
        return len(list(cards.iterdir()))
    try:
        listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return 0  # no driver, no GPU
    return sum(line.startswith("GPU ") for line in listing.stdout.splitlines())


def process_count(devices: int | str | list[int], accelerator: str) -> int:
    """Return the processes on each node for Lightning's `devices`: a number, a list of indices, or auto."""
    if isinstance(devices, list):
        return len(devices)
    if devices == "auto" or devices == -1:
        return max(gpu_count(), 1) if accelerator in ("auto", "gpu", "cuda") else 1
    return int(devices)


def core_count() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def machine_is_busy() -> bool:
    """Tell whether other programs use half of the cores or more at the moment. Takes BUSY_SAMPLE_SECONDS.

    Threads that wait by spinning are the fastest on an idle machine (a small CNN by a quarter, a dense net by half) and
    the slowest on a busy one: beside two other programs the CNN ran at 105 to 340 samples a second, and at 2,800 with
    threads that sleep (OMP_WAIT_POLICY=PASSIVE).
    """
    return psutil.cpu_percent(interval=BUSY_SAMPLE_SECONDS) >= 50.0


def oom_kills() -> int | None:
    """Return how many processes the kernel has killed so far because memory ran out; None where it does not say."""
    try:
        counters = Path("/proc/vmstat").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in counters if line.startswith("oom_kill ")), None)
