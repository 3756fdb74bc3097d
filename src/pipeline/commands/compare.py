"""Several runs side by side: a page, and a table on the console."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.errors import DONE, ConfigError, RunError
from pipeline.reports import formatting, significance
from pipeline.reports import predictions as saved
from pipeline.reports.comparison_page import RunComparison, best_value, compare_runs, render_comparison
from pipeline.reports.report_data import ReportData, load_report_data
from pipeline.runs.find_run import find_run
from pipeline.runs.run_directory import Run
from pipeline.system.files import write_atomically

STAMP = re.compile(r"^\d{8}-\d{6}-")
NAMED = 6  # runs that the file's name can hold


def compare(*, runs: str, runs_dir: str, output: str) -> int:
    """`runs`: references with commas between them; `output`: a file, or nothing for a name made of theirs.

    Raises UserError for runs that cannot be compared.
    """
    chosen = [find_run(each, runs_dir, key="runs") for each in runs.split(",") if each]
    check(chosen)
    comparison = compare_runs([evidence_of(run) for run in chosen], short_names([run.id for run in chosen]))
    path = Path(output) if output else Path(runs_dir) / file_name(chosen)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, render_comparison(comparison))
    except OSError as problem:
        raise RunError(f"cannot write {path}: {problem.strerror}; choose another file, output=FILE.html") from problem
    console = Console(highlight=False)
    for line in lines_of(comparison):
        console.print(line, soft_wrap=not isinstance(line, Table))
    console.print(f"\n{path}", soft_wrap=True)
    return DONE


def check(chosen: Sequence[Run]) -> None:
    if len(chosen) < 2:
        raise ConfigError(
            f"compare takes two runs or more, found {len(chosen)}: pipeline compare runs=RUN,RUN "
            "(pipeline runs lists them)"
        )
    ids = [run.id for run in chosen]
    twice = sorted({each for each in ids if ids.count(each) > 1})
    if twice:
        raise ConfigError(f"{', '.join(twice)} is named twice: compare takes different runs")


def evidence_of(run: Run) -> ReportData:
    found = load_report_data(run)
    if found.judged is None:
        raise RunError(
            f"{run.id} has no test predictions ({saved.PREDICTIONS_FILE} is not there, damaged, or older than the "
            f"weights): pipeline evaluate run={run.id} writes them"
        )
    if found.numbers is not None and not np.isfinite(found.numbers.predicted).all():
        raise RunError(
            f"{run.id} predicts numbers that are none (NaN or infinity), which are no nearer to the truth than others: "
            "leave it out"
        )
    return found


def short_names(ids: Sequence[str]) -> list[str]:
    """Without the moment at which they began, where that is enough to tell them apart."""
    short = [STAMP.sub("", each) for each in ids]
    return short if len(set(short)) == len(ids) else list(ids)


def file_name(chosen: Sequence[Run]) -> str:
    tails = [run.id.rpartition("-")[2] for run in chosen]
    more = f"-and-{len(tails) - NAMED}-more" if len(tails) > NAMED else ""
    return f"compare-{'-'.join(tails[:NAMED])}{more}.html"


def lines_of(comparison: RunComparison) -> list[Table | Text]:
    settings = _settings(comparison)
    lines: list[Table | Text] = [_metrics(comparison), Text()]
    if settings is not None:
        lines += [settings, Text()]
    return [*lines, *map(Text, _duels(comparison)), Text(comparison.verdict, style="bold")]


def _metrics(comparison: RunComparison) -> Table:
    table = _table(f"test set, with each figure's {formatting.INTERVAL_LABEL}", comparison)
    for metric in comparison.metrics:
        cells = []
        for run, intervals in zip(comparison.runs, comparison.intervals, strict=True):
            value = run.metrics.get(metric)
            style = "bold" if value == best_value(comparison, metric) else ""
            cell = Text("" if value is None else formatting.format_metric(metric, value), style=style)
            if metric in intervals:
                cell.append(f"\n{formatting.format_interval(metric, intervals[metric])}", style="dim not bold")
            cells.append(cell)
        table.add_row(Text(formatting.metric_title(metric)), *cells)
    return table


def _table(title: str, comparison: RunComparison) -> Table:
    table = Table(title=title, title_justify="left", show_edge=False)
    table.add_column("")
    for name in comparison.names:
        table.add_column(Text(name), overflow="fold")
    return table


def _settings(comparison: RunComparison) -> Table | None:
    if not comparison.differing:
        return None
    table = _table("settings that differ", comparison)
    for key in comparison.differing:
        values = [formatting.format_setting(run.settings.get(key, "")) for run in comparison.runs]
        table.add_row(Text(key), *map(Text, values))
    return table


def _duels(comparison: RunComparison) -> list[str]:
    names, measure = comparison.names, significance.criterion_of(comparison.networks)
    return [
        f"{names[duel.first]} over {names[duel.second]}: "
        f"{formatting.format_change(measure.score, duel.difference)} {formatting.metric_title(measure.score)} "
        f"({formatting.format_change_interval(measure.score, duel.interval)}), "
        f"{measure.alone} {duel.won:,} : {duel.lost:,}, adjusted p {formatting.format_p_value(duel.adjusted)}"
        for duel in comparison.duels or ()
    ]
