"""The final evaluation: the best weights on the test set, which nothing before has seen."""

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
    """On the CPU:

    answers  (N, K) a score for each class, the probabilities being their softmax; or each label's own probability
             (N, K); or the numbers (N, T)
    targets  (N,) classes, or which labels hold (N, K), or the true numbers (N, T)
    losses   (N,) what each costs by the task's measure
    ids      (N,) rows of the test part
    """

    answers: Tensor
    targets: Tensor
    losses: Tensor
    ids: Tensor


@dataclass(frozen=True)
class EvaluationResult:
    """metrics under their MLflow names; predictions of the tested part, None for a user's own module."""

    metrics: dict[str, float]
    checkpoint: Path | None
    predictions: Predictions | None

    @property
    def weights(self) -> str:
        return "last" if self.checkpoint is None else self.checkpoint.name


def run_test(trainer: pl.Trainer, assembly: Components, chosen: Path | None) -> EvaluationResult:
    """Test this checkpoint; the weights as they are where there is none."""
    if chosen is not None:
        weights = checkpoints.evaluation_weights(checkpoints.load_checkpoint(chosen))
        load_weights(assembly.module, weights)
    metrics: dict[str, float] = {}
    if has_test(assembly):
        trainer.test(assembly.module, datamodule=assembly.data, verbose=False)
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    predictions = gather_predictions(assembly.module) if metrics and isinstance(assembly.module, Learner) else None
    return EvaluationResult(metrics, chosen, predictions)


def evaluate_splits(
    trainer: pl.Trainer, assembly: Components, weights: dict[str, Tensor], parts: Sequence[str]
) -> dict[str, dict[str, float]]:
    """{part: {metric: its value}} of these weights on train, validation or test, each as the test part is judged: every
    sample once, as it is stored. Empty for what is a user's own, of which nobody knows the parts."""
    module, data, found = assembly.module, assembly.data, {}
    if not isinstance(module, Learner) or not isinstance(data, DataModule):
        return {}
    load_weights(module, weights)
    device = trainer.strategy.root_device
    module.to(device).eval()
    broadcast_buffers(module.network)
    for part in parts:
        evaluation = Evaluation(module.task).to(device)
        with torch.inference_mode(), trainer.precision_plugin.forward_context():
            for stored in data.evaluation_loader(part):
                batch = as_batch(stored, 0).to(device)
                evaluation.update(module(batch.inputs).float(), batch)
        found[part] = {name: float(value) for name, value in evaluation.compute().items()}
    return found


def checkpoint_to_evaluate(run: Run) -> Path | None:
    """The weights that a run is known by: those of its verdict, also while a longer training has left better ones.

    Raises RunError as `best_checkpoint` does.
    """
    if (name := run.missing_checkpoint) is not None:
        warn_once(f"{run.id}: result.json tells of {name}, which is gone; the best weights since then are taken")
    return run.tested_checkpoint or best_checkpoint(run)


def best_checkpoint(run: Run) -> Path | None:
    """The best of all training so far; the newest where none was ever the best.

    Raises RunError for a link that leads out of the run: it would be judged, exported and sent as if of this run."""
    best = run.checkpoints / "best.ckpt"
    if best.exists():
        return run.resolve_inside(best)
    newest, _ = checkpoints.newest_intact(run.checkpoints)
    return newest


def has_test(assembly: Components) -> bool:
    """A user's own module and data may do without a test."""
    if isinstance(assembly.module, Learner):
        return isinstance(assembly.data, DataModule) or _has_test_loader(assembly.data)
    return type(assembly.module).test_step is not pl.LightningModule.test_step and (
        _has_test_loader(assembly.data) or _has_test_loader(assembly.module)
    )


def _has_test_loader(holder: pl.LightningDataModule | pl.LightningModule) -> bool:
    return type(holder).test_dataloader is not DataHooks.test_dataloader


def gather_predictions(learner: Learner) -> Predictions:
    """The predictions of all processes, in the order of their ids."""
    mine = learner.testing.predictions()
    parts = [mine]
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        parts = [mine] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(parts, mine)
    scores, targets, ids = (torch.cat(each) for each in zip(*parts, strict=True))
    order = ids.argsort(stable=True)
    scores, targets, task = scores[order], targets[order], learner.task
    return Predictions(task.predictions(scores), targets, task.losses(scores, targets), ids[order])


TEST_HEADLINES = tuple(f"test/{name}" for name in metrics.HEADLINES)


def headline_metric(names: Iterable[str]) -> str | None:
    """The first of ours, else (of a module of the user's own) the first whose name tells which way is better."""
    known = sorted(names)
    return next((name for name in (*TEST_HEADLINES, *known) if name in known and mode_of(name) is not None), None)
