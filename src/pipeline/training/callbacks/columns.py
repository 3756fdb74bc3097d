"""Rows of training tables changed at random."""

from dataclasses import replace
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from pipeline.errors import ConfigError
from pipeline.spec import Batch
from pipeline.training.callbacks.mixing import check_pairs, neighbours
from pipeline.training.callbacks.step import StepCallback

# B batch of this process, W processes, C columns


class FeatureNoise(StepCallback):
    """Gaussian noise on every value, of `std` times the standard deviation of its column in the training part.

    For a linear model this is ridge regression (Bishop 1995). Drawn, as images' augmentation is, for the batch of all
    processes together, from (seed, step) alone.
    """

    def __init__(self, *, std: float) -> None:
        if std < 0:
            raise ConfigError(f"callbacks.feature_noise.std={std:g}: expected 0 or more, such as 0.1")
        self.std = std
        self.deviations: Tensor | None = None  # (C,) in the columns' own units

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        data: Any = getattr(trainer, "datamodule", None)
        spec = getattr(data, "spec", None)
        if spec is None or spec.kind != "table":
            found = "data that tells nothing of itself" if spec is None else f"{spec.name}, which is {spec.kind}"
            raise ConfigError(f"callbacks.feature_noise needs a table; this is {found}: leave it out")
        self.deviations = self.std * torch.tensor(spec.std, device=trainer.strategy.root_device)

    @torch.no_grad()
    def transform_batch(self, trainer: pl.Trainer, batch: Batch) -> Batch:
        assert self.deviations is not None
        noisy = add_noise(batch.inputs, self.deviations, rank=trainer.global_rank, world_size=trainer.world_size)
        return replace(batch, inputs=noisy)


class SwapNoise(StepCallback):
    """Each value is, with probability `p`, that of another sample in the same column (Jahrer 2017: "inputSwapNoise").

    So what is put in is always a value that occurs. The other sample is the neighbour in the batch, whose order is
    random: any number of processes swaps the same values. Each column is for itself, also those that a category was
    made into.
    """

    def __init__(self, *, p: float) -> None:
        if not 0 <= p < 1:
            raise ConfigError(f"callbacks.swap_noise.p={p:g}: expected 0 or more, below 1, such as 0.15")
        self.p = p

    @torch.no_grad()
    def transform_batch(self, trainer: pl.Trainer, batch: Batch) -> Batch:
        check_pairs("swap_noise", len(batch), trainer.world_size)
        swapped = swap(batch.inputs, self.p, rank=trainer.global_rank, world_size=trainer.world_size)
        return replace(batch, inputs=swapped)


def add_noise(rows: Tensor, deviations: Tensor, *, rank: int = 0, world_size: int = 1) -> Tensor:
    """(B, C) and the noise's deviations (C,) -> (B, C), drawn from torch's generator."""
    drawn = torch.randn((world_size * len(rows), rows.shape[1]), device=rows.device)
    return rows + drawn[rank * len(rows) : (rank + 1) * len(rows)] * deviations


def swap(rows: Tensor, p: float, *, rank: int = 0, world_size: int = 1) -> Tensor:
    """(B, C) -> the same, drawn from torch's generator."""
    if rows.ndim != 2 or not rows.is_floating_point():
        raise ConfigError(
            f"callbacks.swap_noise needs a table; these inputs have shape {tuple(rows.shape[1:])} and type "
            f"{rows.dtype}: leave it out with callbacks=default"
        )
    drawn = torch.rand((world_size * len(rows), rows.shape[1]), device=rows.device)
    return torch.where(drawn[rank * len(rows) : (rank + 1) * len(rows)] < p, neighbours(rows), rows)
