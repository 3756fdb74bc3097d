"""LightningDataModules as Lightning's own guides lay them out. Nothing in here knows of this program."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, TensorDataset, random_split


def blobs(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Two clouds of points."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.arange(count) % 2
    return torch.randn(count, 4, generator=generator) + 3.0 * targets[:, None], targets


class Points(pl.LightningDataModule):
    """prepare_data writes a file, setup(stage) reads it: training and validation for "fit" alone, test for "test"."""

    def __init__(self, data_dir: str = "points", batch_size: int = 16) -> None:
        super().__init__()
        self.save_hyperparameters()

    def prepare_data(self) -> None:
        Path(self.hparams["data_dir"]).mkdir(exist_ok=True)
        torch.save(blobs(160, seed=0), f"{self.hparams['data_dir']}/points.pt")

    def setup(self, stage: str) -> None:
        if stage == "fit":
            whole = TensorDataset(*torch.load(f"{self.hparams['data_dir']}/points.pt"))
            self.train, self.val = random_split(whole, [128, 32], torch.Generator().manual_seed(0))
        if stage == "test":
            self.test = TensorDataset(*blobs(64, seed=1))

    def train_dataloader(self) -> Any:
        return DataLoader(self.train, batch_size=self.hparams["batch_size"], shuffle=True)

    def val_dataloader(self) -> Any:
        return DataLoader(self.val, batch_size=self.hparams["batch_size"])

    def test_dataloader(self) -> Any:
        return DataLoader(self.test, batch_size=self.hparams["batch_size"])


class TrainingOnly(pl.LightningDataModule):
    """Neither validation nor test."""

    def train_dataloader(self) -> Any:
        return DataLoader(TensorDataset(*blobs(128, seed=0)), batch_size=16, shuffle=True)


class TwoValidations(Points):
    """Two loaders to validate on: Lightning puts dataloader_idx_N behind each name."""

    def val_dataloader(self) -> Any:
        return [DataLoader(self.val, batch_size=16), DataLoader(TensorDataset(*blobs(32, seed=2)), batch_size=16)]


class _Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        inputs, targets = blobs(128, seed=0)
        yield from zip(inputs, targets, strict=True)


class Stream(pl.LightningDataModule):
    """Nobody knows how long it is."""

    def train_dataloader(self) -> Any:
        return DataLoader(_Stream(), batch_size=16)

    def val_dataloader(self) -> Any:
        return DataLoader(_Stream(), batch_size=16)
