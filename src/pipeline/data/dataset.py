"""A data set in its three splits, and the interface of a source that loads them."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from pipeline.data.on_disk import Inputs, select_rows
from pipeline.data.splitting import Indices, split_rows
from pipeline.spec import Kind, TaskKind

SPLIT_NAMES = ("train", "validation", "test")


@dataclass(frozen=True)
class Split:
    """N samples.

    inputs   (N, *input_shape), in the type they are stored in
    targets  (N,) int64 classes, (N, K) float32 with 1 for each label of a sample, or (N, T) float32 numbers
    groups   (N,) int64: samples with the same number always stay in one split; None: no groups
    """

    inputs: Inputs
    targets: Tensor
    groups: Tensor | None = None

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def strata(self) -> Indices:
        """Return the stratification labels (N,): the classes; zeros for numbers and label sets."""
        classes = self.targets if self.targets.ndim == 1 else self.targets.new_zeros(len(self), dtype=torch.int64)
        strata: Indices = classes.numpy()
        return strata

    def rows(self, index: Tensor) -> "Split":
        """Return the rows `index` (M,) int64 in this order, as a copy; inputs on disk stay there."""
        groups = None if self.groups is None else self.groups.index_select(0, index)
        return Split(select_rows(self.inputs, index), self.targets.index_select(0, index), groups)

    def to(self, device: torch.device) -> "Split":
        return Split(self.inputs.to(device), self.targets.to(device))


@dataclass(frozen=True)
class Splits:
    """A data set in its splits. `test` is for the final evaluation alone.

    class_names     empty where targets are numbers
    feature_names, categories, columns
                    as in DataSpec; empty for other inputs than tables
    tokenizer       JSON of Hugging Face's tokenizers, which encodes sentences as these inputs; empty for other inputs
    sample_rate     values a second of sound; 0 for other inputs
    test_sentences  the text of the test split, to show it to a person
    skipped         a line for each sample that was left out, with the reason (data.source.on_bad_sample=skip)
    is_ordered      the splits follow each other in time
    content         digest of the original data, where the inputs do not contain all of it
    fit             returns the splits with inputs for a network, if something is learned from the training samples for
                    that (medians, categories, a vocabulary)
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
        """Return the splits with inputs for a network. It is called once, when the training samples are final."""
        return self if self.fit is None else self.fit(self)

    def with_inputs(self, make: "Callable[[str, Split], Inputs]") -> "Splits":
        """Return the splits with the inputs that `make` returns for each name and split."""
        train, validation, test = (replace(split, inputs=make(name, split)) for name, split in self.by_name().items())
        return replace(self, train=train, validation=validation, test=test, fit=None)

    def by_name(self) -> dict[str, Split]:
        return {"train": self.train, "validation": self.validation, "test": self.test}


@dataclass(frozen=True)
class SplitSpec:
    """Splits a data set that comes in one piece: stratified, in an order that depends on the seed alone."""

    validation_share: float
    test_share: float
    seed: int

    def __call__(self, whole: Split) -> tuple[Split, Split, Split]:
        """Return training, validation and test split. Raises ConfigError where one of them would be empty."""
        rows = self.rows(whole.strata)
        train, validation, test = (whole.rows(torch.from_numpy(rows[split])) for split in SPLIT_NAMES)
        return train, validation, test

    def rows(self, strata: Indices, *, groups: Indices | None = None) -> dict[str, Indices]:
        """Return {split: its rows}, stratified by `strata` (N,), or with whole groups."""
        shares = {"test": self.test_share, "validation": self.validation_share}
        return split_rows(strata, shares, seed=self.seed, groups=groups)


class DataSource(Protocol):
    """Loads a data set. The constructor takes hyperparameters alone and opens no file."""

    def load(self, root: Path | None) -> Splits:
        """Return the splits from the user's folder `root`; None: from an installed package, the cache, or a download.

        Raises DataError where the data is missing or invalid.
        """
        ...
