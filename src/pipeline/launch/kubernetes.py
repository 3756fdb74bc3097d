"""Kubernetes: one readable TrainJob of Kubeflow's in the run directory, checked and applied; nothing of ours waits."""

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pipeline.constraints import NonNegativeInt, PositiveInt
from pipeline.errors import DONE, ConfigError, RunError
from pipeline.launch import job_record, trainjob
from pipeline.launch.kubectl import NODE, kubectl, opinion, state_of
from pipeline.launch.launcher import Resources, check_agrees
from pipeline.launch.trainjob import check_fields, check_rules
from pipeline.launch.units import mebibytes_of, seconds_of
from pipeline.system.files import write_atomically

MANIFEST = "job.yaml"


class Kubernetes:
    """A TrainJob with a pod for each node, in which torchrun starts a process for each GPU (or `processes_per_node`).

    When a process dies all start again from the newest checkpoint, `max_restarts` times; when a pod is taken away,
    it saves within `notice_seconds`, Kubernetes makes another in its place, and the run goes on at the very step.
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
        self.mebibytes = None if memory_per_node is None else mebibytes_of(memory_per_node, "launch.memory_per_node")
        self.seconds = None if time is None else seconds_of(time, "launch.time")
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
        return check_agrees(
            Resources(self.nodes, self.processes_per_node),
            devices=devices,
            num_nodes=num_nodes,
            settings="launch.processes_per_node={0}" if self.gpus_per_node == 0 else "launch.gpus_per_node={0}",
        )

    def run(self, command: list[str], resources: Resources, folder: Path) -> int:
        facts = _noted(folder)
        submission = 1 if facts is None else facts.get("submission", 0) + 1
        name = trainjob.name_of(folder.name, submission, self.nodes)
        manifest = self.manifest(command, folder, name)
        path = folder / MANIFEST
        write_atomically(path, trainjob.written(manifest, folder.name))
        if not self.dry_run:
            kubectl("apply", f"--filename={path}")
        job_record.note(
            folder,
            launcher="kubernetes",
            namespace=self.namespace,
            job=name,
            submission=submission,
            dry_run=self.dry_run,
        )
        if self.dry_run:
            print(f"run         {folder}\nmanifest    {path}\nsubmit it   kubectl apply -f {shlex.quote(str(path))}")
            if (answer := opinion(path)) is not None:
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
        facts = _noted(folder)
        if facts is None:
            return None
        place = ("trainjob", facts["job"], f"--namespace={facts['namespace']}")
        try:
            answer = kubectl("get", *place, "--ignore-not-found", "--output=json")
        except (ConfigError, RunError):
            if facts.get("dry_run"):  # only a file so far, as far as anyone knows: that needs no cluster
                return None
            raise
        return state_of(answer) if answer else None

    def cancel(self, folder: Path) -> str:
        facts = _noted(folder)
        if facts is None:
            raise RunError(f"{folder.name} is no TrainJob yet: it was started in another way, which is how to end it")
        # Not waited for: the pods have notice_seconds to save.
        kubectl("delete", "trainjob", facts["job"], f"--namespace={facts['namespace']}", "--wait=false")
        return f"TrainJob {facts['job']} is deleted; its pods save and end"

    def manifest(self, command: list[str], folder: Path, name: str) -> dict[str, Any]:
        """Raises ConfigError for what Kubernetes or Kubeflow would refuse, and for what could not train."""
        self._check_can_train(folder)
        pod = self._pod()
        manifest = {
            "apiVersion": "trainer.kubeflow.org/v1alpha1",
            "kind": "TrainJob",
            "metadata": {"name": name, "namespace": self.namespace, **_given(labels=self.labels)},
            "spec": {
                "runtimeRef": {"apiGroup": "trainer.kubeflow.org", "kind": self.runtime_kind, "name": self.runtime},
                **_given(managedBy=self.managed_by, activeDeadlineSeconds=self.seconds),
                "trainer": self._trainer(command, folder),
                "runtimePatches": [{"manager": "pipeline/launch", "trainingRuntimeSpec": _around(pod)}],
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
        if not trainjob.shared_by_all(folder, self.volumes):
            raise ConfigError(
                f"the run directory {folder} is on no volume that all pods see and may write to; expected its claim, "
                f"under the same path as here: 'launch.volumes={{{folder.parent}: my-claim}}', or another runs_dir"
            )

    def _trainer(self, command: list[str], folder: Path) -> dict[str, Any]:
        here = Path(os.getcwd())
        lines = trainjob.script(
            command,
            python=self.python,
            run_id=folder.name,
            max_restarts=self.max_restarts,
            folder=str(here) if trainjob.shared_by_all(here, self.volumes) else None,
        )
        amounts = _given(
            cpu=self.cpus_per_node, memory=None if self.mebibytes is None else _amount(self.mebibytes),
            **{self.gpu_resource: self.gpus_per_node or None},
        )  # fmt: skip
        # Also as requests: without them some releases of Kubeflow start one process, whatever numProcPerNode says.
        resources = {"requests": dict(amounts), "limits": dict(amounts)} if amounts else None
        threads = None if self.cpus_per_node is None else max(self.cpus_per_node // self.processes_per_node, 1)
        return {
            "image": self.image,
            "command": ["/bin/sh", "-c", lines],
            "env": trainjob.variables(self.environment, self.secrets, threads),
            "numNodes": self.nodes,
            "numProcPerNode": self.processes_per_node,
            **_given(resourcesPerNode=resources),
        }

    def _pod(self) -> dict[str, Any]:
        volumes, mounts = trainjob.mounted(self.volumes)
        of_pod, of_container = trainjob.security_contexts(self.pod_security)
        ours = {
            **_given(
                nodeSelector=self.node_selector,
                tolerations=self.tolerations,
                terminationGracePeriodSeconds=self.notice_seconds,
            ),
            "containers": [{"name": NODE, "volumeMounts": mounts, **_given(securityContext=of_container)}],
            "volumes": volumes,
        }
        both = sorted(ours.keys() & self.pod.keys())
        if both:
            raise ConfigError(f"launch.pod.{both[0]} is what other options of launch are for; leave it out")
        asked = self.pod.get("securityContext", {})
        if of_pod is None or not isinstance(asked, Mapping):  # what is no mapping, the check of the fields refuses
            return {**self.pod, **ours}
        return {**self.pod, **ours, "securityContext": {**of_pod, **asked}}


def _noted(folder: Path) -> dict[str, Any] | None:
    """What a run left here when it was submitted in this way; its configuration may have changed since."""
    facts = job_record.read(folder)
    is_ours = facts is not None and facts.get("launcher") == "kubernetes"
    return facts if facts is not None and is_ours and facts.get("job") and facts.get("namespace") else None


def _given(**facts: Any) -> dict[str, Any]:
    return {name: value for name, value in facts.items() if value is not None}


def _amount(mebibytes: int) -> str:
    return f"{mebibytes // 1024}Gi" if mebibytes % 1024 == 0 else f"{mebibytes}Mi"


def _around(pod: dict[str, Any]) -> dict[str, Any]:
    replicated = {"name": NODE, "template": {"spec": {"template": {"spec": pod}}}}
    return {"template": {"spec": {"replicatedJobs": [replicated]}}}
