"""What a LightningModule of the user's own logs, known before training, and what is therefore monitored."""

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

DEFAULT_MONITOR = (
    "val/loss"  # what conf/ has: whoever waits for it takes another metric where a module logs none of that name
)
AFTER_EPOCH = ("on_train_epoch_end",)
WHILE_VALIDATING = ("validation_step", "on_validation_batch_end", "on_validation_epoch_end", "on_validation_end")


@dataclass(frozen=True)
class MonitorChoice:
    """in_training  it is that of an epoch of training, not of validation"""

    metric: str
    mode: Mode
    in_training: bool = False

    @property
    def way(self) -> str:
        return "lower" if self.mode == "min" else "higher"


def choose_validation_metric(names: Iterable[str]) -> MonitorChoice | None:
    """The usual one, else the first of those that begin with val, else the first at all: a loss before others, which
    are often the same for several epochs. Only names that tell which way is better count."""
    known = [name for name in names if not name.endswith("_step") and mode_of(name) is not None]
    usual = [name for name in ("val/loss", "val_loss") if name in known]
    losses = [name for name in known if "loss" in name.lower()]
    ranked = [*usual, *_of_part(losses), *_of_part(known), *losses, *known]
    return next((MonitorChoice(name, mode) for name in ranked if (mode := mode_of(name)) is not None), None)


def choose_training_metric(names: Iterable[str]) -> MonitorChoice | None:
    """The loss, if there is one: of several, such as those of two adversaries, none tells how far a training is."""
    name = next((each for each in ("train/loss", "train_loss", "loss") if each in names), None)
    return None if name is None else MonitorChoice(name, "min", in_training=True)


def _of_part(names: Iterable[str]) -> list[str]:
    return [name for name in names if name.startswith("val")]


class NoSuchMetric(ConfigError):
    """Somebody waits for a metric that nothing logs, whatever the values of the other settings."""


class MetricMonitor(Protocol):
    """What keeps the best by a metric. With None there is no best, and the newest counts."""

    monitor: str | None

    def set_monitor(self, monitor: str | None, mode: str, *, in_training: bool = False) -> None: ...


def set_monitor(callback: EarlyStopping | MetricMonitor, choice: MonitorChoice | None) -> None:
    """From now on it monitors this; with None it stands down."""
    if not isinstance(callback, EarlyStopping):
        if choice is None:
            callback.set_monitor(None, "min")
        else:
            callback.set_monitor(choice.metric, choice.mode, in_training=choice.in_training)
    elif choice is None:
        callback.strict = False  # for want of the metric it never stops anything
    else:
        fresh = EarlyStopping(choice.metric, min_delta=abs(callback.min_delta), mode=choice.mode)
        callback.monitor, callback.mode = fresh.monitor, fresh.mode
        callback.min_delta, callback.best_score = fresh.min_delta, fresh.best_score


def with_default_monitor(callbacks: Iterable[Any]) -> list[Any]:
    """Those that wait for what nobody has chosen by hand."""
    able = [each for each in callbacks if isinstance(each, EarlyStopping) or hasattr(each, "set_monitor")]
    return [each for each in able if each.monitor == DEFAULT_MONITOR]


class MonitorDiscovery(pl.Callback):
    """Finds out what is logged: of validation by Lightning's sanity check, of training by the first batch.

    Hands it to those who watch our default, and tells `decided`: the choice (None: there is nothing to monitor), and
    why. Of what is typed by hand, and of what is `needed` (key, metric) besides, raises NoSuchMetric where nothing
    logs it. To stand before the others.
    """

    def __init__(
        self,
        callbacks: Sequence[pl.Callback],
        decided: Callable[[MonitorChoice | None, str, pl.Trainer], None],
        needed: Sequence[tuple[str, str]] = (),
    ) -> None:
        self.needed = needed
        self.defaults = with_default_monitor(callbacks)
        self.by_hand = [each for each in callbacks if each not in self.defaults and getattr(each, "monitor", None)]
        self.decided = decided
        self.is_settled = False
        self.of_validation: list[str] = []
        self.of_training: list[str] = []  # what is there when an epoch ends
        self.of_batches: list[str] = []

    def on_sanity_check_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._listen(pl_module, self.of_validation, self.of_validation)

    def on_sanity_check_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        del pl_module.log  # the method of its class again
        heard, several = self.of_validation, len(trainer.num_sanity_val_batches) > 1
        names = [f"{name}/dataloader_idx_0" for name in heard] if several else []  # not among the metrics so early
        names = [*trainer.callback_metrics, *names, *logged_names(type(pl_module), WHILE_VALIDATING)]
        self.of_validation = list(dict.fromkeys(names))
        choice = choose_validation_metric(self.of_validation)
        if choice is not None:
            self._settle(choice, trainer)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._listen(pl_module, self.of_training, self.of_batches)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        if "log" not in vars(pl_module):
            return
        del pl_module.log  # the method of its class again
        self.of_training += logged_names(type(pl_module), AFTER_EPOCH)
        if not self.is_settled and trainer.enable_validation and not self.of_validation:  # resumed: no sanity check
            self.of_validation = logged_names(type(pl_module), WHILE_VALIDATING)
        if not self.is_settled:
            choice = choose_validation_metric(self.of_validation) or choose_training_metric(self.of_training)
            self._settle(choice, trainer)
        self._check(trainer, pl_module)

    def _listen(self, module: pl.LightningModule, of_epochs: list[str], of_batches: list[str]) -> None:
        """For a batch: callback_metrics has what is averaged over an epoch only when that is over."""
        log = module.log

        def heard(name: str, *args: Any, **kwargs: Any) -> None:
            (of_epochs if kwargs.get("on_epoch") else of_batches).append(name)
            log(name, *args, **kwargs)

        module.log = heard  # type: ignore[method-assign]

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
        logged = ", ".join(dict.fromkeys((*self.of_validation, *self.of_training)))
        if logged:
            return f"{module} logs {logged}, by which nobody can tell how far it is"
        single = ", ".join(dict.fromkeys(self.of_batches))
        if single:
            return f"{module} logs {single} of single batches alone (on_epoch=True makes one of the epoch)"
        return f"{module} logs nothing"

    def _check(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        logged = dict.fromkeys((*self.of_validation, *self.of_training, *self.of_batches))
        forked = {f"{name}_epoch" for name in self.of_training} | {f"{name}_step" for name in logged}
        waiting = [(f"{_name(each)}.monitor", str(getattr(each, "monitor", None))) for each in self.by_hand]
        plateaus = [each for each in trainer.lr_scheduler_configs if each.reduce_on_plateau and each.strict]
        waiting += [(f"{type(each.scheduler).__name__}.monitor", str(each.monitor)) for each in plateaus]
        for who, metric in (*waiting, *self.needed):
            if metric not in logged and metric not in forked:
                there_is = f"choose one of {', '.join(logged)}" if logged else "it logs nothing"
                validates = "" if trainer.enable_validation else ", and there is no validation"
                raise NoSuchMetric(
                    f"{who}={metric}: {type(module).__name__} logs no such metric{validates}; {there_is}"
                )


def _name(callback: pl.Callback) -> str:
    return "checkpoint" if hasattr(callback, "set_monitor") else type(callback).__name__


def logged_names(module: type[pl.LightningModule], methods: Sequence[str]) -> list[str]:
    """The names that the source of these methods gives to self.log and self.log_dict in so many words.

    They may be logged later than anybody looks, such as not in the sanity check.
    """
    found: list[str] = []
    for method in methods:
        function = getattr(module, method)
        if function.__module__.startswith("pytorch_lightning."):
            continue
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
        except (OSError, TypeError, SyntaxError):
            continue
        found += [name for call in ast.walk(tree) if isinstance(call, ast.Call) for name in _names(call)]
    return found


def _names(call: ast.Call) -> Iterator[str]:
    called, first = getattr(call.func, "attr", ""), call.args[0] if call.args else None
    values = {"log": [first], "log_dict": first.keys if isinstance(first, ast.Dict) else []}.get(called, [])
    for value in values:
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            yield value.value


class BestScore:
    """The best value of a metric so far. Without a monitor nothing is the best, and the newest weights count."""

    monitor: str | None
    mode: str
    in_training: bool
    best_score: float | None = None

    def set_monitor(self, monitor: str | None, mode: str, *, in_training: bool = False) -> None:
        """By which metric weights are the best. One of training is known when the epoch is over."""
        self.monitor, self.mode = monitor, mode
        self.in_training = in_training or (monitor is not None and monitor.startswith("train"))

    def improves(self, score: float) -> bool:
        """Take the score of the newest weights, and say whether they are the best so far."""
        is_best = self.best_score is None or metrics.is_better(score, self.best_score, self.mode)
        if is_best:
            self.best_score = score
        return is_best
