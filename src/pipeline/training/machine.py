"""What a training asks of its machine: samples of load and memory, a fraction of a millisecond each."""

import subprocess
from pathlib import Path

import psutil
import torch

SMI_SECONDS = 5.0
MEGABYTE = 1e6


def of_node(folder: Path) -> dict[str, float]:
    """Percent of all cores since the last call, of memory, and of the disk that `folder` lies on."""
    return {
        "cpu_percent": psutil.cpu_percent(interval=None),
        "memory_percent": psutil.virtual_memory().percent,
        "disk_percent": psutil.disk_usage(str(folder)).percent,
    }


def of_process(device: torch.device) -> dict[str, float]:
    """Resident memory of this process in MB; load (percent) and memory in use (MB) of its GPU, if it has one."""
    found = {"process_memory_mb": psutil.Process().memory_info().rss / MEGABYTE}
    return found | (of_gpu(device) if device.type == "cuda" else {})


def of_gpu(device: torch.device) -> dict[str, float]:
    """Asked of the driver's own program, which needs no further package; {} where it does not answer."""
    identity = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
    query = ["nvidia-smi", f"--id={identity}", "--query-gpu=utilization.gpu,memory.used"]
    try:
        answer = subprocess.run(
            [*query, "--format=csv,noheader,nounits"], capture_output=True, text=True, timeout=SMI_SECONDS, check=True
        )
        load, mebibytes = (float(value) for value in answer.stdout.split(","))
    except (OSError, ValueError, subprocess.SubprocessError):
        return {}
    return {"gpu_percent": load, "gpu_memory_mb": mebibytes * 1024**2 / MEGABYTE}
