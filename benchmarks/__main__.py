"""Measure, print, note in RESULTS.md: python -m benchmarks [NAME ...] [--data FOLDER] [--long]; 1 below a target."""

import argparse
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import results
from benchmarks.figure import Figure, Skipped
from benchmarks.figures import FIGURES, LONG


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
        results.keep(name, found, list(FIGURES))
    console.print(_table(measured))
    return 0 if measured and all(figure.met for figure in measured) else 1


def _table(figures: list[Figure]) -> Table:
    table = Table(*results.COLUMNS[1:-1])
    for figure in figures:
        table.add_row(*figure.row())
    return table


if __name__ == "__main__":
    sys.exit(main())
