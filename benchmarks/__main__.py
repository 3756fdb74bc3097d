"""Measure, print, write RESULTS.md: python -m benchmarks [NAME ...] [--data FOLDER] [--long]; 1 below a target."""

import argparse
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.figure import Figure, Skipped
from benchmarks.figures import FIGURES, LONG
from pipeline.lifecycle import environment

COLUMNS = ("figure", "ours", "baseline", "value", "target", "met")
RESULTS = Path(__file__).with_name("RESULTS.md")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(FIGURES))
    parser.add_argument("--data", type=Path, help="folder with MNIST's four files; beside it sst2 and spoken-digits")
    parser.add_argument("--long", action="store_true", help=f"also what takes long: {', '.join(LONG)}")
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in FIGURES]
    if unknown:
        parser.error(f"{unknown[0]} is no figure; choose from {', '.join(FIGURES)}")
    chosen = options.names or [name for name in FIGURES if options.long or name not in LONG]
    console = Console(highlight=False)
    measured: list[Figure] = []
    for name in chosen:
        started_at = time.monotonic()
        try:
            found = list(FIGURES[name](options.data))
        except Skipped as reason:
            console.print(f"{name}: skipped, {reason}")
            continue
        measured += found
        for figure in found:
            console.print("  ".join(figure.row()) + f"  ({time.monotonic() - started_at:.0f} s)", soft_wrap=True)
    console.print(_table(measured))
    if not options.names:
        RESULTS.write_text(_report(measured), encoding="utf-8")
    return 0 if measured and all(figure.met for figure in measured) else 1


def _table(figures: list[Figure]) -> Table:
    table = Table(*COLUMNS)
    for figure in figures:
        table.add_row(*figure.row())
    return table


def _report(figures: list[Figure]) -> str:
    machine = environment.describe([])
    git = machine["git"] or {"commit": "no commit", "dirty": False}
    rows = "\n".join("| " + " | ".join(figure.row()) + " |" for figure in figures)
    versions = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    return (
        "# Results\n\nWritten by `make bench`. Both sides of a ratio were measured in this run.\n\n"
        f"{time.strftime('%Y-%m-%d')}, {machine['processor']}, {machine['cores']} cores, {machine['platform']}; "
        f"commit {git['commit'][:12]}{' and changes' if git['dirty'] else ''}; Python {machine['python']}, "
        f"{versions}\n\n"
        f"| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}\n{rows}\n"
    )


if __name__ == "__main__":
    sys.exit(main())
