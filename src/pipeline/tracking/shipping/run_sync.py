"""Copy one run's journal to MLflow: what is new, in the right order, each thing once."""

import json
import logging
import math
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pipeline.system.files import ContentError, open_inside, temporary_folder
from pipeline.tracking import sync_state, tracking_uri
from pipeline.tracking.journal import Record, read_journal
from pipeline.tracking.mlflow import ui_server
from pipeline.tracking.mlflow.backends import MetricPoint
from pipeline.tracking.mlflow.mlflow_client import Refused, RunGone, Unavailable
from pipeline.tracking.mlflow.store import METRICS_PER_CALL, NOTE_TAG, MlflowStore, sanitize_name
from pipeline.tracking.sync_state import JOURNAL, SyncProgress

ERROR_TAG = "error"
INFINITE_TAG = "dropped.infinite_values"
RENAMED_TAG = "renamed."
DIGEST_LENGTH = 8  # as MLflow's own; its column is narrow, and a tag holds the whole digest
MODEL_ATTEMPTS = 3
REPORT = "report.html"
REPORT_PAUSE_SECONDS = 30.0
VALIDATION_PREFIX = "val/"  # of metrics that make a new report worth it

log = logging.getLogger(__name__)


class RunSync:
    """Sends the journal of the run in `run_dir`, except for its files. The caller holds the run's lock.

    A repetition changes nothing in MLflow, so the place reached in the journal is saved after the fact. Methods raise
    Unavailable, and are then called again later; what MLflow refuses for good is logged and skipped.
    """

    def __init__(self, run_dir: Path, store: MlflowStore) -> None:
        self.run_dir = run_dir
        self.journal = run_dir / JOURNAL
        self.store = store
        self.run_id: str | None = None  # once MLflow has confirmed it
        saved = sync_state.load_progress(run_dir)
        uri = tracking_uri.redact(store.uri)
        self.progress = saved if saved is not None and saved.uri == uri else SyncProgress(uri)
        self._resumes: list[tuple[int, int]] = []  # (offset behind the record, step)
        self._renamed: set[str] = set()

    def send_new(self) -> None:
        """Send everything that is new by now. Records before the start, which names the run, wait for it."""
        with self.new_run_if_gone():
            run_id = self.run_id or self._open_run()
            if run_id is None:
                return
            size = self.journal.stat().st_size  # not what is written meanwhile: that might never end
            while self.progress.offset < size and (batch := self._next_batch()):
                self._send_points(run_id, batch)
                for record, _ in batch:
                    self._send_record(run_id, record)
                self.progress.offset = batch[-1][1]
                self.save_progress()

    def send_file(self, path: str, folder: str | None) -> None:
        """Send a file of the run directory, once `send_new` has opened the run; skip any other path."""
        assert self.run_id is not None
        try:
            # A copy is sent: backends open files by their name, and what has that name may have changed since.
            with open_inside(self.run_dir, path) as file, temporary_folder() as temporary:
                copy = Path(temporary, Path(path).name)
                with copy.open("wb") as target:
                    shutil.copyfileobj(file, target)
                with self.new_run_if_gone(), self.store.run_must_exist(self.run_id):
                    self.store.backend.log_artifact(self.run_id, str(copy), folder)
        except FileNotFoundError:
            log.warning("%s is not in the run directory and cannot be sent", path)
        except ContentError as problem:
            log.warning("%s %s: it is no file of the run, and is not sent", path, problem)
        except Refused as refused:
            log.warning("MLflow refuses %s: %s", path, refused)

    def mark_killed(self) -> None:
        """Set the status of a run whose journal has no end and whose writer is gone."""
        if self.run_id is not None:
            with self.new_run_if_gone():
                self._set_status(self.run_id, "KILLED", None)
            self.save_progress()

    def save_progress(self) -> None:
        self.progress.problem = None
        sync_state.save_progress(self.run_dir, self.progress)

    def save_problem(self, problem: str) -> None:
        if problem != self.progress.problem:
            log.warning("%s", problem)
            self.progress.problem = problem
            sync_state.save_progress(self.run_dir, self.progress)

    @contextmanager
    def new_run_if_gone(self) -> Iterator[None]:
        """Raise Unavailable in place of RunGone: the next `send_new` creates a run and fills it."""
        try:
            yield
        except RunGone as gone:
            log.warning("%s: the whole journal goes into a new one", gone)
            self.run_id = None
            self.progress = SyncProgress(self.progress.uri)
            raise Unavailable(str(gone)) from gone

    def _open_run(self) -> str | None:
        start = next((record for record, _ in read_journal(self.journal) if record["kind"] == "start"), None)
        if start is None:
            return None
        known_id = self.progress.mlflow_run_id
        experiment_id, run_id = self.store.open_run(
            experiment=start["experiment"],
            name=start["name"],
            run_uid=start["run_uid"],
            time=start["time"],
            known_id=known_id,
        )
        if run_id != known_id:
            self.progress = SyncProgress(self.progress.uri, experiment_id, run_id)
        log.info("run %s of experiment %s in %s", run_id, experiment_id, self.progress.uri)
        records = read_journal(self.journal)
        self._resumes = [(end, record["step"]) for record, end in records if record["kind"] == "resume"]
        self.run_id = run_id
        self.save_progress()
        return run_id

    def _next_batch(self) -> list[tuple[Record, int]]:
        batch: list[tuple[Record, int]] = []
        values = 0
        for record, end in read_journal(self.journal, self.progress.offset):
            batch.append((record, end))
            values += len(record.get("values", ()))
            if values >= METRICS_PER_CALL:
                break
        return batch

    def _send_points(self, run_id: str, batch: Sequence[tuple[Record, int]]) -> None:
        metrics = [
            record for record, end in batch if record["kind"] == "metrics" and not self._is_repeated(record, end)
        ]
        points = [
            MetricPoint(sanitize_name(name), value, record["time"], record["step"])
            for record in metrics
            for name, value in record["values"].items()
        ]
        finite = [point for point in points if not math.isinf(point.value)]  # MLflow would chart 1.8e308
        refused = self.store.log_metrics(run_id, finite)
        self.progress.metrics += len(finite) - refused
        self.progress.refused += refused
        self.progress.infinite += len(points) - len(finite)
        tags = {INFINITE_TAG: str(self.progress.infinite)} if len(finite) < len(points) else {}
        for original in {name for record in metrics for name in record["values"]} - self._renamed:
            self._renamed.add(original)
            if sanitize_name(original) != original:
                tags[RENAMED_TAG + sanitize_name(original)] = original
        self.store.set_tags(run_id, tags)

    def _is_repeated(self, record: Record, end: int) -> bool:
        """Tell whether a later resume went back to before this step: then the journal has the step again."""
        return any(end < resumed_at and record["step"] > step for resumed_at, step in self._resumes)

    def _send_record(self, run_id: str, record: Record) -> None:
        """Send any record but metrics. A new kind needs a branch here, and a call in `backends` if none fits."""
        kind = record["kind"]
        try:
            if kind == "start":
                self.store.log_params(run_id, record["params"])
                self.store.set_tags(run_id, record["tags"])
            elif kind == "tags":
                self.store.set_tags(run_id, record["tags"])
            elif kind == "note":
                text = ui_server.resolve_artifact_links(record["text"], str(self.progress.experiment_id), run_id)
                self.store.set_tags(run_id, {NOTE_TAG: text})
            elif kind == "dataset":
                with self.store.run_must_exist(run_id):
                    self.store.backend.log_dataset(run_id, _mlflow_dataset(record))
            elif kind == "resume":
                self._set_status(run_id, "RUNNING", None)
            elif kind == "end":
                if record["error"]:
                    self.store.set_tags(run_id, {ERROR_TAG: record["error"]})
                self._set_status(run_id, record["status"], record["time"])
        except Refused as refused:
            log.warning("MLflow refuses the journal's %s: %s", kind, refused)

    def _set_status(self, run_id: str, status: str, time: int | None) -> None:
        self.store.set_status(run_id, status, time)
        self.progress.status = None if status == "RUNNING" else status


def _mlflow_dataset(record: Record) -> dict[str, str]:
    return {
        "name": record["name"],
        "digest": record["digest"][:DIGEST_LENGTH],
        "source_type": "pipeline",
        "source": record["source"] or record["name"],
        "profile": json.dumps(record["sizes"]),
    }


class Uploads:
    """Sends the files and the model that the journal names, beside the metrics.

    `on_model` is the command that logs the model, with MLFLOW_TRACKING_URI and MLFLOW_RUN_ID in its environment. If
    this process dies during its upload, the model may be in MLflow twice after a `sync`; a file that is sent twice is
    there once.
    """

    def __init__(self, sync: RunSync, on_model: list[str] | None) -> None:
        self.sync = sync
        self.on_model = on_model
        self._command: subprocess.Popen[bytes] | None = None
        self._failures = 0

    @property
    def are_stuck(self) -> bool:
        """True once the model failed too often; `pipeline sync` tries again."""
        return self._failures >= MODEL_ATTEMPTS

    def send_next(self) -> bool:
        """Send one file, or check on the model's upload. False when nothing is left to do, or can be done.

        Raises Unavailable when the same has to be tried again later.
        """
        progress, run_id = self.sync.progress, self.sync.run_id
        if run_id is None or self.are_stuck:
            return False
        for record, end in read_journal(self.sync.journal, progress.files_offset):
            if end > progress.offset:  # metrics first
                return False
            if record["kind"] == "model" and not self._is_model_logged(run_id):
                return True
            if record["kind"] == "artifact":
                self.sync.send_file(record["path"], record["folder"])
            progress.files_offset = end
            if record["kind"] in ("artifact", "model"):
                self.sync.save_progress()
                return True
        return False

    def _is_model_logged(self, run_id: str) -> bool:
        """Start the command at the first call, and check on it at the others."""
        if self.on_model is None:
            return True
        if self._command is None:
            log.info("logging the model")
            environment = {**os.environ, "MLFLOW_TRACKING_URI": self.sync.store.uri, "MLFLOW_RUN_ID": run_id}
            self._command = subprocess.Popen(self.on_model, env=environment, stdin=subprocess.DEVNULL)
            return False
        code = self._command.poll()
        if code is None:
            return False
        self._command = None
        if code != 0:
            self._failures += 1
            raise Unavailable(f"the model could not be logged (exit code {code}); sidecar.log in the run says why")
        log.info("the model is logged")
        return True


class LiveReport:
    """Sends the run's report again and again while the run goes on.

    `on_validation` is the command that writes it into the run directory. It runs beside this process, at its low
    priority, and at most every `pause_seconds`. A report that cannot be written or sent is left out: the next one
    shows more, and the run itself leaves the last.
    """

    def __init__(
        self, sync: RunSync, on_validation: list[str] | None, *, pause_seconds: float = REPORT_PAUSE_SECONDS
    ) -> None:
        self.sync = sync
        self.on_validation = on_validation
        self.pause_seconds = pause_seconds
        self._command: subprocess.Popen[bytes] | None = None
        self._offset = 0  # in the journal, behind what the newest report shows
        self._checked_at = time.monotonic()

    def update(self) -> None:
        """Start the command, or send what it wrote. Raises Unavailable as the store does."""
        if self.on_validation is None or self.sync.run_id is None or self.sync.progress.status is not None:
            return
        if self._command is not None:
            self._send_when_written(self._command)
        elif time.monotonic() - self._checked_at >= self.pause_seconds:
            self._checked_at = time.monotonic()
            if self._has_new_validation():
                self._command = subprocess.Popen(self.on_validation, stdin=subprocess.DEVNULL)

    def _has_new_validation(self) -> bool:
        has_new = False
        for record, end in read_journal(self.sync.journal, self._offset):
            self._offset = end
            has_new = has_new or any(name.startswith(VALIDATION_PREFIX) for name in record.get("values", ()))
        return has_new

    def _send_when_written(self, command: "subprocess.Popen[bytes]") -> None:
        code = command.poll()
        if code is None:
            return
        self._command = None
        if code != 0:
            log.warning("%s could not be made (exit code %s)", REPORT, code)
            return
        self.sync.send_file(REPORT, None)
