"""The private names of Lightning: its progress counters, and the metrics that monitors read.

After an upgrade tests/test_private_names.py names those that have changed.
"""

from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.core.optimizer import LightningOptimizer


def before_step(optimizer: LightningOptimizer) -> None:
    """Tell Lightning, which counts them, that a step of the wrapped optimiser begins."""
    optimizer._on_before_step()


def after_step(optimizer: LightningOptimizer) -> None:
    """Tell Lightning that a step of the wrapped optimiser is done."""
    optimizer._on_after_step()


def tell_monitors(trainer: pl.Trainer, metrics: Mapping[str, float]) -> None:
    """Show metrics to the callbacks that monitor them; callback_metrics is the dictionary that Lightning reads."""
    trainer.callback_metrics.update({name: torch.tensor(value) for name, value in metrics.items()})


def rewind_to_epoch_start(checkpoint: dict[str, Any]) -> None:
    """Set the saved counters to "about to start this epoch", whenever the checkpoint is saved; at the end of an epoch,
    after its validation, to "about to start the next".

    The loader knows the step within the epoch and goes on from there, so Lightning must not: its own restart in
    mid-epoch counts batches (here chunks, of which a restart makes a different number), skips hooks, and ends the
    epoch early if the checkpoint was saved on its last batch. With the counters at the start of the epoch there is one
    way to restart instead of five. The number of optimiser steps stays.
    """
    fit_loop = checkpoint["loops"]["fit_loop"]
    # Not Lightning's current_epoch: in the hooks at the end of an epoch that is still the old one.
    epoch = fit_loop["epoch_progress"]["current"]["processed"]
    for counts in fit_loop["epoch_progress"].values():
        # One more "ready" than "processed" means to Lightning that an epoch was about to start.
        counts.update(dict.fromkeys(counts, epoch), ready=epoch + 1)
    for key, progress in fit_loop.items():
        if key.endswith("batch_progress"):
            progress["is_last_batch"] = False
            progress["current"].update(dict.fromkeys(progress["current"], 0))
            progress["total"].update(dict.fromkeys(progress["total"], progress["total"]["completed"]))
    checkpoint["epoch"] = epoch
