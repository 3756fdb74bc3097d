"""Record a run: journal, result.json, figures, and the process that sends them to MLflow."""

import logging
import socket
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
from torch import distributed

from pipeline.errors import RunError
from pipeline.lifecycle import figures, resume, summaries
from pipeline.lifecycle.build import Components
from pipeline.lifecycle.final_test import EvaluationResult
from pipeline.lifecycle.save_predictions import digest_of_test_set, save_component_facts, save_test_predictions
from pipeline.reports import run_report
from pipeline.reports.report_data import ASSEMBLED
from pipeline.runs.model_selection import record_test_use
from pipeline.runs.run_directory import Run, checkpoint_step
from pipeline.runs.tracking_store import export_command
from pipeline.system.process import Rank, module_command
from pipeline.tracking import sidecar
from pipeline.tracking.journal import EndStatus, Journal, latest_params
from pipeline.tracking.logger import JournalLogger
from pipeline.tracking.sync_state import SyncState
from pipeline.training import checkpoints
from pipeline.training.distributed.periodic_max import PeriodicMax
from pipeline.training.interruption import Interrupted, Interruption


class RecordHosts(pl.Callback):
    """Records the hosts of a run on several nodes; `journal` is None in all processes but the first."""

    def __init__(self, journal: Journal | None) -> None:
        self.journal = journal

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        names = [""] * trainer.world_size
        distributed.all_gather_object(names, socket.gethostname())
        if self.journal is not None:
            self.journal.tags({summaries.HOSTS_TAG: ", ".join(dict.fromkeys(names))})


SCHEDULE_LENGTHS = ("total_steps", "T_max", "total_iters")  # attribute names of torch's schedulers
ScheduleLength = tuple[str, str, int | None]  # class, key, steps or epochs
SIDECAR_TIMEOUT_SECONDS = 10.0
ERROR_LINES = 15

log = logging.getLogger(__name__)


class RunRecorder:
    """Records one run; only the first process writes.

    The journal is written first, and another process reads it, so nothing here waits for MLflow until training is over,
    and then at most SIDECAR_TIMEOUT_SECONDS.

    A resumed run is changed only once the whole checkpoint is restored and training goes on: an error before that
    leaves the run and MLflow as they were. A later error is recorded in the journal and in MLflow, but the result.json
    of a run that had finished keeps its old result until there is a new one.
    """

    def __init__(
        self,
        run: Run,
        config: DictConfig,
        components: Components,
        rank: Rank,
        console: Console,
        interruption: Interruption,
    ) -> None:
        self.run = run
        self.interruption = interruption
        self.config = config
        self.components = components
        self.console = console
        self.rank = rank
        self.is_writer = rank.is_first
        self.started_at = time.monotonic()
        result = run.result()
        self.seconds_before = 0.0 if result is None else float(result.get("seconds") or 0.0)
        self.was_finished = result is not None and result["status"] == "FINISHED"
        self.has_begun = False
        self.training_seconds: float | None = None
        self.test_result: EvaluationResult | None = None
        self.journal = Journal(run.journal_path)
        self.sidecar: sidecar.Sidecar | None = None

    @property
    def loggers(self) -> list[Logger]:
        return [JournalLogger(self.journal)] if self.is_writer else []

    @property
    def callbacks(self) -> list[pl.Callback]:
        hosts = [RecordHosts(self.journal if self.is_writer else None)] if self.rank.nodes > 1 else []
        return [BeginRecording(self), *hosts]

    @contextmanager
    def record_run(self, trainer: pl.Trainer, *, resumed_from: Path | None) -> Iterator[None]:
        """Record status, seconds and metrics of the run, however it ends."""
        self.resumed_from = resumed_from
        if not self.is_writer:
            yield
            return
        if not self.run.has_started:
            self.begin(trainer)
        try:
            yield
        except BaseException as problem:
            if self.has_begun:
                self._record_failure(problem)
            elif isinstance(problem, Interrupted):
                self.console.print(f"stopped before training resumed; {self.run.id} is unchanged", soft_wrap=True)
            raise
        else:
            with self._errors_as_warning("the figures"):
                self._write_figures()
            state = self._end("FINISHED", None)
            self.console.print(summaries.test_result_table(self.test_result, self._seconds()))
            self.console.print(summaries.next_steps(self.run, self.config, state), soft_wrap=True)

    def _record_failure(self, problem: BaseException) -> None:
        if isinstance(problem, Interrupted):
            self._end("KILLED", str(problem))
            self.console.print(summaries.stopped_message(self.run, problem.saved), soft_wrap=True)
        elif isinstance(problem, KeyboardInterrupt):
            self._end("KILLED", "Ctrl-C, twice")
        else:
            lines = "".join(traceback.format_exception(problem)).splitlines()[-ERROR_LINES:]
            self._end("FAILED", "\n".join(lines))
            saved, _ = checkpoints.newest_intact(self.run.checkpoints)
            if saved is not None:
                self.console.print(summaries.stopped_message(self.run, saved.name), soft_wrap=True)

    def record_training_end(self, trainer: pl.Trainer) -> None:
        self.begin(trainer)  # if only the test was left to do
        self.training_seconds = time.monotonic() - self.started_at

    def record_test(self, test_result: EvaluationResult) -> None:
        self.test_result = test_result
        if self.is_writer:
            self._write_result("RUNNING", None)  # before the figures, which take long
            digest = digest_of_test_set(self.components, test_result.predictions)
            if digest is not None and test_result.metrics:
                record_test_use(self.run, digest, test_result.weights, self.journal)

    def begin(self, trainer: pl.Trainer) -> None:
        """Apply the requested configuration and start the record, once: from here on the run is changed."""
        if self.has_begun or not self.is_writer:
            return
        self.has_begun = True
        resumed_from = self.resumed_from
        step = 0 if resumed_from is None else checkpoint_step(resumed_from)
        is_resumed = self.run.has_started
        old_params = latest_params(self.run.journal_path)
        if is_resumed:
            self.journal.resume(step=step)  # first: a kill right after it leaves a run that is not finished
        resume.apply_request(self.run)
        save_component_facts(self.run, self.components, trainer)
        self.run.update_latest_link()
        start = summaries.run_start_record(self.run, self.config, self.components)
        if is_resumed:
            changed = summaries.changed_setting_tags(old_params, start["params"], step)
            self.journal.tags(
                {"resumed_from": "the beginning" if resumed_from is None else resumed_from.name, **changed}
            )
        self.journal.start(**start)
        for logger in trainer.loggers:
            logger.log_hyperparams(start["params"])
        spec = self.components.spec
        if spec is not None:
            self.journal.dataset(spec.name, spec.digest, spec.sizes)
        for name in ("config.yaml", "overrides.txt", "environment.json", ASSEMBLED):
            self.journal.artifact(name)
        if self.run.skipped_path.exists():
            self.journal.artifact(self.run.skipped_path.name)
        self.journal.note(
            summaries.run_description(self.run, self.components, "**in training**: the report shows how far it is")
        )
        if self.config.tracking.uri is not None:
            self.sidecar = sidecar.start_sidecar(
                self.run.folder,
                uri=self.config.tracking.uri,
                artifacts=self.config.tracking.artifacts,
                on_model=export_command(self.run),
                on_validation=module_command("pipeline.reports.run_report", *self.run.process_arguments),
            )
        self.started_at = time.monotonic()

    def _write_figures(self) -> None:
        """Write predictions, figures and the description of a finished run."""
        if self.test_result is not None and self.test_result.predictions is not None:
            save_test_predictions(self.run, self.components, self.test_result.predictions)
        paths = figures.write_figures(self.run, self.components)
        pictures = [path.relative_to(self.run.folder).as_posix() for path in paths]
        for picture in pictures:
            self.journal.artifact(picture, folder="figures")
        headline = summaries.headline_markdown(self.test_result)
        self.journal.note(summaries.run_description(self.run, self.components, headline, self.test_result, pictures))

    @contextmanager
    def _errors_as_warning(self, what: str) -> Iterator[None]:
        """Print one line and log the rest for any error: what only shows a run must not make it fail."""
        try:
            yield
        except Exception as problem:
            log.exception("%s", what)
            self.console.print(f"[yellow]{what} could not be made: {escape(str(problem))}[/]", soft_wrap=True)

    def _end(self, status: EndStatus, error: str | None) -> SyncState | None:
        self._write_result(status, None)
        self.journal.artifact("result.json")
        with self._errors_as_warning(run_report.REPORT_FILE):
            run_report.write_run_report(self.run, status)
            self.journal.artifact(run_report.REPORT_FILE)
        if status == "FINISHED":
            self.journal.model()  # after every file: it takes the longest
        else:
            reason = "" if error is None else f": {error.splitlines()[-1]}"
            self.journal.note(
                summaries.run_description(self.run, self.components, f"**{status.lower()}**{reason}", self.test_result)
            )
        self.journal.end(status, error=error)
        self.journal.close()
        state = self.sidecar.wait(SIDECAR_TIMEOUT_SECONDS, for_model=False) if self.sidecar is not None else None
        self._write_result(status, state.mlflow_run_id if state is not None else None)
        if status == "FINISHED":  # result.json names the new checkpoint: the one tested before may go
            checkpoints.prune_checkpoints(self.run.checkpoints, keep=int(self.config.checkpoint.keep))
        return state

    def _write_result(self, status: EndStatus | Literal["RUNNING"], mlflow_run_id: str | None) -> None:
        if self.was_finished and status != "FINISHED":
            return
        metrics = {} if self.test_result is None else self.test_result.metrics
        checkpoint = None if self.test_result is None else self.test_result.checkpoint
        try:
            self.run.write_result(
                {
                    "status": status,
                    "metrics": metrics,
                    "best_checkpoint": None if checkpoint is None else f"checkpoints/{checkpoint.name}",
                    "mlflow_run_id": mlflow_run_id,
                    "seconds": round(self._seconds(), 3),
                    "command": summaries.train_command(self.run),
                }
            )
        except OSError as problem:  # must not hide what ended the run
            log.warning("result.json cannot be written: %s", problem)

    def _seconds(self) -> float:
        """Return the seconds of training (with validation), summed over all resumes."""
        now = time.monotonic() - self.started_at
        return self.seconds_before + (self.training_seconds if self.training_seconds is not None else now)


class BeginRecording(pl.Callback):
    """Starts the record once the whole checkpoint is restored, right before training: the last moment to refuse."""

    def __init__(self, recorder: RunRecorder) -> None:
        self.recorder = recorder
        self.new_lengths: list[ScheduleLength] = []

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.new_lengths = schedule_lengths(trainer)  # before those of the checkpoint are restored

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.recorder.resumed_from is not None:
            check_schedules(self.recorder.run, trainer, self.new_lengths)
            # From all processes: the signal may have reached only one.
            signal = self.recorder.interruption.signal_number
            (signal,) = PeriodicMax().all_reduce(signal, device=trainer.strategy.root_device)
            if signal:
                raise Interrupted(signal, None)
        self.recorder.begin(trainer)


def schedule_lengths(trainer: pl.Trainer) -> list[ScheduleLength]:
    """Return the length that each scheduler, and each scheduler inside another, was built for, if it has one."""
    lengths: list[ScheduleLength] = []

    def collect(schedule: object) -> None:
        lengths.extend((type(schedule).__name__, key, getattr(schedule, key, None)) for key in SCHEDULE_LENGTHS)
        for inner in getattr(schedule, "_schedulers", ()):
            collect(inner)

    for config in trainer.lr_scheduler_configs:
        collect(config.scheduler)
    return lengths


def check_schedules(run: Run, trainer: pl.Trainer, new_lengths: list[ScheduleLength]) -> None:
    """Raise RunError if a restored scheduler was built for another length than a new one, or ends before training."""
    for (name, key, restored), (_, _, new) in zip(schedule_lengths(trainer), new_lengths, strict=False):
        if restored != new:
            raise RunError(
                f"{name} of {run.id} was made for {key}={restored} and cannot go on to {new}. For a new run that "
                f"starts from its weights:\n  {resume.new_run_command(run)}"
            )
    for config in trainer.lr_scheduler_configs:
        last = getattr(config.scheduler, "total_steps", None)  # of OneCycleLR, which raises an error after it
        steps = trainer.estimated_stepping_batches if config.interval == "step" else trainer.max_epochs
        if last is not None and steps is not None and last < steps:
            name = type(config.scheduler).__name__
            raise RunError(
                f"{name} of {run.id} was made for {last:,} {config.interval}s and cannot go on "
                f"to {steps:,}. For a new run that starts from its weights:\n  {resume.new_run_command(run)}"
            )
