"""Render the sections on classification: confusions, calibration, mistakes and low margins on the test set."""

from collections.abc import Sequence

from pipeline.reports.charts import READABLE, reliability_chart
from pipeline.reports.evaluation_statistics import ClassScores, calibration, class_scores, label_scores
from pipeline.reports.html import Child, Html, columns, element, image, remark, section, table
from pipeline.reports.predictions import ClassPredictions
from pipeline.reports.report_data import ReportData

CONFUSIONS = 20
LONG_NAME = 4  # characters; longer names are written upright above their column
MOST_ROWS = 500
ALIKE = 0.005  # of two shares


def class_section(report: ReportData) -> Html | None:
    if report.classes is None:
        return None
    matrix = _matrix(report) if len(report.class_names) <= READABLE else _confusions(report)
    return section("By class", columns(matrix, _scores("class", report.class_names, class_scores(report.confusion))))


def label_section(report: ReportData) -> Html | None:
    labels = report.labels
    if labels is None:
        return None
    caption = remark("A label is predicted if its probability is above a half; `samples` counts those that have it.")
    return section(
        "By label", _scores("label", report.class_names, label_scores(labels.targets, labels.predicted)), caption
    )


def _matrix(report: ReportData) -> Html:
    names, counts = report.class_names, report.confusion
    totals = counts.sum(axis=1)
    head = element(
        "tr",
        element("th"),
        *(element("th", name, class_="long" if len(name) > LONG_NAME else None, scope="col") for name in names),
    )
    rows = []
    for row, name in enumerate(names):
        cells = []
        for column, predicted in enumerate(names):
            count = int(counts[row, column])
            share = count / max(int(totals[row]), 1)
            kind = "none" if not count else "strong" if share > 0.5 else None
            cells.append(
                element(
                    "td",
                    f"{count:,}" if count else "",
                    class_=kind,
                    # Few mistakes must stay visible.
                    style=f"--share:{max(share, 0.12):.2f}" if count else None,
                    title=f"{count:,} of {int(totals[row]):,} samples of {name} were predicted as {predicted}",
                )
            )
        rows.append(element("tr", element("th", name, scope="row"), *cells))
    grid = element("table", element("thead", head), element("tbody", *rows), class_="confusion")
    return element(
        "div",
        element("h3", "Confusion matrix"),
        element("div", grid, class_="scroll"),
        remark("Rows are true classes, columns predicted ones."),
    )


def _confusions(report: ReportData) -> Html:
    """Render a table, for more classes than a matrix can show."""
    counts, names = report.confusion.copy(), report.class_names
    for diagonal in range(len(counts)):
        counts[diagonal, diagonal] = 0
    order = counts.ravel().argsort(kind="stable")[::-1][:CONFUSIONS]
    rows: list[list[Child]] = [
        [names[place // len(names)], names[place % len(names)], f"{counts.flat[place]:,}"]
        for place in order.tolist()
        if counts.flat[place]
    ]
    return element("div", element("h3", "Most frequent confusions"), table(["true", "predicted", "samples"], rows))


def _scores(what: str, names: list[str], scores: ClassScores) -> Html:
    order = range(len(names)) if len(names) <= MOST_ROWS else scores.f1.argsort()[:MOST_ROWS].tolist()
    rows: list[list[Child]] = [
        [
            names[label],
            *(f"{100 * each[label]:.1f}" for each in (scores.precision, scores.recall, scores.f1)),
            f"{scores.support[label]:,}",
        ]
        for label in order
    ]
    left_out = f"The {MOST_ROWS} with the lowest F1." if len(names) > MOST_ROWS else None
    return element(
        "div",
        element("h3", "Precision, recall and F1, in %"),
        table([what, "precision", "recall", "F1", "samples"], rows),
        None if left_out is None else remark(left_out),
    )


def calibration_section(report: ReportData) -> Html | None:
    predictions = report.classes
    if predictions is None:
        return None
    bins = calibration(predictions.confidence, predictions.correct)
    mean = float(predictions.confidence.mean())
    surplus = mean - float(predictions.correct.mean())
    direction = "well calibrated" if abs(surplus) < ALIKE else "overconfident" if surplus > 0 else "underconfident"
    words = element(
        "div",
        element("h3", f"Expected calibration error: {bins.error:.4f}"),
        element(
            "p",
            f"The mean confidence is {mean:.2%}, and the accuracy {predictions.correct.mean():.2%}: "
            f"{direction}. The error is the mean distance between the two over {len(bins.counts)} equal bins, "
            "weighted by their samples (Guo et al. 2017).",
        ),
        remark("Bars below the dashed line: overconfident. The lower bars count the samples, on a square-root scale."),
    )
    return section("Calibration", columns(reliability_chart(bins).figure, words))


def mistake_section(report: ReportData) -> Html | None:
    predictions = report.classes
    if predictions is None:
        return None
    wrong = int((~predictions.correct).sum())
    if wrong == 0:
        return section("Worst mistakes", element("p", "None: every test sample is correct."))
    rows = predictions.worst_mistakes.tolist()
    which = f"All {wrong}" if len(rows) == wrong else f"The {len(rows)} of {wrong:,} with the highest losses"
    caption = f"{which}: the true class, the predicted class, and its probability."
    names = report.class_names
    items = [(row, describe_mistake(predictions, row, names), f"{predictions.confidence[row]:.1%}") for row in rows]
    return section("Worst mistakes", remark(caption), _samples(predictions, items))


def describe_mistake(predictions: ClassPredictions, row: int, names: Sequence[str]) -> str:
    """Return the true class and the predicted class of a sample."""
    return f"{names[predictions.targets[row]]} → {names[predictions.predicted[row]]}"


def low_margin_section(report: ReportData) -> Html | None:
    predictions = report.classes
    if predictions is None:
        return None
    names, items = report.class_names, []
    for row in predictions.lowest_margins.tolist():
        first, second = predictions.top_two[row].tolist()
        chances = f"{predictions.probability(row, first):.1%} : {predictions.probability(row, second):.1%}"
        truth = "correct" if predictions.correct[row] else f"wrong: {names[predictions.targets[row]]}"
        items.append((row, f"{names[first]} or {names[second]}", f"{chances}, {truth}"))
    caption = "The samples with the smallest difference between the two highest probabilities."
    return section("Lowest margins", remark(caption), _samples(predictions, items))


def _samples(predictions: ClassPredictions, items: list[tuple[int, str, str]]) -> Html:
    """Render samples as pictures, or as a table, with their sentences for text."""
    if not len(predictions.pictures):
        are_sentences = len(predictions.sentences) > 0
        rows: list[list[Child]] = [
            [predictions.sentence(row) or f"row {predictions.ids[row]}", what, more] for row, what, more in items
        ]
        head = ["test sentence" if are_sentences else "test sample", "", ""]
        return table(head, rows, class_="sentences" if are_sentences else None)
    cards = []
    for row, what, more in items:
        pixels = predictions.picture(row)
        thumbnail = None if pixels is None else image(pixels, what)
        words = element("span", element("b", what), element("br"), more)
        cards.append(element("li", thumbnail, words, title=f"row {predictions.ids[row]} of the test split"))
    return element("ul", *cards, class_="samples")
