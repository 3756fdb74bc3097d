"""Find the run that a user means: by a part of its id, by MLflow, by a registered model, or by its name."""

import difflib
import glob
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pipeline import run_files
from pipeline.config.frozen import TrustPolicy
from pipeline.errors import RunError, TrackingError
from pipeline.run_files import DamagedFileError, RunFile
from pipeline.runs.run_directory import LATEST, Run
from pipeline.system.files import file_lock, write_atomically
from pipeline.system.process import unset_command
from pipeline.tracking import sync_state, tracking_uri

NAMES_FOLDER = ".claims"
CHOICE_TIMEOUT_SECONDS = 120.0
POLL_SECONDS = 0.1
FOLDER_NAME = re.compile(r"(?!\.\.?$)[^/\0]+")  # of a folder, and no way out of the one it is in
MAX_RUNS_LISTED = 5


def find_run(reference: str, runs_dir: str, *, key: str = "run", packages: Sequence[str] = ()) -> Run:
    """Find a run by `latest`, its id, a unique part of its id (such as the last 4 characters), a path, its MLflow run
    id, or a model that was registered from it (`models:/name@champion`).

    `packages` are the packages whose code the user allowed for it. Raises RunError, with the nearest names, if no run
    or more than one matches.
    """
    return Run(_find_folder(reference, runs_dir, key), TrustPolicy(tuple(packages)))


def runs_in(runs_dir: str | Path) -> list[Run]:
    """Return the runs of a folder, the oldest first."""
    folders = sorted(path.parent for path in Path(runs_dir).absolute().glob(f"*/{run_files.CONFIG.name}*"))
    unique = dict.fromkeys(folders)
    return [Run(folder) for folder in unique if is_run_directory(folder) and not folder.is_symlink()]


def is_run_directory(folder: Path) -> bool:
    """Return whether the folder is a run directory, however damaged."""
    return os.path.lexists(folder / run_files.CONFIG.name)


def find_weights(reference: str, runs_dir: str) -> Path:
    """Return the checkpoint that `init_from` means: a file, or the best checkpoint of a run.

    Raises RunError if there is none.
    """
    if reference.endswith(".ckpt"):
        path = Path(reference).absolute()
        if not path.exists():
            raise RunError(f"init_from={reference}: there is no such file; expected a checkpoint, or a run")
        return path
    run = find_run(reference, runs_dir, key="init_from")
    if (tested := run.tested_checkpoint) is not None:
        return tested
    for name in ("best.ckpt", "last.ckpt"):
        if (run.checkpoints / name).exists():
            return run.resolve_inside(run.checkpoints / name)
    raise RunError(f"init_from={reference}: {run.id} has no checkpoint yet")


def _find_folder(reference: str, runs_dir: str, key: str) -> Path:
    root = Path(runs_dir)
    if reference.startswith("models:/"):
        return _find_folder(_run_id_of_model(reference, root), runs_dir, key)
    for folder in (Path(reference), root / reference):
        if is_run_directory(folder):
            return folder.resolve()
    run_ids = [run.id for run in runs_in(runs_dir)]
    if re.fullmatch(r"[0-9a-f]{32}", reference):
        tracked = [run_id for run_id in run_ids if _mlflow_run_id(root / run_id) == reference]
        if tracked:
            return (root / tracked[0]).resolve()
    matching = [run_id for run_id in run_ids if reference in run_id] if re.fullmatch(r"[\w.\-]+", reference) else []
    if len(matching) == 1:
        return (root / matching[0]).resolve()
    if len(matching) > 1:
        raise RunError(f"{key}={reference} could be any of {_listing(matching)}: give more of the name")
    if not run_ids:
        raise RunError(f"{key}={reference}: there is no run in {root.absolute()} yet; `make train` makes one")
    if reference == LATEST:
        raise RunError(f"{key}={LATEST}: no run in {root.absolute()} has started yet; name one: {_listing(run_ids)}")
    nearest = difflib.get_close_matches(reference, run_ids, n=3, cutoff=0.3) or run_ids[-3:]
    raise RunError(
        f"{key}={reference} is not in {root.absolute()}; did you mean {_listing(nearest)}? (or {key}=latest)"
    )


def _run_id_of_model(reference: str, root: Path) -> str:
    """Ask the store that the environment names, else the store of the newest run."""
    from pipeline.tracking.mlflow.registry import ModelRegistry  # brings mlflow

    uri = os.environ.get("MLFLOW_TRACKING_URI") or _newest_store(root)
    try:
        return ModelRegistry(uri).run_uid(reference)
    except TrackingError as problem:
        raise RunError(f"run={reference}: MLflow ({tracking_uri.redact(uri)}) does not answer: {problem}") from problem


def _newest_store(root: Path) -> str:
    """Look only at runs that this user made: another user's run may name a server that steals our password."""
    for path in sorted(root.glob("2*/config.yaml"), reverse=True):
        run = Run(path.parent)
        with suppress(DamagedFileError):
            if run.is_made_here and (uri := run.config().tracking.uri) is not None:
                return str(uri)
    raise RunError(
        f"no run in {root.absolute()} was tracked by MLflow, so no model is known; say where MLflow is: "
        "MLFLOW_TRACKING_URI=http://..."
    )


def _mlflow_run_id(folder: Path) -> str | None:
    state = sync_state.load_progress(folder)
    return None if state is None else state.mlflow_run_id


def _listing(run_ids: list[str]) -> str:
    return ", ".join(run_ids[-MAX_RUNS_LISTED:])


@dataclass(frozen=True)
class NamedRun:
    """The run of `runs_dir` that has this name: given by the user, or the id of the cluster job that trains it.

    A command that is repeated, and processes that start at the same time, find the same run by it.
    """

    runs_dir: Path
    name: str

    @property
    def path(self) -> Path:
        return self.runs_dir / NAMES_FOLDER / f"{self.name}.json"

    def find(self) -> Run | None:
        """Return the run that has this name; None if there is none, or if it was deleted. Raises DamagedFileError."""
        record = self._file.record(self.path.parent)
        if record is None:
            return None
        run = Run(self.runs_dir.absolute() / record["run"])
        return run if is_run_directory(run.folder) else None

    def assign(self, run: Run) -> None:
        """Give the name to this run."""
        write_atomically(self.path, json.dumps({"run": run.id}) + "\n")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Let one process at a time decide which run has the name. Raises RunError if the folder is not writable."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as problem:
            raise RunError(
                f"cannot write in {self.runs_dir.absolute()}: {problem.strerror}; choose another place with "
                "runs_dir=PATH"
            ) from problem
        with file_lock(self.path.with_suffix(".lock")):
            yield

    def wait(self, *, rank: int, is_chosen: Callable[[Run], bool]) -> Run:
        """Wait for the first process to choose a run, and return it. Raises RunError after CHOICE_TIMEOUT_SECONDS."""
        deadline = time.monotonic() + CHOICE_TIMEOUT_SECONDS
        while time.monotonic() < deadline:
            run = self.find()
            if run is not None and is_chosen(run):
                return run
            time.sleep(POLL_SECONDS)
        raise RunError(
            f"process {rank} waited {CHOICE_TIMEOUT_SECONDS:g} s for process 0 to choose a run directory in "
            f"{self.runs_dir.absolute()}: all nodes must share that folder; say which with runs_dir=PATH. "
            f"{unset_command()}"
        )

    @property
    def _file(self) -> RunFile:
        run_ids = [
            path.parent.name for path in self.runs_dir.absolute().glob(f"*-{glob.escape(self.name)}-*/config.yaml")
        ]
        newest = max(run_ids, default="RUN").replace("{", "{{").replace("}", "}}")
        return RunFile(
            self.path.name,
            f"which run has the name {self.name} is not known",
            f"to go on with a run: pipeline resume run={newest}; to begin a new one: rm {{file}}, and the same again",
            {"run": FOLDER_NAME},
        )
