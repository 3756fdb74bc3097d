"""Render the sections on regression: residuals, and the largest errors on the test set."""

from collections.abc import Iterator

import numpy as np

from pipeline.reports.charts import Chart, axis_around, histogram, scatter_chart
from pipeline.reports.evaluation_statistics import Floats
from pipeline.reports.html import Child, Html, columns, element, remark, section, table
from pipeline.reports.predictions import RegressionPredictions
from pipeline.reports.report_data import ReportData

# N test samples, T numbers each

SHARES = (0.05, 0.25, 0.5, 0.75, 0.95)
CHARTS = 3  # of each number
MOST_NUMBERS = 6  # shown on a page


def residual_section(report: ReportData) -> Html | None:
    numbers = report.numbers
    if numbers is None:
        return None
    return section("Residuals", columns(*(each.figure for each in regression_charts(numbers))), _shares(numbers))


def regression_charts(numbers: RegressionPredictions) -> list[Chart]:
    """Draw CHARTS charts of each target, at most MOST_NUMBERS targets."""
    count = min(numbers.targets.shape[1], MOST_NUMBERS)
    return [each for column in range(count) for each in _charts(numbers, column)]


def _charts(numbers: RegressionPredictions, column: int) -> Iterator[Chart]:
    true, predicted = numbers.targets[:, column].tolist(), numbers.predicted[:, column].tolist()
    residuals = numbers.residuals[:, column].tolist()
    which = "" if numbers.targets.shape[1] == 1 else f", number {column + 1}"
    predicted_axis, both = axis_around(_finite(predicted), 1), axis_around(_finite([*true, *predicted]), 1)
    yield scatter_chart(
        f"Prediction against truth{which}",
        list(zip(true, predicted, strict=True)),
        x_label="true",
        across=both,
        up=both,
        ideal=([(both.low, both.low), (both.high, both.high)], "exact"),
    )
    yield scatter_chart(
        f"Residuals{which}",
        list(zip(predicted, residuals, strict=True)),
        x_label="predicted",
        across=predicted_axis,
        up=axis_around([0.0, *_finite(residuals)], 1),
        ideal=([(predicted_axis.low, 0.0), (predicted_axis.high, 0.0)], "no error"),
    )
    yield histogram(f"Distribution of residuals{which}", _finite(residuals), x_label="residual")


def _finite(values: list[float]) -> list[float]:
    """Return the finite values; a network that diverged predicts others, too."""
    return [value for value in values if np.isfinite(value)] or [0.0]


def _shares(numbers: RegressionPredictions) -> Html:
    found: Floats = np.quantile(numbers.residuals, SHARES, axis=0)  # (len(SHARES), T)
    rows: list[list[Child]] = [
        [f"{share:.0%} of the samples", *(f"{value:.4g}" for value in values)]
        for share, values in zip(SHARES, found.tolist(), strict=True)
    ]
    head = ["residual below", *(f"number {column + 1}" for column in range(found.shape[1]))]
    caption = remark(
        "A residual is the target less the prediction; a negative residual means that too much was predicted."
    )
    return element("div", table(head if found.shape[1] > 1 else ["residual below", ""], rows), caption)


def largest_error_section(report: ReportData) -> Html | None:
    numbers = report.numbers
    if numbers is None:
        return None
    rows: list[list[Child]] = [
        [
            f"row {numbers.ids[place]}",
            *(_format_values(each[place]) for each in (numbers.targets, numbers.predicted, residuals)),
        ]
        for residuals in [numbers.residuals]
        for place in numbers.largest_errors.tolist()
    ]
    return section("Largest errors", table(["test sample", "true", "predicted", "residual"], rows))


def _format_values(values: Floats) -> str:
    return ", ".join(f"{value:.4g}" for value in values.tolist())
