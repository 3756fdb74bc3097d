"""The environment of a run: variables that would change training are refused, others are recorded."""

import getpass
import importlib.metadata
import os
import platform
import re
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from pipeline.config import search_path
from pipeline.config.arguments import PASSED_BY_RUN
from pipeline.config.checks.cross_checks import BATCH_COUNT_REMEDIES
from pipeline.errors import ConfigError
from pipeline.tracking.tracking_uri import redact

# Beginnings of names. A variable in no list has no effect on a run: PL_GLOBAL_SEED and PL_SEED_WORKERS, because each
# run seeds itself; LT_* of Fabric, which is not used; MLFLOW_*, because nothing flows back from MLflow (a note is
# printed for MLFLOW_KEYS and MLFLOW_RUN_VARIABLES); SLURM_* and torchrun's, which only `process` reads.
AFFECTS_RESULTS = {
    "ATEN_CPU_CAPABILITY": "the choice of torch's kernels, which round differently",
    "CUBLASLT_WORKSPACE_SIZE": "the choice of cuBLAS's kernels",
    "CUBLAS_WORKSPACE_CONFIG": "whether cuBLAS adds in the same order each time",
    "DNNL_": "oneDNN: its instructions and its precision",
    "MIOPEN_": "the choice of AMD's kernels",
    "MKL_CBWR": "whether MKL rounds the same on all processors",
    "MKL_ENABLE_INSTRUCTIONS": "MKL's instructions",
    "NCCL_ALGO": "the order in which gradients of several GPUs are added",
    "NCCL_PROTO": "as NCCL_ALGO",
    "NVIDIA_TF32_OVERRIDE": "whether matrix products use 10 bits of mantissa or 23",
    "ONEDNN_": "as DNNL_",
    "PYTHONHASHSEED": "the order of sets in the user's code",
    "PYTORCH_ENABLE_MPS_FALLBACK": "operations that a Mac's CPU computes instead of its GPU",
    "PYTORCH_TUNABLEOP_": "kernels chosen by timing them",
    "TIMM_FUSED_ATTN": "the attention kernel of timm's models",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "as NVIDIA_TF32_OVERRIDE",
    "TORCH_BLAS_PREFER_": "which library multiplies matrices",
    "TORCH_CUDNN_": "the choice of cuDNN's kernels",
    "TORCH_LINALG_PREFER_": "which library solves equations",
    "TORCH_LINEAR_": "how torch lays matrices out",
    "TORCH_MKLDNN_": "the size from which oneDNN multiplies",
}
AFFECTS_SPEED = {
    "CUDA_": "which GPUs are visible, and how the CPU waits for them",
    "DISABLE_MPS": "whether Lightning sees a Mac's GPU",
    "GLOO_": "communication between processes",
    "GOMP_": "threads",
    "HIP_": "which of AMD's GPUs are visible",
    "KMP_": "threads",
    "LD_PRELOAD": "usually another allocator",
    "MALLOC_": "the C library's allocator",
    "MKL_": "threads",
    "NCCL_": "communication between GPUs",
    "OMP_": "threads; sums over another number of threads also round differently",
    "OPENBLAS_": "threads",
    "PYTHONOPTIMIZE": "whether assertions are checked",
    "PYTORCH_": "torch's allocators",
    "ROCR_": "which of AMD's GPUs are visible",
    "TORCH": "torch's compiler and its process groups: TORCH_, TORCHINDUCTOR_, TORCHDYNAMO_",
}


TRAINER_PREFIX = "PL_TRAINER_"
REFUSED = {
    TRAINER_PREFIX: "Lightning's Trainer",
    "PL_DEEPSPEED_CONFIG_PATH": "Lightning's DeepSpeed strategy",
}

# The credentials, MLFLOW_TRACKING_USERNAME and others, have the same effect as in MLflow itself.
MLFLOW_KEYS = {"MLFLOW_TRACKING_URI": "tracking.uri", "MLFLOW_EXPERIMENT_NAME": "tracking.experiment"}
MLFLOW_RUN_VARIABLES = ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID")


def check_variables(environment: Mapping[str, str]) -> None:
    """Raise ConfigError for a variable that would change training without being part of the configuration."""
    names = sorted(name for name, value in environment.items() if name.startswith(tuple(REFUSED)) and value)
    if not names:
        return
    reader = next(reader for prefix, reader in REFUSED.items() if names[0].startswith(prefix))
    raise ConfigError(
        f"{names[0]}={environment[names[0]]} is set in the environment: {reader} would read it as a setting, but it is "
        f"not part of the run\n  to do without it  unset {' '.join(names)}\n"
        f"  for one command   env {' '.join(f'-u {name}' for name in names)} pipeline ..."
        f"{_equivalent_setting(names[0], environment[names[0]])}"
    )


def _equivalent_setting(name: str, value: str) -> str:
    """Return a line with the configuration key of the same meaning; empty if there is none."""
    setting = name.removeprefix(TRAINER_PREFIX).lower()
    if not name.startswith(TRAINER_PREFIX) or setting in PASSED_BY_RUN["trainer"]:
        return ""
    is_shipped = setting in search_path.read_config("trainer/default", [search_path.shipped_folder()])
    plain = value.lower() if value in ("True", "False", "None") else value
    same = BATCH_COUNT_REMEDIES.get(setting, f"{'' if is_shipped else '+'}trainer.{setting}={plain}")
    return f"\n  to ask for it     {same}"


def ignored_variables(environment: Mapping[str, str], tracking: DictConfig, typed: Sequence[str]) -> Iterator[str]:
    """Yield a sentence for each variable that MLflow would use but a run ignores, unless the user typed the key."""
    if tracking.uri is None or any(word.startswith("tracking=") for word in typed):
        return
    for name, key in MLFLOW_KEYS.items():
        value = str(tracking[key.partition(".")[2]])
        is_typed = any(word.startswith(f"{key}=") for word in typed)
        if environment.get(name, value) not in ("", value) and not is_typed:
            yield f'{name} is set, but {key}={redact(value)} is used; to use the variable, type {key}="${name}"'
    for name in MLFLOW_RUN_VARIABLES:
        if environment.get(name):
            yield f"{name} is set, but ignored: each training becomes a new MLflow run"


def recorded_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that affect speed or the last digits, to explain why two runs differ."""
    prefixes = (*AFFECTS_RESULTS, *AFFECTS_SPEED)
    return {name: value for name, value in sorted(environment.items()) if name.startswith(prefixes) and value}


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


def describe_environment(command: list[str]) -> dict[str, Any]:
    """Return the contents of environment.json."""
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
        "variables": recorded_variables(os.environ),
    }


def git_state(folder: Path) -> dict[str, Any] | None:
    """Return the commit checked out in `folder`, and whether the tree differs from it; None outside a repository."""
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
        return None  # git is not installed; the run does not need it
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
        return None  # a user number without a name, in a container


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        match = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(errors="replace"), re.MULTILINE)
        if match is not None:
            return match.group(1)
    return platform.processor() or platform.machine()
