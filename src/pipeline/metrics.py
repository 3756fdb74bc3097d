"""Which way a metric is better, by its name: the one place that says so."""

import re
from typing import Literal

Mode = Literal["min", "max"]

# What the tasks of this package measure.
OURS: dict[str, Mode] = {
    "loss": "min",
    "accuracy": "max",
    "f1_macro": "max",
    "auroc": "max",
    "calibration_error": "min",
    "hamming_loss": "min",
    "r2": "max",
    "mae": "min",
    "rmse": "min",
}
# Words in the names that others give to theirs, such as val_acc_top1.
LOWER = {"loss", "losses", "error", "err", "mae", "mse", "rmse", "mape", "msle", "nll", "bce", "ce", "elbo"}
LOWER |= {"perplexity", "ppl", "wer", "cer", "fid", "distance", "divergence", "kl", "deviance", "hinge", "brier"}
HIGHER = {"accuracy", "acc", "f1", "fbeta", "auroc", "auc", "auprc", "roc", "ap", "map", "precision", "recall", "r2"}
HIGHER |= {"sensitivity", "specificity", "iou", "miou", "jaccard", "dice", "bleu", "rouge", "psnr", "ssim", "score"}
HIGHER |= {"correlation", "pearson", "spearman", "kappa", "mcc", "top1", "top5", "ndcg", "mrr", "likelihood", "reward"}


def mode_of(metric: str) -> Mode | None:
    """Of val/loss, val_acc, test/f1_macro, ...; None for a name that does not tell. The last word that tells counts."""
    words = re.findall(r"[A-Z]?[a-z]+[0-9]*|[A-Z]+(?![a-z])[0-9]*", metric)
    for word in (word.lower() for word in reversed(words)):
        if word in LOWER:
            return "min"
        if word in HIGHER:
            return "max"
    return None


def lower_is_better(metric: str) -> bool:
    return mode_of(metric) == "min"


def is_better(value: float, than: float, mode: str) -> bool:
    """A value that is no number is never better, and any number is better than one."""
    if than != than:
        return value == value
    return value > than if mode == "max" else value < than
