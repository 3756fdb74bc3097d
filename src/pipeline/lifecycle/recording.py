"""What a run leaves behind: journal, result.json, figures, and the process that carries them to MLflow."""

import logging
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import pytorch_lightning as pl
from omegaconf import DictConfig
from pytorch_lightning.loggers import Logger
from rich.console import Console
from rich.markup import escape

from pipeline.lifecycle import describe, figures, looks
from pipeline.lifecycle.assemble import Assembly
from pipeline.lifecycle.hosts import Hosts
from pipeline.lifecycle.judge import Verdict
from pipeline.lifecycle.reports import report
from pipeline.lifecycle.reports.evidence import ASSEMBLED
from pipeline.lifecycle.reports.keep import digest_of_test, keep_predictions
from pipeline.lifecycle.run import Run
from pipeline.process import Place, module_command
from pipeline.tracking import sidecar
from pipeline.tracking.journal import Journal, Status, newest_params
from pipeline.tracking.logger import JournalLogger
from pipeline.tracking.progress import SyncState
from pipeline.training import checkpoints
from pipeline.training.interruption import Interrupted

SIDECAR_PATIENCE_SECONDS = 10.0
ERROR_LINES = 15

log = logging.getLogger(__name__)


class Recording:
    """Of one run; only its first process writes anything.

    The journal is written before anything else and read by a process of its own, so nothing here waits for MLflow
    until training is over, and then for SIDECAR_PATIENCE_SECONDS at most.
    """

    def __init__(self, run: Run, config: DictConfig, assembly: Assembly, here: Place, console: Console) -> None:
        self.run = run
        self.config = config
        self.assembly = assembly
        self.console = console
        self.here = here
        self.is_writer = here.is_first
        self.started_at = time.monotonic()
        self.seconds_before = _seconds_so_far(run)
        self.training_seconds: float | None = None
        self.verdict: Verdict | None = None
        self.journal = Journal(run.journal_path)
        self.sidecar: sidecar.Sidecar | None = None

    @property
    def loggers(self) -> list[Logger]:
        return [JournalLogger(self.journal)] if self.is_writer else []

    @property
    def callbacks(self) -> list[pl.Callback]:
        return [Hosts(self.journal if self.is_writer else None)] if self.here.nodes > 1 else []

    @contextmanager
    def of_run(self, *, resumed_from: Path | None) -> Iterator[None]:
        """Whatever ends the run, its status, its seconds and its metrics are written down."""
        if not self.is_writer:
            yield
            return
        self._begin(resumed_from)
        try:
            yield
        except Interrupted as interrupted:
            self._end("KILLED", str(interrupted))
            self.console.print(describe.farewell(self.run, interrupted.saved), soft_wrap=True)
            raise
        except KeyboardInterrupt:
            self._end("KILLED", "Ctrl-C, twice")
            raise
        except BaseException as problem:
            lines = "".join(traceback.format_exception(problem)).splitlines()[-ERROR_LINES:]
            self._end("FAILED", "\n".join(lines))
            saved, _ = checkpoints.newest_intact(self.run.checkpoints)
            if saved is not None:
                self.console.print(describe.farewell(self.run, saved.name), soft_wrap=True)
            raise
        else:
            with self._harmless("the figures"):
                self._publish()
            state = self._end("FINISHED", None)
            self.console.print(describe.summary(self.verdict, self._seconds()))
            self.console.print(describe.where(self.run, self.config, state), soft_wrap=True)

    def training_ended(self) -> None:
        self.training_seconds = time.monotonic() - self.started_at

    def conclude(self, verdict: Verdict) -> None:
        self.verdict = verdict
        if self.is_writer:
            self._write_result("RUNNING", None)  # the figures come first, but the result must not wait for them
            if (digest := digest_of_test(self.assembly, verdict.predictions)) is not None and verdict.metrics:
                looks.note(self.run, digest, verdict.weights, self.journal)

    def _begin(self, resumed_from: Path | None) -> None:
        self.run.become_latest()
        start = describe.start_record(self.run, self.config, self.assembly)
        if self.run.has_started:
            step = 0 if resumed_from is None else describe.step_of(resumed_from)
            changed = describe.changes(newest_params(self.run.journal_path), start["params"], step)
            self.journal.resume(step=step)
            self.journal.tags(
                {"resumed_from": "the beginning" if resumed_from is None else resumed_from.name, **changed}
            )
        self.journal.start(**start)
        spec = self.assembly.spec
        if spec is not None:
            self.journal.dataset(spec.name, spec.digest, spec.sizes)
        for name in ("config.yaml", "overrides.txt", "environment.json", ASSEMBLED):
            self.journal.artifact(name)
        if self.run.skipped_path.exists():
            self.journal.artifact(self.run.skipped_path.name)
        self.journal.note(describe.note(self.run, self.assembly, "**in training**: the report shows how far it is"))
        if self.config.tracking.uri is not None:
            self.sidecar = sidecar.start(
                self.run.folder,
                uri=self.config.tracking.uri,
                artifacts=self.config.tracking.artifacts,
                on_model=export_command(self.run),
                on_validation=module_command("pipeline.lifecycle.reports.report", *self.run.words),
            )
        self.started_at = time.monotonic()

    def _publish(self) -> None:
        """What a finished run shows beyond its metrics."""
        if self.verdict is not None and self.verdict.predictions is not None:
            keep_predictions(self.run, self.assembly, self.verdict.predictions)
        drawn = figures.draw_all(self.run, self.assembly, self.verdict)
        pictures = [path.relative_to(self.run.folder).as_posix() for path in drawn]
        for picture in pictures:
            self.journal.artifact(picture, folder="figures")
        headline = describe.headline(self.verdict)
        self.journal.note(describe.note(self.run, self.assembly, headline, self.verdict, pictures))

    @contextmanager
    def _harmless(self, what: str) -> Iterator[None]:
        """What shows a run must not fail it: for anything wrong one line, and the rest in the log."""
        try:
            yield
        except Exception as problem:
            log.exception("%s", what)
            self.console.print(f"[yellow]{what} could not be made: {escape(str(problem))}[/]", soft_wrap=True)

    def _end(self, status: Status, error: str | None) -> SyncState | None:
        self._write_result(status, None)
        self.journal.artifact("result.json")
        with self._harmless(report.NAME):
            report.write(self.run)
            self.journal.artifact(report.NAME)
        if status == "FINISHED":
            self.journal.model()  # after every file: it takes the longest
        else:
            reason = "" if error is None else f": {error.splitlines()[-1]}"
            self.journal.note(describe.note(self.run, self.assembly, f"**{status.lower()}**{reason}", self.verdict))
        self.journal.end(status, error=error)
        self.journal.close()
        state = self.sidecar.wait(SIDECAR_PATIENCE_SECONDS, for_model=False) if self.sidecar is not None else None
        self._write_result(status, state.mlflow_run_id if state is not None else None)
        return state

    def _write_result(self, status: Status | Literal["RUNNING"], mlflow_run_id: str | None) -> None:
        verdict = self.verdict
        best = None if verdict is None or verdict.checkpoint is None else verdict.checkpoint
        try:
            self.run.write_result(
                {
                    "status": status,
                    "metrics": {} if verdict is None else verdict.metrics,
                    "best_checkpoint": None if best is None else str(best.relative_to(self.run.folder)),
                    "mlflow_run_id": mlflow_run_id,
                    "seconds": round(self._seconds(), 3),
                    "command": describe.command_of(self.run),
                }
            )
        except OSError as problem:  # must not hide what ended the run
            log.warning("result.json cannot be written: %s", problem)

    def _seconds(self) -> float:
        """Of training (with validation), over all the times that this run was taken up."""
        now = time.monotonic() - self.started_at
        return self.seconds_before + (self.training_seconds if self.training_seconds is not None else now)


def export_command(run: Run) -> list[str]:
    """Puts the run's best model into MLflow; run by whoever carries the journal there."""
    return module_command("pipeline.lifecycle.export", *run.words)


def _seconds_so_far(run: Run) -> float:
    result = run.result()
    return 0.0 if result is None else float(result.get("seconds") or 0.0)
