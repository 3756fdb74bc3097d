"""The final test: evaluate the best weights on the test set, which was not used before."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytorch_lightning as pl
import torch
import torch.distributed
from pytorch_lightning.core.hooks import DataHooks
from torch import Tensor

from pipeline import metrics
from pipeline.data.datamodule import DataModule
from pipeline.lifecycle.build import Components
from pipeline.metrics import mode_of
from pipeline.run_files import warn_once
from pipeline.runs.run_directory import Run
from pipeline.training import checkpoints
from pipeline.training.distributed.sharding import load_weights
from pipeline.training.evaluation import Evaluation, broadcast_buffers
from pipeline.training.learner import Learner, as_batch

# N test samples, K classes, T numbers to predict


@dataclass(frozen=True)
class Predictions:
    """Predictions of the test set, on the CPU.

    outputs  (N, K) logits of the classes, or (N, K) probabilities of the labels, or (N, T) numbers
    targets  (N,) classes, or (N, K) which labels hold, or (N, T) true numbers
    losses   (N,) loss of each sample
    ids      (N,) rows of the test split
    """

    outputs: Tensor
    targets: Tensor
    losses: Tensor
    ids: Tensor


@dataclass(frozen=True)
class EvaluationResult:
    """Metrics by their MLflow names, and predictions of the test set: None for a user's own module."""

    metrics: dict[str, float]
    checkpoint: Path | None
    predictions: Predictions | None

    @property
    def weights(self) -> str:
        return "last" if self.checkpoint is None else self.checkpoint.name


def run_test(trainer: pl.Trainer, components: Components, checkpoint: Path | None) -> EvaluationResult:
    """Test the weights of this checkpoint; without one, the weights as they are."""
    if checkpoint is not None:
        weights = checkpoints.evaluation_weights(checkpoints.load_checkpoint(checkpoint))
        load_weights(components.module, weights)
    metrics: dict[str, float] = {}
    if has_test(components):
        trainer.test(components.module, datamodule=components.data, verbose=False)
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    predictions = gather_predictions(components.module) if metrics and isinstance(components.module, Learner) else None
    return EvaluationResult(metrics, checkpoint, predictions)


def evaluate_splits(
    trainer: pl.Trainer, components: Components, weights: dict[str, Tensor], splits: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Return {split: {metric: value}} of these weights on train, validation or test, each evaluated as the test split
    is: every sample once, without augmentation. Empty for a user's own module or data, whose splits are unknown."""
    module, data, metrics = components.module, components.data, {}
    if not isinstance(module, Learner) or not isinstance(data, DataModule):
        return {}
    load_weights(module, weights)
    device = trainer.strategy.root_device
    module.to(device).eval()
    broadcast_buffers(module.network)
    for split in splits:
        evaluation = Evaluation(module.task).to(device)
        with torch.inference_mode(), trainer.precision_plugin.forward_context():
            for stored in data.evaluation_loader(split):
                batch = as_batch(stored, 0).to(device)
                evaluation.update(module(batch.inputs).float(), batch)
        metrics[split] = {name: float(value) for name, value in evaluation.compute().items()}
    return metrics


def checkpoint_to_evaluate(run: Run) -> Path | None:
    """Return the checkpoint that result.json names, even if a longer training has left a better one; else the best one.

    Raises RunError as `best_checkpoint` does.
    """
    if (name := run.missing_checkpoint) is not None:
        warn_once(f"{run.id}: result.json names {name}, which is gone; the best weights since then are used")
    return run.tested_checkpoint or best_checkpoint(run)


def best_checkpoint(run: Run) -> Path | None:
    """Return the best checkpoint so far; the newest if there is no best one.

    Raises RunError for a link that leads out of the run: its target would be tested, exported and sent as this run's.
    """
    best = run.checkpoints / "best.ckpt"
    if best.exists():
        return run.resolve_inside(best)
    newest, _ = checkpoints.newest_intact(run.checkpoints)
    return newest


def has_test(components: Components) -> bool:
    """Return whether there is anything to test: a user's own module and data may have no test."""
    if isinstance(components.module, Learner):
        return isinstance(components.data, DataModule) or _has_test_loader(components.data)
    return type(components.module).test_step is not pl.LightningModule.test_step and (
        _has_test_loader(components.data) or _has_test_loader(components.module)
    )


def _has_test_loader(holder: pl.LightningDataModule | pl.LightningModule) -> bool:
    return type(holder).test_dataloader is not DataHooks.test_dataloader


def gather_predictions(learner: Learner) -> Predictions:
    """Collect the predictions of all processes, in the order of their ids."""
    own = learner.testing.predictions()
    parts = [own]
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        parts = [own] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(parts, own)
    scores, targets, ids = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    order = ids.argsort(stable=True)
    scores, targets, task = scores[order], targets[order], learner.task
    return Predictions(task.predictions(scores), targets, task.losses(scores, targets), ids[order])


TEST_HEADLINES = tuple(f"test/{name}" for name in metrics.HEADLINES)


def headline_metric(names: Iterable[str]) -> str | None:
    """Return the first of our headline metrics; for a user's module, the first whose better direction is known."""
    known = sorted(names)
    return next((name for name in (*TEST_HEADLINES, *known) if name in known and mode_of(name) is not None), None)
