"""The TrainJob that is rendered: what stands in it, and that nothing wrong gets into it.

It is held against Kubeflow's own models (pydantic, made strict) and, where the file is there, against the schema of
its custom resource. No cluster is involved: `kubectl` in here is a script that notes how it was called.
"""

import copy
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from pipeline.config import instantiate
from pipeline.config.checks.check_config import check_config
from pipeline.config.compose import compose
from pipeline.errors import ConfigError, RunError
from pipeline.launch import job_record, trainjob
from pipeline.launch.kubernetes import Kubernetes
from pipeline.launch.launcher import Resources
from pipeline.launch.trainjob import check_fields

CRD = Path(__file__).parents[3] / "shared/data/kubernetes/trainer.kubeflow.org_trainjobs.yaml"
COMMAND = [
    "/here/python",
    "-P",
    "-m",
    "pipeline.lifecycle.training_process",
    "/shared/runs/20261124-120000-cnn-mnist5k-ab12",
]
FOLDER = Path(COMMAND[-1])
LEAST: dict[str, Any] = {"image": "registry.example.org/pipeline:cuda", "volumes": {"/shared": "team-files"}}
ALL: dict[str, Any] = {
    "image": "registry.example.org/pipeline:cuda",
    "volumes": {
        "/shared": "team-files",
        "/data": {"nfs": {"server": "files", "path": "/images"}, "readOnly": True, "subPath": "mnist"},
        "/dev/shm": {"emptyDir": {"medium": "Memory", "sizeLimit": "8Gi"}},
    },
    "nodes": 2,
    "gpus_per_node": 8,
    "cpus_per_node": 32,
    "memory_per_node": "64GB",
    "time": "4h",
    "namespace": "team-a",
    "runtime": "my-runtime",
    "runtime_kind": "TrainingRuntime",
    "environment": {"NCCL_DEBUG": "INFO", "TIMES": 3},
    "secrets": {"MLFLOW_TRACKING_TOKEN": "mlflow/token"},
    "node_selector": {"node-type": "a100"},
    "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
    "pod": {"imagePullSecrets": [{"name": "mine"}], "securityContext": {"fsGroup": 1000}},
    "labels": {"kueue.x-k8s.io/queue-name": "gpus"},
    "managed_by": "kueue.x-k8s.io/multikueue",
}


DEFAULTS = compose(["launch=kubernetes"]).config


def launcher(**options: Any) -> Kubernetes:
    built: Kubernetes = instantiate.instantiate(DEFAULTS.launch, DEFAULTS, **options)
    return built


def manifest(**options: Any) -> dict[str, Any]:
    return launcher(**options).manifest(
        COMMAND, FOLDER, trainjob.trainjob_name(FOLDER.name, 1, options.get("nodes", 1))
    )


def pod_of(rendered: dict[str, Any]) -> dict[str, Any]:
    (patch,) = rendered["spec"]["runtimePatches"]
    (replicated,) = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    found: dict[str, Any] = replicated["template"]["spec"]["template"]["spec"]
    return found


def strict_schema() -> Any:
    """Of the custom resource; as it stands, it lets any misspelt field pass."""
    versions = yaml.load(CRD.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))["spec"]["versions"]
    schema = versions[0]["schema"]["openAPIV3Schema"]
    # What every resource has, the schema leaves to Kubernetes.
    texts = {"type": "object", "additionalProperties": {"type": "string"}}
    metadata = {"name": {"type": "string"}, "namespace": {"type": "string"}, "labels": texts}
    schema["properties"]["metadata"]["properties"] = metadata
    return closed(schema)


def closed(node: Any) -> Any:
    if isinstance(node, list):
        return [closed(each) for each in node]
    if not isinstance(node, dict):
        return node
    inner = {name: closed(each) for name, each in node.items()}
    return inner | ({"additionalProperties": False} if isinstance(inner.get("properties"), dict) else {})


def accepted_by_the_models(rendered: dict[str, Any]) -> bool:
    from kubeflow_trainer_api.models.trainer_v1alpha1_train_job import TrainerV1alpha1TrainJob
    from pydantic import ValidationError

    try:
        TrainerV1alpha1TrainJob.model_validate(
            without_quantities(rendered), strict=True, extra="forbid", by_alias=True, by_name=False
        )
    except ValidationError:
        return False
    return True


def without_quantities(node: Any) -> Any:
    """The models take an amount only by way of a method that lets misspelt fields pass."""
    if isinstance(node, list):
        return [without_quantities(each) for each in node]
    if not isinstance(node, dict):
        return node
    amounts = ("requests", "limits", "sizeLimit")
    return {name: without_quantities(each) for name, each in node.items() if name not in amounts}


def places(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where anything stands in a manifest."""
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [place for key, child in children for place in [(*path, key), *places(child, (*path, key))]]


def at(node: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        node = node[key]
    return node


def against_the_restricted_standard(pod: dict[str, Any]) -> list[str]:
    """What https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted has against a pod."""
    kinds = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
    of_pod = pod.get("securityContext", {})
    found = [f"volume {volume}" for volume in pod.get("volumes", []) if not volume.keys() - {"name"} <= kinds]
    found += [key for key in ("hostNetwork", "hostPID", "hostIPC") if pod.get(key)]
    for container in pod["containers"]:
        context = of_pod | container.get("securityContext", {})
        found += ["privileged"] if context.get("privileged") else []
        found += ["root"] if context.get("runAsNonRoot") is not True or context.get("runAsUser") == 0 else []
        found += ["escalation"] if context.get("allowPrivilegeEscalation") is not False else []
        found += ["capabilities"] if context.get("capabilities") != {"drop": ["ALL"]} else []
        found += ["seccomp"] if context.get("seccompProfile", {}).get("type") != "RuntimeDefault" else []
    return found


class TestTheManifest:
    @pytest.mark.parametrize("options", [LEAST, ALL])
    def test_the_models_and_the_schema_made_strict_accept_every_line(self, options: dict[str, Any]) -> None:
        read_back = yaml.safe_load(trainjob.manifest_yaml(manifest(**options), "run"))
        assert read_back == manifest(**options)
        assert accepted_by_the_models(read_back)
        if not CRD.exists():
            pytest.skip(f"{CRD.name} is not there; the models have been asked")
        jsonschema.Draft7Validator(strict_schema()).validate(read_back)

    def test_the_manifest_holds_the_requested_resources(self) -> None:
        rendered = manifest(**ALL)
        spec, pod = rendered["spec"], pod_of(rendered)
        assert rendered["metadata"]["namespace"] == "team-a"
        assert rendered["metadata"]["labels"] == {"kueue.x-k8s.io/queue-name": "gpus"}
        assert spec["runtimeRef"]["kind"] == "TrainingRuntime" and spec["runtimeRef"]["name"] == "my-runtime"
        assert spec["activeDeadlineSeconds"] == 4 * 3600
        assert (spec["trainer"]["numNodes"], spec["trainer"]["numProcPerNode"]) == (2, 8)
        amounts = {"cpu": 32, "memory": "64Gi", "nvidia.com/gpu": 8}
        assert spec["trainer"]["resourcesPerNode"] == {"requests": amounts, "limits": amounts}
        assert pod["nodeSelector"] == {"node-type": "a100"} and pod["securityContext"]["fsGroup"] == 1000
        assert pod["terminationGracePeriodSeconds"] == 60

    @pytest.mark.parametrize("options", [LEAST, ALL])
    def test_a_namespace_that_enforces_the_restricted_standard_admits_it(self, options: dict[str, Any]) -> None:
        options = {**options, "volumes": {path: each for path, each in options["volumes"].items() if path != "/data"}}
        assert against_the_restricted_standard(pod_of(manifest(**options))) == []

    def test_an_image_that_runs_as_root_needs_the_baseline_standard(self) -> None:
        pod = pod_of(manifest(**LEAST, pod_security="baseline"))
        assert "securityContext" not in pod and "securityContext" not in pod["containers"][0]
        assert against_the_restricted_standard(pod) != []

    def test_the_manifest_names_a_secret_and_not_its_value(self) -> None:
        entries = {entry["name"]: entry for entry in manifest(**ALL)["spec"]["trainer"]["env"]}
        assert entries["MLFLOW_TRACKING_TOKEN"]["valueFrom"] == {"secretKeyRef": {"name": "mlflow", "key": "token"}}
        assert "value" not in entries["MLFLOW_TRACKING_TOKEN"]
        assert entries["TIMES"]["value"] == "3" and entries["OMP_NUM_THREADS"]["value"] == "4"

    def test_a_volume_is_mounted_at_the_requested_path(self) -> None:
        pod = pod_of(manifest(**ALL))
        (container,) = pod["containers"]
        mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
        shared, data, memory = pod["volumes"]
        assert mounts[shared["name"]]["mountPath"] == "/shared"
        assert shared["persistentVolumeClaim"] == {"claimName": "team-files"}
        assert mounts[data["name"]] == {
            "name": data["name"], "mountPath": "/data", "readOnly": True, "subPath": "mnist",
        }  # fmt: skip
        assert memory["emptyDir"] == {"medium": "Memory", "sizeLimit": "8Gi"}

    def test_each_pod_runs_torchrun_with_the_python_of_the_image(self) -> None:
        shell, flag, lines = manifest(**LEAST)["spec"]["trainer"]["command"]
        assert (shell, flag) == ("/bin/sh", "-c")
        assert "exec python -m torch.distributed.run " in lines and "/here/python" not in lines
        assert f"--no-python python -P -m pipeline.lifecycle.training_process {FOLDER}\n" in lines
        subprocess.run(["/bin/sh", "-n", "-c", lines], check=True, timeout=10)

    def test_text_that_looks_like_a_kubernetes_variable_is_escaped(self) -> None:
        lines = trainjob.pod_script(
            [*COMMAND[:-1], "/shared/$(HOME)"], python="python", run_id="x", max_restarts=0, folder=None
        )
        assert "'/shared/$$(HOME)'" in lines


class TestNames:
    @pytest.mark.parametrize(
        "run_id, submission, nodes, name",
        [
            ("20261124-120000-cnn-mnist5k-ab12", 1, 1, "run-20261124-120000-cnn-mnist5k-ab12"),
            ("20261124-120000-cnn-mnist5k-ab12", 2, 1, "run-20261124-120000-cnn-mnist5k-ab12-2"),
            ("20261124-120000-My_Net.v2-ab12", 1, 1, "run-20261124-120000-my-net-v2-ab12"),
        ],
    )
    def test_a_trainjob_is_named_after_its_run(self, run_id: str, submission: int, nodes: int, name: str) -> None:
        assert trainjob.trainjob_name(run_id, submission, nodes) == name

    @pytest.mark.parametrize("submission, nodes", [(1, 1), (12, 1), (1, 1000)])
    def test_a_long_name_is_cut_in_the_middle_and_leaves_room_for_those_of_its_pods(
        self, submission: int, nodes: int
    ) -> None:
        name = trainjob.trainjob_name(f"20261124-120000-{'long-' * 20}ab12", submission, nodes)
        assert len(f"{name}-node-0-{nodes - 1}-abcde") <= 63
        assert name.removesuffix(f"-{submission}" if submission > 1 else "").endswith("-ab12")


class TestMistakes:
    """Each is told with what to change, before anything is printed or applied."""

    def test_a_misspelt_field_is_refused_wherever_it_is(self) -> None:
        rendered = manifest(**ALL)
        inner = [path for path in places(rendered) if isinstance(path[-1], str) and not is_free(path)]
        assert len(inner) > 60
        for path in inner:
            spoilt = copy.deepcopy(rendered)
            owner = at(spoilt, path[:-1])
            owner[f"{path[-1]}x"] = owner.pop(path[-1])
            with pytest.raises(ConfigError, match=f"{path[-1]}x: there is no such field; did you mean"):
                check_fields(spoilt)

    def test_a_value_of_another_type_is_refused_wherever_it_is(self) -> None:
        rendered = manifest(**ALL)
        for path in places(rendered):
            spoilt = copy.deepcopy(rendered)
            value = at(rendered, path)
            at(spoilt, path[:-1])[path[-1]] = {"a": "b"} if not isinstance(value, dict) else "text"
            with pytest.raises(ConfigError, match=r"is not valid here|there is no such field"):
                check_fields(spoilt)

    def test_a_field_by_its_python_name_is_refused(self) -> None:
        spoilt = manifest(**LEAST)
        spoilt["spec"]["trainer"]["num_nodes"] = spoilt["spec"]["trainer"].pop("numNodes")
        with pytest.raises(ConfigError, match=r"spec\.trainer\.num_nodes: .* did you mean numNodes"):
            check_fields(spoilt)

    @pytest.mark.parametrize(
        "options, told",
        [
            ({"image": None}, r"launch\.image is missing.*launch\.image="),
            ({"image": "two words"}, r"launch\.image: 'two words'"),
            ({"volumes": None}, r"on no volume that all pods see.*launch\.volumes=\{/shared/runs: my-claim\}"),
            ({"volumes": {"/elsewhere": "team-files"}}, "on no volume"),
            ({"volumes": {"/shared": {"emptyDir": {}}}}, "on no volume"),
            ({"volumes": {"/shared": "team-files", "/shared/runs": {"emptyDir": {}}}}, "on no volume"),
            ({"volumes": {"/shared": {"persistentVolumeClaim": {"claimName": "a", "readOnly": True}}}}, "on no volume"),
            ({"volumes": {"/shared": {"persistentVolumeClaim": {"claimNam": "a"}}}}, "claimNam.*did you mean claimNam"),
            ({"volumes": {"/shared": {"nfs": {"server": 3, "path": "/"}}}}, r"nfs\.server: 3 .* expected a text"),
            ({"volumes": {"/shared": {"nfs": {"server": "a"}}}}, r"nfs: path is missing"),
            ({"volumes": {"/shared": "a", "/x": {}}}, "nothing at /x: expected one source"),
            ({"volumes": {"/shared": "a", "x": "b"}}, "expected a path from the root"),
            ({"volumes": {"/shared": "a", "/shared/": "b"}}, "/shared twice"),
            (
                {"volumes": {"/shared": "a", "/x": {"emptyDir": {"sizeLimit": "8 GB"}}}},
                "expected a Kubernetes quantity",
            ),
            ({"volumes": {"/shared": "Team_Files"}}, "'Team_Files' is not valid here; expected the name of a claim"),
            ({"volumes": {"/shared": 3}}, "has 3 at /shared: expected the name of a claim"),
            ({"tolerations": [{"kee": "a"}]}, "did you mean key"),
            (
                {"tolerations": [{"key": "a", "effect": "NoRun"}]},
                r"tolerations\[0\]\.effect: 'NoRun' .* expected NoExecute or NoSchedule or PreferN",
            ),
            ({"tolerations": [{"operator": "Exists", "value": "a"}]}, "leave one of them out"),
            ({"pod": {"hostNetwork": True}}, r"pod\.hostNetwork: there is no such field"),
            ({"pod": {"volumes": []}}, r"launch\.pod\.volumes"),
            ({"pod": {"nodeSelector": {}}, "node_selector": {"a": "b"}}, r"launch\.pod\.nodeSelector"),
            ({"environment": {"PET_NNODES": "3"}}, r"PET_NNODES: Kubeflow sets"),
            ({"environment": {"A B": "3"}}, "names of variables"),
            ({"environment": {"A": True}}, "expected a text or a number"),
            ({"secrets": {"PET_X": "a/b"}}, "PET_X: Kubeflow sets"),
            ({"secrets": {"TOKEN": "abc123"}}, "TOKEN: my-secret/my-key"),
            ({"secrets": {"TOKEN": "My_Secret/key"}}, "the name of a secret before the /"),
            ({"environment": {"A": "1"}, "secrets": {"A": "b/c"}}, r"in launch\.environment and in launch\.secrets"),
            ({"namespace": "Team"}, r"launch\.namespace: 'Team'"),
            ({"runtime": "torch distributed"}, r"launch\.runtime"),
            ({"labels": {"queue name": "a"}}, r"launch\.labels"),
            ({"node_selector": {"a": 1}}, "expected a text"),
            ({"gpu_resource": "nvidia gpu", "gpus_per_node": 1}, r"launch\.gpu_resource"),
            ({"memory_per_node": "64"}, r"launch\.memory_per_node=64GB"),
            ({"time": "4"}, r"launch\.time=4h"),
        ],
    )
    def test_a_setting_that_cannot_work_is_refused_with_what_to_change(
        self, options: dict[str, Any], told: str
    ) -> None:
        with pytest.raises(ConfigError, match=f"(?s){told}"):
            manifest(**{**LEAST, **options})

    @pytest.mark.parametrize(
        "setting, expected",
        [
            ("nodes=0", "expected a whole number from 1"),
            ("processes_per_node=0", "expected a whole number from 1"),
            ("cpus_per_node=0", "expected a whole number from 1"),
            ("gpus_per_node=-1", "expected a whole number from 0"),
            ("max_restarts=-1", "expected a whole number from 0"),
            ("notice_seconds=0", "expected a whole number from 1"),
            ("runtime_kind=Runtime", "expected ClusterTrainingRuntime or TrainingRuntime"),
            ("managed_by=me", "expected trainer.kubeflow.org/trainjob-controller, kueue.x-k8s.io/multikueue or null"),
            ("pod_security=strict", "expected restricted or baseline"),
        ],
    )
    def test_the_check_of_the_configuration_refuses_impossible_counts_and_words(
        self, setting: str, expected: str
    ) -> None:
        composed = compose(["launch=kubernetes", f"launch.{setting}"])
        with pytest.raises(ConfigError, match=re.escape(f"launch.{setting}: {expected}")):
            check_config(composed.config, composed.shipped)

    def test_a_missing_package_is_reported_with_how_to_install_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "kubeflow_trainer_api.models.trainer_v1alpha1_train_job", None)
        with pytest.raises(ConfigError, match=r"pip install 'pipeline\[kubernetes\]'"):
            manifest(**LEAST)

    def test_the_models_and_the_schema_made_strict_refuse_the_same_mistakes(self) -> None:
        rendered = manifest(**ALL)
        schema = jsonschema.Draft7Validator(strict_schema()) if CRD.exists() else None
        for path in places(rendered):
            if isinstance(path[-1], str) and not is_free(path):
                spoilt = copy.deepcopy(rendered)
                owner = at(spoilt, path[:-1])
                owner[f"{path[-1]}x"] = owner.pop(path[-1])
                assert not accepted_by_the_models(spoilt), path
                assert schema is None or not schema.is_valid(spoilt), path


def is_free(path: tuple[Any, ...]) -> bool:
    """Whether the user names what stands here."""
    return len(path) > 1 and path[-2] in ("labels", "requests", "limits", "nodeSelector")


KUBECTL = """#!/bin/sh
echo "$@" >> "$NOTES"
case "$1" in
  get) cat "$ANSWER" ;;
  version) exit "${NO_CLUSTER:-0}" ;;
esac
exit "${CODE:-0}"
"""


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """A script in place of kubectl, which shows how it was called, and nothing about any cluster."""
    script = tmp_path / "bin/kubectl"
    script.parent.mkdir()
    script.write_text(KUBECTL)
    script.chmod(0o755)
    notes = tmp_path / "notes"
    monkeypatch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("NOTES", str(notes))
    monkeypatch.setenv("ANSWER", "/dev/null")
    return lambda: notes.read_text().splitlines() if notes.exists() else []


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "runs" / FOLDER.name
    path.mkdir(parents=True)
    return path


def submit(folder: Path, **options: Any) -> None:
    given = {**LEAST, "volumes": {str(folder.parent): "team-files"}, **options}
    assert launcher(**given).run([*COMMAND[:-1], str(folder)], Resources(1, 1), folder) == 0


class TestKubectl:
    def test_a_run_is_applied_and_says_how_to_follow_and_end_it(
        self, calls: Callable[[], list[str]], folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        submit(folder, namespace="team-a")
        assert calls() == [f"apply --filename={folder}/job.yaml"]
        said = capsys.readouterr().out
        assert f"run-{folder.name} in namespace team-a" in said and f"pipeline cancel {folder.name}" in said

    def test_a_dry_run_asks_no_cluster_where_none_answers(
        self,
        calls: Callable[[], list[str]],
        folder: Path,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("NO_CLUSTER", "1")
        submit(folder, dry_run=True)
        assert calls() == ["version --request-timeout=3s"]
        said = capsys.readouterr().out
        assert f"kubectl apply -f {folder}/job.yaml" in said and "cluster  " not in said
        assert yaml.safe_load((folder / "job.yaml").read_text())["kind"] == "TrainJob"

    @pytest.mark.parametrize("code, told", [("0", "would accept it"), ("1", "would refuse it: kubectl refused")])
    def test_a_dry_run_asks_the_cluster_and_leaves_nothing_there(
        self,
        calls: Callable[[], list[str]],
        folder: Path,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
        code: str,
        told: str,
    ) -> None:
        monkeypatch.setenv("CODE", code)
        submit(folder, dry_run=True)
        assert calls()[-1] == f"apply --dry-run=server --filename={folder}/job.yaml"
        assert f"cluster     {told}" in capsys.readouterr().out

    def test_a_run_that_is_submitted_again_is_another_trainjob(
        self, calls: Callable[[], list[str]], folder: Path
    ) -> None:
        submit(folder)
        submit(folder)
        assert (job_record.read_job_record(folder) or {})["job"] == f"run-{folder.name}-2"

    def test_a_refused_job_leaves_no_job_record(
        self, calls: Callable[[], list[str]], folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CODE", "1")
        with pytest.raises(RunError, match="kubectl refused"):
            submit(folder)
        assert job_record.read_job_record(folder) is None

    def test_cancelling_deletes_the_trainjob_and_waits_for_nothing(
        self, calls: Callable[[], list[str]], folder: Path
    ) -> None:
        submit(folder, namespace="team-a")
        assert "save and end" in launcher(**LEAST).cancel(folder)
        assert calls()[-1] == f"delete trainjob run-{folder.name} --namespace=team-a --wait=false"

    def test_a_job_record_of_another_launcher_is_ignored(self, calls: Callable[[], list[str]], folder: Path) -> None:
        job_record.write_job_record(folder, launcher="slurm", job="17")
        assert launcher(**LEAST).state(folder) is None
        with pytest.raises(RunError, match="was not submitted as a TrainJob"):
            launcher(**LEAST).cancel(folder)
        assert calls() == []
        submit(folder)
        assert (job_record.read_job_record(folder) or {})["job"] == f"run-{folder.name}"

    @pytest.mark.parametrize(
        "found, state",
        [
            (None, None),
            ({"metadata": {}}, "PENDING"),
            ({"metadata": {}, "status": {"conditions": [{"type": "Suspended", "status": "True"}]}}, "SUSPENDED"),
            ({"metadata": {}, "status": {"jobsStatus": [{"name": "node", "ready": 0}]}}, "PENDING"),
            ({"metadata": {}, "status": {"jobsStatus": [{"name": "node", "ready": 1}]}}, "RUNNING"),
            ({"metadata": {}, "status": {"conditions": [{"type": "Complete", "status": "True"}]}}, None),
            ({"metadata": {}, "status": {"conditions": [{"type": "Failed", "status": "True"}]}}, None),
            ({"metadata": {"deletionTimestamp": "2026-11-24T12:00:00Z"}}, "ENDING"),
        ],
    )
    def test_the_state_of_a_trainjob_is_read_from_its_conditions(
        self,
        calls: Callable[[], list[str]],
        folder: Path,
        monkeypatch: pytest.MonkeyPatch,
        found: dict[str, Any] | None,
        state: str | None,
    ) -> None:
        submit(folder)
        answer = folder / "answer.json"
        answer.write_text("" if found is None else json.dumps(found))
        monkeypatch.setenv("ANSWER", str(answer))
        assert launcher(**LEAST).state(folder) == state

    def test_without_kubectl_the_error_names_the_dry_run_that_needs_none(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PATH", str(folder))
        with pytest.raises(ConfigError, match=r"needs kubectl.*launch\.dry_run=true"):
            submit(folder)
        submit(folder, dry_run=True)
        assert launcher(**LEAST).state(folder) is None
