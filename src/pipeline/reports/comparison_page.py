"""Render the page that compares several runs, section by section."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.metrics import Mode, mode_of
from pipeline.reports import formatting, sections, significance
from pipeline.reports.charts import Line, line_chart
from pipeline.reports.evaluation_statistics import SIGNIFICANCE, Interval
from pipeline.reports.html import Child, Html, code_block, columns, element, join_html, page, remark, section, table
from pipeline.reports.predictions import TestPredictions
from pipeline.reports.report_data import ReportData
from pipeline.reports.significance import NO_WINNER, PairwiseTest
from pipeline.tracking import tracking_uri

STYLES = 8  # colours of the style sheet: s0 to s7
CAUTION = (
    "The test asks whether these networks would differ on more samples like these. Whether one recipe is better than "
    "another is a question for several seeds of each."
)


@dataclass(frozen=True)
class RunComparison:
    """Runs with their predictions, their short names, and a test of every pair; None if test samples differ."""

    runs: Sequence[ReportData]
    names: Sequence[str]
    predictions: Sequence[TestPredictions]
    intervals: Sequence[dict[str, Interval]]
    tests: Sequence[PairwiseTest] | None

    @property
    def conclusion(self) -> str:
        if self.tests is None:
            return self.incomparable_reason
        return significance.conclusion(self.names, self.predictions, self.tests)

    @property
    def incomparable_reason(self) -> str:
        """The reason why there is no paired test."""
        first = self.predictions[0]
        others = [
            name
            for name, each in zip(self.names, self.predictions, strict=True)
            if not significance.are_comparable([first, each])
        ]
        return (
            f"No paired test: {', '.join(others)} were evaluated on another test set than {self.names[0]} "
            "(their digests differ)"
        )

    @property
    def metrics(self) -> list[str]:
        return formatting.metric_order({name: value for run in self.runs for name, value in run.metrics.items()})

    @property
    def differing_settings(self) -> list[str]:
        """The keys of settings that differ between runs, in their order."""
        keys = list(dict.fromkeys(key for run in self.runs for key in run.settings))
        return [key for key in keys if len({str(run.settings.get(key, "")) for run in self.runs}) > 1]


def compare_runs(runs: Sequence[ReportData], names: Sequence[str]) -> RunComparison:
    """Compare runs that all have test predictions."""
    predictions = [run.predictions for run in runs if run.predictions is not None]
    assert len(predictions) == len(runs)
    tests = significance.pairwise_tests(predictions) if significance.are_comparable(predictions) else None
    return RunComparison(runs, names, predictions, [sections.metric_intervals(run) for run in runs], tests)


def render_comparison(comparison: RunComparison) -> str:
    title = f"{len(comparison.runs)} runs side by side"
    return page(
        title,
        element("header", element("h1", title)),
        element("p", _as_sentence(comparison.conclusion), class_="verdict"),
        remark(CAUTION) if comparison.tests is not None else None,
        _metrics(comparison),
        _pairwise(comparison),
        _curves(comparison),
        _settings(comparison),
        _commands(comparison),
    )


def _as_sentence(verdict: str) -> str:
    return verdict.replace(NO_WINNER, NO_WINNER.capitalize(), 1) if verdict.startswith(NO_WINNER) else verdict


def _named(comparison: RunComparison, place: int) -> Html:
    return join_html(element("i", class_=f"swatch s{place % STYLES}"), comparison.names[place])


def _metrics(comparison: RunComparison) -> Html | None:
    names = comparison.metrics
    rows: list[list[Child]] = []
    for place, run in enumerate(comparison.runs):
        cells: list[Child] = [_named(comparison, place)]
        for name in names:
            interval = comparison.intervals[place].get(name)
            value = run.metrics.get(name)
            below = None if interval is None else _small(formatting.format_interval(name, interval))
            shown = "" if value is None else formatting.format_metric(name, value)
            best = value is not None and value == best_value(comparison, name)
            figure = element("span", shown, class_="best" if best else None)
            cells.append(figure if below is None else _over(figure, below))
        rows.append(cells)
    caption = remark(
        f"Below a figure stands its {formatting.INTERVAL_LABEL} by bootstrap over the test samples; the best is bold."
    )
    return section("Test set", table(["run", *map(formatting.metric_title, names)], rows, class_="runs"), caption)


def _over(upper: Child, lower: Child) -> Html:
    return join_html(upper, element("br"), lower)


def _small(text: str) -> Html:
    return element("small", text, class_="quiet")


def best_value(comparison: RunComparison, metric: str) -> float:
    """Return the best value of a metric, or NaN, which equals none, for a metric whose direction is unknown."""
    values = [run.metrics[metric] for run in comparison.runs if metric in run.metrics]
    own: dict[str, Mode] = {}
    for run in comparison.runs:
        own |= run.assembled.get("metrics") or {}
    return {"min": min, "max": max}[mode](values) if (mode := mode_of(metric, own)) else math.nan


def _pairwise(comparison: RunComparison) -> Html | None:
    if comparison.tests is None:
        return None
    criterion = significance.criterion_of(comparison.predictions)
    rows: list[list[Child]] = [
        [
            _over(_named(comparison, test.first), join_html("over ", _named(comparison, test.second))),
            f"{test.wins:,} : {test.losses:,}",
            _change(criterion.score, test.difference, test.interval),
            _change(criterion.cost, test.cost_difference, test.cost_interval),
            _over(
                element("span", formatting.format_p_value(test.adjusted), class_="best" if test.is_decided else None),
                _small(f"alone {formatting.format_p_value(test.p_value)}"),
            ),
        ]
        for test in comparison.tests
    ]
    head = ["", criterion.wins_label, *map(formatting.metric_title, (criterion.score, criterion.cost)), "p"]
    return section(
        "Pair by pair, on the same samples",
        table(head, rows, class_="runs"),
        remark(
            f"{criterion.explanation}: the probability of such a difference by chance, adjusted for the number of "
            f"pairs (Holm 1979) and bold below {SIGNIFICANCE:g}. Below a difference stands its "
            f"{formatting.INTERVAL_LABEL} by paired bootstrap (Efron 1979)."
        ),
    )


def _change(metric: str, difference: float, interval: Interval) -> Html:
    return _over(
        formatting.format_change(metric, difference), _small(formatting.format_change_interval(metric, interval))
    )


def _curves(comparison: RunComparison) -> Html | None:
    in_epochs = all(run.assembled.get("steps_per_epoch") for run in comparison.runs)
    headlines = dict.fromkeys(run.headline for run in comparison.runs)

    def chart(title: str, metric: str, *, logarithmic: bool = False) -> Html | None:
        lines = [
            Line(
                name,
                [(run.per_epoch(at) if in_epochs else at, value) for at, value in run.curves.get(metric, [])],
                f"s{place % STYLES}",
                dotted=metric.startswith("val/"),
            )
            for place, (name, run) in enumerate(zip(comparison.names, comparison.runs, strict=True))
        ]
        unit = "epoch" if in_epochs else "optimiser step"
        drawn = line_chart(title, lines, x_label=unit, may_be_logarithmic=logarithmic)
        return None if drawn is None else drawn.figure

    return section(
        "Learning curves",
        columns(
            *(chart(f"Validation {formatting.metric_title(each)}", each) for each in headlines if each != "val/loss"),
            chart("Validation loss", "val/loss", logarithmic=True),
            chart("Training loss", "train/loss", logarithmic=True),
            chart("Learning rate", "train/learning_rate"),
        ),
    )


def _settings(comparison: RunComparison) -> Html | None:
    keys = comparison.differing_settings
    if not keys:
        return section("Settings", element("p", "All the same."))
    rows: list[list[Child]] = [
        [key, *(formatting.format_setting(run.settings.get(key, "")) for run in comparison.runs)] for key in keys
    ]
    head = ["", *comparison.names]
    return section("Settings that differ", table(head, rows, class_="words"), remark("All others are the same."))


def _commands(comparison: RunComparison) -> Html | None:
    ids = ",".join(run.run.id for run in comparison.runs)
    again = [code_block(f"pipeline compare runs={ids}")]
    each = [
        join_html(
            element("h3", _named(comparison, place)), code_block(tracking_uri.redact(run.result["command"] or ""))
        )
        for place, run in enumerate(comparison.runs)
    ]
    return section("Commands", *each, element("h3", "This page again"), *again)
