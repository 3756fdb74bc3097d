"""What a launcher leaves in the run directory about what it started or handed to a cluster."""

import json
from pathlib import Path
from typing import Any

from pipeline.files import write_atomically

NAME = "job.json"


def note(folder: Path, **facts: Any) -> None:
    write_atomically(folder / NAME, json.dumps(facts, indent=2) + "\n")


def read(folder: Path) -> dict[str, Any] | None:
    path = folder / NAME
    if not path.exists():
        return None
    facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return facts
