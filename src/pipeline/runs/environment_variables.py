"""Variables of the environment that reach into training past the configuration: refused, or kept with the run."""

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
from pipeline.tracking.tracking_uri import redacted

# By how a name begins. What is in no list has no say in a run: PL_GLOBAL_SEED and PL_SEED_WORKERS, because each run
# seeds itself; Fabric's LT_*, because nothing here is built with Fabric; MLFLOW_*, because metrics go one way (below:
# those of which we tell it); SLURM_* and what torchrun sets, because `process` reads them alone and Lightning is told
# the answer.
AFFECTS_RESULTS = {
    "ATEN_CPU_CAPABILITY": "which of torch's kernels compute, which round in their own ways",
    "CUBLASLT_WORKSPACE_SIZE": "which of cuBLAS's kernels fit",
    "CUBLAS_WORKSPACE_CONFIG": "whether cuBLAS adds up in the same order each time",
    "DNNL_": "oneDNN: its instructions and its precision",
    "MIOPEN_": "which of AMD's kernels compute",
    "MKL_CBWR": "whether MKL rounds the same on all processors",
    "MKL_ENABLE_INSTRUCTIONS": "MKL's instructions",
    "NCCL_ALGO": "in which order gradients of several GPUs are added",
    "NCCL_PROTO": "the same",
    "NVIDIA_TF32_OVERRIDE": "whether matrices are multiplied with 10 bits of a number or 23",
    "ONEDNN_": "as DNNL_",
    "PYTHONHASHSEED": "the order of sets, in code of the user's own",
    "PYTORCH_ENABLE_MPS_FALLBACK": "what a Mac's CPU computes in place of its GPU",
    "PYTORCH_TUNABLEOP_": "kernels chosen by trying",
    "TIMM_FUSED_ATTN": "which of two kernels models of timm attend with",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "as NVIDIA_TF32_OVERRIDE",
    "TORCH_BLAS_PREFER_": "which library multiplies matrices",
    "TORCH_CUDNN_": "which of cuDNN's kernels compute",
    "TORCH_LINALG_PREFER_": "which library solves equations",
    "TORCH_LINEAR_": "how torch lays matrices out",
    "TORCH_MKLDNN_": "from which size on oneDNN multiplies",
}
AFFECTS_SPEED = {
    "CUDA_": "which GPUs there are, and how they are waited for",
    "DISABLE_MPS": "whether Lightning sees a Mac's GPU",
    "GLOO_": "how processes talk to each other",
    "GOMP_": "threads",
    "HIP_": "which of AMD's GPUs there are",
    "KMP_": "threads",
    "LD_PRELOAD": "mostly another allocator",
    "MALLOC_": "the C library's allocator",
    "MKL_": "threads",
    "NCCL_": "how GPUs talk to each other",
    "OMP_": "threads; a sum over other threads is rounded in another way, too",
    "OPENBLAS_": "threads",
    "PYTHONOPTIMIZE": "whether assertions are checked",
    "PYTORCH_": "torch's allocators",
    "ROCR_": "which of AMD's GPUs there are",
    "TORCH": "torch's compiler and its process groups: TORCH_, TORCHINDUCTOR_, TORCHDYNAMO_",
}


TRAINER_PREFIX = "PL_TRAINER_"
REFUSED = {
    TRAINER_PREFIX: "Lightning's Trainer",
    "PL_DEEPSPEED_CONFIG_PATH": "Lightning's DeepSpeed strategy",
}

# Who we are to a server, MLFLOW_TRACKING_USERNAME and its kin, counts as it does for MLflow itself.
MLFLOW_KEYS = {"MLFLOW_TRACKING_URI": "tracking.uri", "MLFLOW_EXPERIMENT_NAME": "tracking.experiment"}
MLFLOW_RUN_VARIABLES = ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID")


def check_variables(environment: Mapping[str, str]) -> None:
    """Raises ConfigError for those that would change what is trained, where no configuration says so."""
    names = sorted(name for name, value in environment.items() if name.startswith(tuple(REFUSED)) and value)
    if not names:
        return
    reader = next(reader for prefix, reader in REFUSED.items() if names[0].startswith(prefix))
    raise ConfigError(
        f"{names[0]}={environment[names[0]]} is set in the environment, where {reader} would take it for a setting, "
        f"and no run keeps it\n  to do without it  unset {' '.join(names)}\n"
        f"  for one command   env {' '.join(f'-u {name}' for name in names)} pipeline ..."
        f"{_equivalent_setting(names[0], environment[names[0]])}"
    )


def _equivalent_setting(name: str, value: str) -> str:
    """A line with what of ours says the same; empty where nothing does."""
    setting = name.removeprefix(TRAINER_PREFIX).lower()
    if not name.startswith(TRAINER_PREFIX) or setting in PASSED_BY_RUN["trainer"]:
        return ""
    is_shipped = setting in search_path.read_config("trainer/default", [search_path.shipped_folder()])
    plain = value.lower() if value in ("True", "False", "None") else value
    same = BATCH_COUNT_REMEDIES.get(setting, f"{'' if is_shipped else '+'}trainer.{setting}={plain}")
    return f"\n  to ask for it     {same}"


def ignored_variables(environment: Mapping[str, str], tracking: DictConfig, typed: Sequence[str]) -> Iterator[str]:
    """A sentence for each variable that MLflow itself would heed, where nothing that was typed decides."""
    if tracking.uri is None or any(word.startswith("tracking=") for word in typed):
        return
    for name, key in MLFLOW_KEYS.items():
        value = str(tracking[key.partition(".")[2]])
        is_typed = any(word.startswith(f"{key}=") for word in typed)
        if environment.get(name, value) not in ("", value) and not is_typed:
            yield f'{name} is set, but what counts is {key}={redacted(value)}; for the other, {key}="${name}"'
    for name in MLFLOW_RUN_VARIABLES:
        if environment.get(name):
            yield f"{name} is set, but does not count: what trains here becomes a run of its own"


def recorded_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """What has to do with speed and the last digits: kept with a run, so that two that differ can be told apart."""
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
