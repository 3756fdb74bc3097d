"""The two ways to reach an MLflow store: REST calls to a server, MLflow's own client for every other store.

A third way, `shared_client`, forwards every call of `Backend` to a process that holds a ClientBackend.
"""

import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from urllib.parse import quote, urlencode, urlsplit

from pipeline.system.json_shape import ListOf, Nullable
from pipeline.tracking import tracking_uri
from pipeline.tracking.mlflow import sqlite_store
from pipeline.tracking.mlflow.http_client import NO_SHAPE, HttpClient, ResourceNotFound
from pipeline.tracking.mlflow.mlflow_client import (
    Refused,
    Unavailable,
    http_status,
    mlflow_client,
    quiet_mlflow,
    translate_errors,
)

if TYPE_CHECKING:
    from mlflow.entities import Run

ACTIVE = "active"
CONTEXT_TAG, CONTEXT = "mlflow.data.context", "training"  # of a data set


class MetricPoint(NamedTuple):
    """One value of one metric; `time` is in ms since 1970. The order is that of MLflow's own Metric."""

    name: str
    value: float
    time: int
    step: int


class StoredRun(NamedTuple):
    """A run in the store; `is_active` is False once it was deleted, `files` is the URI of the folder of its files."""

    experiment_id: str
    run_id: str
    is_active: bool
    files: str


class StoredExperiment(NamedTuple):
    """An experiment in the store; `is_active` is False once it was deleted."""

    experiment_id: str
    is_active: bool


class Backend(Protocol):
    """What this package asks of an MLflow store, in values that JSON can hold.

    Every method raises Unavailable or Refused, and nothing else. All but the two that create may be repeated.
    """

    def get_run(self, run_id: str) -> StoredRun | None: ...

    def find_run(self, experiment_id: str, tag: str, text: str) -> StoredRun | None: ...

    def create_run(self, experiment_id: str, name: str, time: int, tags: Mapping[str, str]) -> StoredRun: ...

    def get_experiment(self, name: str) -> StoredExperiment | None: ...

    def create_experiment(self, name: str, artifact_location: str | None) -> str:
        """Return the id of a new experiment; with None as location the store itself chooses where its files go."""

    def log_batch(
        self,
        run_id: str,
        *,
        metrics: Sequence[MetricPoint] = (),
        params: Sequence[tuple[str, str]] = (),
        tags: Sequence[tuple[str, str]] = (),
    ) -> None: ...

    def update_run(self, run_id: str, status: str, time: int | None) -> None: ...

    def log_dataset(self, run_id: str, dataset: Mapping[str, str]) -> None: ...

    def log_artifact(self, run_id: str, path: str, folder: str | None) -> None: ...


class ClientBackend:
    """Any store, by MLflow's own client. Making one imports mlflow: 2 s, 170 MB.

    A missing local database is created; its experiments keep their files below `artifact_root`.
    """

    def __init__(self, uri: str, artifact_root: str | None) -> None:
        quiet_mlflow()
        with translate_errors():  # which imports mlflow
            database = tracking_uri.sqlite_file(uri)
            if database is not None:
                sqlite_store.create_if_missing(database, artifact_root)
            if (hint := sqlite_store.upgrade_hint(database)) is not None:
                raise Unavailable(hint)
            self._client = mlflow_client(uri)

    @translate_errors()
    def get_run(self, run_id: str) -> StoredRun | None:
        from mlflow.exceptions import MlflowException

        try:
            return _run_from_client(self._client.get_run(run_id))
        except MlflowException as error:
            if http_status(error) == 404:
                return None
            raise

    @translate_errors()
    def find_run(self, experiment_id: str, tag: str, text: str) -> StoredRun | None:
        runs = self._client.search_runs([experiment_id], f"tags.{tag} = '{text}'", max_results=1)
        return _run_from_client(runs[0]) if runs else None

    @translate_errors()
    def create_run(self, experiment_id: str, name: str, time: int, tags: Mapping[str, str]) -> StoredRun:
        return _run_from_client(self._client.create_run(experiment_id, time, dict(tags), run_name=name))

    @translate_errors()
    def get_experiment(self, name: str) -> StoredExperiment | None:
        experiment = self._client.get_experiment_by_name(name)
        if experiment is None:
            return None
        return StoredExperiment(str(experiment.experiment_id), experiment.lifecycle_stage == ACTIVE)

    @translate_errors()
    def create_experiment(self, name: str, artifact_location: str | None) -> str:
        return str(self._client.create_experiment(name, artifact_location=artifact_location))

    @translate_errors()
    def log_batch(
        self,
        run_id: str,
        *,
        metrics: Sequence[MetricPoint] = (),
        params: Sequence[tuple[str, str]] = (),
        tags: Sequence[tuple[str, str]] = (),
    ) -> None:
        from mlflow.entities import Metric, Param, RunTag

        self._client.log_batch(
            run_id,
            metrics=[Metric(*point) for point in metrics],
            params=[Param(name, value) for name, value in params],
            tags=[RunTag(name, text) for name, text in tags],
        )

    @translate_errors()
    def update_run(self, run_id: str, status: str, time: int | None) -> None:
        if status == "RUNNING":
            self._client.update_run(run_id, status)
        else:
            self._client.set_terminated(run_id, status, time)

    @translate_errors()
    def log_dataset(self, run_id: str, dataset: Mapping[str, str]) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        self._client.log_inputs(run_id, [DatasetInput(Dataset(**dataset), [InputTag(CONTEXT_TAG, CONTEXT)])])

    @translate_errors()
    def log_artifact(self, run_id: str, path: str, folder: str | None) -> None:
        self._client.log_artifact(run_id, path, folder)


def _run_from_client(run: "Run") -> StoredRun:
    info = run.info
    return StoredRun(info.experiment_id, info.run_id, info.lifecycle_stage == ACTIVE, str(info.artifact_uri))


API = "/api/2.0/mlflow"
ARTIFACTS_API = "/api/2.0/mlflow-artifacts/artifacts"
PROXIED = "mlflow-artifacts"  # the scheme of files that the server itself stores or passes on
ID_PATTERN = re.compile(r"[\w-]{1,250}")
RUN_SHAPE = {
    "info": {
        "experiment_id": ID_PATTERN,
        "run_id": ID_PATTERN,
        "lifecycle_stage": Nullable(str),
        "artifact_uri": Nullable(str),
    }
}
EXPERIMENT_SHAPE = {"experiment_id": ID_PATTERN, "lifecycle_stage": str}


class RestBackend:
    """A store behind an MLflow server, by REST calls without mlflow: each sidecar can afford one."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._http = HttpClient(uri)

    def get_run(self, run_id: str) -> StoredRun | None:
        try:
            return _run_from_rest(self._get("runs/get", {"run": RUN_SHAPE}, run_id=run_id)["run"])
        except ResourceNotFound:
            return None

    def find_run(self, experiment_id: str, tag: str, text: str) -> StoredRun | None:
        search = {"experiment_ids": [experiment_id], "filter": f"tags.{tag} = '{text}'", "max_results": 1}
        runs = self._post("runs/search", search, {"runs": Nullable(ListOf(RUN_SHAPE))}).get("runs")
        return _run_from_rest(runs[0]) if runs else None

    def create_run(self, experiment_id: str, name: str, time: int, tags: Mapping[str, str]) -> StoredRun:
        run = {"experiment_id": experiment_id, "run_name": name, "start_time": time, "tags": _pairs(tags.items())}
        return _run_from_rest(self._post("runs/create", run, {"run": RUN_SHAPE}, once=True)["run"])

    def get_experiment(self, name: str) -> StoredExperiment | None:
        try:
            answer = self._get("experiments/get-by-name", {"experiment": EXPERIMENT_SHAPE}, experiment_name=name)
        except ResourceNotFound:
            return None
        experiment = answer["experiment"]
        return StoredExperiment(experiment["experiment_id"], experiment["lifecycle_stage"] == ACTIVE)

    def create_experiment(self, name: str, artifact_location: str | None) -> str:
        experiment = {"name": name} | ({} if artifact_location is None else {"artifact_location": artifact_location})
        answer = self._post("experiments/create", experiment, {"experiment_id": ID_PATTERN}, once=True)
        return str(answer["experiment_id"])

    def log_batch(
        self,
        run_id: str,
        *,
        metrics: Sequence[MetricPoint] = (),
        params: Sequence[tuple[str, str]] = (),
        tags: Sequence[tuple[str, str]] = (),
    ) -> None:
        points = [
            {"key": point.name, "value": _json_number(point.value), "timestamp": point.time, "step": point.step}
            for point in metrics
        ]
        batch = {"run_id": run_id, "metrics": points, "params": _pairs(params), "tags": _pairs(tags)}
        self._post("runs/log-batch", batch)

    def update_run(self, run_id: str, status: str, time: int | None) -> None:
        self._post("runs/update", {"run_id": run_id, "status": status} | ({} if time is None else {"end_time": time}))

    def log_dataset(self, run_id: str, dataset: Mapping[str, str]) -> None:
        entry = {"dataset": dict(dataset), "tags": [{"key": CONTEXT_TAG, "value": CONTEXT}]}
        self._post("runs/log-inputs", {"run_id": run_id, "datasets": [entry]})

    def log_artifact(self, run_id: str, path: str, folder: str | None) -> None:
        run = self.get_run(run_id)
        files = urlsplit("" if run is None else run.files)
        if files.scheme in ("http", "https") and files.netloc != urlsplit(self.uri).netloc:
            raise Refused(f"the server keeps this run's files on another server ({files.hostname}): nothing is sent")
        if run is not None and (files.scheme != PROXIED or files.netloc):
            self._client_backend.log_artifact(run_id, path, folder)  # directly to a place with its own protocol
            return
        for file, name in _files_of(Path(path)):
            target = "/".join(filter(None, (files.path.strip("/"), folder, name)))
            with file.open("rb") as content:
                size = os.fstat(content.fileno()).st_size
                self._http.send_file(f"{ARTIFACTS_API}/{quote(target)}", content, size)

    @cached_property
    def _client_backend(self) -> Backend:
        return ClientBackend(self.uri, None)

    def _get(self, method: str, shape: Mapping[str, Any], **query: str) -> dict[str, Any]:
        return self._http.call("GET", f"{API}/{method}?{urlencode(query)}", shape=shape)

    def _post(
        self, method: str, body: Mapping[str, Any], shape: Mapping[str, Any] = NO_SHAPE, *, once: bool = False
    ) -> dict[str, Any]:
        return self._http.call("POST", f"{API}/{method}", body, shape=shape, once=once)


def _files_of(path: Path) -> Iterator[tuple[Path, str]]:
    """Yield the file, or every file below a folder, with its path among the run's files."""
    if not path.is_dir():
        yield path, path.name
        return
    for file in sorted(path.rglob("*")):
        if file.is_file():
            yield file, f"{path.name}/{file.relative_to(path).as_posix()}"


def _json_number(value: float) -> float | str:
    """Return NaN as text, since JSON has no NaN: MLflow's interface reads it so."""
    return "NaN" if math.isnan(value) else value


def _pairs(items: Any) -> list[dict[str, str]]:
    return [{"key": name, "value": text} for name, text in items]


def _run_from_rest(run: Mapping[str, Any]) -> StoredRun:
    info = run["info"]
    is_active = (info.get("lifecycle_stage") or ACTIVE) == ACTIVE
    return StoredRun(info["experiment_id"], info["run_id"], is_active, info.get("artifact_uri") or "")
