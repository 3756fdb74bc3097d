"""The parts of a TrainJob: its name, what its pods run, see and are given."""

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from pipeline.errors import ConfigError
from pipeline.launch.torchrun import OWN_STORE

LONGEST_NAME = 63
OF_A_MOUNT = ("readOnly", "subPath")  # beside the source of a volume; all else is the source
OF_ONE_POD = ("emptyDir", "ephemeral", "configMap", "secret", "downwardAPI", "projected", "image", "gitRepo")
# https://kubernetes.io/docs/concepts/security/pod-security-standards: what "restricted" demands of a pod and of each
# container in it. "baseline" demands nothing that our pods do not keep to anyway.
RESTRICTED_POD = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
RESTRICTED_CONTAINER = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
SECONDS_FOR_IMAGES = 600  # the other pods wait this long for the first to be there


def name_of(run_id: str, submission: int, nodes: int) -> str:
    """Of the TrainJob: small letters, digits and dashes, and so short that the names of its pods fit, too.

    One that was submitted again has a name of its own, because the old one may still be there.
    """
    suffix = "" if submission == 1 else f"-{submission}"
    room = LONGEST_NAME - len(f"{suffix}-node-0-{nodes - 1}-12345")
    name = re.sub(r"[^a-z0-9]+", "-", f"run-{run_id}".lower()).strip("-")
    if len(name) > room:  # the end, which no other run has, stays
        name = f"{name[: room - 5].rstrip('-')}{name[-5:]}"
    return name + suffix


def script(command: list[str], *, python: str, run_id: str, max_restarts: int, folder: str | None) -> str:
    """What each pod runs, of `command` (our module, by this machine's Python) as many as PET_NPROC_PER_NODE says.

    Kubeflow's torch policy sets PET_*, and torchrun takes its options from there. `folder` is where it runs.
    """
    agent = [python, "-m", "torch.distributed.run", "--rdzv-backend=c10d", f"--rdzv-id={run_id}"]
    again = [f"--max-restarts={max_restarts}", "--monitor-interval=0.5"]
    lines = [
        *([] if folder is None else [f"cd {_literal(shlex.quote(folder))} || exit 1"]),
        "# All meet in the first pod. It is told so: its name may not be known yet when it starts.",
        'if [ "$PET_NODE_RANK" = 0 ]; then is_host=1; else is_host=0; fi',
        f"exec {_literal(shlex.join(agent))} \\",
        '  --rdzv-endpoint="$PET_MASTER_ADDR:$PET_MASTER_PORT" \\',
        f'  --rdzv-conf="is_host=$is_host,read_timeout={SECONDS_FOR_IMAGES}" \\',
        f"  {shlex.join(again)} \\",
        f"  --no-python {_literal(shlex.join([python, *command[1:]]))}",
    ]
    return "".join(f"{line}\n" for line in lines)


def _literal(text: str) -> str:
    """Kubernetes puts variables in place of $(NAME), and $ in place of $$."""
    return text.replace("$", "$$")


def variables(
    environment: Mapping[str, str | int | float], secrets: Mapping[str, str], threads: int | None
) -> list[dict[str, Any]]:
    """Raises ConfigError for a value that Kubernetes could not take, and for a secret without its key."""
    twice = sorted(environment.keys() & secrets.keys())
    if twice:
        raise ConfigError(f"{twice[0]} is in launch.environment and in launch.secrets; leave one of them out")
    given: dict[str, str | int | float] = {**OWN_STORE}
    if threads is not None:
        given["OMP_NUM_THREADS"] = threads
    for name, value in environment.items():
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise ConfigError(f"launch.environment.{name}={value}: expected a text or a number, such as '{value}'")
    return [
        *({"name": name, "value": str(value)} for name, value in {**given, **environment}.items()),
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


def mounted(volumes: Mapping[str, Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The volumes of a pod, and where its container has them, from {path: a claim's name or a volume's source}."""
    sources, mounts = [], []
    for number, (path, given) in enumerate(volumes.items(), start=1):
        if not isinstance(given, str | Mapping):
            raise ConfigError(
                f"launch.volumes has {given!r} at {path}: expected the name of a claim, such as "
                f"'launch.volumes={{{path}: my-claim}}', or the source of a volume"
            )
        whole = {"persistentVolumeClaim": {"claimName": given}} if isinstance(given, str) else dict(given)
        source = {key: value for key, value in whole.items() if key not in OF_A_MOUNT}
        mount = {key: value for key, value in whole.items() if key in OF_A_MOUNT}
        sources.append({"name": f"volume-{number}", **source})
        mounts.append({"name": f"volume-{number}", "mountPath": str(path), **mount})
    return sources, mounts


def shared_by_all(folder: Path, volumes: Mapping[str, Any]) -> bool:
    """Whether all pods see and may change the same folder: the innermost volume it is in decides."""
    around = [path for path in volumes if folder.is_relative_to(path)]
    if not around:
        return False
    source = volumes[max(around, key=lambda path: len(Path(path).parts))]
    claim = source.get("persistentVolumeClaim") if isinstance(source, Mapping) else None
    parts = [part for part in (source, claim) if isinstance(part, Mapping)]
    return not any(part.get("readOnly") or any(kind in part for kind in OF_ONE_POD) for part in parts)


def security_contexts(standard: str) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """Return those of the pod and of its container that one of Kubernetes' Pod Security Standards demands."""
    return (dict(RESTRICTED_POD), dict(RESTRICTED_CONTAINER)) if standard == "restricted" else (None, None)


def written(manifest: Mapping[str, Any], run_id: str) -> str:
    """As YAML, to be read by people too."""
    header = f"# The run {run_id} as a TrainJob of Kubeflow Trainer. To submit it: kubectl apply -f <this file>\n"
    return header + yaml.dump(manifest, Dumper=_Lines, sort_keys=False, width=1000, allow_unicode=True)


class _Lines(yaml.SafeDumper):
    """Texts of several lines stand as they are."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Lines.add_representer(str, _text)
