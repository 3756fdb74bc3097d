"""RESULTS.md: what was measured last under each name, when, of which commit and on what."""

import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.figure import Figure
from pipeline.runs import environment

RESULTS = Path(__file__).with_name("RESULTS.md")
COLUMNS = ("name", "figure", "ours", "baseline", "value", "target", "met", "measured")
HEAD = (
    "# Results\n\nWritten by `make bench`, or a part of it by `python -m benchmarks NAME`. Both sides of a ratio were "
    f"measured in the same run.\n\n| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}\n"
)


def keep(name: str, figures: Sequence[Figure], order: Sequence[str], path: Path = RESULTS) -> None:
    """In place of what was measured under this name before; `order` is that of the names."""
    rows, machines = read(path)
    stamp, machine = _here()
    cells = [[_cell(text) for text in (name, *figure.row(), stamp)] for figure in figures]
    rows = [row for row in rows if row[0] != name and row[0] in order] + cells
    rows.sort(key=lambda row: order.index(row[0]))
    used = {row[-1] for row in rows}
    machines = {each: told for each, told in (machines | {stamp: machine}).items() if each in used}
    table = "".join(f"| {' | '.join(row)} |\n" for row in rows)
    told = "".join(f"- {each}: {what}\n" for each, what in machines.items())
    path.write_text(f"{HEAD}{table}\n{told}", encoding="utf-8")


def read(path: Path) -> tuple[list[list[str]], dict[str, str]]:
    """The rows of the table, and on what each commit was measured."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    machines = dict(line[2:].split(": ", 1) for line in lines if line.startswith("- "))
    return rows[2:], machines


@cache  # asked before anything is written: RESULTS.md would be a change of its own
def _here() -> tuple[str, str]:
    machine: dict[str, Any] = environment.describe_environment([])
    git = machine["git"] or {"commit": "no commit", "dirty": False}
    versions = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    return (
        f"{time.strftime('%Y-%m-%d')} {git['commit'][:8]}{' and changes' if git['dirty'] else ''}",
        f"{machine['processor']}, {machine['cores']} cores, {machine['platform']}, "
        f"Python {machine['python']}, {versions}",
    )


def _cell(text: str) -> str:
    return text.replace("|", "/").replace("\n", " ")
