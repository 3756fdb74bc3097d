"""Runs with planted faults, and what is found in them."""

import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table
from tests.end_to_end.planted import CASES, Case

from benchmarks.figure import Figure
from pipeline.diagnosis.checks import run_checks
from pipeline.diagnosis.examine import collect_inputs
from pipeline.reports.report_data import load_report_data
from pipeline.runs.run_directory import Run

SEEDS = (0, 1, 2)
NOTHING = "nothing"


def diagnose(folder: Path | None) -> Iterator[Figure]:
    """Each case with three seeds: how often the planted fault comes first, and how often a fault is seen in none."""
    confusion: Counter[tuple[str, str]] = Counter()
    for case in CASES.values():
        for seed in SEEDS:
            with tempfile.TemporaryDirectory() as home:
                confusion[case.fault or NOTHING, first_finding(case, seed, Path(home))] += 1
    Console().print(_table(confusion))
    planted = sum(count for (fault, _), count in confusion.items() if fault != NOTHING)
    named = sum(count for (fault, said), count in confusion.items() if fault == said != NOTHING)
    healthy = sum(count for (fault, _), count in confusion.items() if fault == NOTHING)
    alarms = healthy - confusion[NOTHING, NOTHING]
    name = "diagnose: planted faults that come first"
    yield Figure(name, f"{named} of {planted}", None, 100 * named / planted, 90, "higher", " %")
    yield Figure("diagnose: healthy runs with a finding", f"{alarms} of {healthy}", None, alarms, 0, "lower")


def first_finding(case: Case, seed: int, home: Path) -> str:
    """A training that fails, as some are meant to, leaves a run as well."""
    if case.write is not None:
        case.write(home, seed)
    command = [sys.executable, "-m", "pipeline", *case.command(seed)]
    subprocess.run(command, cwd=home, check=False, capture_output=True, env=os.environ)
    run = Run((home / "runs" / "latest").resolve())
    inputs, _ = collect_inputs(run, load_report_data(run))
    return next((finding.name for finding in run_checks(inputs)), NOTHING)


def _table(confusion: Counter[tuple[str, str]]) -> Table:
    said = sorted({name for _, name in confusion})
    table = Table("planted", *said, title="first finding")
    for fault in sorted({name for name, _ in confusion}):
        table.add_row(fault, *(str(confusion[fault, name] or "") for name in said))
    return table
