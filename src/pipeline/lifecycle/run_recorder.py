"""What a run leaves behind: journal, result.json, figures, and the process that carries them to MLflow."""

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

HOSTS_TAG = "hosts"


class RecordHosts(pl.Callback):
    """Of a run on several nodes; `journal` is None in all processes but the first."""

    def __init__(self, journal: Journal | None) -> None:
        self.journal = journal

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        names = [""] * trainer.world_size
        distributed.all_gather_object(names, socket.gethostname())
        if self.journal is not None:
            self.journal.tags({HOSTS_TAG: ", ".join(dict.fromkeys(names))})


SCHEDULE_LENGTHS = ("total_steps", "T_max", "total_iters")  # what torch's schedules call it
ScheduleLength = tuple[str, str, int | None]  # class, key, steps or epochs
SIDECAR_TIMEOUT_SECONDS = 10.0
ERROR_LINES = 15

log = logging.getLogger(__name__)


class RunRecorder:
    """Of one run; only its first process writes anything.

    The journal is written before anything else and read by a process of its own, so nothing here waits for MLflow
    until training is over, and then for SIDECAR_PATIENCE_SECONDS at most.

    A run that goes on is written to when its training does, with all of a checkpoint restored: whatever goes wrong
    before that leaves it, and MLflow, as they were. What breaks after that is told by journal and MLflow; result.json
    of a run that was finished goes on saying what it came to, until there is a new verdict.
    """

    def __init__(
        self,
        run: Run,
        config: DictConfig,
        assembly: Components,
        here: Rank,
        console: Console,
        interruption: Interruption,
    ) -> None:
        self.run = run
        self.interruption = interruption
        self.config = config
        self.assembly = assembly
        self.console = console
        self.here = here
        self.is_writer = here.is_first
        self.started_at = time.monotonic()
        before = run.result()
        self.seconds_before = 0.0 if before is None else float(before.get("seconds") or 0.0)
        self.was_judged = before is not None and before["status"] == "FINISHED"
        self.has_begun = False
        self.training_seconds: float | None = None
        self.verdict: EvaluationResult | None = None
        self.journal = Journal(run.journal_path)
        self.sidecar: sidecar.Sidecar | None = None

    @property
    def loggers(self) -> list[Logger]:
        return [JournalLogger(self.journal)] if self.is_writer else []

    @property
    def callbacks(self) -> list[pl.Callback]:
        hosts = [RecordHosts(self.journal if self.is_writer else None)] if self.here.nodes > 1 else []
        return [BeginRecording(self), *hosts]

    @contextmanager
    def of_run(self, trainer: pl.Trainer, *, resumed_from: Path | None) -> Iterator[None]:
        """Whatever ends the run, its status, its seconds and its metrics are written down."""
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
                self._broke(problem)
            elif isinstance(problem, Interrupted):
                self.console.print(f"stopped before training went on; {self.run.id} is as it was", soft_wrap=True)
            raise
        else:
            with self._harmless("the figures"):
                self._publish()
            state = self._end("FINISHED", None)
            self.console.print(summaries.test_result_table(self.verdict, self._seconds()))
            self.console.print(summaries.next_steps(self.run, self.config, state), soft_wrap=True)

    def _broke(self, problem: BaseException) -> None:
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

    def training_ended(self, trainer: pl.Trainer) -> None:
        self.begin(trainer)  # where nothing was left but to judge
        self.training_seconds = time.monotonic() - self.started_at

    def conclude(self, verdict: EvaluationResult) -> None:
        self.verdict = verdict
        if self.is_writer:
            self._write_result("RUNNING", None)  # the figures come first, but the result must not wait for them
            if (digest := digest_of_test_set(self.assembly, verdict.predictions)) is not None and verdict.metrics:
                record_test_use(self.run, digest, verdict.weights, self.journal)

    def begin(self, trainer: pl.Trainer) -> None:
        """From here on the run is what was asked; once."""
        if self.has_begun or not self.is_writer:
            return
        self.has_begun = True
        resumed_from = self.resumed_from
        step = 0 if resumed_from is None else checkpoint_step(resumed_from)
        goes_on = self.run.has_started
        before = latest_params(self.run.journal_path)
        if goes_on:
            self.journal.resume(step=step)  # first: a kill in this moment leaves a run that is not finished
        resume.apply_request(self.run)
        save_component_facts(self.run, self.assembly, trainer)
        self.run.update_latest_link()
        start = summaries.run_start_record(self.run, self.config, self.assembly)
        if goes_on:
            changed = summaries.changed_setting_tags(before, start["params"], step)
            self.journal.tags(
                {"resumed_from": "the beginning" if resumed_from is None else resumed_from.name, **changed}
            )
        self.journal.start(**start)
        for logger in trainer.loggers:
            logger.log_hyperparams(start["params"])
        spec = self.assembly.spec
        if spec is not None:
            self.journal.dataset(spec.name, spec.digest, spec.sizes)
        for name in ("config.yaml", "overrides.txt", "environment.json", ASSEMBLED):
            self.journal.artifact(name)
        if self.run.skipped_path.exists():
            self.journal.artifact(self.run.skipped_path.name)
        self.journal.note(
            summaries.run_description(self.run, self.assembly, "**in training**: the report shows how far it is")
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

    def _publish(self) -> None:
        """What a finished run shows beyond its metrics."""
        if self.verdict is not None and self.verdict.predictions is not None:
            save_test_predictions(self.run, self.assembly, self.verdict.predictions)
        drawn = figures.write_figures(self.run, self.assembly)
        pictures = [path.relative_to(self.run.folder).as_posix() for path in drawn]
        for picture in pictures:
            self.journal.artifact(picture, folder="figures")
        headline = summaries.headline_markdown(self.verdict)
        self.journal.note(summaries.run_description(self.run, self.assembly, headline, self.verdict, pictures))

    @contextmanager
    def _harmless(self, what: str) -> Iterator[None]:
        """What shows a run must not fail it: for anything wrong one line, and the rest in the log."""
        try:
            yield
        except Exception as problem:
            log.exception("%s", what)
            self.console.print(f"[yellow]{what} could not be made: {escape(str(problem))}[/]", soft_wrap=True)

    def _end(self, status: EndStatus, error: str | None) -> SyncState | None:
        self._write_result(status, None)
        self.journal.artifact("result.json")
        with self._harmless(run_report.REPORT_FILE):
            run_report.write_run_report(self.run, status)
            self.journal.artifact(run_report.REPORT_FILE)
        if status == "FINISHED":
            self.journal.model()  # after every file: it takes the longest
        else:
            reason = "" if error is None else f": {error.splitlines()[-1]}"
            self.journal.note(
                summaries.run_description(self.run, self.assembly, f"**{status.lower()}**{reason}", self.verdict)
            )
        self.journal.end(status, error=error)
        self.journal.close()
        state = self.sidecar.wait(SIDECAR_TIMEOUT_SECONDS, for_model=False) if self.sidecar is not None else None
        self._write_result(status, state.mlflow_run_id if state is not None else None)
        if status == "FINISHED":  # nothing tells of those weights any more that an earlier training was judged by
            checkpoints.prune_checkpoints(self.run.checkpoints, keep=int(self.config.checkpoint.keep))
        return state

    def _write_result(self, status: EndStatus | Literal["RUNNING"], mlflow_run_id: str | None) -> None:
        if self.was_judged and status != "FINISHED":
            return
        verdict = self.verdict
        best = None if verdict is None or verdict.checkpoint is None else f"checkpoints/{verdict.checkpoint.name}"
        try:
            self.run.write_result(
                {
                    "status": status,
                    "metrics": {} if verdict is None else verdict.metrics,
                    "best_checkpoint": best,
                    "mlflow_run_id": mlflow_run_id,
                    "seconds": round(self._seconds(), 3),
                    "command": summaries.train_command(self.run),
                }
            )
        except OSError as problem:  # must not hide what ended the run
            log.warning("result.json cannot be written: %s", problem)

    def _seconds(self) -> float:
        """Of training (with validation), over all the times that this run was taken up."""
        now = time.monotonic() - self.started_at
        return self.seconds_before + (self.training_seconds if self.training_seconds is not None else now)


class BeginRecording(pl.Callback):
    """Training is about to go on, everything of a checkpoint is restored: the last moment to refuse."""

    def __init__(self, recording: RunRecorder) -> None:
        self.recording = recording
        self.made_for: list[ScheduleLength] = []

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.made_for = schedule_lengths(trainer)  # as for this training: those of the checkpoint take their place next

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.recording.resumed_from is not None:
            check_schedules(self.recording.run, trainer, self.made_for)
            # Of all processes, as a signal may have come to one alone.
            signal = self.recording.interruption.signal_number
            (signal,) = PeriodicMax().all_reduce(signal, device=trainer.strategy.root_device)
            if signal:
                raise Interrupted(signal, None)
        self.recording.begin(trainer)


def schedule_lengths(trainer: pl.Trainer) -> list[ScheduleLength]:
    """For how long each schedule, and each inside another one, is made, as far as it says that."""
    found: list[ScheduleLength] = []

    def look(schedule: object) -> None:
        found.extend((type(schedule).__name__, each, getattr(schedule, each, None)) for each in SCHEDULE_LENGTHS)
        for inner in getattr(schedule, "_schedulers", ()):
            look(inner)

    for each in trainer.lr_scheduler_configs:
        look(each.scheduler)
    return found


def check_schedules(run: Run, trainer: pl.Trainer, made_for: list[ScheduleLength]) -> None:
    """Raises RunError for a schedule that was made for another length than a new one would be, `made_for`, and for one
    whose end lies before that of training."""
    for (kind, key, before), (_, _, now) in zip(schedule_lengths(trainer), made_for, strict=False):
        if before != now:
            raise RunError(
                f"{kind} of {run.id} was made for {key}={before} and cannot go on to {now}. For a new run that sets "
                f"out from its weights:\n  {resume.new_run_command(run)}"
            )
    for each in trainer.lr_scheduler_configs:
        last = getattr(each.scheduler, "total_steps", None)  # OneCycleLR's, which raises after it
        steps = trainer.estimated_stepping_batches if each.interval == "step" else trainer.max_epochs
        if last is not None and steps is not None and last < steps:
            raise RunError(
                f"{type(each.scheduler).__name__} of {run.id} was made for {last:,} {each.interval}s and cannot go on "
                f"to {steps:,}. For a new run that sets out from its weights:\n  {resume.new_run_command(run)}"
            )
