"""What a TrainJob must keep to beside its fields: names, counts and words, as Kubernetes and Kubeflow demand them."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from pipeline.errors import ConfigError

API_VERSION, KIND = "trainer.kubeflow.org/v1alpha1", "TrainJob"
RUNTIMES = ("ClusterTrainingRuntime", "TrainingRuntime")
MANAGERS = ("trainer.kubeflow.org/trainjob-controller", "kueue.x-k8s.io/multikueue")
EFFECTS, OPERATORS = ("NoSchedule", "PreferNoSchedule", "NoExecute"), ("Exists", "Equal")
LABEL_1035 = r"[a-z]([-a-z0-9]*[a-z0-9])?"
LABEL_1123 = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
SUBDOMAIN = rf"{LABEL_1123}(\.{LABEL_1123})*"
WORD = r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)"
QUALIFIED = rf"({SUBDOMAIN}/)?{WORD}"
VARIABLE = r"[-._A-Za-z][-._A-Za-z0-9]*"
SMALL = "small letters, digits and dashes"


def check_rules(manifest: Mapping[str, Any], pod: Mapping[str, Any]) -> None:
    """Of a manifest whose fields are known to be right; `pod` is its part that says what pods are like.

    Raises ConfigError, naming the option of `launch` where that is what to change.
    """
    metadata, spec, trainer = manifest["metadata"], manifest["spec"], manifest["spec"]["trainer"]
    if (manifest["apiVersion"], manifest["kind"]) != (API_VERSION, KIND):
        raise ConfigError(f"{manifest['apiVersion']} {manifest['kind']}: expected {API_VERSION} {KIND}")
    _fits(metadata["name"], LABEL_1035, 63, "metadata.name", f"{SMALL} after a letter, 63 at most")
    _fits(metadata["namespace"], LABEL_1123, 63, "launch.namespace", f"{SMALL}, 63 at most")
    for name, value in metadata.get("labels", {}).items():
        _fits(name, QUALIFIED, 316, "launch.labels", "names such as kueue.x-k8s.io/queue-name")
        _fits(value, f"{WORD}?", 63, f"launch.labels.{name}", "letters, digits, '-', '_' and '.', 63 at most")
    _fits(spec["runtimeRef"]["name"], SUBDOMAIN, 253, "launch.runtime", "a runtime's name, such as torch-distributed")
    _one_of(spec["runtimeRef"]["kind"], RUNTIMES, "launch.runtime_kind")
    _one_of(spec.get("managedBy", MANAGERS[0]), MANAGERS, "launch.managed_by")
    _fits(trainer["image"], r"[^\s]+", 500, "launch.image", "an image, such as registry.example.org/pipeline:cuda")
    for count, option in ((trainer["numNodes"], "nodes"), (trainer["numProcPerNode"], "processes_per_node")):
        if count < 1:
            raise ConfigError(f"launch.{option}={count}: expected 1 or more")
    _check_resources(trainer.get("resourcesPerNode", {}).get("limits", {}))
    _check_variables(trainer["env"])
    _check_pod(pod)


def _check_resources(limits: Mapping[str, Any]) -> None:
    for name, amount in limits.items():
        _fits(name, QUALIFIED, 316, "launch.gpu_resource", "a resource's name, such as nvidia.com/gpu")
        if isinstance(amount, int) and amount < 1:
            option, least = ("cpus_per_node", 1) if name == "cpu" else ("gpus_per_node", 0)
            raise ConfigError(f"launch.{option}={amount}: expected {least} or more")


def _check_variables(entries: list[Mapping[str, Any]]) -> None:
    if len(entries) > 128:
        raise ConfigError(f"{len(entries)} variables in launch.environment and launch.secrets; expected 128 at most")
    for entry in entries:
        name = entry["name"]
        where = "launch.secrets" if "valueFrom" in entry else "launch.environment"
        _fits(name, VARIABLE, 253, where, "names of variables, such as NCCL_DEBUG")
        if name.startswith("PET_"):
            raise ConfigError(f"{where}.{name}: Kubeflow sets PET_* itself, to tell each pod its place; leave it out")
        if "valueFrom" in entry:
            reference = entry["valueFrom"]["secretKeyRef"]
            _fits(reference["name"], SUBDOMAIN, 253, f"{where}.{name}", "the name of a secret before the /")
            _fits(reference["key"], r"[-._A-Za-z0-9]+", 253, f"{where}.{name}", "a key of that secret after the /")


def _check_pod(pod: Mapping[str, Any]) -> None:
    (container,) = pod["containers"]
    paths = [mount["mountPath"] for mount in container.get("volumeMounts", [])]
    for path in paths:
        if not path.startswith("/") or ":" in path or path == "/":
            raise ConfigError(f"launch.volumes has {path}: expected a path from the root, such as /shared")
    plain = [path.rstrip("/") for path in paths]
    twice = [path for path in plain if plain.count(path) > 1]
    if twice:
        raise ConfigError(f"launch.volumes has {twice[0]} twice; expected each path once")
    for path, volume in zip(paths, pod.get("volumes", []), strict=True):
        sources = [name for name in volume if name != "name"]
        if len(sources) != 1:
            raise ConfigError(
                f"launch.volumes has {' and '.join(sources) or 'nothing'} at {path}: expected one source, such as "
                "persistentVolumeClaim"
            )
        claim = volume.get("persistentVolumeClaim", {}).get("claimName")
        if claim is not None:
            _fits(claim, SUBDOMAIN, 253, f"launch.volumes at {path}", "the name of a claim")
    for name, value in pod.get("nodeSelector", {}).items():
        _fits(name, QUALIFIED, 316, "launch.node_selector", "names of labels, such as node-type")
        _fits(value, f"{WORD}?", 63, f"launch.node_selector.{name}", "a label's value")
    for number, toleration in enumerate(pod.get("tolerations", [])):
        where = f"launch.tolerations[{number}]"
        _one_of(toleration.get("effect", EFFECTS[0]), EFFECTS, f"{where}.effect")
        _one_of(toleration.get("operator", OPERATORS[1]), OPERATORS, f"{where}.operator")
        if toleration.get("operator") == "Exists" and "value" in toleration:
            raise ConfigError(f"{where} has a value, which operator Exists does not look at; leave one of them out")
    seconds = pod.get("terminationGracePeriodSeconds", 1)
    if seconds < 1:
        raise ConfigError(f"launch.notice_seconds={seconds}: expected 1 or more")


def _fits(text: str, pattern: str, longest: int, where: str, expected: str) -> None:
    if re.fullmatch(pattern, text) is None or len(text) > longest:
        raise ConfigError(f"{where}: {text!r} cannot stand here; expected {expected}")


def _one_of(text: str, words: Iterable[str], where: str) -> None:
    if text not in words:
        raise ConfigError(f"{where}={text}: expected {' or '.join(words)}")
