"""What became of a trial, in its directory: written by the process that trained it, read by whoever comes after."""

import json
from pathlib import Path
from typing import Any

from pipeline.files import write_atomically

OUTCOME = "outcome.json"
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
    """None if the trial did not come to its end."""
    try:
        found: dict[str, Any] = json.loads((folder / OUTCOME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found


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
