"""All keys at once, and all objectives at once."""

from collections.abc import Sequence
from itertools import combinations
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from optuna.trial import FrozenTrial

from pipeline.reports.charts import LOGARITHMIC_FROM
from pipeline.search.results.plots.look import (
    BLUE,
    INK,
    ORANGE,
    PAPER,
    QUIET,
    SOFT,
    colour_map,
    colour_scale,
    new_figure,
    value_range,
)
from pipeline.search.results.plots.scales import Scale, format_tick_value, number_axis, wrap_label
from pipeline.search.results.plots.values import axis_scales, finished_scores, jitter
from pipeline.search.results.search_results import Objective, SearchResults

MOST_KEYS = 10
MOST_NAMED = 15
MOST_PAIRS = 6
ABSENT = -0.14  # where the lines of trials go that have not a key


def parallel_coordinate_plot(results: SearchResults, objective: Objective) -> Figure | None:
    """Plot an upright axis for each key, and a line for each trial across them; the last axis is the score."""
    trials, found = finished_scores(results, objective), axis_scales(results, objective)[:MOST_KEYS]
    if not found:
        return None
    values = [value for _, value in trials]
    (low, high), norm, colours = value_range(values, objective), colour_scale(values, objective), colour_map(objective)
    columns = [_column(scale, [each for each, _ in trials]) for scale in found]
    columns.append((np.clip(values, low, high) - low) / (high - low))
    heights = np.stack(columns, axis=1)
    figure = new_figure(max(1.35 * (len(found) + 1) + 1, 7), 4.4)
    panel = figure.subplots()
    lines = LineCollection(
        [np.stack([np.arange(len(found) + 1), row], axis=1) for row in heights],
        colors=colours(norm(values)),
        linewidths=1.3,
        alpha=0.85,
    )
    panel.add_collection(lines)
    panel.plot(range(len(found) + 1), heights[-1], color=ORANGE, linewidth=2.6, marker="o", markersize=4, zorder=4)
    for place, scale in enumerate(found):
        _upright(panel, place, [(scale.share_of(at), text) for at, text in scale.ticks()])
        if (heights[:, place] < 0).any():
            _upright(panel, place, [(ABSENT, "not searched")], quiet=True)
    worst = ("≤ " if objective.is_maximized else "") if min(values) < low else ""
    top = "≥ " if max(values) > high else ""
    marks = [
        (0.0, f"{worst}{format_tick_value(low)}"),
        (0.5, format_tick_value((low + high) / 2)),
        (1.0, f"{top}{format_tick_value(high)}"),
    ]
    _upright(panel, len(found), marks)
    names = [wrap_label(scale.name, 15) for scale in found]
    panel.set_xticks(range(len(found) + 1), [*names, wrap_label(objective.name, 15)], color=INK)
    panel.xaxis.tick_top()
    panel.tick_params(length=0)
    panel.set(xlim=(-0.15, len(found) + 0.5), ylim=(min(heights.min(), 0) - 0.05, 1.05), yticks=[])
    panel.grid(visible=False)
    for spine in panel.spines.values():
        spine.set_visible(False)
    figure.colorbar(ScalarMappable(norm, colours), ax=panel, label=objective.name, aspect=30, shrink=0.9, pad=0.01)
    return figure


def _column(scale: Scale, trials: Sequence[FrozenTrial]) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    """How high each trial's line is on this axis."""
    there = [each for each in trials if scale.key in each.params]
    places = jitter([scale.place(each.params[scale.key]) for each in there], scale, amount=0.25)
    by_number = {each.number: scale.share_of(place) for each, place in zip(there, places, strict=True)}
    return np.array([by_number.get(each.number, ABSENT) for each in trials])


def _upright(panel: Axes, place: float, marks: Sequence[tuple[float, str]], *, quiet: bool = False) -> None:
    if not quiet:
        panel.plot([place, place], [0, 1], color=SOFT, linewidth=1, zorder=3)
    for height, text in marks:
        box = {"facecolor": PAPER, "edgecolor": "none", "alpha": 0.8, "pad": 0.8}
        panel.text(place + 0.04, height, text, va="center", size=7.5, color=QUIET if quiet else INK, bbox=box, zorder=5)


def pareto_plot(results: SearchResults) -> Figure | None:
    """Each two objectives against each other; the trials that none is better than in each stand out."""
    objectives = results.objectives
    trials = [each for each in results.trials if all(one.value(each) is not None for one in objectives)]
    if len(objectives) < 2 or not trials:
        return None
    pairs = list(combinations(objectives, 2))[:MOST_PAIRS]
    columns = min(len(pairs), 3)
    rows = -(-len(pairs) // columns)
    figure = new_figure(max(4.4 * columns, 7), 4.2 * rows)
    panels: list[Axes] = list(figure.subplots(rows, columns, squeeze=False).flat)
    standing_out = {each.number for each in results.front}
    best = [each for each in trials if each.number in standing_out]
    for panel, (across, up) in zip(panels, pairs, strict=False):
        _pair(panel, across, up, trials, best, is_whole=len(objectives) == 2)
    for panel in panels[len(pairs) :]:
        panel.axis("off")
    panels[0].legend(
        loc="lower left", bbox_to_anchor=(0, 1.0), ncols=3, borderaxespad=0.2, fontsize=8.5, handletextpad=0.3
    )
    return figure


def _pair(
    panel: Axes,
    across: Objective,
    up: Objective,
    trials: Sequence[FrozenTrial],
    best: Sequence[FrozenTrial],
    *,
    is_whole: bool,
) -> None:
    def columns_of(chosen: Sequence[FrozenTrial]) -> tuple[list[float], list[float]]:
        return [each.values[across.place] for each in chosen], [each.values[up.place] for each in chosen]

    panel.scatter(*columns_of(trials), s=26, color=SOFT, label="finished", zorder=2)
    if best:
        points = sorted(zip(*columns_of(best), strict=True))
        if is_whole:
            reached: Literal["pre", "post"] = "pre" if across.is_maximized else "post"
            panel.step(*zip(*points, strict=True), where=reached, color=BLUE, linewidth=1.2, zorder=3)
        panel.scatter(*columns_of(best), s=42, color=BLUE, label="none is better in each", zorder=4)
        for trial, x, y in list(zip(best, *columns_of(best), strict=True))[:MOST_NAMED]:
            panel.annotate(
                str(trial.number), (x, y), xytext=(5, 4), textcoords="offset points", size=8, color=INK, zorder=5
            )
    for objective, axis, letter in ((across, panel.xaxis, "x"), (up, panel.yaxis, "y")):
        values = [float(each.values[objective.place]) for each in trials]
        is_log = min(values) > 0 and max(values) / min(values) > LOGARITHMIC_FROM
        if is_log:
            getattr(panel, f"set_{letter}scale")("log")
        number_axis(axis, min(values), max(values), is_log=is_log)
        arrow = "more is better" if objective.is_maximized else "less is better"
        axis.set_label_text(f"{objective.name}  ({arrow})")
