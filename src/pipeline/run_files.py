"""The files of a run directory and their one reader, which expects damaged files and files of others."""

import re
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

from pipeline.errors import RunError
from pipeline.system.files import ContentError, open_inside, parse_json, read_inside
from pipeline.system.json_shape import DictOf, FiniteNumber, ListOf, Nullable, PositiveNumber, find_mismatch
from pipeline.system.streams import print_labelled

JOB_ID = re.compile(r"\w[\w.-]*")  # never an option of the program that is given it


class DamagedFileError(RunError):
    """A file of a run that cannot be read: which one, why, what is lost, and what to type."""


@dataclass(frozen=True)
class RunFile:
    """A file of a run directory.

    cost     what cannot be had without it
    remedy      what to do about it; {run} is the run's directory, {file} the file
    shape       of the object in it, see `shape.mismatch`; None for what is no JSON
    """

    name: str
    cost: str
    remedy: str
    shape: Any = None

    def open(self, folder: Path) -> IO[bytes] | None:
        """Open the file, or return None if it is missing. Raise DamagedFileError if it is no plain file."""
        try:
            return open_inside(folder, self.name)
        except FileNotFoundError:
            return None
        except (ContentError, OSError) as problem:
            raise self.damaged(folder, problem) from problem

    def text(self, folder: Path) -> str | None:
        """Return the text, or None if the file is missing. Raise DamagedFileError."""
        content = self._content(folder)
        if content is None:
            return None
        try:
            text = content.decode()
        except UnicodeDecodeError as problem:
            raise self.damaged(folder, ContentError("is no UTF-8 text")) from problem
        if "\0" in text:
            raise self.damaged(folder, ContentError("holds zero bytes"))
        return text

    def record(self, folder: Path) -> dict[str, Any] | None:
        """Return the JSON object, or None if the file is missing. Raise DamagedFileError."""
        content = self._content(folder)
        if content is None:
            return None
        try:
            found = parse_json(content)
            problem = find_mismatch(found, self.shape)
            if problem is not None:
                raise ContentError(f"has another shape: {problem}")
        except ContentError as error:
            raise self.damaged(folder, error) from error
        record: dict[str, Any] = found
        return record

    def is_sound(self, folder: Path) -> bool:
        """Return whether the file is there and not damaged."""
        try:
            return self.record(folder) is not None
        except DamagedFileError:
            return False

    def text_or_warn(self, folder: Path) -> str | None:
        """Return the text, or None if the file is missing or, after one warning, damaged."""
        try:
            return self.text(folder)
        except DamagedFileError as damaged:
            warn_once(str(damaged))
            return None

    def record_or_warn(self, folder: Path) -> dict[str, Any] | None:
        """Return the record, or None if the file is missing or, after one warning, damaged."""
        try:
            return self.record(folder)
        except DamagedFileError as damaged:
            warn_once(str(damaged))
            return None

    def damaged(self, folder: Path, problem: Exception) -> DamagedFileError:
        path = folder / self.name
        why = problem.strerror if isinstance(problem, OSError) else str(problem)
        remedy = self.remedy.format(run=folder, file=path)
        return DamagedFileError(f"{path} is damaged (it {why}): {self.cost}; {remedy}")

    def _content(self, folder: Path) -> bytes | None:
        try:
            return read_inside(folder, self.name)
        except FileNotFoundError:
            return None
        except (ContentError, OSError) as problem:
            raise self.damaged(folder, problem) from problem


@lru_cache(maxsize=1000)
def warn_once(sentence: str) -> None:
    """Print a warning, each sentence once."""
    print_labelled("warning", sentence, sys.stderr)


CONFIG = RunFile(
    "config.yaml",
    "without it nobody knows what this run is",
    "put back a copy, such as the one among the run's files in MLflow",
    {
        "name": str,
        "data": {},
        "model": {},
        "trainer": {},
        "checkpoint": {"monitor": str, "mode": str},
        "tracking": {"uri": Nullable(str), "artifacts": Nullable(str)},
        "launch": {"_target_": str},
    },
)
OVERRIDES = RunFile(
    "overrides.txt",
    "what was typed for this run is not known, so commands that are made of it are incomplete",
    "config.yaml holds all settings",
)
RESULT = RunFile(
    "result.json",
    "its status and its figures are taken from journal.jsonl",
    "pipeline evaluate run={run} finds the figures again",
    {
        "status": str,
        "metrics": DictOf(float),
        "best_checkpoint": Nullable(str),
        "mlflow_run_id": Nullable(str),
        "seconds": Nullable(FiniteNumber),
        "command": Nullable(str),
    },
)
ENVIRONMENT = RunFile(
    "environment.json",
    "on which machine and with which versions it was trained is not known",
    "nothing else depends on it",
    {
        "command": Nullable(ListOf(str)),
        "choices": Nullable({}),
        "packages": Nullable(DictOf(str)),
        "git": Nullable({"commit": str, "dirty": bool}),
        **dict.fromkeys(("python", "user", "host", "platform", "processor"), Nullable(str)),
        "cores": Nullable(int),
    },
)
ASSEMBLED = RunFile(
    "assembled.json",
    "what a report tells of data, network and devices is lost",
    "pipeline evaluate run={run} writes it anew",
    {
        "data": Nullable(
            {
                "name": str,
                "digest": str,
                "sizes": DictOf(int),
                "input_shape": ListOf(PositiveNumber),
                "class_names": ListOf(str),
                "sample_rate": Nullable(int),
            }
        ),
        "model": {"name": str, "parameters": int},
        "devices": {"count": PositiveNumber, "kind": str, "precision": str},
        "headline": Nullable(str),
        "metrics": Nullable(DictOf(str)),
        "monitor": Nullable({"monitor": str, "mode": str}),
        "instead_of_default": Nullable({"metric": str, "mode": str, "in_training": bool}),
        "validation_digest": Nullable(str),
        "steps_per_epoch": Nullable(PositiveNumber),
        "total_steps": Nullable(PositiveNumber),
    },
)
JOB = RunFile(
    "job.json",
    "whether a machine or a cluster works on the run is not known",
    "once nothing does: rm {file}",
    {
        "launcher": Nullable(str),
        "host": Nullable(str),
        "pid": Nullable(int),
        "started_at": Nullable(FiniteNumber),
        "job": Nullable(JOB_ID),
        "namespace": Nullable(JOB_ID),
        "submission": Nullable(int),
        "dry_run": Nullable(bool),
    },
)
SYNC = RunFile(
    "sync.json",
    "what of the run is in MLflow already is not known",
    "pipeline sync run={run} sends all of it again, which changes nothing there",
    {
        "uri": str,
        **dict.fromkeys(("experiment_id", "mlflow_run_id", "status", "problem"), Nullable(str)),
        **dict.fromkeys(("offset", "files_offset", "metrics", "infinite", "refused"), int),
    },
)
JOURNAL = RunFile(
    "journal.jsonl",
    "the course of the training is lost",
    "put back a copy, or remove what is in its place",
)
PREDICTIONS = RunFile(
    "predictions.npz",
    "the report cannot show single samples, and nothing can be compared",
    "pipeline evaluate run={run} writes it anew",
)
