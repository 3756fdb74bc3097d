"""What a report says of the test samples: which were taken for what, how sure the network was, which it got wrong."""

from collections.abc import Sequence

from pipeline.reports.charts import READABLE, reliability_chart
from pipeline.reports.evaluation_statistics import ClassScores, calibration, class_scores, label_scores
from pipeline.reports.html import Child, Html, columns, element, image, remark, section, table
from pipeline.reports.predictions import ClassPredictions
from pipeline.reports.report_data import ReportData

CONFUSIONS = 20
LONG_NAME = 4  # characters; longer ones stand upright above their column
MOST_ROWS = 500
ALIKE = 0.005  # of two shares


def class_section(evidence: ReportData) -> Html | None:
    if evidence.predictions is None:
        return None
    matrix = _matrix(evidence) if len(evidence.class_names) <= READABLE else _confusions(evidence)
    return section(
        "By class", columns(matrix, _scores("class", evidence.class_names, class_scores(evidence.confusion)))
    )


def label_section(evidence: ReportData) -> Html | None:
    labels = evidence.labels
    if labels is None:
        return None
    told = remark("A label is said where its probability is above a half; `samples` have it in truth.")
    return section("By label", _scores("label", evidence.class_names, label_scores(labels.true, labels.said)), told)


def _matrix(evidence: ReportData) -> Html:
    names, counts = evidence.class_names, evidence.confusion
    totals = counts.sum(axis=1)
    head = element(
        "tr",
        element("th"),
        *(element("th", name, class_="long" if len(name) > LONG_NAME else None, scope="col") for name in names),
    )
    rows = []
    for row, name in enumerate(names):
        cells = []
        for column, said in enumerate(names):
            count = int(counts[row, column])
            share = count / max(int(totals[row]), 1)
            kind = "none" if not count else "strong" if share > 0.5 else None
            cells.append(
                element(
                    "td",
                    f"{count:,}" if count else "",
                    class_=kind,
                    # Few mistakes are to be seen, too.
                    style=f"--share:{max(share, 0.12):.2f}" if count else None,
                    title=f"{count:,} of {int(totals[row]):,} samples of {name} were taken for {said}",
                )
            )
        rows.append(element("tr", element("th", name, scope="row"), *cells))
    grid = element("table", element("thead", head), element("tbody", *rows), class_="confusion")
    return element(
        "div",
        element("h3", "Confusion matrix"),
        element("div", grid, class_="scroll"),
        remark("Rows are the truth, columns what the network said."),
    )


def _confusions(evidence: ReportData) -> Html:
    """In place of a matrix that nobody could read."""
    counts, names = evidence.confusion.copy(), evidence.class_names
    for diagonal in range(len(counts)):
        counts[diagonal, diagonal] = 0
    order = counts.ravel().argsort(kind="stable")[::-1][:CONFUSIONS]
    rows: list[list[Child]] = [
        [names[place // len(names)], names[place % len(names)], f"{counts.flat[place]:,}"]
        for place in order.tolist()
        if counts.flat[place]
    ]
    return element("div", element("h3", "Most frequent confusions"), table(["true", "said", "samples"], rows))


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


def calibration_section(evidence: ReportData) -> Html | None:
    predictions = evidence.predictions
    if predictions is None:
        return None
    found = calibration(predictions.confidence, predictions.right)
    mean = float(predictions.confidence.mean())
    surer = mean - float(predictions.right.mean())
    direction = "about alike" if abs(surer) < ALIKE else "too sure" if surer > 0 else "not sure enough"
    words = element(
        "div",
        element("h3", f"Expected calibration error: {found.error:.4f}"),
        element(
            "p",
            f"On average the network was {mean:.2%} sure and right in {predictions.right.mean():.2%} of the samples: "
            f"{direction}. The error is the mean distance between the two over {len(found.counts)} equal bins, "
            "weighted by their samples (Guo et al. 2017).",
        ),
        remark("Bars below the dashed line: too sure. The lower bars count the samples, on a square-root scale."),
    )
    return section("Is it as sure as it is right?", columns(reliability_chart(found).figure, words))


def mistake_section(evidence: ReportData) -> Html | None:
    predictions = evidence.predictions
    if predictions is None:
        return None
    wrong = int((~predictions.right).sum())
    if wrong == 0:
        return section("Worst mistakes", element("p", "None: every test sample was right."))
    rows = predictions.worst_mistakes.tolist()
    which = f"All {wrong}" if len(rows) == wrong else f"The {len(rows)} of {wrong:,} that cost the most"
    told = f"{which}: the truth, what was said, and how sure it was."
    names = evidence.class_names
    items = [(row, describe_mistake(predictions, row, names), f"{predictions.confidence[row]:.1%}") for row in rows]
    return section("Worst mistakes", remark(told), _samples(predictions, items))


def describe_mistake(predictions: ClassPredictions, row: int, names: Sequence[str]) -> str:
    """What it is, and what it was taken for."""
    return f"{names[predictions.targets[row]]} → {names[predictions.said[row]]}"


def low_margin_section(evidence: ReportData) -> Html | None:
    predictions = evidence.predictions
    if predictions is None:
        return None
    names, items = evidence.class_names, []
    for row in predictions.closest_calls.tolist():
        first, second = predictions.likeliest_two[row].tolist()
        chances = f"{predictions.probability(row, first):.1%} : {predictions.probability(row, second):.1%}"
        truth = "right" if predictions.right[row] else f"wrong: {names[predictions.targets[row]]}"
        items.append((row, f"{names[first]} or {names[second]}", f"{chances}, {truth}"))
    told = "The samples on which the two likeliest classes were nearest to each other."
    return section("Closest calls", remark(told), _samples(predictions, items))


def _samples(predictions: ClassPredictions, items: list[tuple[int, str, str]]) -> Html:
    """As pictures; as a table where samples are none, with sentences where they are such."""
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
        shown = None if pixels is None else image(pixels, what)
        words = element("span", element("b", what), element("br"), more)
        cards.append(element("li", shown, words, title=f"row {predictions.ids[row]} of the test part"))
    return element("ul", *cards, class_="samples")
