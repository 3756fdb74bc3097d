"""Format metrics, intervals, durations and settings for reports."""

from pipeline import metrics
from pipeline.reports.evaluation_statistics import CONFIDENCE, Interval

INTERVAL_LABEL = f"{CONFIDENCE:.0%} interval"


def metric_title(metric: str) -> str:
    """Return the title of a metric of any split; the name itself for a metric of the user's own."""
    ours = metrics.known_metric(metric)
    return metric.rpartition("/")[2] if ours is None else ours.title


def is_percentage(metric: str) -> bool:
    ours = metrics.known_metric(metric)
    return ours is not None and ours.is_percentage


def format_metric(metric: str, value: float) -> str:
    return f"{value:.2%}" if is_percentage(metric) else f"{value:.4f}"


def format_interval(metric: str, interval: Interval) -> str:
    if is_percentage(metric):
        return f"{100 * interval.low:.2f} to {interval.high:.2%}"
    return f"{interval.low:.4f} to {interval.high:.4f}"


def format_change(metric: str, difference: float) -> str:
    return f"{difference:+.2%}" if is_percentage(metric) else f"{difference:+.4f}"


def format_change_interval(metric: str, interval: Interval) -> str:
    return f"{format_change(metric, interval.low)} to {format_change(metric, interval.high)}"


def format_duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, left = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {left:02} s"
    return f"{minutes // 60} h {minutes % 60:02} min"


def metric_order(values: dict[str, float]) -> list[str]:
    """Return the names of test metrics: those of this package first, in the order of their definition."""
    known = [name for name in (f"test/{ours}" for ours in metrics.METRICS) if name in values]
    return known + sorted(values.keys() - set(known))


def format_p_value(value: float) -> str:
    return "< 0.0001" if value < 0.0001 else f"{value:.4f}"


def format_setting(value: object) -> str:
    return "none" if value is None else str(value)
