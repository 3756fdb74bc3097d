"""The run directory, from which everything about a run starts. No torch here."""

import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from pipeline import run_files
from pipeline.config import frozen
from pipeline.config.frozen import TrustPolicy
from pipeline.errors import RunError
from pipeline.launch import job_record
from pipeline.run_files import DamagedFileError
from pipeline.system import seal
from pipeline.system.files import write_atomically
from pipeline.tracking import journal

LATEST = "latest"
OVERRIDES = run_files.OVERRIDES.name
CHECKPOINT = re.compile(r"step-(\d+)\.ckpt")


@dataclass(frozen=True)
class Run:
    """The files of a run. The name of its folder is the run's id everywhere (logs, MLflow, commands)."""

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
        """The tokenizer of a text run, for tokenizers.Tokenizer.from_file."""
        return self.folder / "tokenizer.json"

    @property
    def skipped_path(self) -> Path:
        """One line for each sample that data.source.on_bad_sample=skip left out; no file where there is none."""
        return self.folder / "skipped.txt"

    @property
    def log_path(self) -> Path:
        return self.folder / "run.log"

    @property
    def has_started(self) -> bool:
        """Whether training has begun."""
        return self.journal_path.exists()

    @property
    def is_submitted(self) -> bool:
        """Whether the run waits for a cluster, or for the user to type a command elsewhere."""
        try:
            job = job_record.read_job_record(self.folder)
        except DamagedFileError:
            return True  # as far as anyone knows
        return job is not None and job_record.PID_KEY not in job

    @property
    def is_finished(self) -> bool:
        """Whether the run has finished and was not resumed since: a resume shows in the journal, not in result.json."""
        result = self.result()
        if result is None or result["status"] != "FINISHED":
            return False
        return journal.status_after_reopening(self.journal_path) is None

    @property
    def is_made_here(self) -> bool:
        """Whether this user made the run. The configuration of another user may call no code and receives no token."""
        return self.trust.applies_to(self.folder)

    @property
    def process_arguments(self) -> list[str]:
        """The arguments of a process that works on the run; `from_arguments` reads them."""
        return [str(self.folder), *self.trust.arguments(self.folder)]

    @classmethod
    def from_arguments(cls, arguments: list[str]) -> "Run":
        return cls(Path(arguments[0]), TrustPolicy.from_arguments(arguments[1:]))

    def resolve_inside(self, path: Path) -> Path:
        """Return the path without links. Raises RunError for a link that leads out of the run directory."""
        real = path.resolve()
        if not real.is_relative_to(self.folder.resolve()):
            raise RunError(
                f"{path} is a link that leads out of the run directory, to {real}: put the file itself there"
            )
        return real

    def config(self) -> DictConfig:
        """Load the frozen configuration. Raises DamagedFileError, and ConfigError for one that is not to be trusted."""
        return frozen.load_trusted_config(self.folder, self.trust)

    def overrides(self) -> list[str]:
        """Return the overrides that the user typed; none, after a warning, if the file is damaged."""
        return (run_files.OVERRIDES.text_or_warn(self.folder) or "").splitlines()

    def environment(self) -> dict[str, Any]:
        """Return the contents of environment.json; nothing, after a warning, if the file is damaged."""
        return run_files.ENVIRONMENT.record_or_warn(self.folder) or {}

    def write_config(self, config_yaml: str, overrides: list[str]) -> None:
        """Write and seal the frozen configuration. Raises OSError."""
        write_atomically(self.config_path, config_yaml)
        write_atomically(self.folder / OVERRIDES, "".join(f"{override}\n" for override in overrides))
        seal.set_seal(self.folder)

    def result(self) -> dict[str, Any] | None:
        """Return result.json; None before there is one. If it is damaged, the journal gives the result."""
        try:
            return run_files.RESULT.record(self.folder)
        except DamagedFileError as damaged:
            run_files.warn_once(str(damaged))
            return journal.journal_result(self.journal_path)

    @property
    def tested_checkpoint(self) -> Path | None:
        """The checkpoint that result.json names, whose weights were tested; None if there is none, or it is gone."""
        name: str = (self.result() or {}).get("best_checkpoint") or ""
        path = self.checkpoints / Path(name).name
        if not path.is_file():
            return None
        real = self.resolve_inside(path)
        return real if CHECKPOINT.fullmatch(real.name) else None

    @property
    def missing_checkpoint(self) -> str | None:
        """The name of the tested checkpoint, if it is gone and a resumed training has left others."""
        name: str = (self.result() or {}).get("best_checkpoint") or ""
        is_missing = name != "" and self.tested_checkpoint is None
        return Path(name).name if is_missing and journal.status_after_reopening(self.journal_path) is not None else None

    def write_result(self, result: dict[str, Any]) -> None:
        self.write_json(run_files.RESULT.name, result)

    def write_json(self, name: str, content: Any) -> None:
        write_atomically(self.folder / name, json.dumps(content, indent=2) + "\n")

    def update_latest_link(self) -> None:
        """Make `runs/latest` point here, atomically."""
        temporary = self.folder.parent / f".{LATEST}.{secrets.token_hex(4)}"
        temporary.symlink_to(self.folder.name)
        os.replace(temporary, self.folder.parent / LATEST)

    def discard(self) -> None:
        """Remove the directory of a run that never started."""
        shutil.rmtree(self.folder, ignore_errors=True)


def create_run_directory(*, name: str, runs_dir: str) -> Run:
    """Create a new run directory, which `find_run` does not find before it is filled. Raises RunError on failure."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    run = Run(Path(runs_dir).absolute() / f"{stamp}-{name}-{secrets.token_hex(2)}", TrustPolicy(is_made_here=True))
    with _writing(run):
        run.folder.mkdir(parents=True)
        run.checkpoints.mkdir()
    return run


def fill_run_directory(run: Run, *, config_yaml: str, overrides: list[str], environment: dict[str, Any]) -> None:
    """Write configuration and environment into a new run directory. Raises RunError if that fails."""
    with _writing(run):
        run.write_config(config_yaml, overrides)
        run.write_json("environment.json", environment)


@contextmanager
def _writing(run: Run) -> Iterator[None]:
    """Discard the run and raise RunError if it cannot be written."""
    try:
        yield
    except OSError as problem:
        run.discard()
        raise RunError(
            f"cannot write a run directory in {run.folder.parent}: {problem.strerror}; "
            "choose another place with runs_dir=PATH"
        ) from problem


def checkpoint_step(checkpoint: Path) -> int:
    """Return the number of optimiser steps after which the checkpoint was saved, from its name."""
    return int(checkpoint.stem.rpartition("-")[2])
