"""Render the sections of a run's report; a section is None if the run directory has no data for it."""

import numpy as np

from pipeline.reports import formatting
from pipeline.reports.charts import Chart, Line, Mark, line_chart
from pipeline.reports.evaluation_statistics import (
    Interval,
    interval_of_accuracy,
    interval_of_f1,
    interval_of_mean,
    interval_of_r2,
)
from pipeline.reports.html import (
    Child,
    Html,
    code_block,
    columns,
    definition_list,
    element,
    headline_figures,
    join_html,
    remark,
    section,
    table,
)
from pipeline.reports.predictions import RegressionPredictions
from pipeline.reports.report_data import ReportData
from pipeline.tracking import tracking_uri

CURVES = ("loss", "accuracy", "r2", "mae")  # drawn if recorded
UNMEASURED = "everything else"
SPENT = {  # recorded by training/callbacks/monitors.py
    "forward, backward and step": "system/seconds_steps",
    "waiting for data": "system/seconds_data",
    "validation": "system/seconds_validation",
    "checkpoints": "system/seconds_checkpoints",
}
STATES = {
    "RUNNING": "still running: these are the figures so far",
    "KILLED": "ended before it was finished",
    "FAILED": "failed",
}


def metric_intervals(report: ReportData) -> dict[str, Interval]:
    """Return bootstrap intervals of the metrics that are means over samples or classes."""
    predictions, numbers, labels = report.classes, report.numbers, report.labels
    if numbers is not None:
        return {
            "test/r2": interval_of_r2(numbers.targets, numbers.predicted),
            "test/mae": interval_of_mean(np.abs(numbers.residuals).mean(axis=1)),
            "test/loss": interval_of_mean(numbers.losses),
        }
    if labels is not None:
        return {
            "test/accuracy": interval_of_accuracy(labels.correct),
            "test/loss": interval_of_mean(labels.losses),
            "test/hamming_loss": interval_of_mean(labels.wrong.mean(axis=1)),
        }
    if predictions is None:
        return {}
    return {
        "test/accuracy": interval_of_accuracy(predictions.correct),
        "test/loss": interval_of_mean(predictions.losses),
        "test/f1_macro": interval_of_f1(report.confusion),
    }


def header_section(report: ReportData) -> Html:
    name, status = str(report.start["name"]), report.status
    lines: list[Child] = [
        element("h1", name),
        element("p", training_summary(report), class_="quiet"),
    ]
    if status in STATES:
        lines.append(element("p", element("span", STATES[status], class_="status")))
    return element("header", *lines)


def training_summary(report: ReportData) -> str:
    model, data, devices = report.assembled["model"], report.spec, report.assembled["devices"]
    what = f"{model['name']} with {model['parameters']:,} parameters"
    if data is not None:
        sizes = data["sizes"]
        shape = "x".join(str(size) for size in data["input_shape"])
        if data.get("sample_rate"):
            shape = f"{data['input_shape'][0] / data['sample_rate']:g} s at {data['sample_rate']:,} Hz"
        asked = f"{len(report.class_names)} classes" if report.class_names else "numbers"
        what += f", trained on {sizes.get('train', 0):,} samples of {data['name']} ({shape}, {asked})"
    return f"{what}, on {devices['count']}\u00a0{devices['kind']} in {devices['precision']}"


LIMITS = ("trainer.max_epochs", "trainer.max_steps")  # a run has one or both


def headline_section(report: ReportData) -> Html | None:
    """Render the primary test metric, and the other test metrics beside it."""
    metrics, intervals = report.metrics, metric_intervals(report)
    if not metrics:
        return _newest(report)
    boxes = [
        (
            formatting.metric_title(name),
            formatting.format_metric(name, metrics[name]),
            formatting.format_interval(name, intervals[name]) if name in intervals else "",
        )
        for name in formatting.metric_order(metrics)
    ]
    name, value, remark = boxes[0]
    boxes[0] = (name, value, f"{formatting.INTERVAL_LABEL}: {remark}" if remark else "")
    return join_html(headline_figures(boxes), _test_set_remark(report))


def _test_set_remark(report: ReportData) -> Html | None:
    predictions, step = report.predictions, report.best_step
    if predictions is None:
        return None
    if isinstance(predictions, RegressionPredictions):
        text = f"{len(predictions.targets):,} test samples; the loss is in units of the training targets' variance."
    else:
        wrong, size = int((~predictions.correct).sum()), len(predictions.correct)
        text = f"{size - wrong:,} of {size:,} test samples correct, {wrong:,} wrong."
    monitor, _ = report.monitored
    best = "on the validation set" if monitor.startswith("val") else f"by {monitor}"
    chosen = "" if step is None else f" The weights are those of step {step:,}, the best {best}."
    for name, why in report.undefined.items():
        text += f" {formatting.metric_title(name)} is not defined: {why} in the test set."
    return remark(
        f"{text} The {formatting.INTERVAL_LABEL} below each figure is a bootstrap over the test samples.{chosen}"
    )


def _newest(report: ReportData) -> Html | None:
    """Render the latest validation metrics, for a run that has no test yet."""
    newest = {name: points[-1][1] for name, points in report.curves.items() if name.startswith("val/")}
    if not newest:
        return None
    first = report.headline if report.headline in newest else min(newest)
    names = [first, *sorted(newest.keys() - {first})]
    boxes = [(f"{name.removeprefix('val/')}, validation", f"{newest[name]:.4f}", "") for name in names]
    return join_html(
        headline_figures(boxes), remark("The latest validation; the test set is evaluated when training ends.")
    )


def learning_curve_section(report: ReportData) -> Html | None:
    drawn = columns(*(each.figure for each in learning_curve_charts(report)), _best(report))
    return section("Learning curves", drawn if report.curves else None)


def learning_curve_charts(report: ReportData) -> list[Chart]:
    """Draw training and validation curves of the primary metric and of CURVES, and the learning rate."""
    unit = "epoch" if report.assembled.get("steps_per_epoch") else "optimiser step"
    step = report.best_step
    marks = [] if step is None else [Mark(report.per_epoch(step), f"best: {_short_epoch(report.per_epoch(step))}")]

    def points(name: str) -> list[tuple[float, float]]:
        return [(report.per_epoch(at), value) for at, value in report.curves.get(name, [])]

    def chart(name: str) -> Chart | None:
        train = Line("training", points(f"train/{name}"), "train")
        predictions = Line("validation", points(f"val/{name}"), "s0", dotted=True)
        title = formatting.metric_title(name) if name != "loss" else "Loss"
        return line_chart(
            f"{title[0].upper()}{title[1:]}",
            [train, predictions],
            x_label=unit,
            marks=marks,
            may_be_logarithmic=name == "loss",
        )

    rate = line_chart("Learning rate", [Line("", points("train/learning_rate"), "s0")], x_label=unit)
    names = dict.fromkeys((report.headline.removeprefix("val/"), *CURVES))
    return [each for each in (*map(chart, names), rate) if each is not None]


def _best(report: ReportData) -> Html | None:
    """Render the best checkpoint and the metrics at its step."""
    step, epochs = report.best_step, len(report.curves.get("system/seconds_per_epoch", []))
    if step is None:
        return None
    planned = report.settings.get("trainer.max_epochs")
    monitor, mode = report.monitored
    side = "lowest" if mode == "min" else "highest"
    rows: list[tuple[str, Child]] = [
        ("epochs", f"{epochs} of {planned}" if planned else str(epochs)),
        ("best", f"{_short_epoch(report.per_epoch(step))} (step {step:,}): the {side} {monitor}"),
    ]
    known = report.headline.removeprefix("val/")
    for name in dict.fromkeys((report.headline, "val/loss", f"train/{known}_epoch", "train/loss_epoch")):
        there = dict(report.curves.get(name, []))
        if step in there:
            rows.append((f"{name.removesuffix('_epoch')} there", f"{there[step]:.4f}"))
    return element("div", element("h3", "The best weights"), definition_list(rows))


def _short_epoch(epochs: float) -> str:
    return f"epoch {epochs:.0f}" if abs(epochs - round(epochs)) < 0.01 else f"epoch {epochs:.1f}"


def timing_section(report: ReportData) -> Html | None:
    spent = {label: sum(value for _, value in report.curves.get(name, [])) for label, name in SPENT.items()}
    total = max(report.result["seconds"] or 0.0, sum(spent.values()))
    if not any(spent.values()) or total == 0:
        return None
    spent[UNMEASURED] = total - sum(spent.values())
    styles = dict(zip(spent, ("s0", "s1", "s2", "s4", "s7"), strict=True))
    bar = element(
        "div",
        *(element("i", class_=styles[label], style=f"flex:{seconds / total:.4f}") for label, seconds in spent.items()),
        class_="share",
    )
    rows: list[list[Child]] = [
        [
            join_html(element("i", class_=f"swatch {styles[label]}"), label),
            formatting.format_duration(seconds),
            f"{seconds / total:.1%}",
        ]
        for label, seconds in spent.items()
    ]
    speeds = sorted(value for _, value in report.curves.get("system/samples_per_second", []))
    speed = f" Median speed: {speeds[len(speeds) // 2]:,.0f} samples a second." if speeds else ""
    text = remark(
        f"Measured by the first process, which counts the waiting for an accelerator. {UNMEASURED.capitalize()}: "
        f"start, callbacks, and work lost in an interruption.{speed}"
    )
    return section(
        f"Where the {formatting.format_duration(total)} went", bar, columns(table(["", "time", "share"], rows), text)
    )


def settings_section(report: ReportData) -> Html | None:
    rows: list[list[Child]] = [[key, formatting.format_setting(value)] for key, value in report.settings.items()]
    middle = (len(rows) + 1) // 2
    halves = columns(*(table(["", ""], part, class_="words") for part in (rows[:middle], rows[middle:]) if part))
    whole = element(
        "details", element("summary", "the whole config.yaml"), code_block(tracking_uri.redact(report.config_yaml))
    )
    given = [each for each in report.run.overrides() if each]
    typed = remark(
        f"Other than the defaults: {tracking_uri.redact(', '.join(given))}."
        if given
        else "All have their default values."
    )
    return section("Settings", typed, halves, whole)


def environment_section(report: ReportData) -> Html | None:
    recorded = report.environment
    git = recorded.get("git")
    code = "no git repository" if git is None else f"{git['commit'][:12]}{', with changes' if git['dirty'] else ''}"
    left: list[tuple[str, Child]] = [
        ("run", report.run.id),
        ("code", code),
        ("machine", recorded.get("host")),
        ("processor", f"{recorded.get('processor')}, {recorded.get('cores')} cores"),
        ("system", recorded.get("platform")),
    ]
    if report.spec is not None:
        left.append(("data, SHA-256", report.spec["digest"][:16] or "unknown"))
    right: list[tuple[str, Child]] = [("Python", recorded.get("python")), *(recorded.get("packages") or {}).items()]
    return section("Environment", columns(definition_list(left), definition_list(right)))


def command_section(report: ReportData) -> Html | None:
    name = report.run.id
    again = report.result["command"] or report.start["tags"].get("command", "")
    rows = [("Train another run like it", again)]
    if report.status != "FINISHED":
        rows.append(("Resume it", f"pipeline resume run={name}"))
    else:
        limits = [f"{key}={2 * limit}" for key in LIMITS if (limit := int(report.settings.get(key) or 0)) > 0]
        rows.append(
            ("Train it for longer", f"pipeline resume run={name} {' '.join(limits) or 'trainer.max_epochs=20'}")
        )
    rows += [
        ("Evaluate it again on the test set", f"pipeline evaluate run={name}"),
        ("Write this page again", f"pipeline report run={name}"),
    ]
    return section(
        "Commands", *(join_html(element("h3", title), code_block(tracking_uri.redact(text))) for title, text in rows)
    )
