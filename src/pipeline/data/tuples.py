"""Batches as Lightning's users know them, (inputs, targets), for a LightningModule of their own.

Inputs are as they are stored (uint8 for images). With several processes the rows that fill up an evaluation
batch are handed over as well, as torch's DistributedSampler does.
"""

from collections.abc import Iterator

from torch import Tensor

from pipeline.data.loader import EvaluationLoader, TrainLoader

Pair = tuple[Tensor, Tensor]


class TrainTuples:
    """A TrainLoader, batch by batch. Whoever iterates accumulates batches, so the loader must not."""

    def __init__(self, loader: TrainLoader) -> None:
        assert loader.accumulate == 1
        self.loader = loader

    def __len__(self) -> int:
        return self.loader.batches_per_epoch

    def __iter__(self) -> Iterator[Pair]:
        for chunk in self.loader:
            for (batch,) in chunk:
                yield batch.inputs, batch.targets

    def batches(self) -> Iterator[Pair]:
        """As the TrainLoader's."""
        return ((batch.inputs, batch.targets) for batch in self.loader.batches())

    def state_dict(self) -> dict[str, int]:
        return self.loader.state_dict()

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.loader.load_state_dict(state)


class EvaluationTuples:
    """An EvaluationLoader's batches."""

    def __init__(self, loader: EvaluationLoader) -> None:
        self.loader = loader

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Pair]:
        for batch in self.loader:
            yield batch.inputs, batch.targets
