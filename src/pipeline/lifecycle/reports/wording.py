"""Numbers as a person reads them."""

from pipeline.lifecycle.reports.statistics import CONFIDENCE, Interval

NAMES = {
    "test/accuracy": "accuracy",
    "test/r2": "R²",
    "test/rmse": "RMSE",
    "test/mae": "MAE",
    "test/loss": "loss",
    "test/f1_macro": "macro F1",
    "test/hamming_loss": "Hamming loss",
    "test/auroc": "AUROC",
    "test/calibration_error": "calibration error",
}
IN_PERCENT = frozenset(("test/accuracy", "test/f1_macro"))
LEVEL = f"{CONFIDENCE:.0%} interval"


def name_of(metric: str) -> str:
    """Of one of the test set, or of the validation set."""
    name = metric.rpartition("/")[2]
    return NAMES.get(f"test/{name}", name)


def value_of(metric: str, value: float) -> str:
    return f"{value:.2%}" if metric in IN_PERCENT else f"{value:.4f}"


def interval_of(metric: str, interval: Interval) -> str:
    if metric in IN_PERCENT:
        return f"{100 * interval.low:.2f} to {interval.high:.2%}"
    return f"{interval.low:.4f} to {interval.high:.4f}"


def change_of(metric: str, difference: float) -> str:
    return f"{difference:+.2%}" if metric in IN_PERCENT else f"{difference:+.4f}"


def interval_of_change(metric: str, interval: Interval) -> str:
    return f"{change_of(metric, interval.low)} to {change_of(metric, interval.high)}"


def duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, left = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {left:02} s"
    return f"{minutes // 60} h {minutes % 60:02} min"


def in_order(metrics: dict[str, float]) -> list[str]:
    """Those with a name of their own first, as they stand above."""
    known = [name for name in NAMES if name in metrics]
    return known + sorted(metrics.keys() - NAMES.keys())


def p_value(value: float) -> str:
    return "< 0.0001" if value < 0.0001 else f"{value:.4f}"


def setting(value: object) -> str:
    return "none" if value is None else str(value)
