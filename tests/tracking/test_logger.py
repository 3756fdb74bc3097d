import warnings
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from pipeline.tracking.journal import Journal, metric_history, read_journal
from pipeline.tracking.logger import JournalLogger


class Regression(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 1)

    def training_step(self, batch: Tensor, index: int) -> Tensor:
        loss = self.layer(batch).square().mean()
        self.log("train/loss", loss, on_step=True, on_epoch=False)
        return loss

    def validation_step(self, batch: Tensor, index: int) -> None:
        self.log("val/loss", self.layer(batch).square().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.fixture
def trained(run_dir: Path, journal: Journal) -> pl.Trainer:
    trainer = pl.Trainer(
        max_epochs=2,
        log_every_n_steps=1,
        logger=JournalLogger(journal),
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    data = DataLoader(torch.ones(12, 2), batch_size=4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(Regression(), data, data)
    return trainer


def test_what_lightning_logs_is_in_the_journal(trained: pl.Trainer, journal: Journal) -> None:
    steps = {name: [step for step, _ in points] for name, points in metric_history(journal.path).items()}
    assert steps == {"train/loss": [0, 1, 2, 3, 4, 5], "val/loss": [2, 5]}


def test_the_epoch_is_a_field_of_a_record_and_not_a_metric(trained: pl.Trainer, journal: Journal) -> None:
    epochs = [record["epoch"] for record, _ in read_journal(journal.path) if "val/loss" in record["values"]]
    assert epochs == [0, 1]


def test_lightning_does_not_end_the_journal(trained: pl.Trainer, journal: Journal) -> None:
    assert {record["kind"] for record, _ in read_journal(journal.path)} == {"metrics"}


def test_a_users_checkpoint_callback_writes_into_the_run(trained: pl.Trainer, run_dir: Path) -> None:
    assert [path.name for path in (run_dir / "checkpoints").iterdir()] == ["epoch=1-step=6.ckpt"]
