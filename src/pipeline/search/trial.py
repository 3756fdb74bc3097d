"""One trial: a training that is judged on the validation set alone."""

import logging
import re
import time
from collections.abc import Iterable
from typing import Any

import pytorch_lightning as pl
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf
from optuna.study import Study
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.loggers import Logger
from torch import Tensor

from pipeline.config import instantiate
from pipeline.config.target_allowlist import target_nodes
from pipeline.data.datamodule import DataModule
from pipeline.errors import TrainingFailed, UserError
from pipeline.lifecycle import summaries
from pipeline.lifecycle.build import Components, build_components, build_data
from pipeline.lifecycle.final_test import evaluate_splits
from pipeline.lifecycle.save_predictions import digest_of_split
from pipeline.lifecycle.train import build_checked_trainer
from pipeline.metrics import lower_is_better
from pipeline.runs.model_selection import record_test_use
from pipeline.runs.run_directory import Run
from pipeline.search import directory
from pipeline.search.directory import DIVERGED, FINISHED, PRUNED
from pipeline.search.optuna_private import storage_of
from pipeline.search.plan import COUNTED_ONCE, Plan, check_direction
from pipeline.search.space import Picked
from pipeline.search.storage import UNREACHABLE
from pipeline.system.process import SINGLE_PROCESS, Rank
from pipeline.tracking.journal import Journal
from pipeline.tracking.logger import JournalLogger
from pipeline.training.callbacks.averaging import evaluation_weights_now
from pipeline.training.callbacks.monitored_metric import BestScore, MonitorDiscovery, NoSuchMetric
from pipeline.training.callbacks.monitors import EpochTiming
from pipeline.training.distributed.periodic_max import PeriodicMax
from pipeline.training.learner import Learner

NAME_LENGTH = 60

log = logging.getLogger(__name__)


class Watch(Checkpoint, BestScore):
    """Reports each validation to the study, and ends the training when it is not worth going on.

    The scores are those of the epoch that `train` would keep the weights of, by `checkpoint.monitor`; being a
    Checkpoint, Lightning calls it, too, after all other callbacks. Only the first process has a `study`; what it
    decides all do.
    """

    def __init__(self, study: Study | None, trial_id: int, plan: Plan, checkpoint: DictConfig) -> None:
        self.study = study
        self.trial_id = trial_id
        self.plan = plan
        self.set_monitor(checkpoint.monitor, checkpoint.mode)
        self.scores: dict[str, float] = {}
        self.validated: dict[str, float] = {}  # those of the newest validation
        self.kept: dict[str, Tensor] | None = None  # the weights of that epoch, where they are to be judged further
        self.is_pruned = False
        self.step = 0

    def check(self, assembly: Components) -> None:
        """Raises NoSuchMetric before anything is trained, where the metrics of the task are known."""
        for name in self.plan.watched - {COUNTED_ONCE}:
            if assembly.metric_names is not None and name not in assembly.metric_names:
                instead = self._instead_of(name, assembly.metric_names, assembly.module)
                raise NoSuchMetric(f"{name} is no metric of this run: {instead}")
        for name, direction in self.plan.objectives.items():
            if (better := assembly.custom_modes.get(name.rpartition("/")[2])) is not None:
                check_direction(name, direction, better)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if COUNTED_ONCE in self.plan.watched:
            self.scores[COUNTED_ONCE] = count(pl_module)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        self.step += 1
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        for name in self.plan.watched - {COUNTED_ONCE}:
            if name not in metrics:
                raise NoSuchMetric(f"{name} is no metric of this run: {self._instead_of(name, metrics, pl_module)}")
        self.validated = {name: metrics[name] for name in self.plan.watched if name != COUNTED_ONCE}
        if not self.in_training:
            self._compare(trainer, pl_module)
        wish = int(self.study is not None and self._is_hopeless(self.study, metrics))
        # A new one each time, so that they meet at each validation, which is long enough for that.
        (agreed,) = PeriodicMax().all_reduce(wish, device=trainer.strategy.root_device)
        if agreed:
            self.is_pruned = trainer.should_stop = True

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.in_training and self.step > 0:
            self._compare(trainer, pl_module)

    def _compare(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        metrics = trainer.callback_metrics
        if self.monitor is not None and self.monitor not in metrics:
            instead = self._instead_of(self.monitor, metrics, pl_module)
            raise NoSuchMetric(f"{self.monitor} is no metric of this run: {instead}")
        if self.monitor is None or self.improves(float(metrics[self.monitor])):
            self.scores |= self.validated
            if self.plan.judged:
                self.kept = evaluation_weights_now(trainer, pl_module)

    def _instead_of(self, name: str, metrics: Iterable[str], module: pl.LightningModule) -> str:
        """What to type."""
        others = f"choose one of {', '.join(sorted(metrics))}"
        if name == self.monitor:
            return f"for checkpoint.monitor {others}"
        if name in self.plan.constraints:
            return f"for search.constraints {others}"
        headline = f"val/{module.task.headline}" if isinstance(module, Learner) else "val/loss"
        direction = "minimize" if lower_is_better(headline) else "maximize"
        return f"type 'search.objectives={{{headline}: {direction}}}', or {others}"

    def _is_hopeless(self, study: Study, metrics: dict[str, float]) -> bool:
        if len(self.plan.objectives) > 1:  # Optuna prunes by one
            return False
        (name,) = self.plan.objectives
        if name == COUNTED_ONCE:
            return False
        try:
            storage = storage_of(study)
            storage.set_trial_intermediate_value(self.trial_id, self.step, metrics[name])
            return bool(study.pruner.prune(study, storage.get_trial(self.trial_id)))
        except UNREACHABLE as problem:  # a database that is being restarted: the trial goes on, and is not pruned now
            log.warning("this score could not be compared: %s", problem)
            return False


def prepare(config: DictConfig, loaded: DataModule | None) -> DataModule | None:
    """Import and load what a trial needs, for it and those after it; what is in `loaded` is not loaded again.

    None for what may not be loaded before a trial is forked: whoever starts threads or takes an accelerator cannot go
    on after a fork, and of a user's own source nobody knows. What is wrong with the data the trial will say.
    """
    source = config.data.get("source")
    if source is None or not _is_ours(source):
        return None
    for _, node in target_nodes(OmegaConf.to_container(config)):
        if _is_ours(node):
            get_object(node["_target_"])
    try:
        data = build_data(config, SINGLE_PROCESS, loaded)
    except UserError:
        return None
    return data if isinstance(data, DataModule) else None


def _is_ours(node: Any) -> bool:
    return str(node.get("_target_")).startswith("pipeline.")


def train(
    run: Run, config: DictConfig, here: Rank, watch: Watch, start: dict[str, Any], loaded: DataModule | None
) -> None:
    """Leaves journal and outcome in the trial's directory; `start` is what its journal says of it.

    Raises UserError for what cannot be trained.
    """
    instantiate.check_signatures(config)
    assembly = build_components(config, here, loaded)
    callbacks = [*instantiate.instantiate(config.callbacks, config).values(), EpochTiming(), watch]
    watch.check(assembly)
    callbacks = [*_monitoring(callbacks, assembly, watch), *callbacks]
    journal = Journal(run.journal_path)
    loggers: list[Logger] = [JournalLogger(journal)] if here.is_first else []
    trainer = build_checked_trainer(config, assembly, callbacks, loggers, run.folder, here)
    if here.is_first:
        journal.start(**start)
        journal.artifact("config.yaml")
    began = time.monotonic()
    state, reason = PRUNED, directory.broken(watch.plan.constraints, {COUNTED_ONCE: count(assembly.module)})
    try:
        if reason is None:
            trainer.fit(assembly.module, datamodule=assembly.data)
            state = PRUNED if watch.is_pruned else FINISHED
    except TrainingFailed as failure:  # a loss that is no number: these values do not work, and never will
        state, reason = DIVERGED, str(failure)
    seconds = time.monotonic() - began
    judged = judge(trainer, assembly, watch) if state == FINISHED else None
    if here.is_first:
        if judged is not None and "test" in judged and (digest := digest_of_split(assembly, "test")) is not None:
            record_test_use(run, digest, "last", journal)
        journal.tags({"trial.state": state.lower()})
        journal.end("FAILED" if state == DIVERGED else "FINISHED", error=reason)
        journal.close()
        scores = watch.scores or {COUNTED_ONCE: count(assembly.module)}
        directory.write(run.folder, state, scores, seconds=seconds, reason=reason, judged=judged)


def _monitoring(callbacks: list[pl.Callback], assembly: Components, watch: Watch) -> list[pl.Callback]:
    """What finds out which metrics a LightningModule of the user's own logs."""
    if isinstance(assembly.module, Learner):
        return []
    needed = [("search.objectives", name) for name in watch.plan.objectives if name != COUNTED_ONCE]
    needed += [("search.constraints", name) for name in watch.plan.constraints if name != COUNTED_ONCE]
    return [MonitorDiscovery(callbacks, lambda *_: None, needed)]


def judge(trainer: pl.Trainer, assembly: Components, watch: Watch) -> dict[str, Any] | None:
    """On the parts that `search.judged` names, with the weights that `train` would keep; by this nothing is chosen."""
    if watch.kept is None or assembly.spec is None:
        return None
    scores = evaluate_splits(trainer, assembly, watch.kept, watch.plan.judged)
    return {"samples": assembly.spec.sizes["train"], **scores} if scores else None


def count(module: pl.LightningModule) -> float:
    """Its weights, those that are trained."""
    return float(sum(weight.numel() for weight in module.parameters() if weight.requires_grad))


def start_record(plan: Plan, number: int, picked: Picked, config: DictConfig, search: str) -> dict[str, Any]:
    """What the trial's journal says about it: named by what varies."""
    varying = " ".join(f"{key.rpartition('.')[2]}={_short(text)}" for key, text in plan.space.texts(picked).items())
    return {
        "name": f"{number} {varying}"[:NAME_LENGTH],
        "experiment": config.tracking.get("experiment") or config.name,
        "run_uid": f"{search}-{number:04}",
        "params": summaries.logged_parameters(config, plan.composed(picked).choices),
        "tags": {"search": search, "trial": str(number)},
    }


def _short(text: str) -> str:
    number = re.fullmatch(r"-?\d+\.\d+(e-?\d+)?|-?\d+e-?\d+", text)
    return text if number is None else f"{float(text):.3g}"
