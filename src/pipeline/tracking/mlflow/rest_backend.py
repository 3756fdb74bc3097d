"""A store behind an MLflow server, reached over its REST interface without mlflow: a light process can hold it."""

import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from pipeline.system.json_shape import ListOf, Nullable
from pipeline.tracking.mlflow.backend import Backend, Point, StoredExperiment, StoredRun
from pipeline.tracking.mlflow.http_client import NOTHING_SPECIAL, HttpCalls, Missing
from pipeline.tracking.mlflow.mlflow_errors import Refused

API = "/api/2.0/mlflow"
FILES = "/api/2.0/mlflow-artifacts/artifacts"
PROXIED = "mlflow-artifacts"  # the scheme of files that the server passes on to where they are kept
ACTIVE = "active"
ID = re.compile(r"[\w-]{1,250}")
RUN = {"info": {"experiment_id": ID, "run_id": ID, "lifecycle_stage": Nullable(str), "artifact_uri": Nullable(str)}}
EXPERIMENT = {"experiment_id": ID, "lifecycle_stage": str}


class RestBackend:
    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._http = HttpCalls(uri)

    def run(self, run_id: str) -> StoredRun | None:
        try:
            return _stored(self._get("runs/get", {"run": RUN}, run_id=run_id)["run"])
        except Missing:
            return None

    def run_tagged(self, experiment_id: str, tag: str, text: str) -> StoredRun | None:
        wanted = {"experiment_ids": [experiment_id], "filter": f"tags.{tag} = '{text}'", "max_results": 1}
        found = self._post("runs/search", wanted, {"runs": Nullable(ListOf(RUN))}).get("runs")
        return _stored(found[0]) if found else None

    def create_run(self, experiment_id: str, name: str, time: int, tags: Mapping[str, str]) -> StoredRun:
        new = {"experiment_id": experiment_id, "run_name": name, "start_time": time, "tags": _pairs(tags.items())}
        return _stored(self._post("runs/create", new, {"run": RUN}, once=True)["run"])

    def experiment(self, name: str) -> StoredExperiment | None:
        try:
            found = self._get("experiments/get-by-name", {"experiment": EXPERIMENT}, experiment_name=name)["experiment"]
        except Missing:
            return None
        return StoredExperiment(found["experiment_id"], found["lifecycle_stage"] == ACTIVE)

    def create_experiment(self, name: str, place: str | None) -> str:
        new = {"name": name} | ({} if place is None else {"artifact_location": place})
        return str(self._post("experiments/create", new, {"experiment_id": ID}, once=True)["experiment_id"])

    def log_batch(
        self,
        run_id: str,
        *,
        metrics: Sequence[Point] = (),
        params: Sequence[tuple[str, str]] = (),
        tags: Sequence[tuple[str, str]] = (),
    ) -> None:
        points = [
            {"key": point.name, "value": _number(point.value), "timestamp": point.time, "step": point.step}
            for point in metrics
        ]
        batch = {"run_id": run_id, "metrics": points, "params": _pairs(params), "tags": _pairs(tags)}
        self._post("runs/log-batch", batch)

    def update_run(self, run_id: str, status: str, time: int | None) -> None:
        self._post("runs/update", {"run_id": run_id, "status": status} | ({} if time is None else {"end_time": time}))

    def log_dataset(self, run_id: str, dataset: Mapping[str, str]) -> None:
        entry = {"dataset": dict(dataset), "tags": [{"key": "mlflow.data.context", "value": "training"}]}
        self._post("runs/log-inputs", {"run_id": run_id, "datasets": [entry]})

    def log_artifact(self, run_id: str, path: str, folder: str | None) -> None:
        run = self.run(run_id)
        files = urlsplit("" if run is None else run.files)
        if files.scheme in ("http", "https") and files.netloc != urlsplit(self.uri).netloc:
            raise Refused(f"the server keeps the run's files on {files.hostname}, another one, which is sent nothing")
        if run is not None and (files.scheme != PROXIED or files.netloc):
            self._own_client.log_artifact(run_id, path, folder)  # straight to a place that has its own protocol
            return
        for file, inside in _files_of(Path(path)):
            place = "/".join(filter(None, (files.path.strip("/"), folder, inside)))
            with file.open("rb") as content:
                size = os.fstat(content.fileno()).st_size
                self._http.send_file(f"{FILES}/{quote(place)}", content, size)

    @cached_property
    def _own_client(self) -> Backend:
        from pipeline.tracking.mlflow.client_backend import MlflowBackend

        return MlflowBackend(self.uri, None)

    def _get(self, what: str, shape: Mapping[str, Any], **query: str) -> dict[str, Any]:
        return self._http.call("GET", f"{API}/{what}?{urlencode(query)}", shape=shape)

    def _post(
        self, what: str, body: Mapping[str, Any], shape: Mapping[str, Any] = NOTHING_SPECIAL, *, once: bool = False
    ) -> dict[str, Any]:
        return self._http.call("POST", f"{API}/{what}", body, shape=shape, once=once)


def _files_of(path: Path) -> Iterator[tuple[Path, str]]:
    """The file, or all below a folder, each with its path among the run's files."""
    if not path.is_dir():
        yield path, path.name
        return
    for file in sorted(path.rglob("*")):
        if file.is_file():
            yield file, f"{path.name}/{file.relative_to(path).as_posix()}"


def _number(value: float) -> float | str:
    """JSON has no NaN; the interface takes it as a word."""
    return "NaN" if math.isnan(value) else value


def _pairs(items: Any) -> list[dict[str, str]]:
    return [{"key": name, "value": text} for name, text in items]


def _stored(run: Mapping[str, Any]) -> StoredRun:
    info = run["info"]
    is_active = (info.get("lifecycle_stage") or ACTIVE) == ACTIVE
    return StoredRun(info["experiment_id"], info["run_id"], is_active, info.get("artifact_uri") or "")
