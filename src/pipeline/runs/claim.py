"""One run for one key: commands that are given again, and processes that start together, come to the same run."""

import glob
import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import RunError
from pipeline.run_files import RunFile
from pipeline.runs.run_directory import Run, is_run_directory
from pipeline.system.files import file_lock, write_atomically
from pipeline.system.process import unset_command

NAMES_FOLDER = ".claims"
CHOICE_TIMEOUT_SECONDS = 120.0
POLL_SECONDS = 0.1
FOLDER_NAME = re.compile(r"(?!\.\.?$)[^/\0]+")  # of a folder, and no way out of the one it is in


@dataclass(frozen=True)
class NamedRun:
    """`key` names a run of `runs_dir`: what a user calls it, or the job that trains it."""

    runs_dir: Path
    key: str

    @property
    def path(self) -> Path:
        return self.runs_dir / NAMES_FOLDER / f"{self.key}.json"

    def held(self) -> Run | None:
        """The run that has this key, as far as it is still there. Raises DamagedFileError."""
        noted = self._file.record(self.path.parent)
        if noted is None:
            return None
        run = Run(self.runs_dir.absolute() / noted["run"])
        return run if is_run_directory(run.folder) else None

    @property
    def _file(self) -> RunFile:
        known = [path.parent.name for path in self.runs_dir.absolute().glob(f"*-{glob.escape(self.key)}-*/config.yaml")]
        newest = max(known, default="RUN").replace("{", "{{").replace("}", "}}")
        return RunFile(
            self.path.name,
            f"which run has the name {self.key} is not known",
            f"to go on with a run: pipeline resume run={newest}; to begin a new one: rm {{file}}, and the same again",
            {"run": FOLDER_NAME},
        )

    def hold(self, run: Run) -> None:
        write_atomically(self.path, json.dumps({"run": run.id}) + "\n")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One process at a time decides which run it is. Raises RunError where that cannot be written."""
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
        """The run that the first process chooses."""
        deadline = time.monotonic() + CHOICE_TIMEOUT_SECONDS
        while time.monotonic() < deadline:
            run = self.held()
            if run is not None and is_chosen(run):
                return run
            time.sleep(POLL_SECONDS)
        raise RunError(
            f"process {rank} waited {CHOICE_TIMEOUT_SECONDS:g} s for process 0 to choose a run directory in "
            f"{self.runs_dir.absolute()}: all nodes must share that folder; say which with runs_dir=PATH. "
            f"{unset_command()}"
        )
