"""Write the figures of a run: the charts of its report, and its training inputs."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from pipeline.data.datamodule import DataModule
from pipeline.lifecycle.build import Components
from pipeline.lifecycle.save_predictions import thumbnails
from pipeline.reports import charts, classification_sections, regression_sections, sections
from pipeline.reports.charts import Chart
from pipeline.reports.evaluation_statistics import calibration, label_scores
from pipeline.reports.predictions import ClassPredictions
from pipeline.reports.report_data import ReportData, load_report_data
from pipeline.runs.run_directory import Run
from pipeline.system.files import write_atomically
from pipeline.training.callbacks.image_augmentation import Augmentation, augment_images

MAX_TRAINING_INPUTS = 32


def write_figures(run: Run, components: Components) -> Iterator[Path]:
    """Write figures/*.svg and yield their paths."""
    run.figures.mkdir(exist_ok=True)
    report_data = load_report_data(run)
    figures = {"learning_curves": sections.learning_curve_charts(report_data)}
    for name, charts_of_name in charts_of_test(report_data).items():
        figures[name] = [replace(chart, title=f"{chart.title}, test set") for chart in charts_of_name]
    if report_data.classes is not None and isinstance(components.data, DataModule) and report_data.spec is not None:
        figures |= {"training_inputs": chart_training_inputs(components)} if report_data.spec["kind"] == "image" else {}
    for name, charts_of_name in figures.items():
        if charts_of_name:
            path = run.figures / f"{name}.svg"
            write_atomically(path, charts.svg_file(charts_of_name))
            yield path


def charts_of_test(report_data: ReportData) -> dict[str, Sequence[Chart]]:
    """Draw the predictions of the test set, as {name of the figure: charts}."""
    names, labels, predictions = report_data.class_names, report_data.labels, report_data.classes
    if report_data.numbers is not None:
        found = regression_sections.regression_charts(report_data.numbers)
        against = found[:: regression_sections.CHARTS]
        return {"prediction_against_truth": against, "residuals": [each for each in found if each not in against]}
    if labels is not None:
        scores = label_scores(labels.targets, labels.predicted)
        rows = [f"{name} ({count:,})" for name, count in zip(names, scores.support.tolist(), strict=True)]
        title = "Labels, and how many samples have them"
        return {"labels": [charts.share_bars(title, rows, {"precision": scores.precision, "recall": scores.recall})]}
    if predictions is None:
        return {}
    return {
        "confusion_matrix": [
            charts.confusion_chart("Rows are true classes, columns predicted ones", names, report_data.confusion)
        ],
        "reliability": [charts.reliability_chart(calibration(predictions.confidence, predictions.correct))],
        "worst_mistakes": chart_worst_mistakes(predictions, names),
    }


def chart_worst_mistakes(predictions: ClassPredictions, names: Sequence[str]) -> list[Chart]:
    """Draw the test samples with the highest loss, if they have pictures: true -> predicted, and the confidence."""
    rows = [row for row in predictions.worst_mistakes.tolist() if predictions.picture(row) is not None]
    pictures = [pixels for row in rows if (pixels := predictions.picture(row)) is not None]
    captions = [
        f"{classification_sections.describe_mistake(predictions, row, names)}  {predictions.confidence[row]:.0%}"
        for row in rows
    ]
    title = f"Worst of {int((~predictions.correct).sum()):,} mistakes: true → predicted"
    return [charts.image_grid(title, pictures, captions)] if rows else []


def chart_training_inputs(components: Components) -> list[Chart]:
    """Draw the first training images as the network sees them, after augmentation."""
    assert isinstance(components.data, DataModule)
    images = components.data.splits.train.inputs[:MAX_TRAINING_INPUTS].cpu()
    callbacks = components.module.trainer.callbacks  # type: ignore[attr-defined]  # set by its connector
    augmentation = next((each for each in callbacks if isinstance(each, Augmentation)), None)
    title = "Training inputs"
    if augmentation is not None and augmentation.transforms:
        for transform in augmentation.transforms:
            transform.to("cpu")
        images = augment_images(images, augmentation.transforms)
        title = "Training inputs, augmented"
    return [charts.image_grid(title, list(thumbnails(images)), [""] * len(images))]
