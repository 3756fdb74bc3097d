"""What a report says of one run, part by part; each is None where the run directory tells nothing of it."""

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

CURVES = ("loss", "accuracy", "r2", "mae")  # that are drawn where there are any
UNMEASURED = "everything else"
SPENT = {  # recorded by training/callbacks/monitors.py
    "forward, backward and step": "system/seconds_steps",
    "waiting for data": "system/seconds_data",
    "validation": "system/seconds_validation",
    "checkpoints": "system/seconds_checkpoints",
}
STATES = {
    "RUNNING": "under way: this is how far it has come",
    "KILLED": "ended before it was done",
    "FAILED": "failed",
}


def metric_intervals(evidence: ReportData) -> dict[str, Interval]:
    """Of the metrics that are means over samples or classes."""
    predictions, numbers, labels = evidence.predictions, evidence.numbers, evidence.labels
    if numbers is not None:
        return {
            "test/r2": interval_of_r2(numbers.true, numbers.predicted),
            "test/mae": interval_of_mean(np.abs(numbers.residuals).mean(axis=1)),
            "test/loss": interval_of_mean(numbers.losses),
        }
    if labels is not None:
        return {
            "test/accuracy": interval_of_accuracy(labels.right),
            "test/loss": interval_of_mean(labels.losses),
            "test/hamming_loss": interval_of_mean(labels.wrong.mean(axis=1)),
        }
    if predictions is None:
        return {}
    return {
        "test/accuracy": interval_of_accuracy(predictions.right),
        "test/loss": interval_of_mean(predictions.losses),
        "test/f1_macro": interval_of_f1(evidence.confusion),
    }


def header_section(evidence: ReportData) -> Html:
    name, status = str(evidence.start["name"]), evidence.status
    lines: list[Child] = [
        element("h1", name),
        element("p", training_summary(evidence), class_="quiet"),
    ]
    if status in STATES:
        lines.append(element("p", element("span", STATES[status], class_="status")))
    return element("header", *lines)


def training_summary(evidence: ReportData) -> str:
    model, data, devices = evidence.assembled["model"], evidence.data, evidence.assembled["devices"]
    what = f"{model['name']} with {model['parameters']:,} parameters"
    if data is not None:
        sizes = data["sizes"]
        shape = "x".join(str(size) for size in data["input_shape"])
        if data.get("sample_rate"):
            shape = f"{data['input_shape'][0] / data['sample_rate']:g} s at {data['sample_rate']:,} Hz"
        asked = f"{len(evidence.class_names)} classes" if evidence.class_names else "numbers"
        what += f", trained on {sizes.get('train', 0):,} samples of {data['name']} ({shape}, {asked})"
    return f"{what}, on {devices['count']}\u00a0{devices['kind']} in {devices['precision']}"


LIMITS = ("trainer.max_epochs", "trainer.max_steps")  # of which a run has one or both


def headline_section(evidence: ReportData) -> Html | None:
    """The headline, and the other metrics of the test set beside it."""
    metrics, found = evidence.metrics, metric_intervals(evidence)
    if not metrics:
        return _newest(evidence)
    boxes = [
        (
            formatting.metric_title(name),
            formatting.format_metric(name, metrics[name]),
            formatting.format_interval(name, found[name]) if name in found else "",
        )
        for name in formatting.metric_order(metrics)
    ]
    name, value, remark = boxes[0]
    boxes[0] = (name, value, f"{formatting.INTERVAL_LABEL}: {remark}" if remark else "")
    return join_html(headline_figures(boxes), _how_judged(evidence))


def _how_judged(evidence: ReportData) -> Html | None:
    judged, step = evidence.judged, evidence.best_step
    if judged is None:
        return None
    if isinstance(judged, RegressionPredictions):
        told = f"{len(judged.true):,} test samples; the loss is in units of the training targets' variance."
    else:
        wrong, size = int((~judged.right).sum()), len(judged.right)
        told = f"{size - wrong:,} of {size:,} test samples right, {wrong:,} wrong."
    monitor, _ = evidence.monitored
    best = "on the validation set" if monitor.startswith("val") else f"by {monitor}"
    chosen = "" if step is None else f" The weights are those of step {step:,}, the best {best}."
    for name, why in evidence.undefined.items():
        told += f" {formatting.metric_title(name)} is not defined: {why} in the test set."
    return remark(
        f"{told} Below a figure stands its {formatting.INTERVAL_LABEL} by bootstrap over the test samples.{chosen}"
    )


def _newest(evidence: ReportData) -> Html | None:
    """While there is no test: the newest values of the validation set."""
    newest = {name: points[-1][1] for name, points in evidence.curves.items() if name.startswith("val/")}
    if not newest:
        return None
    first = evidence.headline if evidence.headline in newest else min(newest)
    names = [first, *sorted(newest.keys() - {first})]
    boxes = [(f"{name.removeprefix('val/')}, validation", f"{newest[name]:.4f}", "") for name in names]
    return join_html(
        headline_figures(boxes), remark("The newest validation; the test set is judged when the training is done.")
    )


def learning_curve_section(evidence: ReportData) -> Html | None:
    drawn = columns(*(each.figure for each in learning_curve_charts(evidence)), _best(evidence))
    return section("Learning curves", drawn if evidence.curves else None)


def learning_curve_charts(evidence: ReportData) -> list[Chart]:
    """Training and validation by each metric of CURVES and by the headline, and the learning rate."""
    unit = "epoch" if evidence.assembled.get("steps_per_epoch") else "optimiser step"
    step = evidence.best_step
    marks = [] if step is None else [Mark(evidence.per_epoch(step), f"best: {_short_epoch(evidence.per_epoch(step))}")]

    def points(name: str) -> list[tuple[float, float]]:
        return [(evidence.per_epoch(at), value) for at, value in evidence.curves.get(name, [])]

    def chart(name: str) -> Chart | None:
        train = Line("training", points(f"train/{name}"), "train")
        judged = Line("validation", points(f"val/{name}"), "s0", dotted=True)
        title = formatting.metric_title(name) if name != "loss" else "Loss"
        return line_chart(
            f"{title[0].upper()}{title[1:]}",
            [train, judged],
            x_label=unit,
            marks=marks,
            may_be_logarithmic=name == "loss",
        )

    rate = line_chart("Learning rate", [Line("", points("train/learning_rate"), "s0")], x_label=unit)
    names = dict.fromkeys((evidence.headline.removeprefix("val/"), *CURVES))
    return [each for each in (*map(chart, names), rate) if each is not None]


def _best(evidence: ReportData) -> Html | None:
    """The checkpoint that was judged, and how training stood then."""
    step, epochs = evidence.best_step, len(evidence.curves.get("system/seconds_per_epoch", []))
    if step is None:
        return None
    planned = evidence.settings.get("trainer.max_epochs")
    monitor, mode = evidence.monitored
    side = "lowest" if mode == "min" else "highest"
    rows: list[tuple[str, Child]] = [
        ("epochs", f"{epochs} of {planned}" if planned else str(epochs)),
        ("best", f"{_short_epoch(evidence.per_epoch(step))} (step {step:,}): the {side} {monitor}"),
    ]
    known = evidence.headline.removeprefix("val/")
    for name in dict.fromkeys((evidence.headline, "val/loss", f"train/{known}_epoch", "train/loss_epoch")):
        there = dict(evidence.curves.get(name, []))
        if step in there:
            rows.append((f"{name.removesuffix('_epoch')} there", f"{there[step]:.4f}"))
    return element("div", element("h3", "The best weights"), definition_list(rows))


def _short_epoch(epochs: float) -> str:
    return f"epoch {epochs:.0f}" if abs(epochs - round(epochs)) < 0.01 else f"epoch {epochs:.1f}"


def timing_section(evidence: ReportData) -> Html | None:
    spent = {label: sum(value for _, value in evidence.curves.get(name, [])) for label, name in SPENT.items()}
    total = max(evidence.result["seconds"] or 0.0, sum(spent.values()))
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
    speeds = sorted(value for _, value in evidence.curves.get("system/samples_per_second", []))
    speed = f" Median speed: {speeds[len(speeds) // 2]:,.0f} samples a second." if speeds else ""
    told = remark(
        f"As the first process saw it: of an accelerator's work it sees the waiting. {UNMEASURED.capitalize()}: start, "
        f"callbacks, and what was cut off by an interruption.{speed}"
    )
    return section(
        f"Where the {formatting.format_duration(total)} went", bar, columns(table(["", "time", "share"], rows), told)
    )


def settings_section(evidence: ReportData) -> Html | None:
    rows: list[list[Child]] = [[key, formatting.format_setting(value)] for key, value in evidence.settings.items()]
    middle = (len(rows) + 1) // 2
    halves = columns(*(table(["", ""], part, class_="words") for part in (rows[:middle], rows[middle:]) if part))
    whole = element(
        "details", element("summary", "the whole config.yaml"), code_block(tracking_uri.redact(evidence.config_yaml))
    )
    given = [each for each in evidence.run.overrides() if each]
    typed = remark(
        f"Other than the defaults: {tracking_uri.redact(', '.join(given))}." if given else "All at their defaults."
    )
    return section("Settings", typed, halves, whole)


def environment_section(evidence: ReportData) -> Html | None:
    found = evidence.environment
    git = found.get("git")
    code = "no git repository" if git is None else f"{git['commit'][:12]}{', with changes' if git['dirty'] else ''}"
    left: list[tuple[str, Child]] = [
        ("run", evidence.run.id),
        ("code", code),
        ("machine", found.get("host")),
        ("processor", f"{found.get('processor')}, {found.get('cores')} cores"),
        ("system", found.get("platform")),
    ]
    if evidence.data is not None:
        left.append(("data, SHA-256", evidence.data["digest"][:16] or "not told"))
    right: list[tuple[str, Child]] = [("Python", found.get("python")), *(found.get("packages") or {}).items()]
    return section("Environment", columns(definition_list(left), definition_list(right)))


def command_section(evidence: ReportData) -> Html | None:
    name = evidence.run.id
    again = evidence.result["command"] or evidence.start["tags"].get("command", "")
    rows = [("Another run like it", again)]
    if evidence.status != "FINISHED":
        rows.append(("Go on with it", f"pipeline resume run={name}"))
    else:
        limits = [f"{key}={2 * limit}" for key in LIMITS if (limit := int(evidence.settings.get(key) or 0)) > 0]
        rows.append(("Go on for longer", f"pipeline resume run={name} {' '.join(limits) or 'trainer.max_epochs=20'}"))
    rows += [
        ("Judge it again on the test set", f"pipeline evaluate run={name}"),
        ("Make this page again", f"pipeline report run={name}"),
    ]
    return section(
        "To type", *(join_html(element("h3", title), code_block(tracking_uri.redact(text))) for title, text in rows)
    )
