"""What changes training batches before the network sees them."""

from typing import get_args

import pytorch_lightning as pl
from torch import Tensor

from pipeline.errors import ConfigError
from pipeline.spec import Batch, DataSpec, Kind
from pipeline.training.callbacks.step import StepCallback

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
