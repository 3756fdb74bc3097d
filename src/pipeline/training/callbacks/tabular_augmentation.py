"""Augment rows of training tables."""

from dataclasses import replace

import pytorch_lightning as pl
import torch
from torch import Tensor

from pipeline.constraints import NonNegativeFloat, ProbabilityBelowOne
from pipeline.spec import Batch, DataSpec
from pipeline.training.callbacks.hooks import BatchTransform, local_rows
from pipeline.training.callbacks.mixup_cutmix import PairedTransform, swap_neighbours

# B batch of this process, W processes, C columns


class FeatureNoise(BatchTransform):
    """Add Gaussian noise to every value, of `std` times the standard deviation of its column in the training part.

    For a linear model this is ridge regression (Bishop 1995).
    """

    name = "feature_noise"
    kinds = ("table",)

    def __init__(self, *, std: NonNegativeFloat) -> None:
        self.std = std
        self.deviations: Tensor | None = None  # (C,) in the columns' units

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        spec: DataSpec = trainer.datamodule.spec  # type: ignore[attr-defined]  # set by its connector
        self.deviations = self.std * torch.tensor(spec.std, device=trainer.strategy.root_device)

    @torch.no_grad()
    def transform_batch(self, trainer: pl.Trainer, batch: Batch) -> Batch:
        assert self.deviations is not None
        noisy = add_gaussian_noise(
            batch.inputs, self.deviations, rank=trainer.global_rank, world_size=trainer.world_size
        )
        return replace(batch, inputs=noisy)


class SwapNoise(PairedTransform):
    """Replace each value, with probability `p`, by that of another sample in the same column (Jahrer 2017,
    "inputSwapNoise"), so that every value is one that occurs.

    The other sample is the neighbour in the batch. Columns are independent, also those of one encoded category.
    """

    name = "swap_noise"
    kinds = ("table",)

    def __init__(self, *, p: ProbabilityBelowOne) -> None:
        self.p = p

    @torch.no_grad()
    def transform_batch(self, trainer: pl.Trainer, batch: Batch) -> Batch:
        swapped = swap_values(batch.inputs, self.p, rank=trainer.global_rank, world_size=trainer.world_size)
        return replace(batch, inputs=swapped)


def add_gaussian_noise(rows: Tensor, deviations: Tensor, *, rank: int = 0, world_size: int = 1) -> Tensor:
    """Return rows (B, C) with noise of standard deviations (C,); draws from torch's generator."""
    drawn = torch.randn((world_size * len(rows), rows.shape[1]), device=rows.device)
    return rows + local_rows(drawn, rank, len(rows)) * deviations


def swap_values(rows: Tensor, p: float, *, rank: int = 0, world_size: int = 1) -> Tensor:
    """Return rows (B, C) with values swapped between neighbours; draws from torch's generator."""
    drawn = torch.rand((world_size * len(rows), rows.shape[1]), device=rows.device)
    return torch.where(local_rows(drawn, rank, len(rows)) < p, swap_neighbours(rows), rows)
