"""How a search went on: its scores one after another, its trials' curves, and who trained what at which time."""

from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator
from optuna.trial import FrozenTrial, TrialState

from pipeline.search import study as studies
from pipeline.search.results.plots.look import (
    BLUE,
    INK,
    ORANGE,
    PAPER,
    QUIET,
    SOFT,
    STATE_COLOURS,
    limit_to_range,
    new_figure,
    note_hidden_values,
)
from pipeline.search.results.plots.scales import format_tick_value, truncate_text
from pipeline.search.results.search_results import Objective, SearchResults
from pipeline.search.study import STATE_NAMES

MOST_ROWS = 40
PAUSE_SHARE = 0.15  # of the time spent training: what is longer and idle is cut out of a timeline
UNITS = ((3600.0, 3, "hours"), (60.0, 5, "minutes"), (1.0, 0, "seconds"))  # (seconds, from how many on, name)

Span = tuple[float, float]


def history_plot(results: SearchResults) -> Figure | None:
    """Plot the score of each trial, and the best until then."""
    drawn = [(each, _scored(results, each)) for each in results.objectives]
    if not any(points for _, points in drawn):
        return None
    figure = new_figure(9, 3.4 * len(drawn))
    for panel, (objective, points) in zip(figure.subplots(len(drawn), 1, squeeze=False)[:, 0], drawn, strict=True):
        _history(panel, results, objective, points)
    return figure


def _history(panel: Axes, results: SearchResults, objective: Objective, points: list[tuple[int, float]]) -> None:
    pruned = _pruned(results) if len(results.objectives) == 1 else []
    every = [value for _, value in points]
    panel.set(title=objective.name, xlabel="trial")
    if not every:
        return
    low, high = shown = limit_to_range(panel, every, objective)
    for part, colour, label in ((pruned, SOFT, "pruned: its last score"), (points, BLUE, "finished")):
        numbers, values = [number for number, _ in part], [value for _, value in part]
        if part:
            places = np.clip(values, low, high)
            panel.scatter(numbers, places, s=26, color=colour, edgecolor=PAPER, linewidth=0.6, label=label, zorder=2)
    best = [objective.best(every[: count + 1]) for count in range(len(every))]
    numbers = [number for number, _ in points]
    last = max(each.number for each in results.trials)
    steps = np.clip([*best, best[-1]], low, high)
    panel.step([*numbers, max(last, numbers[-1])], steps, where="post", color=ORANGE, label="best so far", zorder=3)
    first = next(number for number, value in points if value == best[-1])
    panel.annotate(
        f"{format_tick_value(best[-1])}  (trial {first})",
        (first, best[-1]),
        xytext=(4, -11 if objective.is_maximized else 11),
        textcoords="offset points",
        ha="left" if first <= last / 2 else "right",
        va="center",
        color=ORANGE,
        weight="bold",
        size=8.5,
    )
    panel.set_xlim(-0.6, last + 0.6)
    panel.xaxis.set_major_locator(MaxNLocator(10, integer=True, min_n_ticks=1))
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: format_tick_value(value)))
    note_hidden_values(panel, [*every, *(value for _, value in pruned)], shown, objective)
    panel.legend(loc="lower left", bbox_to_anchor=(0.35, 1.0), ncols=3, borderaxespad=0.2, fontsize=8.5)


def learning_curves_plot(results: SearchResults) -> Figure | None:
    """Plot the validation scores of each trial, from which the pruner decides."""
    trials = [each for each in results.trials if sum(map(np.isfinite, each.intermediate_values.values())) > 1]
    if not trials:
        return None
    objective = results.objectives[0]
    figure = new_figure(9, 3.4)
    panel = figure.subplots()
    best = results.best
    ends = []
    for trial in trials:
        steps, values = zip(*sorted(trial.intermediate_values.items()), strict=True)
        finite = [value for value in values if np.isfinite(value)]
        ends += [objective.best(finite)] if finite else []
        is_best = best is not None and trial.number == best.number
        colour = ORANGE if is_best else STATE_COLOURS[trial.state]
        width, alpha = (2.2, 1.0) if is_best else (1.0, 0.75)
        panel.plot(steps, values, color=colour, linewidth=width, alpha=alpha, zorder=3 if is_best else 2)
    found = [state for state in STATE_NAMES if any(each.state == state for each in trials)]
    keys: list[Any] = [Patch(color=STATE_COLOURS[state], label=STATE_NAMES[state]) for state in found]
    keys += [Patch(color=ORANGE, label="the best")] if best in trials else []
    panel.legend(handles=keys, loc="lower left", bbox_to_anchor=(0.35, 1.0), ncols=4, borderaxespad=0.2, fontsize=8.5)
    if ends:
        finite = [value for each in trials for value in each.intermediate_values.values() if np.isfinite(value)]
        hardly = 0.1 if len(trials) > 10 else 0.0  # how many of the values may lie outside
        limit_to_range(panel, [*ends, *np.quantile(finite, [hardly, 1 - hardly])], objective)
    panel.set(title=f"{objective.name} of each trial", xlabel="validation")
    panel.xaxis.set_major_locator(MaxNLocator(10, integer=True, min_n_ticks=1))
    return figure


def timeline_plot(results: SearchResults) -> Figure | None:
    """Plot a bar for each trial, in the row of the worker that trained it."""
    trials = [each for each in results.trials if each.datetime_start is not None]
    if not trials:
        return None
    now = datetime.now()  # noqa: DTZ005  as Optuna's
    spans = [(_clock(each.datetime_start or now), _clock(each.datetime_complete or now)) for each in trials]
    pauses = _pauses(spans)
    rows = _rows(trials)
    first = min(start for start, _ in spans)
    spent = max(_without(end, pauses) for _, end in spans) - first
    size, unit = next((size, name) for size, least, name in UNITS if spent >= least * size)
    figure = new_figure(9, 1.3 + 0.42 * len(set(rows.values())))
    panel = figure.subplots()
    for trial, (start, end) in zip(trials, spans, strict=True):
        left, right = ((_without(each, pauses) - first) / size for each in (start, end))
        width, row = max(right - left, 0.002 * spent / size), rows[trial.number]
        panel.barh(row, width, left=left, height=0.72, color=STATE_COLOURS[trial.state], edgecolor=PAPER, linewidth=0.7)
        if width > 0.011 * len(str(trial.number)) * spent / size + 0.006 * spent / size:
            colour = INK if trial.state == TrialState.PRUNED else PAPER
            panel.text(left + width / 2, row, str(trial.number), ha="center", va="center", color=colour, size=7.5)
    for start, end in pauses:
        at = (_without(start, pauses) - first) / size
        panel.axvline(at, color=INK, linewidth=0.9, linestyle=(0, (2, 3)))
        panel.text(at, -0.43, f" {_spoken(end - start)} later", color=QUIET, size=7.5, va="bottom")
    _name_rows(panel, trials, rows)
    found = [state for state in STATE_NAMES if any(each.state == state for each in trials)]
    keys = [Patch(color=STATE_COLOURS[state], label=STATE_NAMES[state]) for state in found]
    panel.legend(handles=keys, loc="lower left", bbox_to_anchor=(0.35, 1.0), ncols=4, borderaxespad=0.2, fontsize=8.5)
    panel.set(title="Who trained what", xlabel=f"{unit} since the search began{', without pauses' if pauses else ''}")
    panel.grid(visible=False, axis="y")
    return figure


def _scored(results: SearchResults, objective: Objective) -> list[tuple[int, float]]:
    values = ((each.number, objective.value(each)) for each in results.trials)
    return [(number, value) for number, value in values if value is not None]


def _pruned(results: SearchResults) -> list[tuple[int, float]]:
    """Return (number, last intermediate value) of the pruned trials."""
    pruned = [each for each in results.trials if each.state == TrialState.PRUNED and each.intermediate_values]
    last = ((each.number, each.intermediate_values[max(each.intermediate_values)]) for each in pruned)
    return [(number, value) for number, value in last if np.isfinite(value)]


def _clock(moment: datetime) -> float:
    return moment.timestamp()


def _pauses(spans: Sequence[Span]) -> list[Span]:
    """When nothing was trained for so long that little could be seen of the rest."""
    busy: list[list[float]] = []
    for start, end in sorted(spans):
        if busy and start <= busy[-1][1]:
            busy[-1][1] = max(busy[-1][1], end)
        else:
            busy.append([start, end])
    least = PAUSE_SHARE * sum(end - start for start, end in busy)
    return [(before[1], after[0]) for before, after in pairwise(busy) if after[0] - before[1] > max(least, 10.0)]


def _without(moment: float, pauses: Sequence[Span]) -> float:
    return moment - sum(min(end, moment) - start for start, end in pauses if moment > start)


def _rows(trials: Sequence[FrozenTrial]) -> dict[int, int]:
    """Return {number of a trial: its row}."""
    workers = sorted({_worker(each) for each in trials})
    return {each.number: workers.index(_worker(each)) % MOST_ROWS for each in trials}


def _worker(trial: FrozenTrial) -> tuple[str, int, str]:
    """Whose names are numbers come in the order of these."""
    found = trial.user_attrs.get(studies.WORKER) or {"host": "", "name": "?"}
    name = str(found["name"])
    return str(found["host"]), int(name) if name.isdecimal() else 0, name


def _name_rows(panel: Axes, trials: Sequence[FrozenTrial], rows: dict[int, int]) -> None:
    by_row = {rows[each.number]: _worker(each) for each in trials}
    hosts = {host for host, _, _ in by_row.values() if host}
    names = [
        f"{truncate_text(host, 16)} {name}" if len(hosts) > 1 else f"worker {name}" for host, _, name in by_row.values()
    ]
    panel.set_yticks(list(by_row), names)
    panel.set_ylim(len(by_row) - 0.4, -0.75)


def _spoken(seconds: float) -> str:
    size, unit = next((each for each in ((86400, "d"), (3600, "h"), (60, "min")) if seconds >= each[0]), (1, "s"))
    return f"{seconds / size:.0f} {unit}"
