"""Hooks beside Lightning's own: at every optimiser step, and for every training batch."""

from typing import Any, get_args

import pytorch_lightning as pl
from torch import Tensor

from pipeline.errors import ConfigError
from pipeline.spec import Batch, DataSpec, Kind


class StepCallback(pl.Callback):
    """A callback with a hook after every optimiser step, where Lightning's batch hooks run once a chunk of steps.

    (Lightning's own `on_before_optimizer_step` also runs at every step.) A user's own LightningModule does not call
    `after_optimizer_step`: there it follows each batch that ended in a step.
    """

    _steps_seen = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._steps_seen = trainer.global_step

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        if not calls_step_callbacks(pl_module) and trainer.global_step > self._steps_seen:
            self._steps_seen = trainer.global_step
            self.after_optimizer_step(trainer, pl_module)

    def after_optimizer_step(self, trainer: pl.Trainer, learner: pl.LightningModule) -> None:
        """Run after the weights have changed; `trainer.global_step` counts this step."""


def calls_step_callbacks(module: pl.LightningModule) -> bool:
    """Return whether the module calls `after_optimizer_step` itself, as a Learner does."""
    return getattr(module, "calls_step_callbacks", False)


DIMENSIONS: dict[Kind, int] = {"image": 3, "table": 1, "audio": 1, "text": 1}  # of one sample
DATA_NAMES: dict[Kind, str] = {
    "image": "images (channels, height, width)",
    "table": "tables",
    "audio": "sound",
    "text": "text",
}


class BatchTransform(StepCallback):
    """A callback that changes training batches before the network gets them, such as an augmentation.

    Random numbers depend on (seed, step) alone and are drawn for the global batch, of which each process takes its
    rows: any number of processes sees the same samples. A user's own LightningModule never calls it.

    name   its option of `callbacks`
    kinds  the kinds of data that it can change
    """

    name: str
    kinds: tuple[Kind, ...] = get_args(Kind)

    def transform_batch(self, trainer: pl.Trainer, batch: Batch) -> Batch:
        """Return the batch to train on in place of this one; both are on the device.

        torch's generators have just been seeded with (seed, step), equally on all processes.
        """
        raise NotImplementedError

    def check_data(self, spec: DataSpec) -> None:
        """Raise ConfigError for data that it cannot change."""
        if spec.kind not in self.kinds or len(spec.input_shape) != DIMENSIONS[spec.kind]:
            raise ConfigError(
                f"callbacks.{self.name} needs {' or '.join(DATA_NAMES[kind] for kind in self.kinds)}; {spec.name} has "
                f"{spec.kind} data of shape {spec.input_shape}: leave it out, ~callbacks.{self.name}"
            )

    def check_share(self, samples: int, processes: int) -> None:
        """Raise ConfigError if it cannot change batches of which each process has so many samples."""


def local_rows(global_batch: Tensor, rank: int, count: int) -> Tensor:
    """Return the `count` rows of this process."""
    return global_batch[rank * count : (rank + 1) * count]
