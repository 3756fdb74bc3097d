"""One run's journal, copied into MLflow: what is new, in the right order, each thing once."""

import logging
import math
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pipeline.system.files import ContentError, open_inside, temporary_folder
from pipeline.tracking import sanitize, sync_state, tracking_uri
from pipeline.tracking.journal import Record, read
from pipeline.tracking.mlflow import ui_server
from pipeline.tracking.mlflow.backend import Point
from pipeline.tracking.mlflow.mlflow_errors import Refused, RunGone, Unavailable
from pipeline.tracking.mlflow.store import METRICS_PER_CALL, NOTE_TAG, MlflowStore
from pipeline.tracking.sync_state import JOURNAL, Progress

ERROR_TAG = "error"
INFINITE_TAG = "dropped.infinite_values"
RENAMED_TAG = "renamed."

log = logging.getLogger(__name__)


class Replica:
    """Of the run in `run_dir`, except for its files. Whoever calls holds the run's lock, so there is one at a time.

    Repeating anything changes nothing in MLflow, so the place reached in the journal is noted after the fact.
    Methods raise Unavailable, and are then called again later; what MLflow refuses for good is logged and passed by.
    """

    def __init__(self, run_dir: Path, store: MlflowStore) -> None:
        self.run_dir = run_dir
        self.journal = run_dir / JOURNAL
        self.store = store
        self.run_id: str | None = None  # once MLflow has confirmed it
        shipped = sync_state.load(run_dir)
        uri = tracking_uri.redacted(store.uri)
        self.progress = shipped if shipped is not None and shipped.uri == uri else Progress(uri)
        self._resumes: list[tuple[int, int]] = []  # (offset behind the record, step)
        self._renamed: set[str] = set()

    def ship(self) -> None:
        """Everything that is new by now. Records before the start, which names the run, wait for it."""
        with self.new_run_if_gone():
            run_id = self.run_id or self._open_run()
            if run_id is None:
                return
            size = self.journal.stat().st_size  # not what is written meanwhile: that might never end
            while self.progress.offset < size and (batch := self._next_batch()):
                self._ship_points(run_id, batch)
                for record, _ in batch:
                    self._ship_record(run_id, record)
                self.progress.offset = batch[-1][1]
                self.note_progress()

    def ship_file(self, path: str, folder: str | None) -> None:
        """A file of the run directory; anything else that the journal may name is passed by. Not before `ship`."""
        assert self.run_id is not None
        try:
            # A copy is sent: backends open files by their name, and what has that name may have changed since.
            with open_inside(self.run_dir, path) as file, temporary_folder() as place:
                copy = Path(place, Path(path).name)
                with copy.open("wb") as target:
                    shutil.copyfileobj(file, target)
                with self.new_run_if_gone():
                    self.store.log_artifact(self.run_id, copy, folder)
        except FileNotFoundError:
            log.warning("%s is not in the run directory and cannot be sent", path)
        except ContentError as problem:
            log.warning("%s %s: it is no file of the run, and is not sent", path, problem)
        except Refused as refused:
            log.warning("MLflow refuses %s: %s", path, refused)

    def mark_killed(self) -> None:
        """For a journal without an end, whose writer is gone."""
        if self.run_id is not None:
            with self.new_run_if_gone():
                self._set_status(self.run_id, "KILLED", None)
            self.note_progress()

    def note_progress(self) -> None:
        self.progress.problem = None
        sync_state.save(self.run_dir, self.progress)

    def note_problem(self, problem: str) -> None:
        if problem != self.progress.problem:
            log.warning("%s", problem)
            self.progress.problem = problem
            sync_state.save(self.run_dir, self.progress)

    @contextmanager
    def new_run_if_gone(self) -> Iterator[None]:
        """Raises Unavailable in place of RunGone: the next `ship` makes a run and fills it."""
        try:
            yield
        except RunGone as gone:
            log.warning("%s: the whole journal goes into a new one", gone)
            self.run_id = None
            self.progress = Progress(self.progress.uri)
            raise Unavailable(str(gone)) from gone

    def _open_run(self) -> str | None:
        start = next((record for record, _ in read(self.journal) if record["kind"] == "start"), None)
        if start is None:
            return None
        known = self.progress.mlflow_run_id
        experiment_id, run_id = self.store.open_run(
            experiment=start["experiment"],
            name=start["name"],
            run_uid=start["run_uid"],
            time=start["time"],
            known=known,
        )
        if run_id != known:
            self.progress = Progress(self.progress.uri, experiment_id, run_id)
        log.info("run %s of experiment %s in %s", run_id, experiment_id, self.progress.uri)
        self._resumes = [(end, record["step"]) for record, end in read(self.journal) if record["kind"] == "resume"]
        self.run_id = run_id
        self.note_progress()
        return run_id

    def _next_batch(self) -> list[tuple[Record, int]]:
        batch: list[tuple[Record, int]] = []
        values = 0
        for record, end in read(self.journal, self.progress.offset):
            batch.append((record, end))
            values += len(record.get("values", ()))
            if values >= METRICS_PER_CALL:
                break
        return batch

    def _ship_points(self, run_id: str, batch: Sequence[tuple[Record, int]]) -> None:
        metrics = [
            record for record, end in batch if record["kind"] == "metrics" and not self._comes_again(record, end)
        ]
        points = [
            Point(sanitize.name(name), value, record["time"], record["step"])
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
            if sanitize.name(original) != original:
                tags[RENAMED_TAG + sanitize.name(original)] = original
        self.store.set_tags(run_id, tags)

    def _comes_again(self, record: Record, end: int) -> bool:
        """Whether it was thrown away by a later resume from before it: the repeated step is in the journal, too."""
        return any(end < resumed_at and record["step"] > step for resumed_at, step in self._resumes)

    def _ship_record(self, run_id: str, record: Record) -> None:
        kind = record["kind"]
        try:
            if kind == "start":
                self.store.log_params(run_id, record["params"])
                self.store.set_tags(run_id, record["tags"])
            elif kind == "tags":
                self.store.set_tags(run_id, record["tags"])
            elif kind == "note":
                text = ui_server.with_pages(record["text"], str(self.progress.experiment_id), run_id)
                self.store.set_tags(run_id, {NOTE_TAG: text})
            elif kind == "dataset":
                sizes, source = record["sizes"], record["source"]
                self.store.log_dataset(run_id, name=record["name"], digest=record["digest"], sizes=sizes, source=source)
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


MODEL_ATTEMPTS = 3


class Uploads:
    """`on_model` is the command that logs the model, with MLFLOW_TRACKING_URI and MLFLOW_RUN_ID in its environment.

    It runs beside the metrics. If this process dies during its upload, the model may be in MLflow twice after a
    `sync`; a file that is sent twice is there once.
    """

    def __init__(self, replica: Replica, on_model: list[str] | None) -> None:
        self.replica = replica
        self.on_model = on_model
        self._command: subprocess.Popen[bytes] | None = None
        self._failures = 0

    @property
    def are_stuck(self) -> bool:
        """The model cannot be logged, now or soon: `sync` tries again."""
        return self._failures >= MODEL_ATTEMPTS

    def ship_next(self) -> bool:
        """One file, or a look at how the model's upload goes. False when nothing is left to do, or can be done.

        Raises Unavailable when the same has to be tried again later.
        """
        progress, run_id = self.replica.progress, self.replica.run_id
        if run_id is None or self.are_stuck:
            return False
        for record, end in read(self.replica.journal, progress.files_offset):
            if end > progress.offset:  # metrics first
                return False
            if record["kind"] == "model" and not self._model_is_there(run_id):
                return True
            if record["kind"] == "artifact":
                self.replica.ship_file(record["path"], record["folder"])
            progress.files_offset = end
            if record["kind"] in ("artifact", "model"):
                self.replica.note_progress()
                return True
        return False

    def _model_is_there(self, run_id: str) -> bool:
        if self.on_model is None:
            return True
        if self._command is None:
            log.info("logging the model")
            environment = {
                **os.environ,
                "MLFLOW_TRACKING_URI": self.replica.store.uri,
                "MLFLOW_RUN_ID": run_id,
            }
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
