"""What a report says of predicted numbers: how far from the truth they are, and which are furthest."""

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
MOST_NUMBERS = 6  # that a page has room for


def residual_section(evidence: ReportData) -> Html | None:
    numbers = evidence.numbers
    if numbers is None:
        return None
    return section(
        "How far from the truth", columns(*(each.figure for each in regression_charts(numbers))), _shares(numbers)
    )


def regression_charts(numbers: RegressionPredictions) -> list[Chart]:
    """Three of each number to predict."""
    count = min(numbers.true.shape[1], MOST_NUMBERS)
    return [each for column in range(count) for each in _charts(numbers, column)]


def _charts(numbers: RegressionPredictions, column: int) -> Iterator[Chart]:
    true, predicted = numbers.true[:, column].tolist(), numbers.predicted[:, column].tolist()
    missing = numbers.residuals[:, column].tolist()
    which = "" if numbers.true.shape[1] == 1 else f", number {column + 1}"
    said, both = axis_around(_finite(predicted), 1), axis_around(_finite([*true, *predicted]), 1)
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
        list(zip(predicted, missing, strict=True)),
        x_label="predicted",
        across=said,
        up=axis_around([0.0, *_finite(missing)], 1),
        ideal=([(said.low, 0.0), (said.high, 0.0)], "nothing missing"),
    )
    yield histogram(f"How often{which}", _finite(missing), x_label="residual")


def _finite(values: list[float]) -> list[float]:
    """A network that diverged has others, too."""
    return [value for value in values if np.isfinite(value)] or [0.0]


def _shares(numbers: RegressionPredictions) -> Html:
    found: Floats = np.quantile(numbers.residuals, SHARES, axis=0)  # (len(SHARES), T)
    rows: list[list[Child]] = [
        [f"{share:.0%} of the samples", *(f"{value:.4g}" for value in values)]
        for share, values in zip(SHARES, found.tolist(), strict=True)
    ]
    head = ["residual below", *(f"number {column + 1}" for column in range(found.shape[1]))]
    told = remark("A residual is the truth less the prediction: where it is negative, too much was predicted.")
    return element("div", table(head if found.shape[1] > 1 else ["residual below", ""], rows), told)


def largest_error_section(evidence: ReportData) -> Html | None:
    numbers = evidence.numbers
    if numbers is None:
        return None
    rows: list[list[Child]] = [
        [f"row {numbers.ids[place]}", *(_told(each[place]) for each in (numbers.true, numbers.predicted, missing))]
        for missing in [numbers.residuals]
        for place in numbers.furthest.tolist()
    ]
    return section("Furthest from the truth", table(["test sample", "true", "predicted", "residual"], rows))


def _told(values: Floats) -> str:
    return ", ".join(f"{value:.4g}" for value in values.tolist())
