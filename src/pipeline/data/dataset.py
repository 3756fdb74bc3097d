"""A data set: its three splits, and the interface of a source that loads them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from pipeline.data.on_disk import Inputs, select_rows
from pipeline.data.splitting import Indices, split_rows
from pipeline.spec import Kind, TaskKind


@dataclass(frozen=True)
class Split:
    """N samples: inputs (N, *input_shape) in the type they are stored in, targets (N,) int64 classes, (N, K)
    float32 with 1 for each label that holds, or (N, T) float32 numbers. Samples with the same number in `groups` (N,)
    int64 always stay in one split."""

    inputs: Inputs
    targets: Tensor
    groups: Tensor | None = None

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def strata(self) -> Indices:
        """Return the stratification labels (N,): the classes; zeros for numbers and label sets."""
        classes = self.targets if self.targets.ndim == 1 else self.targets.new_zeros(len(self), dtype=torch.int64)
        found: Indices = classes.numpy()
        return found

    def rows(self, index: Tensor) -> "Split":
        """Return the rows `index` (M,) int64, in its order; a copy, but for inputs on disk."""
        groups = None if self.groups is None else self.groups.index_select(0, index)
        return Split(select_rows(self.inputs, index), self.targets.index_select(0, index), groups)

    def to(self, device: torch.device) -> "Split":
        return Split(self.inputs.to(device), self.targets.to(device))


@dataclass(frozen=True)
class Splits:
    """A data set, split once and for all. `test` is for the final evaluation alone.

    `class_names` is empty where targets are numbers; `feature_names`, `categories` and `columns` (as in DataSpec) where
    inputs are no table; `tokenizer` (of Hugging Face's tokenizers, as JSON: what turns a sentence into such inputs)
    where they are no text; `sample_rate` (values a second) is 0 where they are no sound.

    `test_sentences`: what the test part's inputs were made of, to show it to a person. `skipped`: what was left out,
    and why, a line each (data.source.on_bad_sample=skip). `is_ordered`: the parts follow each other in time.
    `content`: a digest of what the inputs were made of, where they do not tell all of it. `fit` makes of these parts
    those whose inputs a network takes, where something is learned from the training samples for it (medians, levels, a
    vocabulary).
    """

    name: str
    kind: Kind
    task: TaskKind
    class_names: tuple[str, ...]
    train: Split
    validation: Split
    test: Split
    feature_names: tuple[str, ...] = ()
    categories: tuple[tuple[str, ...], ...] = ()
    columns: tuple[str, ...] = ()
    tokenizer: str = ""
    test_sentences: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    sample_rate: int = 0
    is_ordered: bool = False
    content: str = ""
    fit: "Callable[[Splits], Splits] | None" = None

    def fitted(self) -> "Splits":
        """Return the splits with inputs for a network. Called once, when the training samples are settled."""
        return self if self.fit is None else self.fit(self)

    def by_name(self) -> dict[str, Split]:
        return {"train": self.train, "validation": self.validation, "test": self.test}


@dataclass(frozen=True)
class SplitSpec:
    """How a data set that comes in one piece is split: stratified, in an order that depends on the seed alone."""

    validation_share: float
    test_share: float
    seed: int

    def __call__(self, whole: Split) -> tuple[Split, Split, Split]:
        """Return training, validation and test. Raises ConfigError where one of them would be empty."""
        rows = self.rows(whole.strata)
        train, validation, test = (whole.rows(torch.from_numpy(rows[part])) for part in ("train", "validation", "test"))
        return train, validation, test

    def rows(self, strata: Indices, *, groups: Indices | None = None) -> dict[str, Indices]:
        """Return {split: its rows}, stratified by `strata` (N,), or of whole groups."""
        shares = {"test": self.test_share, "validation": self.validation_share}
        return split_rows(strata, shares, seed=self.seed, groups=groups)


class DataSource(Protocol):
    """Where a data set comes from. Its constructor takes hyperparameters alone and touches no file."""

    def load(self, root: Path | None) -> Splits:
        """Return the splits from the user's folder `root`, or (None) from what is installed, cached or downloaded.

        Raises DataError when the data is missing or is not what it should be.
        """
        ...
