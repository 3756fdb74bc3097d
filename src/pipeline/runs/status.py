"""How a run is getting on, from its directory and from whoever launched it. No torch in here."""

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
ENDED_STATES = (
    "NOT STARTED",
    "FINISHED",
    "FAILED",
    "KILLED",
    "INTERRUPTED",
    UNKNOWN,
)  # nobody works on it, or waits to
EPOCH_METRIC = "system/seconds_per_epoch"


@dataclass(frozen=True)
class RunStatus:
    """status   NOT STARTED, PENDING (in a queue; or what else the cluster calls it), RUNNING, FINISHED, FAILED,
             KILLED, INTERRUPTED (it could not say), UNKNOWN (its cluster cannot be asked from here)
    epochs      how many are done
    step        the newest optimiser step that was recorded
    metrics     the newest value of each
    """

    status: str
    epochs: int
    step: int
    metrics: dict[str, float]


@contextmanager
def damage_as_run_error(run: Run) -> Iterator[None]:
    """Raises RunError, naming the directory, where what it holds cannot be understood."""
    try:
        yield
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as problem:
        raise RunError(f"{run.folder} is damaged ({type(problem).__name__}: {problem})") from problem


def read_run_status(run: Run, config: DictConfig, silent: set[str] | None = None) -> RunStatus:
    """`config` is the run's own: to read it takes longer than all the rest."""
    step, epochs = 0, set()
    metrics: dict[str, float] = {}
    for record, _ in journal.read(run.journal_path):
        if record["kind"] == "metrics":
            step = record["step"]
            metrics |= record["values"]
            if EPOCH_METRIC in record["values"]:
                epochs.add(step)
    return RunStatus(run_state(run, config, silent), len(epochs), step, metrics)


def run_state(run: Run, config: DictConfig, silent: set[str] | None = None) -> str:
    """One word. Of launchers in `silent`, which did not answer before, none is asked again; another may join them."""
    if journal.is_open(run.journal_path):
        return "RUNNING"
    launched = launcher_state(run, config, silent)
    if launched not in (None, UNKNOWN):
        return str(launched)
    result = run.result()
    if result is not None and result["status"] != "RUNNING":
        again = journal.taken_up_again(run.journal_path) if result["status"] == "FINISHED" else None
        return again or str(result["status"])
    if launched == UNKNOWN:
        return UNKNOWN
    return "INTERRUPTED" if run.has_started else "NOT STARTED"


def launcher_state(run: Run, config: DictConfig, silent: set[str] | None = None) -> str | None:
    """What its launcher says of it; None where it is not under way, UNKNOWN where that cannot be asked."""
    try:
        if job_record.read(run.folder) is None:
            return None
    except DamagedFileError as damaged:
        warn_once(str(damaged))
        return UNKNOWN
    name = str(config.launch.get("_target_"))
    if silent is not None and name in silent:
        return UNKNOWN
    try:
        return build_launcher(config).state(run.folder)
    except UserError:  # no client of the cluster on this machine, or it does not answer
        if silent is not None:
            silent.add(name)
        return UNKNOWN


def build_launcher(config: DictConfig) -> Launcher:
    launcher: Launcher = instantiate.instantiate(config.launch, config)
    return launcher
