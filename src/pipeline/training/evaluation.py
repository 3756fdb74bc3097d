"""Loss and metrics over a part of the data, and running means of them while the network trains."""

from collections.abc import Callable
from typing import Any

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
        self.stored: list[tuple[Tensor, Tensor, Tensor]] = []  # scores, targets, ids of each batch
        self.undefined: dict[str, str] = {}  # after `compute`: {metric: why it is not defined}

    def update(self, scores: Tensor, batch: Batch) -> None:
        targets, ids = batch.targets, batch.ids
        if batch.mask is not None:
            scores, targets, ids = scores[batch.mask], targets[batch.mask], ids[batch.mask]
        if len(targets) == 0:
            return
        self.loss.update(self.task.losses(scores, targets))
        self.metrics.update(self.task.predictions(scores), targets)
        if self.keep_scores:
            self.stored.append((scores.cpu(), targets.cpu(), ids.cpu()))

    def compute(self) -> dict[str, Tensor]:
        """Return the loss and those metrics that are defined on these samples."""
        values = {"loss": self.loss.compute(), **self.metrics.compute()}
        reasons = {str(name): getattr(metric, "undefined", "") for name, metric in self.metrics.items()}
        self.undefined = {name: reason for name, reason in reasons.items() if reason}
        return {name: value for name, value in values.items() if name not in self.undefined}

    def undefined_on(self, targets: Tensor) -> dict[str, str]:
        """Return {metric: why it is not defined} for a part with these targets (N, ...), before any update."""
        checks = {str(name): getattr(metric, "missing", None) for name, metric in self.metrics.items()}
        reasons = {name: check(targets) for name, check in checks.items() if callable(check)}
        return {name: reason for name, reason in reasons.items() if reason}

    def predictions(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return scores, targets and ids of this process, in the order of the batches."""
        scores, targets, ids = zip(*self.stored, strict=True)
        return torch.cat(scores), torch.cat(targets), torch.cat(ids)

    def reset(self) -> None:
        self.loss.reset()
        self.metrics.reset()
        self.stored.clear()


def broadcast_buffers(network: nn.Module) -> None:
    """Give all processes the buffers of the first one, so that they evaluate alike: without `trainer.sync_batchnorm`
    each has batch norm's statistics of its own samples."""
    if distributed.is_available() and distributed.is_initialized():
        for buffer in network.buffers():
            distributed.broadcast(buffer, src=0)


class RunningMeans:
    """Sums of named values and a count of samples.

    Part of a checkpoint, so that a mean over an interval in which training was resumed covers the whole interval.
    """

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.count = 0

    def add(self, sums: dict[str, Tensor], count: int) -> None:
        """Add scalars on the device, which are sums over `count` samples. Nothing is read, so nothing waits."""
        for name, value in sums.items():
            if name in self.sums:
                if self.sums[name].device != value.device:  # just loaded
                    self.sums[name] = self.sums[name].to(value.device)
                self.sums[name].add_(value)
            else:
                self.sums[name] = value.to(torch.float32, copy=True)  # a copy: it is changed in place
        self.count += count

    def merge(self, other: "RunningMeans") -> None:
        self.add(other.sums, other.count)

    def compute(self, reduce: Callable[[Tensor], Any]) -> dict[str, float]:
        """Return means over all processes; `reduce` sums a tensor over them. Waits for the device."""
        names = sorted(self.sums)
        sums_and_count = torch.stack([*(self.sums[name] for name in names), self.sums[names[0]].new_tensor(self.count)])
        *sums, count = reduce(sums_and_count).tolist()
        return {name: value / count for name, value in zip(names, sums, strict=True)}

    def reset(self) -> None:
        self.sums, self.count = {}, 0

    def state_dict(self, gather: Callable[[Tensor], Tensor]) -> dict[str, Any]:
        """Return the sums of each of W processes; `gather` makes (W, n) of each one's (n,)."""
        names = sorted(self.sums)
        row = torch.tensor([*(float(self.sums[name]) for name in names), self.count], dtype=torch.float64)
        return {"names": names, "rows": gather(row).reshape(-1, len(row)).cpu()}

    def load_state_dict(self, state: dict[str, Any], *, rank: int, world_size: int) -> None:
        """Load this process's own sums; if the number of processes has changed, the first takes those of all."""
        rows = state["rows"]
        if len(rows) != world_size:
            rows = torch.cat([rows.sum(dim=0, keepdim=True), torch.zeros(world_size - 1, rows.shape[1])])
        *sums, count = rows[rank]
        self.sums = {name: value.to(torch.float32) for name, value in zip(state["names"], sums, strict=True)}
        self.count = int(count)
