"""The parts of a TrainJob, their YAML, and the checks of its fields and names."""

import difflib
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml

from pipeline.errors import ConfigError
from pipeline.launch.torchrun import STORE_VARIABLES

MAX_NAME_LENGTH = 63
MOUNT_KEYS = ("readOnly", "subPath")  # beside the source of a volume; all else is the source
SINGLE_POD_VOLUMES = ("emptyDir", "ephemeral", "configMap", "secret", "downwardAPI", "projected", "image", "gitRepo")
# https://kubernetes.io/docs/concepts/security/pod-security-standards: what "restricted" demands of a pod and of each
# container in it. "baseline" demands nothing that our pods do not keep to anyway.
RESTRICTED_POD = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
RESTRICTED_CONTAINER = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
IMAGE_PULL_SECONDS = 600  # the other pods wait this long for the first to be there


def trainjob_name(run_id: str, submission: int, nodes: int) -> str:
    """Return the name of a TrainJob: small letters, digits and dashes, short enough for the names of its pods.

    A run that is submitted again gets another name, because the old TrainJob may still be there.
    """
    suffix = "" if submission == 1 else f"-{submission}"
    room = MAX_NAME_LENGTH - len(f"{suffix}-node-0-{nodes - 1}-12345")
    name = re.sub(r"[^a-z0-9]+", "-", f"run-{run_id}".lower()).strip("-")
    if len(name) > room:  # keep the end, which is unique
        name = f"{name[: room - 5].rstrip('-')}{name[-5:]}"
    return name + suffix


def pod_script(command: list[str], *, python: str, run_id: str, max_restarts: int, folder: str | None) -> str:
    """Return the shell script of each pod: torchrun with `command` (our module, by this machine's Python).

    Kubeflow's torch policy sets PET_*, and torchrun takes its options from there. `folder` is its working directory.
    """
    agent = [python, "-m", "torch.distributed.run", "--rdzv-backend=c10d", f"--rdzv-id={run_id}"]
    restarts = [f"--max-restarts={max_restarts}", "--monitor-interval=0.5"]
    lines = [
        *([] if folder is None else [f"cd {_literal(shlex.quote(folder))} || exit 1"]),
        "# All meet in the first pod. is_host tells it so: its name may not be known yet when it starts.",
        'if [ "$PET_NODE_RANK" = 0 ]; then is_host=1; else is_host=0; fi',
        f"exec {_literal(shlex.join(agent))} \\",
        '  --rdzv-endpoint="$PET_MASTER_ADDR:$PET_MASTER_PORT" \\',
        f'  --rdzv-conf="is_host=$is_host,read_timeout={IMAGE_PULL_SECONDS}" \\',
        f"  {shlex.join(restarts)} \\",
        f"  --no-python {_literal(shlex.join([python, *command[1:]]))}",
    ]
    return "".join(f"{line}\n" for line in lines)


def _literal(text: str) -> str:
    """Return the text with $ escaped: Kubernetes replaces $(NAME) by variables, and $$ by $."""
    return text.replace("$", "$$")


def container_environment(
    environment: Mapping[str, str | int | float], secrets: Mapping[str, str], threads: int | None
) -> list[dict[str, Any]]:
    """Return `env` of the container. Raises ConfigError for values that are no text, and secrets without a key."""
    twice = sorted(environment.keys() & secrets.keys())
    if twice:
        raise ConfigError(f"{twice[0]} is in launch.environment and in launch.secrets; leave one of them out")
    values: dict[str, str | int | float] = {**STORE_VARIABLES}
    if threads is not None:
        values["OMP_NUM_THREADS"] = threads
    for name, value in environment.items():
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise ConfigError(f"launch.environment.{name}={value}: expected a text or a number, such as '{value}'")
    return [
        *({"name": name, "value": str(value)} for name, value in {**values, **environment}.items()),
        *({"name": name, "valueFrom": {"secretKeyRef": _secret(name, value)}} for name, value in secrets.items()),
    ]


def _secret(name: str, value: Any) -> dict[str, str]:
    secret, slash, key = str(value).partition("/")
    if not (secret and slash and key) or "/" in key:
        raise ConfigError(
            f"launch.secrets.{name} names no secret and its key; expected such as "
            f"'launch.secrets={{{name}: my-secret/my-key}}' (never the value itself: it would be kept in the run)"
        )
    return {"name": secret, "key": key}


def volumes_and_mounts(volumes: Mapping[str, Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return `volumes` of a pod and `volumeMounts` of its container, from {path: claim's name or volume's source}."""
    sources, mounts = [], []
    for number, (path, volume) in enumerate(volumes.items(), start=1):
        if not isinstance(volume, str | Mapping):
            raise ConfigError(
                f"launch.volumes has {volume!r} at {path}: expected the name of a claim, such as "
                f"'launch.volumes={{{path}: my-claim}}', or the source of a volume"
            )
        entry = {"persistentVolumeClaim": {"claimName": volume}} if isinstance(volume, str) else dict(volume)
        source = {key: value for key, value in entry.items() if key not in MOUNT_KEYS}
        mount = {key: value for key, value in entry.items() if key in MOUNT_KEYS}
        sources.append({"name": f"volume-{number}", **source})
        mounts.append({"name": f"volume-{number}", "mountPath": str(path), **mount})
    return sources, mounts


def is_shared_by_all_pods(folder: Path, volumes: Mapping[str, Any]) -> bool:
    """Tell whether all pods see the same folder and may write to it; the innermost volume around it decides."""
    around = [path for path in volumes if folder.is_relative_to(path)]
    if not around:
        return False
    source = volumes[max(around, key=lambda path: len(Path(path).parts))]
    claim = source.get("persistentVolumeClaim") if isinstance(source, Mapping) else None
    parts = [part for part in (source, claim) if isinstance(part, Mapping)]
    return not any(part.get("readOnly") or any(kind in part for kind in SINGLE_POD_VOLUMES) for part in parts)


def security_contexts(standard: str) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """Return the contexts of pod and container that one of Kubernetes' Pod Security Standards demands."""
    return (dict(RESTRICTED_POD), dict(RESTRICTED_CONTAINER)) if standard == "restricted" else (None, None)


def manifest_yaml(manifest: Mapping[str, Any], run_id: str) -> str:
    """Return the manifest as YAML that people can read."""
    header = f"# The run {run_id} as a TrainJob of Kubeflow Trainer. To submit it: kubectl apply -f <this file>\n"
    return header + yaml.dump(manifest, Dumper=_Lines, sort_keys=False, width=1000, allow_unicode=True)


class _Lines(yaml.SafeDumper):
    """Writes texts of several lines as blocks."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Lines.add_representer(str, _text)


POD = re.compile(r"spec\.runtimePatches\S+\.replicatedJobs\[0\]\.template\.spec\.template\.spec\b")
QUANTITY_PATTERN = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?\d+)?")
QUANTITY, TEXT_OR_NUMBER = "IoK8sApimachineryPkgApiResourceQuantity", "IoK8sApimachineryPkgUtilIntstrIntOrString"
EXPECTED = {  # of a value, by the kind of error that pydantic reports
    "string_type": "a text",
    "int_type": "a whole number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "names and values",
    QUANTITY: "a Kubernetes quantity such as 4, 500m or 64Gi",
    TEXT_OR_NUMBER: "a whole number or a text",
}
LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
SUBDOMAIN = rf"{LABEL}(\.{LABEL})*"
WORD = r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)"
QUALIFIED = rf"({SUBDOMAIN}/)?{WORD}"


def check_fields(manifest: Mapping[str, Any]) -> None:
    """Raise ConfigError for the first field that is unknown, missing or of another type."""
    try:
        from kubeflow_trainer_api.models.trainer_v1alpha1_train_job import TrainerV1alpha1TrainJob
        from pydantic import ValidationError
    except ModuleNotFoundError:
        raise ConfigError(
            "launch=kubernetes checks its manifest with a package that is not installed here: "
            "python -m pip install 'pipeline[kubernetes]'"
        ) from None
    try:
        # Not from_dict alone: it lets a misspelt field pass.
        TrainerV1alpha1TrainJob.model_validate(manifest, strict=True, extra="forbid", by_alias=True, by_name=False)
    except ValidationError as problem:
        messages = [text for error in problem.errors() for text in _messages(error, TrainerV1alpha1TrainJob)]
        if messages:
            first = min(messages, key=lambda text: "no such field" not in text)
            raise ConfigError(f"this TrainJob would be refused:\n  {POD.sub('pod', first)}") from None
    try:
        TrainerV1alpha1TrainJob.from_dict(dict(manifest))
    except ValueError:  # all that is left: pydantic takes any mapping for an amount, without a look into it
        raise ConfigError(
            f"this TrainJob would be refused: a mapping is not valid here; expected {EXPECTED[QUANTITY]}"
        ) from None


def _messages(error: Mapping[str, Any], model: Any) -> Iterator[str]:
    """Yield the message for one of pydantic's errors; nothing for an amount that Kubernetes accepts."""
    *around, last = place = list(error["loc"])
    fields, kind = _fields(_model_at(around, model)), error["type"]
    if kind == "extra_forbidden":
        near = difflib.get_close_matches(str(last), fields, n=1, cutoff=0.5)
        meant = f"; did you mean {near[0]}?" if near else ""
        yield f"{_dotted(place)}: there is no such field{meant} (there are {', '.join(fields)})"
    elif kind == "missing":
        yield f"{_dotted(around)}: {last} is missing (there are {', '.join(fields)})"
    elif not _is_amount(name := error.get("ctx", {}).get("class_name", kind), error["input"]):
        words = re.findall(r"'(\w+)'", error["msg"]) if kind == "value_error" else []  # one of enum values ('A', 'B')
        fields = _fields(_model_at(place, model))
        expected = EXPECTED.get(name) or " or ".join(words) or f"the fields {', '.join(fields)}"
        yield f"{_dotted(place)}: {error['input']!r} is not valid here; expected {expected}"


def _is_amount(name: str, value: Any) -> bool:
    """Tell whether Kubernetes, but not pydantic, accepts a value for the model of that name."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return False
    return name == TEXT_OR_NUMBER or (name == QUANTITY and QUANTITY_PATTERN.fullmatch(str(value)) is not None)


def _model_at(place: list[str | int], model: Any) -> Any:
    """Return the type of the field at a path in a TrainJob; indices of lists are skipped."""
    for key in place:
        if isinstance(key, str) and key in (fields := _fields(model)):
            model = fields[key]
            while inner := get_args(model):  # Optional[...], List[...], Dict[str, ...], Annotated[...]
                model = inner[-1] if get_origin(model) is dict else inner[0]
    return model


def _fields(model: Any) -> dict[str, Any]:
    fields = getattr(model, "model_fields", {})
    return {field.alias or name: field.annotation for name, field in fields.items()}


def _dotted(place: list[str | int]) -> str:
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in place).removeprefix(".")


def check_rules(manifest: Mapping[str, Any], pod: Mapping[str, Any]) -> None:
    """Raise ConfigError, naming the option of `launch` to change, for a name or value that Kubernetes refuses.

    `manifest` has passed `check_fields`; `pod` is its pod specification.
    """
    metadata, spec, trainer = manifest["metadata"], manifest["spec"], manifest["spec"]["trainer"]
    _check_matches(metadata["namespace"], LABEL, 63, "launch.namespace", "small letters, digits and dashes, 63 at most")
    for name, value in metadata.get("labels", {}).items():
        _check_matches(name, QUALIFIED, 316, "launch.labels", "names such as kueue.x-k8s.io/queue-name")
        _check_matches(value, f"{WORD}?", 63, f"launch.labels.{name}", "letters, digits, '-', '_' and '.', 63 at most")
    _check_matches(
        spec["runtimeRef"]["name"], SUBDOMAIN, 253, "launch.runtime", "a runtime's name, such as torch-distributed"
    )
    _check_matches(
        trainer["image"], r"[^\s]+", 500, "launch.image", "an image, such as registry.example.org/pipeline:cuda"
    )
    for name in trainer.get("resourcesPerNode", {}).get("limits", {}):
        _check_matches(name, QUALIFIED, 316, "launch.gpu_resource", "a resource's name, such as nvidia.com/gpu")
    for variable in trainer["env"]:
        _check_variable(variable)
    _check_volumes(pod)
    for name, value in pod.get("nodeSelector", {}).items():
        _check_matches(name, QUALIFIED, 316, "launch.node_selector", "names of labels, such as node-type")
        _check_matches(value, f"{WORD}?", 63, f"launch.node_selector.{name}", "a label's value")
    for number, toleration in enumerate(pod.get("tolerations", [])):
        if toleration.get("operator") == "Exists" and "value" in toleration:
            where = f"launch.tolerations[{number}]"
            raise ConfigError(f"{where} has a value, which operator Exists ignores; leave one of them out")


def _check_variable(variable: Mapping[str, Any]) -> None:
    name, reference = variable["name"], variable.get("valueFrom", {}).get("secretKeyRef")
    where = "launch.environment" if reference is None else "launch.secrets"
    _check_matches(name, r"[-._A-Za-z][-._A-Za-z0-9]*", 253, where, "names of variables, such as NCCL_DEBUG")
    if name.startswith("PET_"):
        raise ConfigError(f"{where}.{name}: Kubeflow sets PET_* itself, to tell each pod its place; leave it out")
    if reference is not None:
        _check_matches(reference["name"], SUBDOMAIN, 253, f"{where}.{name}", "the name of a secret before the /")
        _check_matches(reference["key"], r"[-._A-Za-z0-9]+", 253, f"{where}.{name}", "a key of that secret after the /")


def _check_volumes(pod: Mapping[str, Any]) -> None:
    paths = [mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]]
    plain = [path.rstrip("/") for path in paths]
    for path, volume in zip(paths, pod["volumes"], strict=True):
        if not path.startswith("/") or ":" in path or path == "/":
            raise ConfigError(f"launch.volumes has {path}: expected a path from the root, such as /shared")
        if plain.count(path.rstrip("/")) > 1:
            raise ConfigError(f"launch.volumes has {path.rstrip('/')} twice; expected each path once")
        sources = [name for name in volume if name != "name"]
        if len(sources) != 1:
            raise ConfigError(
                f"launch.volumes has {' and '.join(sources) or 'nothing'} at {path}: expected one source, such as "
                "persistentVolumeClaim"
            )
        claim = volume.get("persistentVolumeClaim", {}).get("claimName")
        if claim is not None:
            _check_matches(claim, SUBDOMAIN, 253, f"launch.volumes at {path}", "the name of a claim")


def _check_matches(text: str, pattern: str, longest: int, where: str, expected: str) -> None:
    if re.fullmatch(pattern, text) is None or len(text) > longest:
        raise ConfigError(f"{where}: {text!r} is not valid here; expected {expected}")
