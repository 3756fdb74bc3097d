"""A callback that runs a hand-written loop within our own run: both sides meet the same machine, second by second."""

import json
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from benchmarks.baselines import nets
from benchmarks.baselines.by_hand import ByHand
from benchmarks.baselines.digits import training_images


class ByHandBeside(pl.Callback):
    """After each interval of our steps, as many by hand, on as many images, with a net of the same shapes.

    net     a function of baselines.nets
    folder  holds MNIST's files
    report  where pairs of seconds a step (ours, by hand) are written, without those of the first epoch
    """

    def __init__(self, net: str, folder: str, report: str) -> None:
        self.net, self.folder, self.report = net, folder, report
        self.pairs: list[tuple[float, float]] = []
        self.started_at, self.steps_before = 0.0, 0

    def on_fit_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        loader = trainer.datamodule.train_dataloader()  # type: ignore[attr-defined]
        net = getattr(nets, self.net)()
        shapes = [tuple(each.shape) for each in pl_module.network.parameters()]
        if shapes != [tuple(each.shape) for each in net.parameters()]:
            raise ValueError(f"{self.net} is not the network under measure: {shapes}")
        images, labels = training_images(self.folder, len(loader.split))
        self.by_hand = ByHand(net, images, labels, loader.batch_size, pl_module.total_steps)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._start(trainer)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        steps = trainer.global_step - self.steps_before
        ours = time.perf_counter() - self.started_at
        begun_at = time.perf_counter()
        self.by_hand.run(steps)
        theirs = time.perf_counter() - begun_at
        if trainer.current_epoch > 0:
            self.pairs.append((ours / steps, theirs / steps))
        self._start(trainer)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        Path(self.report).write_text(json.dumps(self.pairs))

    def _start(self, trainer: pl.Trainer) -> None:
        self.steps_before = trainer.global_step
        self.started_at = time.perf_counter()
