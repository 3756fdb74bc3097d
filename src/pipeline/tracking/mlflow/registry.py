"""MLflow's model registry: versions of a model, and which of them is the champion. mlflow is imported inside."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.errors import RunError
from pipeline.tracking.mlflow.mlflow_errors import client_of, quieten, status_of, translated

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

CHAMPION = "champion"
RUN_UID_TAG = "run_uid"
SCHEME = "models:/"
PAGE = 1000  # runs


@dataclass(frozen=True)
class Version:
    number: str
    tags: Mapping[str, str]


class Registry:
    """Of the store at `uri`. Raises Unavailable or Refused, and RunError for what is not registered."""

    def __init__(self, uri: str) -> None:
        quieten()
        with translated():
            self._client = client_of(uri)

    def register(self, name: str, *, run_id: str, tags: Mapping[str, str], description: str) -> Version | None:
        """A new version out of the model in this run, the one there already is of it, or None: the run has no model."""
        with translated():
            model_id = self._model_of(run_id)
            if model_id is None:
                return None
            self._make(name)
            known = self._client.search_model_versions(f"name = '{name}'")
            made = next((version for version in known if version.run_id == run_id), None)
            if made is None:
                source = self._client.get_logged_model(model_id).artifact_location
                made = self._client.create_model_version(
                    name, source, run_id, tags=dict(tags), description=description, model_id=model_id
                )
            for key, value in tags.items():  # one that is there may be an older version's, or be told anew
                if made.tags.get(key) != value:
                    self._client.set_model_version_tag(name, made.version, key, value)
            return Version(str(made.version), {**made.tags, **tags})

    def tag(self, name: str, tags: Mapping[str, str]) -> None:
        """Of the model as a whole."""
        with translated():
            for key, value in tags.items():
                self._client.set_registered_model_tag(name, key, value)

    def looks(self, tag: str) -> int:
        """Over all runs of the store, deleted ones among them: how many different words this tag of theirs holds."""
        from mlflow.entities import ViewType

        with translated():
            experiments = _pages(lambda token: self._client.search_experiments(ViewType.ALL, page_token=token))
            ids = [each.experiment_id for each in experiments]
            seen: set[tuple[str, str]] = set()
            for run in _pages(
                lambda token: self._client.search_runs(
                    ids, f"tags.`{tag}` != ''", ViewType.ALL, max_results=PAGE, page_token=token
                )
            ):
                uid = run.data.tags.get(RUN_UID_TAG, run.info.run_id)  # one that MLflow has twice is one
                seen |= {(uid, word) for word in run.data.tags[tag].split()}
            return len(seen)

    def champion(self, name: str) -> Version | None:
        found = self._find(f"{SCHEME}{name}@{CHAMPION}")
        return None if found is None else _version(found)

    def crown(self, name: str, version: Version) -> None:
        with translated():
            self._client.set_registered_model_alias(name, CHAMPION, version.number)

    def run_uid(self, reference: str) -> str:
        """Our id of the run behind `models:/name@alias` or `models:/name/version`."""
        found = self._find(reference)
        if found is None:
            with translated():
                names = [each.name for each in self._client.search_registered_models()]
            raise RunError(
                f"run={reference} is not registered; expected models:/NAME@{CHAMPION} or models:/NAME/VERSION, of "
                f"{', '.join(names) or 'no model so far: pipeline register run=latest name=NAME'}"
            )
        uid = found.tags.get(RUN_UID_TAG)
        if uid is None:
            raise RunError(f"run={reference} was not registered by `pipeline register`, so its run is not known")
        return uid

    def _find(self, reference: str) -> "ModelVersion | None":
        from mlflow.exceptions import MlflowException

        name = reference.removeprefix(SCHEME)
        with translated():
            try:
                if "@" in name:
                    name, _, alias = name.partition("@")
                    return self._client.get_model_version_by_alias(name, alias)
                name, _, number = name.partition("/")
                return self._client.get_model_version(name, number)
            except MlflowException as problem:
                if status_of(problem) in (400, 404):  # an alias that nobody has is a bad parameter to MLflow
                    return None
                raise

    def _model_of(self, run_id: str) -> str | None:
        outputs = self._client.get_run(run_id).outputs
        made = [] if outputs is None else outputs.model_outputs
        return str(made[-1].model_id) if made else None

    def _make(self, name: str) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self._client.create_registered_model(name)
        except MlflowException:  # it exists, then; else the version will be refused
            return


def _pages(call: Callable[[str | None], Any]) -> Iterator[Any]:
    token: str | None = None
    while True:
        page = call(token)
        yield from page
        token = page.token
        if not token:
            return


def _version(found: "ModelVersion") -> Version:
    return Version(str(found.version), dict(found.tags))
