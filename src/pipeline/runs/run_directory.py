"""The run directory: one place that everything about a run starts from. No torch in here."""

import difflib
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from pipeline import run_files
from pipeline.config import frozen
from pipeline.config.frozen import TrustPolicy
from pipeline.errors import RunError, TrackingError
from pipeline.launch import job_record, launcher_process
from pipeline.run_files import DamagedFileError
from pipeline.system import seal
from pipeline.system.files import write_atomically
from pipeline.tracking import journal, sync_state, tracking_uri

LATEST = "latest"
OVERRIDES = run_files.OVERRIDES.name
CHECKPOINT = re.compile(r"step-(\d+)\.ckpt")


@dataclass(frozen=True)
class Run:
    """Names the files of a run; the folder's own name is the run's id everywhere (logs, MLflow, commands)."""

    folder: Path
    trust: TrustPolicy = field(default_factory=TrustPolicy)

    @property
    def id(self) -> str:
        return self.folder.name

    @property
    def config_path(self) -> Path:
        return self.folder / run_files.CONFIG.name

    @property
    def journal_path(self) -> Path:
        return self.folder / run_files.JOURNAL.name

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    @property
    def figures(self) -> Path:
        return self.folder / "figures"

    @property
    def tokenizer_path(self) -> Path:
        """How a text run turns sentences into its inputs (tokenizers.Tokenizer.from_file)."""
        return self.folder / "tokenizer.json"

    @property
    def skipped_path(self) -> Path:
        """What data.source.on_bad_sample=skip left out, a line each; no file where that is nothing."""
        return self.folder / "skipped.txt"

    @property
    def log_path(self) -> Path:
        return self.folder / "run.log"

    @property
    def has_started(self) -> bool:
        """Training has begun; before that, a run directory is only an intention."""
        return self.journal_path.exists()

    @property
    def is_submitted(self) -> bool:
        """It waits for a cluster, or for the user to type a command elsewhere."""
        try:
            facts = job_record.read(self.folder)
        except DamagedFileError:
            return True  # as far as anyone knows
        return facts is not None and launcher_process.PROCESS not in facts

    @property
    def is_finished(self) -> bool:
        """And not taken up again since: result.json tells what came out last, the journal what was begun after that."""
        result = self.result()
        if result is None or result["status"] != "FINISHED":
            return False
        return journal.taken_up_again(self.journal_path) is None

    @property
    def is_made_here(self) -> bool:
        """By this user; else its configuration is somebody else's word, on which no code is called or token sent."""
        return self.trust.applies_to(self.folder)

    @property
    def words(self) -> list[str]:
        """What a process that works on the run is told."""
        return [str(self.folder), *self.trust.arguments(self.folder)]

    @classmethod
    def told(cls, words: list[str]) -> "Run":
        return cls(Path(words[0]), TrustPolicy.from_arguments(words[1:]))

    def within(self, path: Path) -> Path:
        """Where a file of the run really lies. Raises RunError where that is elsewhere."""
        real = path.resolve()
        if not real.is_relative_to(self.folder.resolve()):
            raise RunError(
                f"{path} is a link that leads out of the run directory, to {real}: put the file itself there"
            )
        return real

    def config(self) -> DictConfig:
        """Raises DamagedFileError, and ConfigError for what nobody may read here."""
        return frozen.load_trusted_config(self.folder, self.trust)

    def overrides(self) -> list[str]:
        """What was typed; nothing, after a warning, where that is damaged."""
        return (run_files.OVERRIDES.text_or_warn(self.folder) or "").splitlines()

    def environment(self) -> dict[str, Any]:
        """On what it was made; nothing, after a warning, where that is damaged."""
        return run_files.ENVIRONMENT.record_or_warn(self.folder) or {}

    def freeze(self, config_yaml: str, overrides: list[str]) -> None:
        """Write its configuration. Raises OSError."""
        write_atomically(self.config_path, config_yaml)
        write_atomically(self.folder / OVERRIDES, "".join(f"{override}\n" for override in overrides))
        seal.set_seal(self.folder)

    def result(self) -> dict[str, Any] | None:
        """What it came to so far; None before there is anything. Where it is damaged, the journal tells."""
        try:
            return run_files.RESULT.record(self.folder)
        except DamagedFileError as damaged:
            run_files.warn_once(str(damaged))
            return journal.outcome(self.journal_path)

    @property
    def judged_checkpoint(self) -> Path | None:
        """The weights that result.json tells of, as long as they are there."""
        name: str = (self.result() or {}).get("best_checkpoint") or ""
        path = self.checkpoints / Path(name).name
        real = self.within(path) if path.is_file() else path
        return real if real.is_file() and CHECKPOINT.fullmatch(real.name) else None

    @property
    def lost_checkpoint(self) -> str | None:
        """The name of those weights, where they are gone and a training that went on has left others."""
        name: str = (self.result() or {}).get("best_checkpoint") or ""
        is_lost = name != "" and self.judged_checkpoint is None
        return Path(name).name if is_lost and journal.taken_up_again(self.journal_path) is not None else None

    def write_result(self, result: dict[str, Any]) -> None:
        self.write_json(run_files.RESULT.name, result)

    def write_json(self, name: str, content: Any) -> None:
        write_atomically(self.folder / name, json.dumps(content, indent=2) + "\n")

    def become_latest(self) -> None:
        """`runs/latest` points here from one instant to the next."""
        temporary = self.folder.parent / f".{LATEST}.{secrets.token_hex(4)}"
        temporary.symlink_to(self.folder.name)
        os.replace(temporary, self.folder.parent / LATEST)

    def discard(self) -> None:
        """For a run that never started."""
        shutil.rmtree(self.folder, ignore_errors=True)


def create_run_directory(*, name: str, runs_dir: str) -> Run:
    """A new run directory, which no reference leads to before it is filled. Raises RunError where there can be none."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    run = Run(Path(runs_dir).absolute() / f"{stamp}-{name}-{secrets.token_hex(2)}", TrustPolicy(is_made_here=True))
    with _writing(run):
        run.folder.mkdir(parents=True)
        run.checkpoints.mkdir()
    return run


def fill_run_directory(run: Run, *, config_yaml: str, overrides: list[str], environment: dict[str, Any]) -> None:
    """With what it is to do, and where that was asked. Raises RunError where that cannot be written."""
    with _writing(run):
        run.freeze(config_yaml, overrides)
        run.write_json("environment.json", environment)


@contextmanager
def _writing(run: Run) -> Iterator[None]:
    try:
        yield
    except OSError as problem:
        run.discard()
        raise RunError(
            f"cannot write a run directory in {run.folder.parent}: {problem.strerror}; "
            "choose another place with runs_dir=PATH"
        ) from problem


def runs_in(runs_dir: str | Path) -> list[Run]:
    """The runs of a folder, the oldest first."""
    found = sorted(path.parent for path in Path(runs_dir).absolute().glob(f"*/{run_files.CONFIG.name}*"))
    return [Run(folder) for folder in dict.fromkeys(found) if is_run_directory(folder) and not folder.is_symlink()]


def is_run_directory(folder: Path) -> bool:
    """A run directory, however damaged."""
    return os.path.lexists(folder / run_files.CONFIG.name)


def find_run(reference: str, runs_dir: str, *, key: str = "run", packages: Sequence[str] = ()) -> Run:
    """A run by `latest`, its id, a unique part of it (its last 4 characters), a path, MLflow's id of it, or a model
    that was registered from it (`models:/name@champion`). `packages` are those that were typed for it.

    Raises RunError, with the nearest names, if there is no such run or more than one.
    """
    return Run(_folder_of(reference, runs_dir, key), TrustPolicy(tuple(packages)))


def _folder_of(reference: str, runs_dir: str, key: str) -> Path:
    root = Path(runs_dir)
    if reference.startswith("models:/"):
        return _folder_of(_behind_model(reference, root), runs_dir, key)
    for folder in (Path(reference), root / reference):
        if is_run_directory(folder):
            return folder.resolve()
    known = [run.id for run in runs_in(runs_dir)]
    if re.fullmatch(r"[0-9a-f]{32}", reference):
        known_there = [name for name in known if _mlflow_run_id(root / name) == reference]
        if known_there:
            return (root / known_there[0]).resolve()
    matching = [name for name in known if reference in name] if re.fullmatch(r"[\w.\-]+", reference) else []
    if len(matching) == 1:
        return (root / matching[0]).resolve()
    if len(matching) > 1:
        raise RunError(f"{key}={reference} could be any of {_listing(matching)}: give more of the name")
    if not known:
        raise RunError(f"{key}={reference}: there is no run in {root.absolute()} yet; `make train` makes one")
    if reference == LATEST:
        raise RunError(f"{key}={LATEST}: no run in {root.absolute()} has started yet; name one: {_listing(known)}")
    near = difflib.get_close_matches(reference, known, n=3, cutoff=0.3) or known[-3:]
    raise RunError(f"{key}={reference} is not in {root.absolute()}; did you mean {_listing(near)}? (or {key}=latest)")


def _behind_model(reference: str, root: Path) -> str:
    """The id of the run, from the store that the environment names, else from that of the newest run."""
    from pipeline.tracking.mlflow.registry import Registry  # brings mlflow

    uri = os.environ.get("MLFLOW_TRACKING_URI") or _newest_store(root)
    try:
        return Registry(uri).run_uid(reference)
    except TrackingError as problem:
        raise RunError(
            f"run={reference}: MLflow ({tracking_uri.redacted(uri)}) does not answer: {problem}"
        ) from problem


def _newest_store(root: Path) -> str:
    """Of those that this user made: another's may name a server that is after our password."""
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
    state = sync_state.load(folder)
    return None if state is None else state.mlflow_run_id


def checkpoint_step(checkpoint: Path) -> int:
    """After how many optimiser steps it was taken."""
    return int(checkpoint.stem.rpartition("-")[2])


def find_weights(reference: str, runs_dir: str) -> Path:
    """The checkpoint that a reference means: a file, or the best one of a run.

    Raises RunError if there is none.
    """
    if reference.endswith(".ckpt"):
        path = Path(reference).absolute()
        if not path.exists():
            raise RunError(f"init_from={reference}: there is no such file; expected a checkpoint, or a run")
        return path
    run = find_run(reference, runs_dir, key="init_from")
    if (judged := run.judged_checkpoint) is not None:
        return judged
    for name in ("best.ckpt", "last.ckpt"):
        if (run.checkpoints / name).exists():
            return run.within(run.checkpoints / name)
    raise RunError(f"init_from={reference}: {run.id} has no checkpoint yet")


def _listing(names: list[str]) -> str:
    return ", ".join(names[-5:])
