"""Pictures of a run, drawn without a display."""

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from pipeline.data.datamodule import DataModule
from pipeline.lifecycle.assemble import Assembly
from pipeline.lifecycle.judge import Predictions, Verdict
from pipeline.lifecycle.reports.evidence import in_parts
from pipeline.lifecycle.reports.statistics import label_scores
from pipeline.lifecycle.run import Run
from pipeline.lifecycle.thumbnails import pictures_of
from pipeline.spec import TaskKind
from pipeline.tracking.journal import history
from pipeline.training.callbacks.augmentation import Augmentation, augment

# N samples, K classes, T numbers to predict, C channels, H height, W width

CURVES = ("loss", "accuracy", "r2", "mae")
BINS = 15
MISTAKES = 24
SAMPLES = 32


def draw_all(run: Run, assembly: Assembly, verdict: Verdict | None) -> Iterator[Path]:
    """Write figures/*.png, and say which."""
    run.figures.mkdir(exist_ok=True)
    drawn = {"learning_curves": learning_curves(in_parts(history(run.journal_path)))}
    predictions = None if verdict is None else verdict.predictions
    if predictions is not None and assembly.spec is not None:
        drawn |= DRAWN[assembly.spec.task](assembly, predictions)
    for name, figure in drawn.items():
        path = run.figures / f"{name}.png"
        figure.savefig(path, dpi=110)
        yield path


def of_classes(assembly: Assembly, predictions: Predictions) -> dict[str, Figure]:
    assert assembly.spec is not None
    names = assembly.spec.class_names
    drawn = {"confusion_matrix": confusion_matrix(predictions, names), "reliability": reliability(predictions)}
    worst = worst_of(predictions)
    pictures = pictures_of(assembly, "test", predictions.ids[worst])
    if pictures is not None:
        drawn["worst_mistakes"] = worst_mistakes(predictions, worst, pictures, names)
    if isinstance(assembly.data, DataModule) and assembly.spec.kind == "image":
        drawn["training_inputs"] = training_inputs(assembly)
    return drawn


def of_numbers(assembly: Assembly, predictions: Predictions) -> dict[str, Figure]:
    return {"prediction_against_truth": prediction_against_truth(predictions), "residuals": residuals(predictions)}


def of_labels(assembly: Assembly, predictions: Predictions) -> dict[str, Figure]:
    assert assembly.spec is not None
    return {"labels": by_label(predictions, assembly.spec.class_names)}


DRAWN: dict[TaskKind, Callable[[Assembly, Predictions], dict[str, Figure]]] = {
    "multiclass": of_classes,
    "binary": of_classes,
    "multilabel": of_labels,
    "regression": of_numbers,
}


def prediction_against_truth(predictions: Predictions) -> Figure:
    """A point for each test sample and number; on the dashed line it is exact."""
    figure = Figure(figsize=(5, 5), layout="constrained")
    panel = figure.subplots()
    for true, predicted in zip(predictions.targets.T, predictions.answers.T, strict=True):
        panel.scatter(true, predicted, s=14, alpha=0.6)
    ends = [float(predictions.targets.min()), float(predictions.targets.max())]
    panel.plot(ends, ends, "--", color="grey", label="exact")
    panel.set(xlabel="true", ylabel="predicted", title="prediction against truth, test set")
    panel.legend()
    panel.grid(alpha=0.3)
    return figure


def residuals(predictions: Predictions) -> Figure:
    """What was missing, by what was predicted, and how often: a good model leaves no pattern."""
    figure = Figure(figsize=(8, 4), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[2, 1], sharey=True)
    for true, predicted in zip(predictions.targets.T, predictions.answers.T, strict=True):
        left.scatter(predicted, true - predicted, s=14, alpha=0.6)
        right.hist((true - predicted).nan_to_num().numpy(), bins=BINS, orientation="horizontal", alpha=0.6)
    left.axhline(0, linestyle="--", color="grey")
    left.set(xlabel="predicted", ylabel="true - predicted", title="residuals, test set")
    right.set(xlabel="samples")
    left.grid(alpha=0.3)
    return figure


def learning_curves(curves: dict[str, list[tuple[int, float]]]) -> Figure:
    """Training and validation over optimiser steps, one panel for each quantity, and the learning rate."""
    panels = [name for name in CURVES if f"val/{name}" in curves or f"train/{name}" in curves]
    figure = Figure(figsize=(5 * (len(panels) + 1), 3.6), layout="constrained")
    axes = figure.subplots(1, len(panels) + 1, squeeze=False)[0]
    for panel, name in zip(axes, panels, strict=False):
        for part, style in (("train", {"alpha": 0.6}), ("val", {"marker": "o", "markersize": 3})):
            points = curves.get(f"{part}/{name}", [])
            panel.plot(*_columns(points), label=part, **style)
        panel.set(title=name, xlabel="optimiser step")
        panel.legend()
        panel.grid(alpha=0.3)
    axes[-1].plot(*_columns(curves.get("train/learning_rate", [])))
    axes[-1].set(title="learning rate", xlabel="optimiser step")
    axes[-1].grid(alpha=0.3)
    return figure


def confusion_matrix(predictions: Predictions, names: tuple[str, ...]) -> Figure:
    """Rows are the truth, columns what the network said; colour is the share of the row."""
    classes = len(names)
    said = predictions.answers.argmax(dim=1)
    counts = torch.bincount(predictions.targets * classes + said, minlength=classes**2).reshape(classes, classes)
    shares = counts / counts.sum(dim=1, keepdim=True).clamp(min=1)
    size = min(2.5 + 0.45 * classes, 14)
    figure = Figure(figsize=(size, size), layout="constrained")
    panel = figure.subplots()
    panel.imshow(shares.numpy(), cmap="Blues", vmin=0, vmax=1)
    if classes <= 30:
        for row in range(classes):
            for column in range(classes):
                if counts[row, column]:
                    colour = "white" if shares[row, column] > 0.5 else "black"
                    panel.text(
                        column,
                        row,
                        str(int(counts[row, column])),
                        ha="center",
                        va="center",
                        color=colour,
                        size=8,
                    )
        panel.set_xticks(range(classes), names, rotation=45, ha="right")
        panel.set_yticks(range(classes), names)
    panel.set(xlabel="said", ylabel="true", title="confusion matrix, test set")
    return figure


def by_label(predictions: Predictions, names: tuple[str, ...]) -> Figure:
    """Of what was said how much is true, and of what is true how much was said."""
    scores = label_scores(predictions.targets.bool().numpy(), (predictions.answers > 0.5).numpy())
    figure = Figure(figsize=(6, min(1.5 + 0.4 * len(names), 14)), layout="constrained")
    panel = figure.subplots()
    rows = torch.arange(len(names))
    for offset, (what, values) in enumerate((("precision", scores.precision), ("recall", scores.recall))):
        panel.barh(rows + (offset - 0.5) * 0.4, values, height=0.4, label=what)
    panel.set_yticks(rows, [f"{name} ({count:,})" for name, count in zip(names, scores.support, strict=True)])
    panel.invert_yaxis()
    panel.set(xlim=(0, 1), title="labels, and how many samples have them, test set")
    panel.legend()
    panel.grid(axis="x", alpha=0.3)
    return figure


def reliability(predictions: Predictions) -> Figure:
    """How often the network is right, by how sure it is (Guo et al. 2017)."""
    confidence, said = predictions.answers.softmax(dim=1).max(dim=1)
    right = (said == predictions.targets).float()
    bins = (confidence * BINS).long().clamp(max=BINS - 1)
    counts = torch.bincount(bins, minlength=BINS)
    filled = counts > 0
    accuracy = torch.bincount(bins, weights=right, minlength=BINS)[filled] / counts[filled]
    centres = (torch.arange(BINS)[filled] + 0.5) / BINS
    figure = Figure(figsize=(5, 6), layout="constrained")
    upper, lower = figure.subplots(2, 1, height_ratios=[3, 1], sharex=True)
    upper.bar(centres, accuracy, width=1 / BINS, edgecolor="white", label="accuracy")
    upper.plot([0, 1], [0, 1], "--", color="grey", label="as sure as right")
    upper.set(title="reliability, test set", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1))
    upper.legend(loc="upper left")
    lower.bar(centres, counts[filled], width=1 / BINS, edgecolor="white", color="grey")
    lower.set(xlabel="confidence", ylabel="samples", yscale="log")
    return figure


def worst_of(predictions: Predictions) -> Tensor:
    """Places of the mistakes that cost the most."""
    wrong = predictions.answers.argmax(dim=1) != predictions.targets
    ordered = predictions.losses.masked_fill(~wrong, -math.inf).argsort(descending=True)
    return ordered[: min(MISTAKES, int(wrong.sum()))]


def worst_mistakes(predictions: Predictions, worst: Tensor, images: Tensor, names: tuple[str, ...]) -> Figure:
    """The test samples that cost the most, in pictures: true -> said, and how sure."""
    confidence, said = predictions.answers.softmax(dim=1).max(dim=1)
    wrong = int((said != predictions.targets).sum())
    captions = [
        f"{names[int(predictions.targets[row])]} → {names[int(said[row])]}  {confidence[row]:.0%}" for row in worst
    ]
    return image_grid(images, captions, f"worst of {wrong} mistakes: true → said")


def training_inputs(assembly: Assembly) -> Figure:
    """The first training images, as the network sees them: after augmentation, if there is any."""
    assert isinstance(assembly.data, DataModule)
    images = assembly.data.parts.train.inputs[:SAMPLES].cpu()
    callbacks = assembly.module.trainer.callbacks  # type: ignore[attr-defined]  # set by its connector
    augmentation = next((each for each in callbacks if isinstance(each, Augmentation)), None)
    title = "training inputs"
    if augmentation is not None and augmentation.transforms:
        for transform in augmentation.transforms:
            transform.to("cpu")
        images = augment(images, augmentation.transforms)
        title = "training inputs, augmented"
    return image_grid(images, [""] * len(images), title)


def image_grid(images: Tensor, captions: list[str], title: str) -> Figure:
    """(N, C, H, W) with 0 as black and 255 as white, eight in a row."""
    columns = 8
    rows = max(math.ceil(len(images) / columns), 1)
    figure = Figure(figsize=(columns * 1.15, rows * 1.3 + 0.4), layout="constrained")
    figure.suptitle(title)
    panels: list[Axes] = list(figure.subplots(rows, columns, squeeze=False).flat)
    for panel in panels:
        panel.axis("off")
    for panel, image, caption in zip(panels, images, captions, strict=False):
        pixels = image.float().div(255).clamp(0, 1).movedim(0, -1).numpy()
        panel.imshow(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels, cmap="gray", vmin=0, vmax=1)
        panel.set_title(caption, size=8)
    return figure


def _columns(points: list[tuple[int, float]]) -> tuple[list[int], list[float]]:
    return [step for step, _ in points], [value for _, value in points]
