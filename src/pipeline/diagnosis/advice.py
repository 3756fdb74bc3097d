"""Choose the overrides to try next, from a run's settings."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.diagnosis.inputs import VALIDATION_LOSS, DiagnosisInputs

STRONG_DROPOUT = 0.5
OWN_LOSS = "task.loss."
RATES = ("optimizer.learning_rate", "optimizer.lr")


def learning_rate_of(inputs: DiagnosisInputs) -> tuple[str, float] | None:
    """Return the optimiser's key for the learning rate, and its value; None if there is none."""
    settings = inputs.settings
    known = [key for key in RATES if isinstance(settings.get(key), int | float)]
    return (known[0], float(settings[known[0]])) if known else None


def scale_learning_rate(inputs: DiagnosisInputs, *, times: float) -> tuple[str, ...]:
    found = learning_rate_of(inputs)
    return () if found is None else (f"{found[0]}={found[1] * times:.3g}",)


def train_longer(inputs: DiagnosisInputs, *, times: int) -> tuple[str, ...]:
    """Multiply the run's limits: epochs, steps, or both."""
    epochs, steps = inputs.settings.get("trainer.max_epochs"), inputs.settings.get("trainer.max_steps")
    limits = (f"trainer.max_epochs={int(epochs) * times}",) if epochs is not None and epochs > 0 else ()
    return (*limits, f"trainer.max_steps={int(steps) * times}") if steps is not None and steps > 0 else limits


def has_constant_rate(inputs: DiagnosisInputs) -> bool:
    return inputs.settings.get("scheduler") == "constant"


def less_regularization(inputs: DiagnosisInputs) -> tuple[str, ...]:
    """Remove penalties first, then dropout; otherwise enlarge the model."""
    settings = inputs.settings
    if any(key.startswith("regularizer.") for key in settings):
        return ("regularizer=none",)
    if float(settings.get("model.dropout") or 0) >= STRONG_DROPOUT:
        return ("model.dropout=0",)
    widths = settings.get("model.widths")
    if widths:
        return (f"model.widths=[{','.join(str(int(width) * 4) for width in widths)}]",)
    for key in ("model.hidden", "model.channels", "model.width"):
        if isinstance(settings.get(key), int):
            return (f"{key}={settings[key] * 2}",)
    return ("model=transformer",) if inputs.kind == "text" else ("model=mlp",)


def more_regularization(inputs: DiagnosisInputs) -> tuple[str, ...]:
    """Add what the run does not use yet: augmentation, dropout, early stopping, or a penalty."""
    settings = inputs.settings
    watched = "callbacks=default" if not _has(settings, "callbacks.early_stopping.") else None
    by_kind = {"image": "augmentation", "text": "token_dropout"}.get(inputs.kind)
    if by_kind is not None and not _has(settings, f"callbacks.{by_kind}."):
        return (f"callbacks=[default,{by_kind}]",)
    dropout = settings.get("model.dropout")
    gentle = ("model.dropout=0.5",) if dropout is not None and float(dropout) < STRONG_DROPOUT else ()
    found = (*gentle, *([watched] if watched else []))
    return found or ("regularizer=l2", "regularizer.l2.strength=1e-2")


def weigh_rare_classes(inputs: DiagnosisInputs) -> tuple[str, ...]:
    if "task.class_weights" in inputs.settings and not _has(inputs.settings, OWN_LOSS):
        return ("task.class_weights=balanced",)
    return monitor_metric(inputs, "val/f1_macro", "max")


def soften_labels(inputs: DiagnosisInputs) -> tuple[str, ...]:
    """Smooth the labels and stop early, against wrong labels."""
    smoothed = ("task.label_smoothing=0.1",) if _may_smooth(inputs) else ()
    watched = () if _has(inputs.settings, "callbacks.early_stopping.") else ("callbacks=default",)
    return (*smoothed, *watched) or more_regularization(inputs)


def improve_calibration(inputs: DiagnosisInputs, *, is_overconfident: bool) -> tuple[str, ...]:
    """Bring the confidence nearer to the accuracy."""
    if inputs.settings.get("model") == "perceptron":  # its scores are no probabilities
        return ("model=logistic_regression",)
    return _lower_confidence(inputs) if is_overconfident else _raise_confidence(inputs)


def _lower_confidence(inputs: DiagnosisInputs) -> tuple[str, ...]:
    smoothed = ("task.label_smoothing=0.05",) if _may_smooth(inputs) else ()
    by_loss = inputs.settings.get("checkpoint.monitor", VALIDATION_LOSS) == VALIDATION_LOSS
    lowest = () if by_loss else monitor_metric(inputs, VALIDATION_LOSS, "min")
    return (*smoothed, *lowest) or more_regularization(inputs)


def _raise_confidence(inputs: DiagnosisInputs) -> tuple[str, ...]:
    if _smoothing(inputs) > 0:
        return ("task.label_smoothing=0",)
    if _has(inputs.settings, "regularizer."):
        return ("regularizer=none",)
    return train_longer(inputs, times=2)


def _smoothing(inputs: DiagnosisInputs) -> float:
    return float(inputs.settings.get("task.label_smoothing") or 0)


def _may_smooth(inputs: DiagnosisInputs) -> bool:
    return _smoothing(inputs) == 0 and not _has(inputs.settings, OWN_LOSS)


def monitor_metric(inputs: DiagnosisInputs, metric: str, mode: str) -> tuple[str, ...]:
    """Select the best checkpoint by another metric, and stop early by it if the run stops early."""
    found: tuple[str, ...] = (f"checkpoint.monitor={metric}", f"checkpoint.mode={mode}")
    if _has(inputs.settings, "callbacks.early_stopping."):
        found += (f"callbacks.early_stopping.monitor={metric}", f"callbacks.early_stopping.mode={mode}")
    return found


def merge_overrides(before: Sequence[str], changes: Sequence[str]) -> list[str]:
    """Return a run's overrides with the changes; drop those of the same key, or inside a group chosen anew."""
    keys = [change.partition("=")[0] for change in changes]
    inside = tuple(f"{key}." for key in keys if "." not in key)
    names = [each.partition("=")[0].lstrip("+~") for each in before]
    remaining = [
        each for each, name in zip(before, names, strict=True) if name not in keys and not name.startswith(inside)
    ]
    return [*remaining, *changes]


def _has(settings: Mapping[str, Any], prefix: str) -> bool:
    return any(key.startswith(prefix) for key in settings)
