"""What to type next, from what a run was given."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.diagnosis.inputs import VALIDATION_LOSS, DiagnosisInputs

STRONG_DROPOUT = 0.5
OWN_LOSS = "task.loss."
RATES = ("optimizer.learning_rate", "optimizer.lr")


def learning_rate_of(symptoms: DiagnosisInputs) -> tuple[str, float] | None:
    """The key of the learning rate, by whatever name the run's optimiser has it, and its value."""
    settings = symptoms.settings
    known = [key for key in RATES if isinstance(settings.get(key), int | float)]
    return (known[0], float(settings[known[0]])) if known else None


def scale_learning_rate(symptoms: DiagnosisInputs, *, times: float) -> tuple[str, ...]:
    found = learning_rate_of(symptoms)
    return () if found is None else (f"{found[0]}={found[1] * times:.3g}",)


def train_longer(symptoms: DiagnosisInputs, *, times: int) -> tuple[str, ...]:
    """Whichever limit the run has; both, if it has both."""
    epochs, steps = symptoms.settings.get("trainer.max_epochs"), symptoms.settings.get("trainer.max_steps")
    limits = (f"trainer.max_epochs={int(epochs) * times}",) if epochs is not None and epochs > 0 else ()
    return (*limits, f"trainer.max_steps={int(steps) * times}") if steps is not None and steps > 0 else limits


def has_constant_rate(symptoms: DiagnosisInputs) -> bool:
    return symptoms.settings.get("scheduler") == "constant"


def less_regularization(symptoms: DiagnosisInputs) -> tuple[str, ...]:
    """The heaviest hand first: penalties, dropout, then a larger model."""
    settings = symptoms.settings
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
    return ("model=transformer",) if symptoms.kind == "text" else ("model=mlp",)


def more_regularization(symptoms: DiagnosisInputs) -> tuple[str, ...]:
    """Of what the run does without yet: augmentation, dropout, early stopping, a penalty."""
    settings = symptoms.settings
    watched = "callbacks=default" if not _has(settings, "callbacks.early_stopping.") else None
    by_kind = {"image": "augmentation", "text": "token_dropout"}.get(symptoms.kind)
    if by_kind is not None and not _has(settings, f"callbacks.{by_kind}."):
        return (f"callbacks=[default,{by_kind}]",)
    dropout = settings.get("model.dropout")
    gentle = ("model.dropout=0.5",) if dropout is not None and float(dropout) < STRONG_DROPOUT else ()
    found = (*gentle, *([watched] if watched else []))
    return found or ("regularizer=l2", "regularizer.l2.strength=1e-2")


def weigh_rare_classes(symptoms: DiagnosisInputs) -> tuple[str, ...]:
    if "task.class_weights" in symptoms.settings and not _has(symptoms.settings, OWN_LOSS):
        return ("task.class_weights=balanced",)
    return monitor_metric(symptoms, "val/f1_macro", "max")


def soften_labels(symptoms: DiagnosisInputs) -> tuple[str, ...]:
    """A network that does not insist on every label."""
    smoothed = ("task.label_smoothing=0.1",) if _may_smooth(symptoms) else ()
    watched = () if _has(symptoms.settings, "callbacks.early_stopping.") else ("callbacks=default",)
    return (*smoothed, *watched) or more_regularization(symptoms)


def improve_calibration(symptoms: DiagnosisInputs, *, is_too_sure: bool) -> tuple[str, ...]:
    """What brings how sure a network is nearer to how often it is right."""
    if symptoms.settings.get("model") == "perceptron":  # its scores were never meant as probabilities
        return ("model=logistic_regression",)
    return _calmer(symptoms) if is_too_sure else _bolder(symptoms)


def _calmer(symptoms: DiagnosisInputs) -> tuple[str, ...]:
    smoothed = ("task.label_smoothing=0.05",) if _may_smooth(symptoms) else ()
    by_loss = symptoms.settings.get("checkpoint.monitor", VALIDATION_LOSS) == VALIDATION_LOSS
    lowest = () if by_loss else monitor_metric(symptoms, VALIDATION_LOSS, "min")
    return (*smoothed, *lowest) or more_regularization(symptoms)


def _bolder(symptoms: DiagnosisInputs) -> tuple[str, ...]:
    if _smoothing(symptoms) > 0:
        return ("task.label_smoothing=0",)
    if _has(symptoms.settings, "regularizer."):
        return ("regularizer=none",)
    return train_longer(symptoms, times=2)


def _smoothing(symptoms: DiagnosisInputs) -> float:
    return float(symptoms.settings.get("task.label_smoothing") or 0)


def _may_smooth(symptoms: DiagnosisInputs) -> bool:
    return _smoothing(symptoms) == 0 and not _has(symptoms.settings, OWN_LOSS)


def monitor_metric(symptoms: DiagnosisInputs, metric: str, mode: str) -> tuple[str, ...]:
    """The best checkpoint by another metric, and early stopping, where there is any."""
    found: tuple[str, ...] = (f"checkpoint.monitor={metric}", f"checkpoint.mode={mode}")
    if _has(symptoms.settings, "callbacks.early_stopping."):
        found += (f"callbacks.early_stopping.monitor={metric}", f"callbacks.early_stopping.mode={mode}")
    return found


def merge_overrides(before: Sequence[str], changes: Sequence[str]) -> list[str]:
    """Overrides of a run, but for those of a key that changes, or inside a group that is chosen anew."""
    keys = [change.partition("=")[0] for change in changes]
    inside = tuple(f"{key}." for key in keys if "." not in key)
    names = [each.partition("=")[0].lstrip("+~") for each in before]
    kept = [each for each, name in zip(before, names, strict=True) if name not in keys and not name.startswith(inside)]
    return [*kept, *changes]


def _has(settings: Mapping[str, Any], prefix: str) -> bool:
    return any(key.startswith(prefix) for key in settings)
