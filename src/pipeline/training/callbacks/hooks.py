"""What a callback can do at every optimiser step."""

from typing import Any, get_args

import pytorch_lightning as pl
from torch import Tensor

from pipeline.errors import ConfigError
from pipeline.spec import Batch, DataSpec, Kind


class StepCallback(pl.Callback):
    """Lightning's batch hooks run once a chunk of steps; these run at every step of a Learner.

    (`on_before_optimizer_step` is Lightning's own and also runs at every step.) A LightningModule of the user's own
    knows nothing of them: there `after_optimizer_step` follows each batch that ended in a step.
    """

    _steps_seen = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._steps_seen = trainer.global_step

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        if not calls_step_callbacks(pl_module) and trainer.global_step > self._steps_seen:
            self._steps_seen = trainer.global_step
            self.after_optimizer_step(trainer, pl_module)

    def after_optimizer_step(self, trainer: pl.Trainer, learner: pl.LightningModule) -> None:
        """The weights have changed; `trainer.global_step` counts this step."""


def calls_step_callbacks(module: pl.LightningModule) -> bool:
    """Whether the module is a Learner, as far as a callback has to know."""
    return getattr(module, "calls_step_callbacks", False)


DIMENSIONS: dict[Kind, int] = {"image": 3, "table": 1, "audio": 1, "text": 1}  # of one sample
NEEDED: dict[Kind, str] = {
    "image": "images (channels, height, width)",
    "table": "tables",
    "audio": "sound",
    "text": "text",
}


class BatchTransform(StepCallback):
    """What is drawn depends on (seed, step) alone and is drawn for the batch of all processes together, of which each
    takes its rows: any number of processes sees the same samples. A LightningModule of the user's own never calls it.

    name   the option of `callbacks` that it is
    kinds  of data that it can change
    """

    name: str
    kinds: tuple[Kind, ...] = get_args(Kind)

    def transform_batch(self, trainer: pl.Trainer, batch: Batch) -> Batch:
        """A new batch in place of this one, on the device.

        torch's generators have just been seeded with (seed, step), equally on all processes.
        """
        raise NotImplementedError

    def check_data(self, spec: DataSpec) -> None:
        """Raises ConfigError for data that it cannot change."""
        if spec.kind not in self.kinds or len(spec.input_shape) != DIMENSIONS[spec.kind]:
            raise ConfigError(
                f"callbacks.{self.name} needs {' or '.join(NEEDED[kind] for kind in self.kinds)}; {spec.name} has "
                f"{spec.kind} data of shape {spec.input_shape}: leave it out, ~callbacks.{self.name}"
            )

    def check_share(self, samples: int, processes: int) -> None:
        """Raises ConfigError where it cannot change batches of which each of the processes has so many samples."""


def local_rows(of_all_processes: Tensor, rank: int, count: int) -> Tensor:
    """The rows of this process."""
    return of_all_processes[rank * count : (rank + 1) * count]
