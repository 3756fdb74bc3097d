"""An MLflow store as one run's synchronization needs it, on top of whichever backend reaches it.

MLflow accepts as the name of a metric, parameter or tag letters and digits of any script, and `_ - . : /` and blanks,
where the name reads as a plain relative path (no `..`, no double, leading or trailing slash) of at most 250
characters. Any other name is rewritten: refused characters become `_`, empty and dotted parts of the path go, what is
too long is cut, and `-` with four hexadecimal digits of the original's SHA-256 keeps two names apart.
"""

import hashlib
import json
import logging
import posixpath
import re
import time as clock
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote

from pipeline.tracking import tracking_uri
from pipeline.tracking.mlflow import http_client, shared_client
from pipeline.tracking.mlflow.backends import Backend, ClientBackend, MetricPoint, RestBackend
from pipeline.tracking.mlflow.mlflow_client import Refused, RunGone, quiet_mlflow

METRICS_PER_CALL = 1_000
PARAMS_PER_CALL = 100
RUN_UID_TAG = "run_uid"
NOTE_TAG = "mlflow.note.content"
MAX_NAME_LENGTH = 250
MAX_PARAM_LENGTH = 6_000
MAX_TAG_LENGTH = 8_000
REFUSED_CHARACTERS = re.compile(r"[^/\w.\- :]")

Item = TypeVar("Item")
log = logging.getLogger(__name__)


class RunLocation(NamedTuple):
    """Where a run is in MLflow."""

    experiment_id: str
    run_id: str


class MlflowStore:
    """The store at `uri`, which may be any that MLflow takes. Raises Unavailable, Refused or RunGone, nothing else.

    For a database `artifacts` is the folder where new experiments keep their files; a server chooses its own place.
    A missing local database is created. With `shared`, one process of this machine imports mlflow for all, instead of
    each by itself. What needs no cutting, renaming or splitting is called on `backend`, inside `run_must_exist`.
    """

    def __init__(self, uri: str, artifacts: str | None, *, shared: bool = False) -> None:
        self.uri = tracking_uri.absolute_uri(uri)
        self.artifact_root = tracking_uri.artifact_root(uri, artifacts)
        self.backend = make_backend(self.uri, self.artifact_root, shared=shared)

    def open_run(self, *, experiment: str, name: str, run_uid: str, time: int, known_id: str | None) -> RunLocation:
        """Return the run tagged with our `run_uid`: the one of `known_id`, else one with that tag, else a new one."""
        run = self.backend.get_run(known_id) if known_id is not None else None
        if run is None or not run.is_active:
            experiment_id = self._experiment_id(experiment)
            run = self.backend.find_run(experiment_id, RUN_UID_TAG, run_uid)
            if run is None:
                run = self.backend.create_run(experiment_id, name, time, {RUN_UID_TAG: run_uid})
        return RunLocation(run.experiment_id, run.run_id)

    def log_metrics(self, run_id: str, points: Sequence[MetricPoint]) -> int:
        """Return how many points the store refused for good; the others are in it. A repetition changes nothing."""
        return self._in_parts(
            run_id, points, METRICS_PER_CALL, lambda part: self.backend.log_batch(run_id, metrics=part)
        )

    def log_params(self, run_id: str, params: Mapping[str, Any]) -> int:
        """Return how many were refused: MLflow lets no parameter change."""
        pairs = [(sanitize_name(name), sanitize_param(value)) for name, value in params.items()]
        return self._in_parts(run_id, pairs, PARAMS_PER_CALL, lambda part: self.backend.log_batch(run_id, params=part))

    def set_tags(self, run_id: str, tags: Mapping[str, str]) -> int:
        """Return how many were refused. A tag that is set again has the new value."""
        pairs = [(sanitize_name(name), truncate(str(text), MAX_TAG_LENGTH)) for name, text in tags.items()]
        return self._in_parts(run_id, pairs, PARAMS_PER_CALL, lambda part: self.backend.log_batch(run_id, tags=part))

    def set_status(self, run_id: str, status: str, time: int | None = None) -> None:
        """Set RUNNING, or how the run ended and when (ms since 1970; None: now)."""
        if time is None and status != "RUNNING":
            time = clock.time_ns() // 1_000_000
        with self.run_must_exist(run_id):
            self.backend.update_run(run_id, status, time)

    @contextmanager
    def run_must_exist(self, run_id: str) -> Iterator[None]:
        """Raise RunGone in place of Refused where the run was deleted, and not the request was wrong."""
        try:
            yield
        except Refused as refused:
            run = self.backend.get_run(run_id)
            if run is None or not run.is_active:
                raise RunGone(f"run {run_id} is no longer in MLflow, or was deleted there") from refused
            raise

    def _in_parts(self, run_id: str, items: Sequence[Item], size: int, send: Callable[[Sequence[Item]], Any]) -> int:
        def send_part(part: Sequence[Item]) -> None:
            with self.run_must_exist(run_id):
                send(part)

        parts = [items[start : start + size] for start in range(0, len(items), size)]
        return sum(_send_all_but_refused(part, send_part) for part in parts)

    def _experiment_id(self, name: str) -> str:
        experiment = self.backend.get_experiment(name)
        if experiment is None:
            root, folder = self.artifact_root, sanitize_name(name).replace("/", "_")
            location = None if root is None else f"{root}/{quote(folder)}"
            try:
                return self.backend.create_experiment(name, location)
            except Refused:  # another run was faster
                experiment = self.backend.get_experiment(name)
                if experiment is None:
                    raise
        if not experiment.is_active:
            raise Refused(
                f"MLflow's experiment {name!r} was deleted: restore it there, or choose another with "
                "tracking.experiment=NAME"
            )
        return experiment.experiment_id


def make_backend(uri: str, artifact_root: str | None, *, shared: bool) -> Backend:
    """Return the lightest backend that reaches the store."""
    quiet_mlflow()  # mlflow, here or in what is started from here
    if tracking_uri.is_server(uri) and http_client.is_directly_reachable(uri):
        return RestBackend(uri)
    path = shared_client.socket_path(uri) if shared else None
    if path is None:
        return ClientBackend(uri, artifact_root)
    return shared_client.shared_backend(uri, artifact_root, path)


def _send_all_but_refused(items: Sequence[Item], send: Callable[[Sequence[Item]], None]) -> int:
    """Send the items and return how many were refused.

    One bad item makes MLflow refuse a whole batch: halve it until only the bad ones are left.
    """
    try:
        send(items)
    except Refused as refused:
        if len(items) == 1:
            log.warning("MLflow refuses %s: %s", items[0], refused)
            return 1
        middle = len(items) // 2
        return _send_all_but_refused(items[:middle], send) + _send_all_but_refused(items[middle:], send)
    return 0


def sanitize_name(original: str) -> str:
    """Return a name that MLflow accepts: the original if it does, else the original rewritten (see the module)."""
    if _is_accepted(original):
        return original
    parts = REFUSED_CHARACTERS.sub("_", original).split("/")
    path = "/".join(part for part in parts if part not in ("", ".", ".."))
    digest = hashlib.sha256(original.encode(errors="surrogatepass")).hexdigest()[:4]
    return f"{path[: MAX_NAME_LENGTH - 5] or '_'}-{digest}"


def sanitize_param(value: Any) -> str:
    """Return a parameter's value as YAML would show it, cut at MLflow's limit (the config artifact holds it whole)."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return truncate(text, MAX_PARAM_LENGTH)


def truncate(text: str, max_length: int) -> str:
    """Return the text in at most `max_length` characters; three dots mark that there was more."""
    return text if len(text) <= max_length else text[: max_length - 3] + "..."


def _is_accepted(original: str) -> bool:
    is_plain_path = posixpath.normpath(original) == original and not original.startswith(("/", ".."))
    fits = 0 < len(original) <= MAX_NAME_LENGTH and original != "."
    return fits and is_plain_path and not REFUSED_CHARACTERS.search(original)
