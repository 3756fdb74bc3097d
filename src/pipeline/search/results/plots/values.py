"""The scores over the values that were searched: of one key, of two, and of all."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from optuna.trial import FrozenTrial

from pipeline.search.results.plots.importance import importances
from pipeline.search.results.plots.look import (
    ORANGE,
    PAPER,
    QUIET,
    colour_map,
    colour_scale,
    limit_to_range,
    new_figure,
    note_hidden_values,
)
from pipeline.search.results.plots.scales import Scale, shorten_keys
from pipeline.search.results.search_results import Objective, SearchResults

COLUMNS = 3
MOST_SLICES = 24
KEYS_IN_PAIRS = 3  # whose pairs are drawn
LEAST_FOR_SURFACE = 8
SMOOTHING = 0.13  # of an axis: how far a trial tells of what lies around it
GRID = 120  # places along each axis
NEAR = 0.2  # where less than this of a trial is known the surface ends

Numbers = Any  # an array of floats


def axis_scales(results: SearchResults, objective: Objective) -> list[Scale]:
    """Return the scales of the keys that finished trials have, the most important first."""
    dimensions = results.plan.space.dimensions
    used = {key for each, _ in finished_scores(results, objective) for key in each.params}
    names = shorten_keys(dimensions)
    shares = importances(results, objective).shares
    keys = sorted((key for key in dimensions if key in used), key=lambda key: -shares.get(key, 0.0))
    return [Scale(key, names[key], dimensions[key]) for key in keys]


def finished_scores(results: SearchResults, objective: Objective) -> list[tuple[FrozenTrial, float]]:
    """Return the finished trials and their scores; the best comes last, to be drawn over the others."""
    found = [(each, value) for each in results.trials if (value := objective.value(each)) is not None]
    return sorted(found, key=lambda pair: pair[1] if objective.is_maximized else -pair[1])


def slice_plot(results: SearchResults, objective: Objective) -> Figure | None:
    """Plot a panel for each key: its values across, the score upwards, later trials darker."""
    trials, found = finished_scores(results, objective), axis_scales(results, objective)[:MOST_SLICES]
    if not found:
        return None
    columns = min(COLUMNS, len(found))
    rows = -(-len(found) // columns)
    figure = new_figure(max(3.6 * columns, 5.4), 3.1 * rows)
    panels: list[Axes] = list(figure.subplots(rows, columns, squeeze=False, sharey=True).flat)
    every = [value for _, value in trials]
    low, high = shown = limit_to_range(panels[0], every, objective)
    last = max(each.number for each, _ in trials)
    drawn = None
    for panel, scale in zip(panels, found, strict=False):
        here = [(each, value) for each, value in trials if scale.key in each.params]
        across = jitter([scale.place(each.params[scale.key]) for each, _ in here], scale)
        drawn = panel.scatter(
            across,
            np.clip([value for _, value in here], low, high),
            c=[each.number for each, _ in here],
            cmap=colour_map(Objective("", 0, True)),
            vmin=0,
            vmax=max(last, 1),
            s=30,
            edgecolor=QUIET,
            linewidth=0.4,
        )
        best = here[-1]
        panel.scatter(across[-1], np.clip(best[1], low, high), s=75, facecolor="none", edgecolor=ORANGE, linewidth=1.8)
        scale.dress(panel.xaxis)
        panel.grid(visible=False, axis="x", which="minor")
    for panel in panels[len(found) :]:
        panel.axis("off")
    for first in range(0, len(found), columns):
        panels[first].set_ylabel(objective.name)
    note_hidden_values(panels[0], every, shown, objective)
    if drawn is not None and last > 0:
        figure.colorbar(drawn, ax=panels, label="trial", aspect=30, shrink=0.8, pad=0.01)
    return figure


def contour_plot(results: SearchResults, objective: Objective) -> Figure | None:
    """Plot a panel for each pair of the most important keys, as far as both differ between trials."""
    trials, found = finished_scores(results, objective), axis_scales(results, objective)[:KEYS_IN_PAIRS]
    pairs = []
    for across, up in combinations(found, 2):
        here = [each for each in trials if {across.key, up.key} <= each[0].params.keys()]
        if all(len({each.params[scale.key] for each, _ in here}) > 1 for scale in (across, up)):
            pairs.append((across, up, here))
    if not pairs:
        return None
    figure = new_figure(max(4.1 * len(pairs), 5.6), 3.9)
    panels = figure.subplots(1, len(pairs), squeeze=False)[0]
    norm, colours = colour_scale([value for _, value in trials], objective), colour_map(objective)
    for panel, (across, up, here) in zip(panels, pairs, strict=True):
        scores = [value for _, value in here]
        for scale, axis in ((across, panel.xaxis), (up, panel.yaxis)):
            scale.dress(axis)
        if len(here) >= LEAST_FOR_SURFACE:
            grid = (np.arange(GRID) + 0.5) / GRID
            x, y, ground = across.at_share(grid), up.at_share(grid), _surface(grid, across, up, here)
            if across.is_choice or up.is_choice:
                panel.pcolormesh(x, y, ground, cmap=colours, norm=norm, alpha=0.45, shading="nearest", linewidth=0)
            else:
                panel.contourf(x, y, ground, levels=12, cmap=colours, norm=norm, alpha=0.55, extend="both")
        x, y = (jitter([scale.place(each.params[scale.key]) for each, _ in here], scale) for scale in (across, up))
        panel.scatter(x, y, c=scores, cmap=colours, norm=norm, s=30, edgecolor=PAPER, linewidth=0.7, zorder=3)
        panel.scatter(x[-1], y[-1], s=85, facecolor="none", edgecolor=ORANGE, linewidth=1.8, zorder=4)
    figure.colorbar(ScalarMappable(norm, colours), ax=panels, label=objective.name, aspect=30, shrink=0.9, pad=0.01)
    return figure


def _surface(grid: Numbers, across: Scale, up: Scale, here: Sequence[tuple[FrozenTrial, float]]) -> Numbers:
    """(up, across) The mean score around each place, near trials counting more (Nadaraya 1964, Watson 1964). Unlike a
    triangulation it bears trials on one line and in one place, and it says nothing where no trial was."""
    scores = np.array([value for _, value in here])
    x, y = (_nearness(grid, scale, [each.params[scale.key] for each, _ in here]) for scale in (across, up))
    weights = y[:, None, :] * x[None, :, :]
    known = weights.sum(axis=-1)
    return np.ma.masked_where(known < NEAR, (weights * scores).sum(axis=-1) / np.maximum(known, 1e-12))


def _nearness(grid: Numbers, scale: Scale, values: Sequence[Any]) -> Numbers:
    """(grid, trials) From 0 to 1; one choice is as far from another as can be."""
    shares = np.array([scale.share(value) for value in values])
    if scale.is_choice:
        count = len(scale.labels)
        return (np.floor(grid[:, None] * count) == np.floor(shares * count)).astype(float)
    return np.exp(-0.5 * ((grid[:, None] - shares) / SMOOTHING) ** 2)


def jitter(places: Sequence[float], scale: Scale, *, amount: float = 0.5) -> Numbers:
    """Trials with the same choice beside each other instead of on top, each always in the same place."""
    found = np.array(places, dtype=float)
    if not scale.is_choice:
        return found
    for choice in np.unique(found):
        same = np.flatnonzero(found == choice)
        if len(same) > 1:
            golden = np.arange(len(same)) * 0.618034 % 1.0  # even, without a pattern
            found[same] += amount * (golden - 0.5)
    return found
