"""One pass over a part of the data that the network does not learn from."""

import torch
from torch import Tensor, distributed, nn
from torchmetrics import MeanMetric

from pipeline.spec import Batch
from pipeline.training.task import Task


class Evaluation(nn.Module):
    """Loss and the task's metrics over every sample exactly once; rows that only pad a batch do not count.

    With `keep_scores` the raw scores stay on the CPU for figures, with their targets and ids.
    """

    def __init__(self, task: Task, *, keep_scores: bool = False) -> None:
        super().__init__()
        self.task = task
        self.loss = MeanMetric()
        self.metrics = task.metrics()
        self.keep_scores = keep_scores
        self.kept: list[tuple[Tensor, Tensor, Tensor]] = []
        self.undefined: dict[str, str] = {}  # after `compute`: {metric: what it lacks}

    def update(self, scores: Tensor, batch: Batch) -> None:
        targets, ids = batch.targets, batch.ids
        if batch.mask is not None:
            scores, targets, ids = scores[batch.mask], targets[batch.mask], ids[batch.mask]
        if len(targets) == 0:
            return
        self.loss.update(self.task.losses(scores, targets))
        self.metrics.update(self.task.answers(scores), targets)
        if self.keep_scores:
            self.kept.append((scores.cpu(), targets.cpu(), ids.cpu()))

    def compute(self) -> dict[str, Tensor]:
        """Of the metrics those that are defined on these samples."""
        found = {"loss": self.loss.compute(), **self.metrics.compute()}
        lacking = ((str(name), getattr(metric, "undefined", "")) for name, metric in self.metrics.items())
        self.undefined = {name: why for name, why in lacking if why}
        return {name: value for name, value in found.items() if name not in self.undefined}

    def undefined_on(self, targets: Tensor) -> dict[str, str]:
        """The same of a part with these targets (N, ...), before anything was seen of it."""
        asked = {str(name): getattr(metric, "lacks", None) for name, metric in self.metrics.items()}
        lacking = {name: lacks(targets) for name, lacks in asked.items() if callable(lacks)}
        return {name: why for name, why in lacking.items() if why}

    def predictions(self) -> tuple[Tensor, Tensor, Tensor]:
        """Scores, targets and ids of this process, in the order in which they were seen."""
        scores, targets, ids = zip(*self.kept, strict=True)
        return torch.cat(scores), torch.cat(targets), torch.cat(ids)

    def reset(self) -> None:
        self.loss.reset()
        self.metrics.reset()
        self.kept.clear()


def share_buffers(network: nn.Module) -> None:
    """Of the first process, to all, which must judge alike: without `trainer.sync_batchnorm` each has batch norm's
    statistics of its own samples."""
    if distributed.is_available() and distributed.is_initialized():
        for buffer in network.buffers():
            distributed.broadcast(buffer, src=0)
