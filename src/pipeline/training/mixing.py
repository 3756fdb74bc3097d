"""Samples mixed with others of their batch, and what a task makes of them."""

from torch import Tensor

from pipeline.spec import Batch
from pipeline.training.task import Task

# B batch, K scores


def loss_of(task: Task, scores: Tensor, batch: Batch) -> Tensor:
    """The task's mean loss; of mixed samples that of both targets, by their shares (Zhang et al. 2018, section 2).

    For cross-entropy this is the loss of the mixed target, for the squared error its gradient is.
    """
    own = task.loss(scores, batch.targets)
    if batch.mixed is None:
        return own
    return own.lerp(task.loss(scores, batch.mixed.targets), batch.mixed.share)


def hits_of(task: Task, scores: Tensor, batch: Batch) -> dict[str, Tensor]:
    """The task's scores of each sample (B,); of mixed samples those of both targets, by their shares."""
    own = task.hits(scores, batch.targets)
    if batch.mixed is None:
        return own
    others = task.hits(scores, batch.mixed.targets)
    return {name: hits.float().lerp(others[name].float(), batch.mixed.share) for name, hits in own.items()}
