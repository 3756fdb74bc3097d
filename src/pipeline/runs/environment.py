"""On what a run was made: versions, code, machine. Read without importing torch."""

import getpass
import importlib.metadata
import os
import platform
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from pipeline.runs.environment_variables import recorded

PACKAGES = (
    "pipeline",
    "torch",
    "pytorch-lightning",
    "torchmetrics",
    "hydra-core",
    "mlflow",
    "kornia",
    "numpy",
)


def describe(command: list[str]) -> dict[str, Any]:
    return {
        "command": command,
        "working_directory": os.getcwd(),
        "python": platform.python_version(),
        "executable": sys.executable,
        "packages": {name: version for name in PACKAGES if (version := _version(name)) is not None},
        "git": git_state(Path.cwd()),
        "user": _user(),
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "variables": recorded(os.environ),
    }


def git_state(folder: Path) -> dict[str, Any] | None:
    """The commit checked out in `folder`, and whether the tree differs from it; None outside a repository."""
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return None
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return {
        "commit": commit,
        "dirty": bool(changes),
        "branch": _git(folder, "rev-parse", "--abbrev-ref", "HEAD"),
    }


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        answer = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None  # no git here: the run is no worse for it
    return answer.stdout.strip() if answer.returncode == 0 else None


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _user() -> str | None:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return None  # a container's number without a name


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(errors="replace"), re.MULTILINE)
        if found is not None:
            return found.group(1)
    return platform.processor() or platform.machine()
