"""What a launcher leaves in the run directory about what it started or handed to a cluster."""

import json
from pathlib import Path
from typing import Any

from pipeline import run_files
from pipeline.system.files import write_atomically

NAME = run_files.JOB.name


def note(folder: Path, **facts: Any) -> None:
    """Raises DamagedFileError where a folder is in the place of the file."""
    try:
        write_atomically(folder / NAME, json.dumps(facts, indent=2) + "\n")
    except IsADirectoryError as problem:
        raise run_files.JOB.damaged(folder, problem) from problem


def read(folder: Path) -> dict[str, Any] | None:
    """None where nothing was started. Raises DamagedFileError."""
    return run_files.JOB.record(folder)
