"""Define each metric once: its title, which way it is better, and its unit."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Mode = Literal["min", "max"]


@dataclass(frozen=True)
class Metric:
    """What is known about a metric.

    title          for a person
    mode            which way it is better
    is_percentage   whether it is a share that is shown in percent
    """

    title: str
    mode: Mode
    is_percentage: bool = False


# What the tasks of this package measure, in the order in which a report shows it.
METRICS = {
    "accuracy": Metric("accuracy", "max", is_percentage=True),
    "r2": Metric("R²", "max"),
    "rmse": Metric("RMSE", "min"),
    "mae": Metric("MAE", "min"),
    "loss": Metric("loss", "min"),
    "f1_macro": Metric("macro F1", "max", is_percentage=True),
    "hamming_loss": Metric("Hamming loss", "min"),
    "auroc": Metric("AUROC", "max"),
    "calibration_error": Metric("calibration error", "min"),
}
# By which of them a run is known; the first that it has.
HEADLINE_METRICS = ("accuracy", "r2")
HEADLINES = (*HEADLINE_METRICS, "loss")

# Words in the names that others give to theirs, such as val_acc_top1.
LOWER_IS_BETTER_WORDS = {
    "loss",
    "losses",
    "error",
    "err",
    "mae",
    "mse",
    "rmse",
    "mape",
    "msle",
    "nll",
    "bce",
    "ce",
    "elbo",
}
LOWER_IS_BETTER_WORDS |= {
    "perplexity",
    "ppl",
    "wer",
    "cer",
    "fid",
    "distance",
    "divergence",
    "kl",
    "deviance",
    "hinge",
    "brier",
}
HIGHER_IS_BETTER_WORDS = {
    "accuracy",
    "acc",
    "f1",
    "fbeta",
    "auroc",
    "auc",
    "auprc",
    "roc",
    "ap",
    "map",
    "precision",
    "recall",
    "r2",
}
HIGHER_IS_BETTER_WORDS |= {
    "sensitivity",
    "specificity",
    "iou",
    "miou",
    "jaccard",
    "dice",
    "bleu",
    "rouge",
    "psnr",
    "ssim",
    "score",
}
HIGHER_IS_BETTER_WORDS |= {
    "correlation",
    "pearson",
    "spearman",
    "kappa",
    "mcc",
    "top1",
    "top5",
    "ndcg",
    "mrr",
    "likelihood",
    "reward",
}


def known_metric(metric: str) -> Metric | None:
    """Return what is known of val/loss, test/r2, ...; None for a metric that is not measured by this package."""
    return METRICS.get(metric.rpartition("/")[2])


def mode_of(metric: str, own: Mapping[str, Mode] | None = None) -> Mode | None:
    """Return which way val/loss, val_acc, test/f1_macro, ... is better; None if nothing tells.

    `own` has the modes of a run's own metrics by name. Of a name in neither table the last word that tells counts.
    """
    name = metric.rpartition("/")[2].removesuffix("_epoch")
    if own is not None and name in own:
        return own[name]
    if name in METRICS:
        return METRICS[name].mode
    words = re.findall(r"[A-Z]?[a-z]+[0-9]*|[A-Z]+(?![a-z])[0-9]*", metric)
    for word in (word.lower() for word in reversed(words)):
        if word in LOWER_IS_BETTER_WORDS:
            return "min"
        if word in HIGHER_IS_BETTER_WORDS:
            return "max"
    return None


def wrong_mode_message(where: str, better: Mode, key: str) -> str:
    """Say that a metric is watched the wrong way round, and what to type."""
    return f"{where} is better when it is {'lower' if better == 'min' else 'higher'}; add {key}={better}"


def lower_is_better(metric: str) -> bool:
    return mode_of(metric) == "min"


def is_better(value: float, than: float, mode: str) -> bool:
    """Return whether a value is better; NaN is never better, and any number is better than NaN."""
    if than != than:
        return value == value
    return value > than if mode == "max" else value < than
