"""The status of a run, from its directory and from its launcher. No torch here."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from omegaconf import DictConfig

from pipeline.config import instantiate
from pipeline.errors import RunError, UserError
from pipeline.launch import job_record
from pipeline.launch.launcher import Launcher
from pipeline.run_files import DamagedFileError, warn_once
from pipeline.runs.run_directory import Run
from pipeline.tracking import journal

UNKNOWN = "UNKNOWN"
ENDED_STATES = ("NOT STARTED", "FINISHED", "FAILED", "KILLED", "INTERRUPTED", UNKNOWN)  # no process works or waits
EPOCH_METRIC = "system/seconds_per_epoch"


@dataclass(frozen=True)
class RunStatus:
    """How far a run is.

    state    NOT STARTED, PENDING (in a queue; or the cluster's own word), RUNNING, FINISHED, FAILED, KILLED,
             INTERRUPTED (it ended without a record), UNKNOWN (its cluster cannot be reached)
    epochs   number of finished epochs
    step     the newest optimiser step in the journal
    metrics  the newest value of each metric
    """

    state: str
    epochs: int
    step: int
    metrics: dict[str, float]


@contextmanager
def damage_as_run_error(run: Run) -> Iterator[None]:
    """Raise RunError, which names the directory, for any error from reading damaged files."""
    try:
        yield
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as problem:
        raise RunError(f"{run.folder} is damaged ({type(problem).__name__}: {problem})") from problem


def read_run_status(run: Run, config: DictConfig, unreachable: set[str] | None = None) -> RunStatus:
    """Read the status; `config` is the run's own, which takes longest to load. `unreachable`: see `run_state`."""
    step, epochs = 0, set()
    metrics: dict[str, float] = {}
    for record, _ in journal.read_journal(run.journal_path):
        if record["kind"] == "metrics":
            step = record["step"]
            metrics |= record["values"]
            if EPOCH_METRIC in record["values"]:
                epochs.add(step)
    return RunStatus(run_state(run, config, unreachable), len(epochs), step, metrics)


def run_state(run: Run, config: DictConfig, unreachable: set[str] | None = None) -> str:
    """Return one of the words of RunStatus.state.

    Launchers in `unreachable` did not answer before and are not asked again; one that does not answer is added.
    """
    if journal.is_open(run.journal_path):
        return "RUNNING"
    launched = launcher_state(run, config, unreachable)
    if launched not in (None, UNKNOWN):
        return str(launched)
    result = run.result()
    if result is not None and result["status"] != "RUNNING":
        resumed = journal.status_after_reopening(run.journal_path) if result["status"] == "FINISHED" else None
        return resumed or str(result["status"])
    if launched == UNKNOWN:
        return UNKNOWN
    return "INTERRUPTED" if run.has_started else "NOT STARTED"


def launcher_state(run: Run, config: DictConfig, unreachable: set[str] | None = None) -> str | None:
    """Return the state that the launcher reports; None if no job runs or waits, UNKNOWN if it cannot be reached."""
    try:
        if job_record.read_job_record(run.folder) is None:
            return None
    except DamagedFileError as damaged:
        warn_once(str(damaged))
        return UNKNOWN
    name = str(config.launch.get("_target_"))
    if unreachable is not None and name in unreachable:
        return UNKNOWN
    try:
        return build_launcher(config).state(run.folder)
    except UserError:  # no client of the cluster on this machine, or it does not answer
        if unreachable is not None:
            unreachable.add(name)
        return UNKNOWN


def build_launcher(config: DictConfig) -> Launcher:
    launcher: Launcher = instantiate.instantiate(config.launch, config)
    return launcher
