"""Lightning as its tutorials show it: python -m benchmarks.baselines.stock_lightning DATA BATCHES

A DataLoader over samples that are transformed one by one, torchmetrics and self.log at every step, the progress bar,
and MLFlowLogger on a sqlite store.
"""

import json
import sys
import tempfile
import time
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import MLFlowLogger
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader
from torchmetrics.classification import MulticlassAccuracy

from benchmarks.baselines import nets
from benchmarks.baselines.digits import training_images
from benchmarks.baselines.torch_example import TRAINING_IMAGES, Digits

BATCH, WARM_UP_BATCHES = 128, 20


class Dense(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nets.dense()
        self.accuracy = MulticlassAccuracy(10, average="micro")

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        inputs, targets = batch
        scores = self.net(inputs)
        loss = functional.cross_entropy(scores, targets)
        self.accuracy(scores, targets)
        self.log("train/loss", loss, prog_bar=True)
        self.log("train/accuracy", self.accuracy, prog_bar=True)
        return loss

    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW(self.parameters(), lr=1e-2)


class Clock(pl.Callback):
    """Seconds from the end of the warm-up to the last batch."""

    def __init__(self) -> None:
        self.started_at = self.seconds = 0.0

    def on_train_batch_end(self, *arguments: Any) -> None:
        if arguments[-1] == WARM_UP_BATCHES - 1:
            self.started_at = time.perf_counter()
        self.seconds = time.perf_counter() - self.started_at


def main(folder: str, batches: int) -> float:
    """Samples per second."""
    clock = Clock()
    with tempfile.TemporaryDirectory() as place:
        trainer = pl.Trainer(
            max_epochs=1,
            limit_train_batches=batches + WARM_UP_BATCHES,
            accelerator="cpu",
            logger=MLFlowLogger(tracking_uri=f"sqlite:///{place}/mlflow.db", artifact_location=f"file://{place}/files"),
            callbacks=[clock],
            default_root_dir=place,
        )
        trainer.fit(
            Dense(), DataLoader(Digits(*training_images(folder, TRAINING_IMAGES)), batch_size=BATCH, shuffle=True)
        )
    return batches * BATCH / clock.seconds


if __name__ == "__main__":
    print(json.dumps({"samples_per_second": main(sys.argv[1], int(sys.argv[2]))}))
