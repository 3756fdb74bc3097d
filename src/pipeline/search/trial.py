"""One trial: a training that is evaluated on the validation set alone, and may be pruned."""

import logging
import re
import time
from collections.abc import Collection
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
from pipeline.lifecycle.trainer import build_checked_trainer
from pipeline.metrics import lower_is_better
from pipeline.runs.model_selection import record_test_use
from pipeline.runs.run_directory import Run
from pipeline.search.directory import DIVERGED, FINISHED, PRUNED, violated_constraint, write_trial_result
from pipeline.search.optuna_private import study_storage
from pipeline.search.plan import PARAMETER_COUNT, Plan, check_direction
from pipeline.search.space import Params
from pipeline.search.storage import DATABASE_ERRORS
from pipeline.system.process import SINGLE_PROCESS, Rank
from pipeline.tracking.journal import Journal
from pipeline.tracking.logger import JournalLogger
from pipeline.training.callbacks.averaging import evaluation_weights_now
from pipeline.training.callbacks.monitored_metric import BestScore, MonitorDiscovery, NoSuchMetric
from pipeline.training.callbacks.monitors import EpochTiming
from pipeline.training.distributed.periodic_max import PeriodicMax
from pipeline.training.learner import Learner

MAX_NAME_LENGTH = 60

log = logging.getLogger(__name__)


class PruningCallback(Checkpoint, BestScore):
    """Reports each validation to the study, and ends the training when the pruner says so.

    `scores` holds the metrics of the best epoch so far by `checkpoint.monitor`: the one that `pipeline train` would
    test. As a Checkpoint it is called after all other callbacks. Only the first process has a `study`; the others
    follow its decision.
    """

    def __init__(self, study: Study | None, trial_id: int, plan: Plan, checkpoint: DictConfig) -> None:
        self.study = study
        self.trial_id = trial_id
        self.plan = plan
        self.logged_names = plan.metric_names - {PARAMETER_COUNT}
        self.set_monitor(checkpoint.monitor, checkpoint.mode)
        self.headline = "val/loss"
        self.scores: dict[str, float] = {}
        self.newest_scores: dict[str, float] = {}
        self.best_weights: dict[str, Tensor] | None = None  # only where search.judged needs them
        self.is_pruned = False
        self.step = 0

    def check(self, components: Components) -> None:
        """Raise NoSuchMetric, or ConfigError for a wrong direction, as far as the metrics are known before training."""
        self.headline = components.headline
        if components.metric_names is not None:
            for name in self.logged_names:
                self._require(name, components.metric_names)
        for name, direction in self.plan.objectives.items():
            if (mode := components.custom_modes.get(name.rpartition("/")[2])) is not None:
                check_direction(name, direction, mode)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if PARAMETER_COUNT in self.plan.metric_names:
            self.scores[PARAMETER_COUNT] = parameter_count(pl_module)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        self.step += 1
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        for name in self.logged_names:
            self._require(name, metrics)
        self.newest_scores = {name: metrics[name] for name in self.logged_names}
        if not self.in_training:
            self._compare(trainer, pl_module)
        vote = int(self.study is not None and self._should_prune(self.study, metrics))
        # A fresh one communicates at its first call; a validation takes so long that this costs little.
        (decision,) = PeriodicMax().all_reduce(vote, device=trainer.strategy.root_device)
        if decision:
            self.is_pruned = trainer.should_stop = True

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.in_training and self.step > 0:
            self._compare(trainer, pl_module)

    def _compare(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if self.monitor is not None:
            self._require(self.monitor, trainer.callback_metrics)
        if self.monitor is None or self.improves(float(trainer.callback_metrics[self.monitor])):
            self.scores |= self.newest_scores
            if self.plan.scored_splits:
                self.best_weights = evaluation_weights_now(trainer, module)

    def _require(self, name: str, metrics: Collection[str]) -> None:
        """Raise NoSuchMetric, with what to type instead, for a name that is not among the metrics."""
        if name in metrics:
            return
        others = f"choose one of {', '.join(sorted(metrics))}"
        if name == self.monitor:
            remedy = f"for checkpoint.monitor {others}"
        elif name in self.plan.constraints:
            remedy = f"for search.constraints {others}"
        else:
            direction = "minimize" if lower_is_better(self.headline) else "maximize"
            remedy = f"type 'search.objectives={{{self.headline}: {direction}}}', or {others}"
        raise NoSuchMetric(f"{name} is no metric of this run: {remedy}")

    def _should_prune(self, study: Study, metrics: dict[str, float]) -> bool:
        if len(self.plan.objectives) > 1:  # Optuna prunes by a single objective
            return False
        (name,) = self.plan.objectives
        if name == PARAMETER_COUNT:
            return False
        try:
            storage = study_storage(study)
            storage.set_trial_intermediate_value(self.trial_id, self.step, metrics[name])
            return bool(study.pruner.prune(study, storage.get_trial(self.trial_id)))
        except DATABASE_ERRORS as problem:  # the database restarts: the trial goes on, and is not pruned now
            log.warning("this score could not be reported to the study: %s", problem)
            return False


def preload_data(config: DictConfig, loaded: DataModule | None) -> DataModule | None:
    """Import and load what a trial needs, for it and those after it; what is in `loaded` is not loaded again.

    Trials are forked, and a process with threads or an open accelerator cannot fork. A user's own source may start
    either, so return None and let the trial load it. The trial also reports what is wrong with the data.
    """
    source = config.data.get("source")
    if source is None or not _is_built_in(source):
        return None
    for _, node in target_nodes(OmegaConf.to_container(config)):
        if _is_built_in(node):
            get_object(node["_target_"])
    try:
        data = build_data(config, SINGLE_PROCESS, loaded)
    except UserError:
        return None
    return data if isinstance(data, DataModule) else None


def _is_built_in(node: Any) -> bool:
    return str(node.get("_target_")).startswith("pipeline.")


def train_trial(
    run: Run,
    config: DictConfig,
    here: Rank,
    pruning: PruningCallback,
    record: dict[str, Any],
    loaded: DataModule | None,
) -> None:
    """Train, and leave journal and result in the trial's directory; `record` is the start of its journal.

    Raises UserError for what cannot be trained.
    """
    instantiate.check_signatures(config)
    components = build_components(config, here, loaded)
    callbacks = [*instantiate.instantiate(config.callbacks, config).values(), EpochTiming(), pruning]
    pruning.check(components)
    if not isinstance(components.module, Learner):  # its metrics are known only when it logs them
        needed = [("search.objectives", name) for name in pruning.plan.objectives if name != PARAMETER_COUNT]
        needed += [("search.constraints", name) for name in pruning.plan.constraints if name != PARAMETER_COUNT]
        callbacks.insert(0, MonitorDiscovery(callbacks, lambda *_: None, needed))
    journal = Journal(run.journal_path)
    loggers: list[Logger] = [JournalLogger(journal)] if here.is_first else []
    trainer = build_checked_trainer(config, components, callbacks, loggers, run.folder, here)
    if here.is_first:
        journal.start(**record)
        journal.artifact("config.yaml")
    began = time.monotonic()
    untrained_scores = {PARAMETER_COUNT: parameter_count(components.module)}
    state, reason = PRUNED, violated_constraint(pruning.plan.constraints, untrained_scores)
    try:
        if reason is None:
            trainer.fit(components.module, datamodule=components.data)
            state = PRUNED if pruning.is_pruned else FINISHED
    except TrainingFailed as failure:  # the loss is not a number, and would not be in a second attempt
        state, reason = DIVERGED, str(failure)
    seconds = time.monotonic() - began
    split_scores = score_splits(trainer, components, pruning) if state == FINISHED else None
    if here.is_first:
        digest = digest_of_split(components, "test") if "test" in (split_scores or {}) else None
        if digest is not None:
            record_test_use(run, digest, "last", journal)
        journal.tags({"trial.state": state.lower()})
        journal.end("FAILED" if state == DIVERGED else "FINISHED", error=reason)
        journal.close()
        scores = pruning.scores or {PARAMETER_COUNT: parameter_count(components.module)}
        write_trial_result(run.folder, state, scores, seconds=seconds, reason=reason, split_scores=split_scores)


def score_splits(trainer: pl.Trainer, components: Components, pruning: PruningCallback) -> dict[str, Any] | None:
    """Evaluate the weights that `train` would keep on the splits of `search.judged`; nothing is chosen by it."""
    if pruning.best_weights is None or components.spec is None:
        return None
    scores = evaluate_splits(trainer, components, pruning.best_weights, pruning.plan.scored_splits)
    return {"samples": components.spec.sizes["train"], **scores} if scores else None


def parameter_count(module: pl.LightningModule) -> float:
    """Return the number of weights that are trained."""
    return float(sum(weight.numel() for weight in module.parameters() if weight.requires_grad))


def trial_record(plan: Plan, number: int, params: Params, config: DictConfig, search: str) -> dict[str, Any]:
    """Return the start of a trial's journal; its name says what differs between trials."""
    values = plan.space.texts(params)
    name = " ".join(f"{key.rpartition('.')[2]}={_shorten_number(text)}" for key, text in values.items())
    return {
        "name": f"{number} {name}"[:MAX_NAME_LENGTH],
        "experiment": config.tracking.get("experiment") or config.name,
        "run_uid": f"{search}-{number:04}",
        "params": summaries.logged_parameters(config, plan.compose_options(params).choices),
        "tags": {"search": search, "trial": str(number)},
    }


def _shorten_number(text: str) -> str:
    number = re.fullmatch(r"-?\d+\.\d+(e-?\d+)?|-?\d+e-?\d+", text)
    return text if number is None else f"{float(text):.3g}"
