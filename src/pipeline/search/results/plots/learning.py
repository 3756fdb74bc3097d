"""What more data brings: scores against the number of training samples."""

import statistics
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, ScalarFormatter

from pipeline.search.results.plots.look import BLUE, GREEN, ORANGE, QUIET, RED, new_figure
from pipeline.search.results.search_results import SearchResults
from pipeline.search.results.split_scores import (
    FRACTION,
    LEARNED_FROM,
    ConfigurationScores,
    scores_by_configuration,
    searched_metric,
)

COLOURS = (BLUE, ORANGE, GREEN, RED, QUIET)
STYLES = {LEARNED_FROM: "--", "validation": "-", "test": ":"}


def learning_curve_plot(results: SearchResults) -> Figure | None:
    """Plot a line for each split and configuration; return None where the size of the training split never changes."""
    found = scores_by_configuration(results)
    if FRACTION not in results.plan.space.dimensions or len({each.samples for each in found}) < 2:
        return None
    by_configuration: dict[str, list[ConfigurationScores]] = {}
    for each in sorted(found, key=lambda one: one.samples):
        others = " ".join(f"{key}={value}" for key, value in each.values.items() if key != FRACTION)
        by_configuration.setdefault(others, []).append(each)
    figure = new_figure(6.6, 4.0)
    panel = figure.subplots()
    for number, (name, line) in enumerate(by_configuration.items()):
        for place, part in enumerate(results.plan.scored_splits):
            here = [each for each in line if part in each.scores]
            colour = COLOURS[(number if len(by_configuration) > 1 else place) % len(COLOURS)]
            _line(panel, here, part, label=" ".join(filter(None, (name, part))), colour=colour)
    panel.set_xscale("log")
    _name_sizes(panel, sorted({each.samples for each in found}))
    panel.set_ylabel(searched_metric(results))
    panel.set_xlabel("training samples")
    panel.legend()
    return figure


def _line(panel: Axes, line: Sequence[ConfigurationScores], part: str, *, label: str, colour: str) -> None:
    means = [statistics.mean(each.scores[part]) for each in line]
    below = [mean - min(each.scores[part]) for mean, each in zip(means, line, strict=True)]
    above = [max(each.scores[part]) - mean for mean, each in zip(means, line, strict=True)]
    sizes = [each.samples for each in line]
    style = {"color": colour, "linestyle": STYLES[part], "marker": "o", "markersize": 4, "capsize": 3}
    panel.errorbar(sizes, means, yerr=[below, above], label=label, **style)  # type: ignore[arg-type]  # its stubs


def _name_sizes(panel: Axes, sizes: Sequence[int]) -> None:
    """Label the axis with the sizes that were tried, not with powers of ten."""
    panel.set_xticks(sizes)
    panel.xaxis.set_major_formatter(ScalarFormatter())
    panel.xaxis.set_minor_formatter(NullFormatter())
    panel.tick_params(axis="x", rotation=30)
