"""Choose the metric that callbacks monitor, from what a user's own LightningModule logs."""

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pytorch_lightning as pl
from pytorch_lightning.callbacks import EarlyStopping

from pipeline import metrics
from pipeline.errors import ConfigError
from pipeline.metrics import Mode, mode_of

DEFAULT_MONITOR = "val/loss"  # as in conf/: callbacks with it take another metric if a module does not log val/loss
AFTER_EPOCH = ("on_train_epoch_end",)
WHILE_VALIDATING = ("validation_step", "on_validation_batch_end", "on_validation_epoch_end", "on_validation_end")


@dataclass(frozen=True)
class MonitorChoice:
    """A metric to monitor, of validation or, with `in_training`, of an epoch of training."""

    metric: str
    mode: Mode
    in_training: bool = False

    @property
    def way(self) -> str:
        return "lower" if self.mode == "min" else "higher"


def choose_validation_metric(names: Iterable[str]) -> MonitorChoice | None:
    """Return val/loss, else the first metric that begins with val, else the first of all, or None.

    A loss comes before others, which are often the same for several epochs. Metrics count only if it is known whether
    they are better when lower or higher.
    """
    known = [name for name in names if not name.endswith("_step") and mode_of(name) is not None]
    usual = [name for name in ("val/loss", "val_loss") if name in known]
    losses = [name for name in known if "loss" in name.lower()]
    ranked = [*usual, *_of_validation(losses), *_of_validation(known), *losses, *known]
    return next((MonitorChoice(name, mode) for name in ranked if (mode := mode_of(name)) is not None), None)


def choose_training_metric(names: Iterable[str]) -> MonitorChoice | None:
    """Return the loss if there is one: several, such as those of two adversaries, do not measure progress."""
    name = next((name for name in ("train/loss", "train_loss", "loss") if name in names), None)
    return None if name is None else MonitorChoice(name, "min", in_training=True)


def _of_validation(names: Iterable[str]) -> list[str]:
    return [name for name in names if name.startswith("val")]


class NoSuchMetric(ConfigError):
    """A setting names a metric that is never logged, whatever the other settings are."""


class MetricMonitor(Protocol):
    """An object that keeps the best by a metric; with monitor None it keeps the newest."""

    monitor: str | None

    def set_monitor(self, monitor: str | None, mode: str, *, in_training: bool = False) -> None: ...


def set_monitor(callback: EarlyStopping | MetricMonitor, choice: MonitorChoice | None) -> None:
    """Let a callback monitor the chosen metric; with None it monitors nothing."""
    if not isinstance(callback, EarlyStopping):
        if choice is None:
            callback.set_monitor(None, "min")
        else:
            callback.set_monitor(choice.metric, choice.mode, in_training=choice.in_training)
    elif choice is None:
        callback.strict = False  # without its metric it never stops training
    else:
        fresh = EarlyStopping(choice.metric, min_delta=abs(callback.min_delta), mode=choice.mode)
        callback.monitor, callback.mode = fresh.monitor, fresh.mode
        callback.min_delta, callback.best_score = fresh.min_delta, fresh.best_score


def with_default_monitor(callbacks: Iterable[Any]) -> list[Any]:
    """Return the callbacks that monitor DEFAULT_MONITOR."""
    return [
        callback
        for callback in callbacks
        if (isinstance(callback, EarlyStopping) or hasattr(callback, "set_monitor"))
        and callback.monitor == DEFAULT_MONITOR
    ]


class MonitorDiscovery(pl.Callback):
    """Find out which metrics are logged: in validation by Lightning's sanity check, in training by the first batch.

    Set the monitor of the callbacks that have the default one, and call `decided` with the choice (None: there is
    nothing to monitor) and its reason. Raise NoSuchMetric if a metric that the user chose, or one of `needed`
    (key, metric), is never logged. It must be the first callback.
    """

    def __init__(
        self,
        callbacks: Sequence[pl.Callback],
        decided: Callable[[MonitorChoice | None, str, pl.Trainer], None],
        needed: Sequence[tuple[str, str]] = (),
    ) -> None:
        self.needed = needed
        self.defaults = with_default_monitor(callbacks)
        self.chosen_by_user = [
            callback for callback in callbacks if callback not in self.defaults and getattr(callback, "monitor", None)
        ]
        self.decided = decided
        self.is_settled = False
        self.validation_names: list[str] = []
        self.training_names: list[str] = []  # metrics of an epoch of training
        self.batch_names: list[str] = []  # metrics of single batches

    def on_sanity_check_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._listen(pl_module, self.validation_names, self.validation_names)

    def on_sanity_check_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        del pl_module.log  # back to the method of its class
        has_several_loaders = len(trainer.num_sanity_val_batches) > 1
        names = []
        if has_several_loaders:  # such names are not among the metrics so early
            names = [f"{name}/dataloader_idx_0" for name in self.validation_names]
        names = [*trainer.callback_metrics, *names, *logged_names(type(pl_module), WHILE_VALIDATING)]
        self.validation_names = list(dict.fromkeys(names))
        choice = choose_validation_metric(self.validation_names)
        if choice is not None:
            self._settle(choice, trainer)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._listen(pl_module, self.training_names, self.batch_names)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        if "log" not in vars(pl_module):
            return
        del pl_module.log  # back to the method of its class
        self.training_names += logged_names(type(pl_module), AFTER_EPOCH)
        if (
            not self.is_settled and trainer.enable_validation and not self.validation_names
        ):  # a resumed run has no sanity check
            self.validation_names = logged_names(type(pl_module), WHILE_VALIDATING)
        if not self.is_settled:
            choice = choose_validation_metric(self.validation_names) or choose_training_metric(self.training_names)
            self._settle(choice, trainer)
        self._check(trainer, pl_module)

    def _listen(self, module: pl.LightningModule, epoch_names: list[str], batch_names: list[str]) -> None:
        """Collect the names that the module logs; callback_metrics has averages over an epoch only when that ends."""
        log = module.log

        def log_and_collect(name: str, *args: Any, **kwargs: Any) -> None:
            (epoch_names if kwargs.get("on_epoch") else batch_names).append(name)
            log(name, *args, **kwargs)

        module.log = log_and_collect  # type: ignore[method-assign]

    def _settle(self, choice: MonitorChoice | None, trainer: pl.Trainer) -> None:
        self.is_settled = True
        for callback in self.defaults:
            set_monitor(callback, choice)
        if self.defaults:
            self.decided(choice, self._reason(choice, trainer), trainer)

    def _reason(self, choice: MonitorChoice | None, trainer: pl.Trainer) -> str:
        module = type(trainer.lightning_module).__name__
        if choice is not None:
            return f"{module} logs no {DEFAULT_MONITOR}"
        logged = ", ".join(dict.fromkeys((*self.validation_names, *self.training_names)))
        if logged:
            return f"{module} logs {logged}, which do not measure progress"
        of_batches = ", ".join(dict.fromkeys(self.batch_names))
        if of_batches:
            return f"{module} logs {of_batches} for single batches only (on_epoch=True logs the mean of the epoch)"
        return f"{module} logs nothing"

    def _check(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        logged = dict.fromkeys((*self.validation_names, *self.training_names, *self.batch_names))
        suffixed = {f"{name}_epoch" for name in self.training_names} | {f"{name}_step" for name in logged}
        needed = [
            (f"{_name(callback)}.monitor", str(getattr(callback, "monitor", None))) for callback in self.chosen_by_user
        ]
        needed += [
            (f"{type(plateau.scheduler).__name__}.monitor", str(plateau.monitor))
            for plateau in trainer.lr_scheduler_configs
            if plateau.reduce_on_plateau and plateau.strict
        ]
        for key, metric in (*needed, *self.needed):
            if metric not in logged and metric not in suffixed:
                remedy = f"choose one of {', '.join(logged)}" if logged else "it logs nothing"
                validation = "" if trainer.enable_validation else ", and there is no validation"
                raise NoSuchMetric(f"{key}={metric}: {type(module).__name__} logs no such metric{validation}; {remedy}")


def _name(callback: pl.Callback) -> str:
    return "checkpoint" if hasattr(callback, "set_monitor") else type(callback).__name__


def logged_names(module: type[pl.LightningModule], methods: Sequence[str]) -> list[str]:
    """Return the names that the source of these methods passes literally to self.log and self.log_dict.

    They may be logged too late to be seen otherwise, such as not in the sanity check.
    """
    names: list[str] = []
    for method in methods:
        function = getattr(module, method)
        if function.__module__.startswith("pytorch_lightning."):
            continue
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
        except (OSError, TypeError, SyntaxError):
            continue
        names += [name for call in ast.walk(tree) if isinstance(call, ast.Call) for name in _names(call)]
    return names


def _names(call: ast.Call) -> Iterator[str]:
    called, first = getattr(call.func, "attr", ""), call.args[0] if call.args else None
    values = {"log": [first], "log_dict": first.keys if isinstance(first, ast.Dict) else []}.get(called, [])
    for value in values:
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            yield value.value


class BestScore:
    """The best value of a metric so far. Without a monitor there is no best, and the newest weights count."""

    monitor: str | None
    mode: str
    in_training: bool
    best_score: float | None = None

    def set_monitor(self, monitor: str | None, mode: str, *, in_training: bool = False) -> None:
        """Set the metric by which weights are the best. A metric of training is known at the end of the epoch."""
        self.monitor, self.mode = monitor, mode
        self.in_training = in_training or (monitor is not None and monitor.startswith("train"))

    def improves(self, score: float) -> bool:
        """Return whether the newest weights, with this score, are the best so far."""
        is_best = self.best_score is None or metrics.is_better(score, self.best_score, self.mode)
        if is_best:
            self.best_score = score
        return is_best
