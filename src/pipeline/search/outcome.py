"""What became of a trial, in its directory: written by the process that trained it, read by whoever comes after."""

import json
import re
from pathlib import Path
from typing import Any

from pipeline.run_files import Damaged, RunFile
from pipeline.system.files import write_atomically
from pipeline.system.json_shape import Each, Maybe

FILE = RunFile(
    "outcome.json",
    "what became of the trial is lost",
    "the search tries it again",
    {
        "state": re.compile("FINISHED|PRUNED|DIVERGED"),
        "scores": Each(float),
        "seconds": float,
        "reason": Maybe(str),
        "judged": Maybe({}),
    },
)
OUTCOME = FILE.name
FINISHED, PRUNED, DIVERGED = "FINISHED", "PRUNED", "DIVERGED"


def write(
    folder: Path,
    state: str,
    scores: dict[str, float],
    *,
    seconds: float,
    reason: str | None,
    judged: dict[str, Any] | None = None,
) -> None:
    """`seconds` of training; `reason` why the loss was no number, else None; `judged`: see Judgement."""
    content = {"state": state, "scores": scores, "seconds": round(seconds, 3), "reason": reason, "judged": judged}
    write_atomically(folder / OUTCOME, json.dumps(content, indent=2) + "\n")


def read(folder: Path) -> dict[str, Any] | None:
    """None if the trial did not come to its end, or its outcome is damaged: it did not, then."""
    try:
        return FILE.record(folder)
    except Damaged:
        return None


def broken(constraints: dict[str, dict[str, float]], scores: dict[str, float]) -> str | None:
    """The first constraint that these scores do not keep."""
    for metric, bounds in constraints.items():
        for bound, limit in bounds.items():
            if metric in scores and excess(bound, limit, scores[metric]) > 0:
                return f"{metric} {scores[metric]:g}, beyond search.constraints.{metric}.{bound}={limit:g}"
    return None


def excess(bound: str, limit: float, value: float) -> float:
    """By how much a value is beyond its bound ("min" or "max"); 0 or less where it keeps it."""
    return value - limit if bound == "max" else limit - value
