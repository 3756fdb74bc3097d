"""The LightningDataModule: loads the splits of a source, checks and describes them, and makes loaders."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from math import ceil
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor

from pipeline.constraints import Fraction, NonNegativeInt, PositiveInt, Range
from pipeline.data.data_spec import build_data_spec
from pipeline.data.dataset import DataSource, Split, Splits
from pipeline.data.duplicates import drop_duplicates
from pipeline.data.loader import EvaluationLoader, EvaluationTuples, TrainLoader, TrainTuples
from pipeline.data.on_disk import concatenate
from pipeline.data.splitting import FIXED_SEED, cross_validation_fold, stratified_fraction
from pipeline.data.targets import check_class_labels, check_multilabel_targets, check_regression_targets
from pipeline.errors import ConfigError, DataError
from pipeline.spec import DataSpec

log = logging.getLogger(__name__)

MAX_GPU_MEMORY_SHARE = 0.25  # of the free memory, for one split; the rest is for the network


class DataModule(LightningDataModule):
    """Makes batches of a source's data.

    root                   folder with the source's files; None: the source knows where to find them
    batch_size             samples of a training batch, over all processes together
    evaluation_batch_size  samples of an evaluation batch, in each process
    train_fraction         share (0 to 1] of the training samples that is used
    folds, fold            k-fold cross-validation: training and validation samples together are divided into `folds`
                           equal parts, of which number `fold` (from 0) is the validation split
    balanced               an epoch has as many samples as before, but equally many of each class
    on_copies              drop: leave out training samples that are in the validation or test split, too
    accumulate             batches of an optimiser step
    log_every_n_steps      steps of a StepChunk
    """

    def __init__(
        self,
        *,
        source: DataSource,
        root: str | None,
        batch_size: PositiveInt,
        evaluation_batch_size: PositiveInt,
        train_fraction: Fraction,
        seed: int,
        folds: Annotated[int, Range(ge=2)] | None = None,
        fold: NonNegativeInt = 0,
        balanced: bool = False,
        on_copies: Literal["keep", "drop"] = "keep",
        world_size: int = 1,
        rank: int = 0,
        accumulate: int = 1,
        log_every_n_steps: int = 50,
    ) -> None:
        super().__init__()
        check_batch_sizes(batch_size, evaluation_batch_size, train_fraction, world_size)
        check_folds(folds, fold)
        self.source = source
        self.root = root
        self.batch_size = batch_size
        self.evaluation_batch_size = evaluation_batch_size
        self.train_fraction = train_fraction
        self.seed = seed
        self.folds = folds
        self.fold = fold
        self.balanced = balanced
        self.on_copies = on_copies
        self.world_size = world_size
        self.rank = rank
        self.accumulate = accumulate
        self.log_every_n_steps = log_every_n_steps
        self._as_tuples = False

    def load(self) -> DataSpec:
        """Download, verify and describe the data; only the first call does any work.

        Raises DataError or ConfigError for all mistakes in the data, so none is found later.
        """
        if self.batch_size > len(self.splits.train):
            raise DataError(
                f"data.batch_size={self.batch_size} is more than the {len(self.splits.train)} training samples of "
                f"{self.splits.name} at data.train_fraction={self.train_fraction:g}; use at most "
                f"{len(self.splits.train)}"
            )
        if self.balanced and self.splits.train.targets.ndim > 1:
            targets = "any number of labels for a sample" if self.splits.task == "multilabel" else self.spec.answers
            raise ConfigError(
                f"data.balanced=true makes classes equally frequent; {self.splits.name} has {targets} to predict: "
                "leave it out"
            )
        return self.spec

    def reuse(self, other: "DataModule") -> None:
        """Use the splits that `other` has loaded, if this one would load the same."""
        options = ("root", "train_fraction", "folds", "fold", "on_copies")
        mine, theirs = (
            (type(data.source), vars(data.source), *(getattr(data, name) for name in options)) for data in (self, other)
        )
        if mine == theirs:
            self.splits, self.spec = other.splits, other.spec

    def setup(self, stage: str) -> None:
        self.load()

    @cached_property
    def splits(self) -> Splits:
        splits = self.source.load(None if self.root is None else Path(self.root).expanduser())
        check_splits(splits)
        if self.folds is not None:
            splits = make_fold(splits, folds=self.folds, fold=self.fold)
        if self.on_copies == "drop":
            splits = drop_duplicates(splits)
        if self.train_fraction < 1:
            rows = stratified_fraction(splits.train.strata, self.train_fraction)
            splits = replace(splits, train=splits.train.rows(torch.from_numpy(rows)))
        return splits.fitted()

    @cached_property
    def spec(self) -> DataSpec:
        return build_data_spec(self.splits)

    @property
    def steps_per_epoch(self) -> int:
        """Return the number of optimiser steps in an epoch."""
        return ceil(len(self.splits.train) // self.batch_size / self.accumulate)

    def example(self, count: int) -> Tensor:
        """Return the raw inputs of the first training samples."""
        return self.splits.train.inputs[:count]

    def use_tuples(self) -> None:
        """Make loaders of plain (inputs, targets) from now on, for a LightningModule that does not know Batch."""
        self._as_tuples = True

    def train_dataloader(self) -> TrainLoader | TrainTuples:
        loader = TrainLoader(
            self._on_device(self.splits.train),
            batch_size=self.batch_size,
            seed=self.seed,
            epoch=lambda: 0 if self.trainer is None else self.trainer.current_epoch,
            rank=self.rank,
            world_size=self.world_size,
            accumulate=1 if self._as_tuples else self.accumulate,
            log_every_n_steps=self.log_every_n_steps,
            balanced=self.balanced,
        )
        return TrainTuples(loader) if self._as_tuples else loader

    def val_dataloader(self) -> EvaluationLoader | EvaluationTuples:
        return self.evaluation_loader("validation")

    def test_dataloader(self) -> EvaluationLoader | EvaluationTuples:
        return self.evaluation_loader("test")

    def evaluation_loader(self, split: str) -> EvaluationLoader | EvaluationTuples:
        """Return the loader of train, validation or test split."""
        loader = EvaluationLoader(
            self._on_device(self.splits.by_name()[split]),
            batch_size=self.evaluation_batch_size,
            rank=self.rank,
            world_size=self.world_size,
        )
        return EvaluationTuples(loader) if self._as_tuples else loader

    def _on_device(self, split: Split) -> Split:
        """Move a split to the GPU if there is one with enough memory; otherwise batches are moved one by one."""
        if self.trainer is None or self.trainer.strategy.root_device.type != "cuda":
            return split
        device = self.trainer.strategy.root_device
        free_bytes, _ = torch.cuda.mem_get_info(device)
        fits = split.inputs.nbytes + split.targets.nbytes <= MAX_GPU_MEMORY_SHARE * free_bytes
        return split.to(device) if fits else split


def check_batch_sizes(batch_size: int, evaluation_batch_size: int, train_fraction: float, world_size: int) -> None:
    for name, value in (("batch_size", batch_size), ("evaluation_batch_size", evaluation_batch_size)):
        if value < 1:
            raise ConfigError(f"data.{name}={value}: a batch needs at least 1 sample, such as data.{name}=128")
    if batch_size % world_size != 0:
        enough = ceil(batch_size / world_size) * world_size
        raise ConfigError(
            f"data.batch_size={batch_size} cannot be split over {world_size} processes; use a multiple of "
            f"{world_size}, such as {enough}"
        )
    if not 0 < train_fraction <= 1:
        raise ConfigError(f"data.train_fraction={train_fraction:g}: expected more than 0 and at most 1, such as 0.5")


def check_folds(folds: int | None, fold: int) -> None:
    if folds is not None and folds < 2:
        raise ConfigError(
            f"data.folds={folds}: expected 2 or more, such as data.folds=5, or null for the source's split"
        )
    if not 0 <= fold < (folds or 1):
        wanted = f"0 to {folds - 1}" if folds else "0 as long as data.folds is null; such as data.folds=5"
        raise ConfigError(f"data.fold={fold}: expected {wanted}")


def make_fold(splits: Splits, *, folds: int, fold: int) -> Splits:
    """Return the splits of one fold of cross-validation.

    Raises ConfigError where there are fewer samples (or groups) than folds, or the splits are ordered in time.
    """
    if splits.is_ordered:
        raise ConfigError(
            f"data.folds={folds}: the splits of {splits.name} follow each other in time, and a fold would be evaluated "
            "on earlier samples. Leave out data.folds, or the option that orders the splits (data.source.time)"
        )
    whole = concatenate_splits(splits.train, splits.validation)
    groups = None if whole.groups is None else whole.groups.numpy()
    most, what = (len(whole), "samples") if groups is None else (len(np.unique(groups)), "groups of samples")
    if folds > most:
        remedy = f"use at most data.folds={most}" if most > 1 else "leave data.folds out"
        raise ConfigError(f"data.folds={folds} is more than the {most} {what} to divide; {remedy}")
    train, validation = cross_validation_fold(whole.strata, folds=folds, fold=fold, seed=FIXED_SEED, groups=groups)
    return replace(
        splits, train=whole.rows(torch.from_numpy(train)), validation=whole.rows(torch.from_numpy(validation))
    )


def concatenate_splits(first: Split, second: Split) -> Split:
    groups = None if first.groups is None or second.groups is None else torch.cat([first.groups, second.groups])
    return Split(concatenate([first.inputs, second.inputs]), torch.cat([first.targets, second.targets]), groups)


def check_splits(splits: Splits) -> None:
    """Raise DataError for an empty split, different numbers of inputs and targets, or invalid targets."""
    for name, split in splits.by_name().items():
        where = f"{splits.name}'s {name} split"
        if len(split.inputs) != len(split.targets):
            raise DataError(f"{where} has {len(split.inputs)} inputs, but {len(split.targets)} targets.")
        if len(split) == 0:
            raise DataError(f"{where} is empty: each split needs at least one sample. Change the source's split.")
        if splits.task == "regression":
            check_regression_targets(split.targets, where=where)
        elif splits.task == "multilabel":
            check_multilabel_targets(split.targets, num_labels=len(splits.class_names), where=where)
        else:
            check_class_labels(split.targets, num_classes=len(splits.class_names), where=where)
        check_target_variation(name, split.targets, splits.class_names, where=where)


def check_target_variation(name: str, targets: Tensor, class_names: Sequence[str], *, where: str) -> None:
    """Raise DataError where all training samples have the same target; warn where all validation samples have."""
    if name == "test" or not bool((targets == targets[0]).all()):
        return
    only = (
        class_names[int(targets[0])]
        if targets.ndim == 1
        else ", ".join(f"{number:g}" for number in targets[0].tolist())
    )
    if name == "train":
        raise DataError(
            f"{where}: all {len(targets)} samples have the target {only}, so there is nothing to learn. Choose another "
            "target, add samples, or change the source's split."
        )
    log.warning(
        f"{where}: all {len(targets)} samples have the target {only}, so a model that always predicts it is right. Add "
        "samples, or change the source's split"
    )
