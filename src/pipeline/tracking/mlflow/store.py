"""MLflow as a run's replica needs it, over whichever backend reaches the store."""

import json
import logging
import time as clock
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote

from pipeline.tracking import sanitize, tracking_uri
from pipeline.tracking.mlflow import http_client, shared_backend
from pipeline.tracking.mlflow.backend import Backend, Point
from pipeline.tracking.mlflow.client_backend import MlflowBackend
from pipeline.tracking.mlflow.mlflow_errors import Refused, RunGone, quieten
from pipeline.tracking.mlflow.rest_backend import RestBackend
from pipeline.tracking.mlflow.shared_backend import SharedBackend

METRICS_PER_CALL = 1_000
PARAMS_PER_CALL = 100
DIGEST_LETTERS = 8  # as MLflow's own; it stands in a narrow column, and a tag holds all of it
RUN_UID_TAG = "run_uid"
NOTE_TAG = "mlflow.note.content"

Item = TypeVar("Item")


class Location(NamedTuple):
    experiment_id: str
    run_id: str


class MlflowStore:
    """Raises Unavailable, Refused or RunGone, and nothing of mlflow's own.

    `uri` may be any that MLflow takes. For a database `artifacts` is the folder where new experiments keep their
    files; a server has its own place. A missing local database is made. With `shared`, mlflow is imported by a process
    that all of this machine have in common, instead of by each.
    """

    def __init__(self, uri: str, artifacts: str | None, *, shared: bool = False) -> None:
        self.uri = tracking_uri.absolute(uri)
        self.artifact_root = tracking_uri.artifact_root(uri, artifacts)
        self._backend = backend_of(self.uri, self.artifact_root, shared=shared)

    def open_run(self, *, experiment: str, name: str, run_uid: str, time: int, known: str | None) -> Location:
        """The run tagged with our `run_uid`: the one `known` to us, else one found by its tag, else a new one."""
        run = self._backend.run(known) if known is not None else None
        if run is None or not run.is_active:
            experiment_id = self._experiment(experiment)
            run = self._backend.run_tagged(experiment_id, RUN_UID_TAG, run_uid)
            if run is None:
                run = self._backend.create_run(experiment_id, name, time, {RUN_UID_TAG: run_uid})
        return Location(run.experiment_id, run.run_id)

    def log_metrics(self, run_id: str, points: Sequence[Point]) -> int:
        """How many of the points the store refused for good; the others are in it. Repeating it changes nothing."""
        return self._in_parts(
            run_id, points, METRICS_PER_CALL, lambda part: self._backend.log_batch(run_id, metrics=part)
        )

    def log_params(self, run_id: str, params: Mapping[str, Any]) -> int:
        """How many were refused: MLflow lets no parameter change."""
        pairs = [(sanitize.name(name), sanitize.param(value)) for name, value in params.items()]
        return self._in_parts(run_id, pairs, PARAMS_PER_CALL, lambda part: self._backend.log_batch(run_id, params=part))

    def set_tags(self, run_id: str, tags: Mapping[str, str]) -> int:
        """How many were refused. A tag set again has the new value."""
        pairs = [(sanitize.name(name), sanitize.cut(str(text), sanitize.LONGEST_TAG)) for name, text in tags.items()]
        return self._in_parts(run_id, pairs, PARAMS_PER_CALL, lambda part: self._backend.log_batch(run_id, tags=part))

    def set_status(self, run_id: str, status: str, time: int | None = None) -> None:
        """RUNNING, or how the run ended and when (ms since 1970)."""
        if time is None and status != "RUNNING":
            time = clock.time_ns() // 1_000_000
        with self._of_run(run_id):
            self._backend.update_run(run_id, status, time)

    def log_dataset(self, run_id: str, *, name: str, digest: str, sizes: Mapping[str, int], source: str) -> None:
        dataset = {
            "name": name,
            "digest": digest[:DIGEST_LETTERS],
            "source_type": "pipeline",
            "source": source or name,
            "profile": json.dumps(sizes),
        }
        with self._of_run(run_id):
            self._backend.log_dataset(run_id, dataset)

    def log_artifact(self, run_id: str, path: Path, folder: str | None) -> None:
        with self._of_run(run_id):
            self._backend.log_artifact(run_id, str(path), folder)

    def _in_parts(self, run_id: str, items: Sequence[Item], size: int, send: Callable[[Sequence[Item]], Any]) -> int:
        def send_part(part: Sequence[Item]) -> None:
            with self._of_run(run_id):
                send(part)

        parts = [items[start : start + size] for start in range(0, len(items), size)]
        return sum(_send_what_is_taken(part, send_part) for part in parts)

    @contextmanager
    def _of_run(self, run_id: str) -> Iterator[None]:
        """A refusal because the run is gone is told from one because of what was sent."""
        try:
            yield
        except Refused as refused:
            run = self._backend.run(run_id)
            if run is None or not run.is_active:
                raise RunGone(f"run {run_id} is no longer in MLflow, or was deleted there") from refused
            raise

    def _experiment(self, name: str) -> str:
        found = self._backend.experiment(name)
        if found is None:
            root, folder = self.artifact_root, sanitize.name(name).replace("/", "_")
            place = None if root is None else f"{root}/{quote(folder)}"
            try:
                return self._backend.create_experiment(name, place)
            except Refused:  # another run was faster
                found = self._backend.experiment(name)
                if found is None:
                    raise
        if not found.is_active:
            raise Refused(
                f"MLflow's experiment {name!r} was deleted: restore it there, or choose another with "
                "tracking.experiment=NAME"
            )
        return found.experiment_id


def backend_of(uri: str, artifact_root: str | None, *, shared: bool) -> Backend:
    quieten()  # mlflow, here or in what is started from here
    if tracking_uri.is_server(uri) and http_client.reaches(uri):
        return RestBackend(uri)
    place = shared_backend.of_this_machine(uri) if shared else None
    return MlflowBackend(uri, artifact_root) if place is None else SharedBackend(uri, artifact_root, place)


def _send_what_is_taken(items: Sequence[Item], send: Callable[[Sequence[Item]], None]) -> int:
    """One bad item makes MLflow refuse a whole batch: halve it until only the bad ones are left. Their number."""
    try:
        send(items)
    except Refused as refused:
        if len(items) == 1:
            logging.getLogger(__name__).warning("MLflow refuses %s: %s", items[0], refused)
            return 1
        middle = len(items) // 2
        return _send_what_is_taken(items[:middle], send) + _send_what_is_taken(items[middle:], send)
    return 0
