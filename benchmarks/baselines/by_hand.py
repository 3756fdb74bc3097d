"""A hand-written PyTorch loop: uint8 in memory, AdamW fused, one cycle, running loss and accuracy."""

from itertools import cycle

import torch
from torch import Tensor, nn
from torch.nn import functional

MEAN, STD = 33.3, 78.6


class ByHand:
    """`total_steps` is what the schedule spans; batches of `batch_size` from shuffled (N, 1, 28, 28) uint8 images."""

    def __init__(self, net: nn.Module, images: Tensor, labels: Tensor, batch_size: int, total_steps: int) -> None:
        self.convolves = any(isinstance(module, nn.Conv2d) for module in net.modules())
        self.net = net.to(memory_format=torch.channels_last) if self.convolves else net
        self.images, self.labels = images, labels
        order = torch.randperm(len(images))
        self.batches = cycle(order[: len(order) // batch_size * batch_size].split(batch_size))
        weights = [parameter for parameter in net.parameters() if parameter.ndim > 1]
        others = [parameter for parameter in net.parameters() if parameter.ndim <= 1]
        groups = [{"params": weights, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=1e-2, fused=True)
        self.scheduler = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, 1e-2, total_steps=total_steps, pct_start=0.25
        )

    def run(self, steps: int) -> tuple[float, float]:
        """Sums of loss and hits over `steps` steps."""
        loss_sum, hits = torch.zeros(()), torch.zeros(())
        for _ in range(steps):
            rows = next(self.batches)
            inputs = (self.images.index_select(0, rows).float() - MEAN) / STD
            targets = self.labels.index_select(0, rows)
            if self.convolves:
                inputs = inputs.contiguous(memory_format=torch.channels_last)
            scores = self.net(inputs)
            loss = functional.cross_entropy(scores, targets)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.scheduler.step()
            loss_sum += loss.detach()
            hits += (scores.argmax(1) == targets).sum()
        return float(loss_sum), float(hits)
