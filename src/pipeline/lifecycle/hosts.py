"""Which machines train a run, as a tag."""

import socket

import pytorch_lightning as pl
from torch import distributed

from pipeline.tracking.journal import Journal

TAG = "hosts"


class Hosts(pl.Callback):
    """Of a run on several nodes; `journal` is None in all processes but the first."""

    def __init__(self, journal: Journal | None) -> None:
        self.journal = journal

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        names = [""] * trainer.world_size
        distributed.all_gather_object(names, socket.gethostname())
        if self.journal is not None:
            self.journal.tags({TAG: ", ".join(dict.fromkeys(names))})
