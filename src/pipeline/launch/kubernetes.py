"""The launcher Kubernetes: it applies one readable TrainJob of Kubeflow from the run directory."""

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pipeline.constraints import NonNegativeInt, PositiveInt
from pipeline.durations import parse_duration, parse_mebibytes
from pipeline.errors import DONE, ConfigError, RunError
from pipeline.launch import job_record, trainjob
from pipeline.launch.launcher import Resources, check_resources_agree
from pipeline.launch.trainjob import check_fields, check_rules
from pipeline.system.files import ContentError, parse_json, write_atomically
from pipeline.system.json_shape import ListOf, Nullable, find_mismatch

CLIENT_SECONDS = 30  # limit of a kubectl command
PROBE_SECONDS = 3  # a dry run need not wait for a cluster that is not there
CONDITION_SHAPE = {"type": str, "status": str}
JOB_SHAPE = {"name": str, "ready": int}
TRAIN_JOB_SHAPE = {
    "metadata": {},
    "status": Nullable({"conditions": Nullable(ListOf(CONDITION_SHAPE)), "jobsStatus": Nullable(ListOf(JOB_SHAPE))}),
}
NODE = "node"  # what Kubeflow's runtimes call the job whose pods train, and the container in it


def kubectl(*arguments: str) -> str:
    """Return kubectl's output. Raises ConfigError where it is not installed, RunError where it refuses or hangs."""
    if shutil.which("kubectl") is None:
        raise ConfigError(
            "launch=kubernetes needs kubectl, which is not on the PATH here: install it, or type launch.dry_run=true "
            "and apply job.yaml from where it is"
        )
    try:
        result = subprocess.run(
            ["kubectl", *arguments], capture_output=True, text=True, timeout=CLIENT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise RunError(f"kubectl did not answer within {CLIENT_SECONDS} s; is the cluster reachable?") from None
    if result.returncode != 0:
        lines = [line for line in result.stderr.splitlines() if re.match(r"[EIW]\d{4} ", line) is None]  # its own log
        raise RunError(f"kubectl refused: {' '.join(lines).strip() or result.stdout.strip()}")
    return result.stdout.strip()


def dry_run_answer(manifest: Path) -> str | None:
    """Return what the cluster says about a manifest in a dry run; None where no cluster answers."""
    try:
        kubectl("version", f"--request-timeout={PROBE_SECONDS}s")
    except (ConfigError, RunError):
        return None
    try:
        kubectl("apply", "--dry-run=server", f"--filename={manifest}")
    except RunError as problem:
        return f"would refuse it: {problem}"
    return "would accept it"


def trainjob_state(answer: str) -> str | None:
    """Return the state of a TrainJob from kubectl's JSON; None for one that has ended.

    Raises RunError for anything but a TrainJob.
    """
    try:
        job = parse_json(answer.encode())
        problem = find_mismatch(job, TRAIN_JOB_SHAPE)
        if problem is not None:
            raise ContentError(problem)
    except ContentError as problem:
        raise RunError(f"kubectl answers something else than a TrainJob ({problem})") from problem
    status = job.get("status") or {}
    conditions = {entry["type"] for entry in status.get("conditions") or [] if entry["status"] == "True"}
    if "deletionTimestamp" in job["metadata"]:
        return "ENDING"
    if conditions & {"Complete", "Failed"}:
        return None
    if "Suspended" in conditions:
        return "SUSPENDED"
    pods = [entry for entry in status.get("jobsStatus") or [] if entry["name"] == NODE]
    return "RUNNING" if any(entry["ready"] > 0 for entry in pods) else "PENDING"


MANIFEST = "job.yaml"


class Kubernetes:
    """Submits a TrainJob: a pod for each node, where torchrun starts a process for each GPU or `processes_per_node`.

    When a process dies all restart from the newest checkpoint, `max_restarts` times. A pod that is evicted saves
    within `notice_seconds`, Kubernetes makes another in its place, and the run goes on at the same step.
    """

    def __init__(
        self,
        *,
        image: str | None,
        volumes: Mapping[str, Any] | None,
        nodes: PositiveInt,
        gpus_per_node: NonNegativeInt,
        processes_per_node: PositiveInt | None,
        cpus_per_node: PositiveInt | None,
        memory_per_node: str | None,
        time: str | None,
        namespace: str,
        runtime: str,
        runtime_kind: Literal["ClusterTrainingRuntime", "TrainingRuntime"],
        python: str,
        environment: Mapping[str, str | int | float] | None,
        secrets: Mapping[str, str] | None,
        gpu_resource: str,
        node_selector: Mapping[str, str] | None,
        tolerations: Sequence[Mapping[str, Any]] | None,
        pod: Mapping[str, Any] | None,
        pod_security: Literal["restricted", "baseline"],
        labels: Mapping[str, str] | None,
        managed_by: Literal["trainer.kubeflow.org/trainjob-controller", "kueue.x-k8s.io/multikueue"] | None,
        max_restarts: NonNegativeInt,
        notice_seconds: PositiveInt | None,
        dry_run: bool,
    ) -> None:
        self.image = image
        self.volumes = volumes or {}
        self.nodes = nodes
        self.gpus_per_node = gpus_per_node
        self.processes_per_node = processes_per_node if processes_per_node is not None else max(gpus_per_node, 1)
        self.cpus_per_node = cpus_per_node
        self.mebibytes = None if memory_per_node is None else parse_mebibytes(memory_per_node, "launch.memory_per_node")
        self.seconds = None if time is None else parse_duration(time, "launch.time")
        self.namespace = namespace
        self.runtime, self.runtime_kind = runtime, runtime_kind
        self.python = python
        self.environment, self.secrets = environment or {}, secrets or {}
        self.gpu_resource = gpu_resource
        self.node_selector, self.tolerations, self.pod = node_selector, tolerations, pod or {}
        self.pod_security = pod_security
        self.labels, self.managed_by = labels, managed_by
        self.max_restarts = max_restarts
        self.notice_seconds = notice_seconds
        self.dry_run = dry_run

    def resources(self, *, devices: int | str | list[int], accelerator: str, num_nodes: int) -> Resources:
        return check_resources_agree(
            Resources(self.nodes, self.processes_per_node),
            devices=devices,
            num_nodes=num_nodes,
            settings="launch.processes_per_node={0}" if self.gpus_per_node == 0 else "launch.gpus_per_node={0}",
        )

    def run(self, command: list[str], resources: Resources, folder: Path) -> int:
        facts = _own_record(folder)
        submission = 1 if facts is None else facts.get("submission", 0) + 1
        name = trainjob.trainjob_name(folder.name, submission, self.nodes)
        manifest = self.manifest(command, folder, name)
        path = folder / MANIFEST
        write_atomically(path, trainjob.manifest_yaml(manifest, folder.name))
        if not self.dry_run:
            kubectl("apply", f"--filename={path}")
        job_record.write_job_record(
            folder,
            launcher="kubernetes",
            namespace=self.namespace,
            job=name,
            submission=submission,
            dry_run=self.dry_run,
        )
        if self.dry_run:
            print(f"run         {folder}\nmanifest    {path}\nsubmit it   kubectl apply -f {shlex.quote(str(path))}")
            if (answer := dry_run_answer(path)) is not None:
                print(f"cluster     {answer}")
            return DONE
        print(
            f"run         {folder}\njob         {name} in namespace {self.namespace}\n"
            f"follow      pipeline logs {folder.name} --follow\n"
            f"pods        kubectl logs --namespace={self.namespace} --selector=jobset.sigs.k8s.io/jobset-name={name} "
            f"--prefix --follow\ncancel      pipeline cancel {folder.name}"
        )
        return DONE

    def state(self, folder: Path) -> str | None:
        facts = _own_record(folder)
        if facts is None:
            return None
        resource = ("trainjob", facts["job"], f"--namespace={facts['namespace']}")
        try:
            answer = kubectl("get", *resource, "--ignore-not-found", "--output=json")
        except (ConfigError, RunError):
            if facts.get("dry_run"):  # as far as we know only a file, which needs no cluster
                return None
            raise
        return trainjob_state(answer) if answer else None

    def cancel(self, folder: Path) -> str:
        facts = _own_record(folder)
        if facts is None:
            raise RunError(f"{folder.name} was not submitted as a TrainJob: end it the way it was started")
        # Without waiting: the pods have notice_seconds to save.
        kubectl("delete", "trainjob", facts["job"], f"--namespace={facts['namespace']}", "--wait=false")
        return f"TrainJob {facts['job']} is deleted; its pods save and end"

    def manifest(self, command: list[str], folder: Path, name: str) -> dict[str, Any]:
        """Return the TrainJob. Raises ConfigError for what Kubernetes or Kubeflow would refuse or could not train."""
        self._check_can_train(folder)
        pod = self._pod()
        manifest = {
            "apiVersion": "trainer.kubeflow.org/v1alpha1",
            "kind": "TrainJob",
            "metadata": {"name": name, "namespace": self.namespace, **_without_none(labels=self.labels)},
            "spec": {
                "runtimeRef": {"apiGroup": "trainer.kubeflow.org", "kind": self.runtime_kind, "name": self.runtime},
                **_without_none(managedBy=self.managed_by, activeDeadlineSeconds=self.seconds),
                "trainer": self._trainer(command, folder),
                "runtimePatches": [{"manager": "pipeline/launch", "trainingRuntimeSpec": _runtime_patch(pod)}],
            },
        }
        check_fields(manifest)
        check_rules(manifest, pod)
        return manifest

    def _check_can_train(self, folder: Path) -> None:
        if not self.image:
            raise ConfigError(
                "launch.image is missing; expected a container image with this package in it, such as "
                "launch.image=registry.example.org/pipeline:cuda (docker/Dockerfile makes one)"
            )
        if not trainjob.is_shared_by_all_pods(folder, self.volumes):
            raise ConfigError(
                f"the run directory {folder} is on no volume that all pods see and may write to; expected its claim, "
                f"under the same path as here: 'launch.volumes={{{folder.parent}: my-claim}}', or another runs_dir"
            )

    def _trainer(self, command: list[str], folder: Path) -> dict[str, Any]:
        here = Path(os.getcwd())
        lines = trainjob.pod_script(
            command,
            python=self.python,
            run_id=folder.name,
            max_restarts=self.max_restarts,
            folder=str(here) if trainjob.is_shared_by_all_pods(here, self.volumes) else None,
        )
        amounts = _without_none(
            cpu=self.cpus_per_node, memory=None if self.mebibytes is None else _amount(self.mebibytes),
            **{self.gpu_resource: self.gpus_per_node or None},
        )  # fmt: skip
        # Also as requests: without them some releases of Kubeflow start one process and ignore numProcPerNode.
        resources = {"requests": dict(amounts), "limits": dict(amounts)} if amounts else None
        threads = None if self.cpus_per_node is None else max(self.cpus_per_node // self.processes_per_node, 1)
        return {
            "image": self.image,
            "command": ["/bin/sh", "-c", lines],
            "env": trainjob.container_environment(self.environment, self.secrets, threads),
            "numNodes": self.nodes,
            "numProcPerNode": self.processes_per_node,
            **_without_none(resourcesPerNode=resources),
        }

    def _pod(self) -> dict[str, Any]:
        volumes, mounts = trainjob.volumes_and_mounts(self.volumes)
        of_pod, of_container = trainjob.security_contexts(self.pod_security)
        ours = {
            **_without_none(
                nodeSelector=self.node_selector,
                tolerations=self.tolerations,
                terminationGracePeriodSeconds=self.notice_seconds,
            ),
            "containers": [{"name": NODE, "volumeMounts": mounts, **_without_none(securityContext=of_container)}],
            "volumes": volumes,
        }
        both = sorted(ours.keys() & self.pod.keys())
        if both:
            raise ConfigError(f"launch.pod.{both[0]} is what other options of launch are for; leave it out")
        custom = self.pod.get("securityContext", {})
        if of_pod is None or not isinstance(custom, Mapping):  # check_fields refuses what is no mapping
            return {**self.pod, **ours}
        return {**self.pod, **ours, "securityContext": {**of_pod, **custom}}


def _own_record(folder: Path) -> dict[str, Any] | None:
    """Return the job record of a run that was submitted to Kubernetes; its configuration may have changed since."""
    facts = job_record.read_job_record(folder)
    is_ours = facts is not None and facts.get("launcher") == "kubernetes"
    return facts if facts is not None and is_ours and facts.get("job") and facts.get("namespace") else None


def _without_none(**facts: Any) -> dict[str, Any]:
    return {name: value for name, value in facts.items() if value is not None}


def _amount(mebibytes: int) -> str:
    return f"{mebibytes // 1024}Gi" if mebibytes % 1024 == 0 else f"{mebibytes}Mi"


def _runtime_patch(pod: dict[str, Any]) -> dict[str, Any]:
    replicated = {"name": NODE, "template": {"spec": {"template": {"spec": pod}}}}
    return {"template": {"spec": {"replicatedJobs": [replicated]}}}
