"""MLflow's model registry: the versions of a model, and which of them is the champion."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.errors import RunError
from pipeline.tracking.mlflow.mlflow_client import http_status, mlflow_client, quiet_mlflow, translate_errors

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

CHAMPION = "champion"
RUN_UID_TAG = "run_uid"
MODELS_SCHEME = "models:/"
PAGE = 1000  # runs


@dataclass(frozen=True)
class RegisteredModel:
    """One version of a registered model."""

    number: str
    tags: Mapping[str, str]


class ModelRegistry:
    """The registry of the store at `uri`. Raises Unavailable or Refused, and RunError for what is not registered."""

    def __init__(self, uri: str) -> None:
        quiet_mlflow()
        with translate_errors():
            self._client = mlflow_client(uri)

    def register(self, name: str, *, run_id: str, tags: Mapping[str, str], description: str) -> RegisteredModel | None:
        """Return the version of the model in this run, a new one if there is none; None if the run has no model."""
        with translate_errors():
            model_id = self._model_of(run_id)
            if model_id is None:
                return None
            self._create_if_missing(name)
            known = self._client.search_model_versions(f"name = '{name}'")
            version = next((version for version in known if version.run_id == run_id), None)
            if version is None:
                source = self._client.get_logged_model(model_id).artifact_location
                version = self._client.create_model_version(
                    name, source, run_id, tags=dict(tags), description=description, model_id=model_id
                )
            for key, value in tags.items():  # a version that was there may have other tags
                if version.tags.get(key) != value:
                    self._client.set_model_version_tag(name, version.version, key, value)
            return RegisteredModel(str(version.version), {**version.tags, **tags})

    def tag(self, name: str, tags: Mapping[str, str]) -> None:
        """Set tags of the model as a whole."""
        with translate_errors():
            for key, value in tags.items():
                self._client.set_registered_model_tag(name, key, value)

    def count_tag_words(self, tag: str) -> int:
        """Return how many different words this tag holds, over all runs of the store, deleted ones included."""
        from mlflow.entities import ViewType

        with translate_errors():
            experiments = _pages(lambda token: self._client.search_experiments(ViewType.ALL, page_token=token))
            ids = [experiment.experiment_id for experiment in experiments]
            seen: set[tuple[str, str]] = set()
            for run in _pages(
                lambda token: self._client.search_runs(
                    ids, f"tags.`{tag}` != ''", ViewType.ALL, max_results=PAGE, page_token=token
                )
            ):
                uid = run.data.tags.get(RUN_UID_TAG, run.info.run_id)  # a run that MLflow has twice counts once
                seen |= {(uid, word) for word in run.data.tags[tag].split()}
            return len(seen)

    def champion(self, name: str) -> RegisteredModel | None:
        version = self._find(f"{MODELS_SCHEME}{name}@{CHAMPION}")
        return None if version is None else RegisteredModel(str(version.version), dict(version.tags))

    def set_champion(self, name: str, version: RegisteredModel) -> None:
        with translate_errors():
            self._client.set_registered_model_alias(name, CHAMPION, version.number)

    def run_uid(self, reference: str) -> str:
        """Return our id of the run behind `models:/name@alias` or `models:/name/version`."""
        version = self._find(reference)
        if version is None:
            with translate_errors():
                names = [model.name for model in self._client.search_registered_models()]
            raise RunError(
                f"run={reference} is not registered; expected models:/NAME@{CHAMPION} or models:/NAME/VERSION, of "
                f"{', '.join(names) or 'no model so far: pipeline register run=latest name=NAME'}"
            )
        uid = version.tags.get(RUN_UID_TAG)
        if uid is None:
            raise RunError(f"run={reference} was not registered by `pipeline register`, so its run is not known")
        return uid

    def _find(self, reference: str) -> "ModelVersion | None":
        from mlflow.exceptions import MlflowException

        name = reference.removeprefix(MODELS_SCHEME)
        with translate_errors():
            try:
                if "@" in name:
                    name, _, alias = name.partition("@")
                    return self._client.get_model_version_by_alias(name, alias)
                name, _, number = name.partition("/")
                return self._client.get_model_version(name, number)
            except MlflowException as problem:
                if http_status(problem) in (400, 404):  # an unknown alias is a bad parameter to MLflow
                    return None
                raise

    def _model_of(self, run_id: str) -> str | None:
        outputs = self._client.get_run(run_id).outputs
        models = [] if outputs is None else outputs.model_outputs
        return str(models[-1].model_id) if models else None

    def _create_if_missing(self, name: str) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self._client.create_registered_model(name)
        except MlflowException:  # it exists; else the version will be refused
            return


def _pages(call: Callable[[str | None], Any]) -> Iterator[Any]:
    token: str | None = None
    while True:
        page = call(token)
        yield from page
        token = page.token
        if not token:
            return
