"""The one LightningDataModule: loads a source's splits, checks and describes them, and hands out batches."""

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
from pipeline.data.splitting import cross_validation_fold, stratified_fraction
from pipeline.data.targets import check_class_labels, check_multilabel_targets, check_regression_targets
from pipeline.errors import ConfigError, DataError
from pipeline.spec import DataSpec

log = logging.getLogger(__name__)

FOLD_SEED = 0  # the same folds for every run, whatever its own seed
MAX_GPU_MEMORY_SHARE = 0.25  # what one part may take of a GPU's memory; the rest is the network's


class DataModule(LightningDataModule):
    """`batch_size` samples are a training batch over all processes together, `evaluation_batch_size` an
    evaluation batch in each process; of the training samples a share of `train_fraction` (0 to 1] is used.

    With `folds` the training and validation samples are put together and cut into that many equal parts, of which
    number `fold` (from 0) validates: k-fold cross-validation. The test part stays what it is.

    With `balanced` an epoch has as many samples as ever, but equally many of each class.
    With `on_copies` drop, training samples that stand in the validation or test part, too, are left out.

    `accumulate` batches are an optimiser step, `log_every_n_steps` steps a Chunk. `root` is the folder with
    the source's files, None leaves it to the source.
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
        """Finds, fetches, verifies and describes the data; only the first call does any work.

        Raises DataError or ConfigError: what is wrong with the data is found here and nowhere later.
        """
        if self.batch_size > len(self.parts.train):
            raise DataError(
                f"data.batch_size={self.batch_size} is more than the {len(self.parts.train)} training samples of "
                f"{self.parts.name} at data.train_fraction={self.train_fraction:g}; use at most "
                f"{len(self.parts.train)}"
            )
        if self.balanced and self.parts.train.targets.ndim > 1:
            asked = "labels of which any number holds" if self.parts.task == "multilabel" else self.spec.answers
            raise ConfigError(
                f"data.balanced=true draws classes equally often; {self.parts.name} has {asked} to predict: leave it "
                "out"
            )
        return self.spec

    def take_over(self, other: "DataModule") -> None:
        """Share what `other` has loaded, if this one would load the same."""
        mine, its = (
            (
                type(each.source),
                vars(each.source),
                each.root,
                each.train_fraction,
                each.folds,
                each.fold,
                each.on_copies,
            )
            for each in (self, other)
        )
        if mine == its:
            self.parts, self.spec = other.parts, other.spec

    def setup(self, stage: str) -> None:
        self.load()

    @cached_property
    def parts(self) -> Splits:
        parts = self.source.load(None if self.root is None else Path(self.root).expanduser())
        check_splits(parts)
        if self.folds is not None:
            parts = make_fold(parts, folds=self.folds, fold=self.fold)
        if self.on_copies == "drop":
            parts = drop_duplicates(parts)
        if self.train_fraction < 1:
            rows = stratified_fraction(parts.train.strata, self.train_fraction)
            parts = replace(parts, train=parts.train.rows(torch.from_numpy(rows)))
        return parts.fitted()

    @cached_property
    def spec(self) -> DataSpec:
        return build_data_spec(self.parts)

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps in an epoch."""
        return ceil(len(self.parts.train) // self.batch_size / self.accumulate)

    def example(self, count: int) -> Tensor:
        """The raw inputs of the first training samples."""
        return self.parts.train.inputs[:count]

    def hand_over_tuples(self) -> None:
        """Hand out plain (inputs, targets) from now on, for a LightningModule that knows no Batch."""
        self._as_tuples = True

    def train_dataloader(self) -> TrainLoader | TrainTuples:
        loader = TrainLoader(
            self._placed(self.parts.train),
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

    def evaluation_loader(self, part: str) -> EvaluationLoader | EvaluationTuples:
        """Return the loader of train, validation or test."""
        loader = EvaluationLoader(
            self._placed(self.parts.by_name()[part]),
            batch_size=self.evaluation_batch_size,
            rank=self.rank,
            world_size=self.world_size,
        )
        return EvaluationTuples(loader) if self._as_tuples else loader

    def _placed(self, part: Split) -> Split:
        """Move a split to the GPU if there is one with ample room; otherwise batches are moved one by one."""
        if self.trainer is None or self.trainer.strategy.root_device.type != "cuda":
            return part
        device = self.trainer.strategy.root_device
        free_bytes, _ = torch.cuda.mem_get_info(device)
        fits = part.inputs.nbytes + part.targets.nbytes <= MAX_GPU_MEMORY_SHARE * free_bytes
        return part.to(device) if fits else part


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


def make_fold(parts: Splits, *, folds: int, fold: int) -> Splits:
    """Return the splits of one fold of cross-validation.

    Raises ConfigError where there are fewer samples (or groups) than folds, or the splits are ordered in time."""
    if parts.is_ordered:
        raise ConfigError(
            f"data.folds={folds}: the parts of {parts.name} follow each other in time, and a fold would be judged on "
            "what came before. Leave out data.folds, or what the source is cut by (data.source.time)"
        )
    whole = concatenate_splits(parts.train, parts.validation)
    groups = None if whole.groups is None else whole.groups.numpy()
    most, what = (len(whole), "samples") if groups is None else (len(np.unique(groups)), "groups of samples")
    if folds > most:
        fewer = f"use at most data.folds={most}" if most > 1 else "leave data.folds out"
        raise ConfigError(f"data.folds={folds} is more than the {most} {what} to cut; {fewer}")
    train, validation = cross_validation_fold(whole.strata, folds=folds, fold=fold, seed=FOLD_SEED, groups=groups)
    return replace(
        parts, train=whole.rows(torch.from_numpy(train)), validation=whole.rows(torch.from_numpy(validation))
    )


def concatenate_splits(one: Split, other: Split) -> Split:
    groups = None if one.groups is None or other.groups is None else torch.cat([one.groups, other.groups])
    return Split(concatenate([one.inputs, other.inputs]), torch.cat([one.targets, other.targets]), groups)


def check_splits(parts: Splits) -> None:
    """Raises DataError for an empty split, counts that differ, or invalid targets."""
    for name, part in parts.by_name().items():
        where = f"{parts.name}'s {name} part"
        if len(part.inputs) != len(part.targets):
            raise DataError(f"{where} has {len(part.inputs)} inputs, but {len(part.targets)} targets.")
        if len(part) == 0:
            raise DataError(f"{where} is empty: every part needs at least one sample. Change the source's split.")
        if parts.task == "regression":
            check_regression_targets(part.targets, where=where)
        elif parts.task == "multilabel":
            check_multilabel_targets(part.targets, num_labels=len(parts.class_names), where=where)
        else:
            check_class_labels(part.targets, num_classes=len(parts.class_names), where=where)
        check_target_variation(name, part.targets, parts.class_names, where=where)


def check_target_variation(name: str, targets: Tensor, class_names: Sequence[str], *, where: str) -> None:
    """Raises DataError where all training samples have the same target; warns where those to choose by have."""
    if name == "test" or not bool((targets == targets[0]).all()):
        return
    only = class_names[int(targets[0])] if targets.ndim == 1 else ", ".join(f"{each:g}" for each in targets[0].tolist())
    if name == "train":
        raise DataError(
            f"{where}: all {len(targets)} samples have the target {only}, so there is nothing to learn. Choose another "
            "target, add samples, or change the source's split."
        )
    log.warning(
        f"{where}: all {len(targets)} samples have the target {only}, so whatever always says that is right there. Add "
        "samples, or change the source's split"
    )
