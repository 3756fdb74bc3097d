"""What a data set is: three parts, and a class that knows how to load them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from pipeline.data.splits import Indices, stratified_order
from pipeline.errors import ConfigError, DataError
from pipeline.spec import Kind, TaskKind


@dataclass(frozen=True)
class Part:
    """N samples: inputs (N, *input_shape) in the type they are stored in, targets (N,) int64 classes, (N, K)
    float32 with 1 for each label that holds, or (N, T) float32 numbers."""

    inputs: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def strata(self) -> Indices:
        """(N,) what a share of the samples has in the same proportion: the classes; numbers are all alike."""
        classes = self.targets if self.targets.ndim == 1 else self.targets.new_zeros(len(self), dtype=torch.int64)
        found: Indices = classes.numpy()
        return found

    def rows(self, index: Tensor) -> "Part":
        """A copy of the rows named by `index` (M,) int64, in its order."""
        return Part(self.inputs.index_select(0, index), self.targets.index_select(0, index))

    def to(self, device: torch.device) -> "Part":
        return Part(self.inputs.to(device), self.targets.to(device))


@dataclass(frozen=True)
class Parts:
    """A whole data set, split once and for all. `test` is for the final evaluation alone.

    `class_names` is empty where targets are numbers, `feature_names` where inputs are no table, `tokenizer` (of Hugging
    Face's tokenizers, as JSON: what turns a sentence into such inputs) where they are no text. `test_sentences`: what
    the test part's inputs were made of, to show it to a person. `skipped`: what was left out, and why, a line each
    (data.source.on_bad_sample=skip).
    """

    name: str
    kind: Kind
    task: TaskKind
    class_names: tuple[str, ...]
    train: Part
    validation: Part
    test: Part
    feature_names: tuple[str, ...] = ()
    tokenizer: str = ""
    test_sentences: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()

    def by_name(self) -> dict[str, Part]:
        return {"train": self.train, "validation": self.validation, "test": self.test}


@dataclass(frozen=True)
class Cut:
    """Where a data set that comes in one piece is cut; stratified, and depending on the seed alone."""

    validation_share: float
    test_share: float
    seed: int

    def __call__(self, whole: Part) -> tuple[Part, Part, Part]:
        """Copies for training, validation and test. Raises ConfigError where one of them would be empty."""
        test = round(self.test_share * len(whole))
        validation = round(self.validation_share * len(whole))
        if min(test, validation, len(whole) - test - validation) < 1:
            raise ConfigError(
                f"data.source.validation_share={self.validation_share:g} and data.source.test_share="
                f"{self.test_share:g} of {len(whole)} samples leave a part empty; expected more than 0 each, and "
                "less than 1 together, such as 0.2 and 0.2"
            )
        order = torch.from_numpy(stratified_order(whole.strata, seed=self.seed))
        return (
            whole.rows(order[test + validation :]),
            whole.rows(order[test : test + validation]),
            whole.rows(order[:test]),
        )


class Source(Protocol):
    """Where a data set comes from. Its constructor takes hyperparameters alone and touches no file."""

    def load(self, root: Path | None) -> Parts:
        """`root`: the user's own folder with the files; None: what is installed, cached or downloaded.

        Raises DataError when the data is missing or is not what it should be.
        """
        ...


def check_numbers(targets: Tensor, *, where: str) -> None:
    """Raises DataError when a target (N, T) is not finite, or there are too few to say how far they vary."""
    if len(targets) < 2:
        raise DataError(f"{where} has 1 sample: a regression is judged on at least two. Change the source's split.")
    wrong = ~targets.isfinite().all(dim=1)
    if wrong.any():
        row = int(wrong.nonzero()[0])
        raise DataError(f"{where}: row {row} is to be predicted as {targets[row].tolist()}, expected finite numbers.")


def check_label_sets(targets: Tensor, *, num_labels: int, where: str) -> None:
    """Raises DataError where targets are not (N, K) of 0 and 1."""
    if targets.ndim != 2 or targets.shape[1] != num_labels or not targets.is_floating_point():
        raise DataError(
            f"{where} has targets {tuple(targets.shape)} {targets.dtype}, expected ({len(targets)}, {num_labels}) "
            "float32: a column for each label."
        )
    wrong = ((targets != 0) & (targets != 1)).any(dim=1)
    if wrong.any():
        row = int(wrong.nonzero()[0])
        raise DataError(f"{where}: row {row} has the labels {targets[row].tolist()}, expected 0 and 1 alone.")


def check_labels(labels: Tensor, *, num_classes: int, where: str) -> None:
    """Raises DataError when a label (of a non-empty tensor) is no class number; `where` names its home."""
    lowest, highest = int(labels.min()), int(labels.max())
    if lowest < 0 or highest >= num_classes:
        wrong = lowest if lowest < 0 else highest
        row = int((labels == wrong).nonzero()[0])
        raise DataError(
            f"{where}: row {row} has the label {wrong}, expected 0 to {num_classes - 1}. "
            "Correct the labels, or name every class in the source's class_names."
        )
