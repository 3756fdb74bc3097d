"""Pictures of a run as files: the charts of its report, and what it was trained on."""

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
    """Write figures/*.svg from the run's directory, and say which."""
    run.figures.mkdir(exist_ok=True)
    evidence = load_report_data(run)
    drawn = {"learning_curves": sections.learning_curve_charts(evidence)}
    for name, found in charts_of_test(evidence).items():
        drawn[name] = [replace(each, title=f"{each.title}, test set") for each in found]
    if evidence.predictions is not None and isinstance(components.data, DataModule) and evidence.data is not None:
        drawn |= {"training_inputs": chart_training_inputs(components)} if evidence.data["kind"] == "image" else {}
    for name, found in drawn.items():
        if found:
            path = run.figures / f"{name}.svg"
            write_atomically(path, charts.svg_file(found))
            yield path


def charts_of_test(evidence: ReportData) -> dict[str, Sequence[Chart]]:
    """What the network said of the test samples."""
    names, labels, predictions = evidence.class_names, evidence.labels, evidence.predictions
    if evidence.numbers is not None:
        found = regression_sections.regression_charts(evidence.numbers)
        against = found[:: regression_sections.CHARTS]
        return {"prediction_against_truth": against, "residuals": [each for each in found if each not in against]}
    if labels is not None:
        scores = label_scores(labels.true, labels.said)
        rows = [f"{name} ({count:,})" for name, count in zip(names, scores.support.tolist(), strict=True)]
        title = "Labels, and how many samples have them"
        return {"labels": [charts.share_bars(title, rows, {"precision": scores.precision, "recall": scores.recall})]}
    if predictions is None:
        return {}
    return {
        "confusion_matrix": [charts.confusion_chart("Rows are true, columns said", names, evidence.confusion)],
        "reliability": [charts.reliability_chart(calibration(predictions.confidence, predictions.right))],
        "worst_mistakes": chart_worst_mistakes(predictions, names),
    }


def chart_worst_mistakes(predictions: ClassPredictions, names: Sequence[str]) -> list[Chart]:
    """The test samples that cost the most, where samples can be looked at: true -> said, and how sure."""
    rows = [row for row in predictions.worst_mistakes.tolist() if predictions.picture(row) is not None]
    pictures = [pixels for row in rows if (pixels := predictions.picture(row)) is not None]
    captions = [
        f"{classification_sections.describe_mistake(predictions, row, names)}  {predictions.confidence[row]:.0%}"
        for row in rows
    ]
    title = f"Worst of {int((~predictions.right).sum()):,} mistakes: true → said"
    return [charts.image_grid(title, pictures, captions)] if rows else []


def chart_training_inputs(components: Components) -> list[Chart]:
    """The first training images, as the network sees them: after augmentation, if there is any."""
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
