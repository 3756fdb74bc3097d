"""Compare several runs: an HTML page, and tables on the console."""

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
from pipeline.runs.run_directory import Run
from pipeline.system.files import write_atomically

STAMP = re.compile(r"^\d{8}-\d{6}-")
MAX_NAMES = 6  # runs that the file's name lists


def write_comparison(runs: Sequence[Run], *, runs_dir: str, output: str) -> int:
    """Write the page to `output`, or to a file named after the runs if it is empty; print its tables.

    Raise UserError for runs that cannot be compared.
    """
    check_distinct(runs)
    comparison = compare_runs([load_comparable(run) for run in runs], short_names([run.id for run in runs]))
    path = Path(output) if output else Path(runs_dir) / page_name(runs)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, render_comparison(comparison))
    except OSError as problem:
        raise RunError(f"cannot write {path}: {problem.strerror}; choose another file, output=FILE.html") from problem
    console = Console(highlight=False)
    for block in printed(comparison):
        console.print(block, soft_wrap=not isinstance(block, Table))
    console.print(f"\n{path}", soft_wrap=True)
    return DONE


def check_distinct(runs: Sequence[Run]) -> None:
    """Raise ConfigError for fewer than two runs, or one that is named twice."""
    if len(runs) < 2:
        raise ConfigError(
            f"compare takes two runs or more, found {len(runs)}: pipeline compare runs=RUN,RUN "
            "(pipeline runs lists them)"
        )
    ids = [run.id for run in runs]
    repeated = sorted({name for name in ids if ids.count(name) > 1})
    if repeated:
        raise ConfigError(f"{', '.join(repeated)} is named twice: compare takes different runs")


def load_comparable(run: Run) -> ReportData:
    """Return a run's report data. Raise RunError if it has no test predictions, or predictions that are not finite."""
    data = load_report_data(run)
    if data.predictions is None:
        raise RunError(
            f"{run.id} has no test predictions ({saved.PREDICTIONS_FILE} is not there, damaged, or older than the "
            f"weights): pipeline evaluate run={run.id} writes them"
        )
    if data.numbers is not None and not np.isfinite(data.numbers.predicted).all():
        raise RunError(f"{run.id} has NaN or infinite predictions, which cannot be compared: leave it out of runs=")
    return data


def short_names(ids: Sequence[str]) -> list[str]:
    """Return the ids without their time stamps if they are still different."""
    short = [STAMP.sub("", name) for name in ids]
    return short if len(set(short)) == len(ids) else list(ids)


def page_name(runs: Sequence[Run]) -> str:
    tails = [run.id.rpartition("-")[2] for run in runs]
    more = f"-and-{len(tails) - MAX_NAMES}-more" if len(tails) > MAX_NAMES else ""
    return f"compare-{'-'.join(tails[:MAX_NAMES])}{more}.html"


def printed(comparison: RunComparison) -> list[Table | Text]:
    settings = _settings(comparison)
    blocks: list[Table | Text] = [_metrics(comparison), Text()]
    if settings is not None:
        blocks += [settings, Text()]
    return [*blocks, *map(Text, _pairwise(comparison)), Text(comparison.conclusion, style="bold")]


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
    if not comparison.differing_settings:
        return None
    table = _table("settings that differ", comparison)
    for key in comparison.differing_settings:
        values = [formatting.format_setting(run.settings.get(key, "")) for run in comparison.runs]
        table.add_row(Text(key), *map(Text, values))
    return table


def _pairwise(comparison: RunComparison) -> list[str]:
    names, criterion = comparison.names, significance.criterion_of(comparison.predictions)
    return [
        f"{names[test.first]} over {names[test.second]}: "
        f"{formatting.format_change(criterion.score, test.difference)} {formatting.metric_title(criterion.score)} "
        f"({formatting.format_change_interval(criterion.score, test.interval)}), "
        f"{criterion.wins_label} {test.wins:,} : {test.losses:,}, adjusted p {formatting.format_p_value(test.adjusted)}"
        for test in comparison.tests or ()
    ]
