"""The cluster, as `kubectl` reaches it: what it answers, and what it says of a TrainJob."""

import re
import shutil
import subprocess
from pathlib import Path

from pipeline.errors import ConfigError, RunError
from pipeline.system.files import ContentError, parse_json
from pipeline.system.json_shape import ListOf, Nullable, find_mismatch

CLIENT_SECONDS = 30  # what kubectl may take
PROBE_SECONDS = 3  # a dry run need not wait for a cluster that is not there
STATE = {"type": str, "status": str}
JOB = {"name": str, "ready": int}
TRAIN_JOB = {
    "metadata": {},
    "status": Nullable({"conditions": Nullable(ListOf(STATE)), "jobsStatus": Nullable(ListOf(JOB))}),
}
NODE = "node"  # what Kubeflow's runtimes call the job whose pods train, and the container in it


def kubectl(*arguments: str) -> str:
    """What it answers. Raises ConfigError where it is not installed, RunError where it refuses or does not answer."""
    if shutil.which("kubectl") is None:
        raise ConfigError(
            "launch=kubernetes needs kubectl, which is not on the PATH here: install it, or type launch.dry_run=true "
            "and apply job.yaml from where it is"
        )
    try:
        done = subprocess.run(
            ["kubectl", *arguments], capture_output=True, text=True, timeout=CLIENT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise RunError(f"kubectl did not answer within {CLIENT_SECONDS} s; is the cluster reachable?") from None
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if re.match(r"[EIW]\d{4} ", line) is None]  # its own log
        raise RunError(f"kubectl refused: {' '.join(lines).strip() or done.stdout.strip()}")
    return done.stdout.strip()


def opinion(manifest: Path) -> str | None:
    """Return what the cluster would say to a manifest, which it does not keep; None where no cluster answers."""
    try:
        kubectl("version", f"--request-timeout={PROBE_SECONDS}s")
    except (ConfigError, RunError):
        return None
    try:
        kubectl("apply", "--dry-run=server", f"--filename={manifest}")
    except RunError as problem:
        return f"would not take it: {problem}"
    return "would take it"


def state_of(answer: str) -> str | None:
    """In the words of this program, from what the cluster says of a TrainJob; None for one that has ended.

    Raises RunError for what no cluster says.
    """
    try:
        found = parse_json(answer.encode())
        problem = find_mismatch(found, TRAIN_JOB)
        if problem is not None:
            raise ContentError(problem)
    except ContentError as problem:
        raise RunError(f"kubectl answers something else than a TrainJob ({problem})") from problem
    status = found.get("status") or {}
    holds = {each["type"] for each in status.get("conditions") or [] if each["status"] == "True"}
    if "deletionTimestamp" in found["metadata"]:
        return "ENDING"
    if holds & {"Complete", "Failed"}:
        return None
    if "Suspended" in holds:
        return "SUSPENDED"
    pods = [each for each in status.get("jobsStatus") or [] if each["name"] == NODE]
    return "RUNNING" if any(each["ready"] > 0 for each in pods) else "PENDING"
