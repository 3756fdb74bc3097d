"""MLflow's client as a run's replica needs it. mlflow is imported inside, by whoever makes an MlflowStore."""

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import quote

from pipeline.tracking import address, names, sqlite_store
from pipeline.tracking.mlflow_calls import Refused, RunGone, client_of, quieten, status_of, translated

if TYPE_CHECKING:
    from mlflow.entities import Run

METRICS_PER_CALL = 1_000
PARAMS_PER_CALL = 100
LONGEST_DIGEST = 36
RUN_UID_TAG = "run_uid"
NOTE_TAG = "mlflow.note.content"

Item = TypeVar("Item")


class Point(NamedTuple):
    """One value of one metric; time in ms since 1970."""

    name: str
    value: float
    time: int
    step: int


class Location(NamedTuple):
    experiment_id: str
    run_id: str


class MlflowStore:
    """Raises Unavailable, Refused or RunGone, and nothing of mlflow's own.

    `uri` may be any that MLflow takes. For a database `artifacts` is the folder where new experiments keep their
    files; a server has its own place. Making one imports mlflow (2 s) and makes a missing local database.
    """

    def __init__(self, uri: str, artifacts: str | None) -> None:
        quieten()
        with translated():
            self.uri = address.absolute(uri)
            self.artifact_root = address.artifact_root(uri, artifacts)
            database = address.sqlite_file(uri)
            if database is not None:
                sqlite_store.prepare(database, self.artifact_root)
            self._client = client_of(uri)

    def open_run(self, *, experiment: str, name: str, run_uid: str, time: int, known: str | None) -> Location:
        """The run tagged with our `run_uid`: the one `known` to us, else one found by its tag, else a new one."""
        with translated():
            run = self._active(known) if known is not None else None
            if run is None:
                experiment_id = self._experiment(experiment)
                found = self._client.search_runs([experiment_id], f"tags.{RUN_UID_TAG} = '{run_uid}'", max_results=1)
                tags = {RUN_UID_TAG: run_uid}
                run = found[0] if found else self._client.create_run(experiment_id, time, tags, run_name=name)
            return Location(run.info.experiment_id, run.info.run_id)

    def log_metrics(self, run_id: str, points: Sequence[Point]) -> int:
        """How many of the points the store refused for good; the others are in it. Repeating it changes nothing."""
        from mlflow.entities import Metric

        metrics = [Metric(point.name, point.value, point.time, point.step) for point in points]
        return self._in_parts(
            run_id, metrics, METRICS_PER_CALL, lambda part: self._client.log_batch(run_id, metrics=part)
        )

    def log_params(self, run_id: str, params: Mapping[str, Any]) -> int:
        """How many were refused: MLflow lets no parameter change."""
        from mlflow.entities import Param

        entities = [Param(names.name(name), names.param(value)) for name, value in params.items()]
        return self._in_parts(
            run_id, entities, PARAMS_PER_CALL, lambda part: self._client.log_batch(run_id, params=part)
        )

    def set_tags(self, run_id: str, tags: Mapping[str, str]) -> int:
        """How many were refused. A tag set again has the new value."""
        from mlflow.entities import RunTag

        entities = [RunTag(names.name(name), names.cut(str(text), names.LONGEST_TAG)) for name, text in tags.items()]
        return self._in_parts(run_id, entities, PARAMS_PER_CALL, lambda part: self._client.log_batch(run_id, tags=part))

    def set_status(self, run_id: str, status: str, time: int | None = None) -> None:
        """RUNNING, or how the run ended and when (ms since 1970)."""
        with self._of_run(run_id):
            if status == "RUNNING":
                self._client.update_run(run_id, status)
            else:
                self._client.set_terminated(run_id, status, time)

    def log_dataset(self, run_id: str, *, name: str, digest: str, sizes: Mapping[str, int], source: str) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        dataset = Dataset(
            name=name,
            digest=digest[:LONGEST_DIGEST],
            source_type="pipeline",
            source=source or name,
            profile=json.dumps(sizes),
        )
        with self._of_run(run_id):
            self._client.log_inputs(run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])

    def log_artifact(self, run_id: str, path: Path, folder: str | None) -> None:
        with self._of_run(run_id):
            self._client.log_artifact(run_id, str(path), folder)

    def _in_parts(self, run_id: str, items: Sequence[Item], size: int, send: Callable[[Sequence[Item]], Any]) -> int:
        def send_part(part: Sequence[Item]) -> None:
            with self._of_run(run_id):
                send(part)

        parts = [items[start : start + size] for start in range(0, len(items), size)]
        return sum(_send_what_is_taken(part, send_part) for part in parts)

    @contextmanager
    def _of_run(self, run_id: str) -> Iterator[None]:
        """As `translated`; and a refusal because the run is gone is told from one because of what was sent."""
        try:
            with translated():
                yield
        except Refused as refused:
            with translated():
                if self._active(run_id) is None:
                    raise RunGone(f"run {run_id} is no longer in MLflow, or was deleted there") from refused
            raise

    def _active(self, run_id: str) -> "Run | None":
        from mlflow.exceptions import MlflowException

        try:
            run = self._client.get_run(run_id)
        except MlflowException as error:
            if status_of(error) == 404:
                return None
            raise
        return run if run.info.lifecycle_stage == "active" else None

    def _experiment(self, name: str) -> str:
        from mlflow.exceptions import MlflowException

        found = self._client.get_experiment_by_name(name)
        if found is None:
            root, folder = self.artifact_root, names.name(name).replace("/", "_")
            place = None if root is None else f"{root}/{quote(folder)}"
            try:
                return str(self._client.create_experiment(name, artifact_location=place))
            except MlflowException:  # another run was faster
                found = self._client.get_experiment_by_name(name)
                if found is None:
                    raise
        if found.lifecycle_stage != "active":
            raise Refused(
                f"MLflow's experiment {name!r} was deleted: restore it there, or choose another with "
                "tracking.experiment=NAME"
            )
        return str(found.experiment_id)


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
