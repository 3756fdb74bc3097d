"""A store reached with MLflow's own client, which knows them all. Making one imports mlflow: 2 s, 170 MB."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pipeline.tracking import tracking_uri
from pipeline.tracking.mlflow import sqlite_store, upgrade
from pipeline.tracking.mlflow.backend import Point, StoredExperiment, StoredRun
from pipeline.tracking.mlflow.mlflow_errors import Unavailable, client_of, quieten, status_of, translated

if TYPE_CHECKING:
    from mlflow.entities import Run

ACTIVE = "active"


class MlflowBackend:
    """A missing local database is made, its files to lie below `artifact_root`."""

    def __init__(self, uri: str, artifact_root: str | None) -> None:
        quieten()
        with translated():
            database = tracking_uri.sqlite_file(uri)
            if database is not None:
                sqlite_store.prepare(database, artifact_root)
            if (remedy := upgrade.needed(database)) is not None:
                raise Unavailable(remedy)
            self._client = client_of(uri)

    def run(self, run_id: str) -> StoredRun | None:
        from mlflow.exceptions import MlflowException

        with translated():
            try:
                return _stored(self._client.get_run(run_id))
            except MlflowException as error:
                if status_of(error) == 404:
                    return None
                raise

    def run_tagged(self, experiment_id: str, tag: str, text: str) -> StoredRun | None:
        with translated():
            found = self._client.search_runs([experiment_id], f"tags.{tag} = '{text}'", max_results=1)
            return _stored(found[0]) if found else None

    def create_run(self, experiment_id: str, name: str, time: int, tags: Mapping[str, str]) -> StoredRun:
        with translated():
            return _stored(self._client.create_run(experiment_id, time, dict(tags), run_name=name))

    def experiment(self, name: str) -> StoredExperiment | None:
        with translated():
            found = self._client.get_experiment_by_name(name)
            if found is None:
                return None
            return StoredExperiment(str(found.experiment_id), found.lifecycle_stage == ACTIVE)

    def create_experiment(self, name: str, place: str | None) -> str:
        with translated():
            return str(self._client.create_experiment(name, artifact_location=place))

    def log_batch(
        self,
        run_id: str,
        *,
        metrics: Sequence[Point] = (),
        params: Sequence[tuple[str, str]] = (),
        tags: Sequence[tuple[str, str]] = (),
    ) -> None:
        from mlflow.entities import Metric, Param, RunTag

        with translated():
            self._client.log_batch(
                run_id,
                metrics=[Metric(point.name, point.value, point.time, point.step) for point in metrics],
                params=[Param(name, value) for name, value in params],
                tags=[RunTag(name, text) for name, text in tags],
            )

    def update_run(self, run_id: str, status: str, time: int | None) -> None:
        with translated():
            if status == "RUNNING":
                self._client.update_run(run_id, status)
            else:
                self._client.set_terminated(run_id, status, time)

    def log_dataset(self, run_id: str, dataset: Mapping[str, str]) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        with translated():
            entry = DatasetInput(Dataset(**dataset), [InputTag("mlflow.data.context", "training")])
            self._client.log_inputs(run_id, [entry])

    def log_artifact(self, run_id: str, path: str, folder: str | None) -> None:
        with translated():
            self._client.log_artifact(run_id, path, folder)


def _stored(run: "Run") -> StoredRun:
    info = run.info
    return StoredRun(info.experiment_id, info.run_id, info.lifecycle_stage == ACTIVE, str(info.artifact_uri))
