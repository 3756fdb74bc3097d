"""Read and write `predictions.npz`: what the best weights predict for every test sample. This module needs no torch.

Classification:

    log_probabilities   (N, K)  float32, or float16 above FULL_PRECISION_VALUES values
    said, targets, ids  (N,)    the likeliest class, the true class, the row of the test split; in the order of the rows
    losses              (N,)    float32, the loss of each sample: cross-entropy
    digest              ()      SHA-256 of the test split; two runs with the same digest have the same test samples
    pictured            (P,)    positions in these arrays of the samples that a report shows; empty if it shows none
    pictures            (P, H, W) or (P, H, W, 3) uint8, at most 64 pixels a side, for sound its spectrogram; empty
                        for other data
    sentences           (P,)    text, at most LONGEST_SENTENCE characters each; empty for other data

Regression of T numbers a sample:

    predicted, true         (N, T)
    ids, losses, digest     as above; a loss is the squared error in units of the training split's variance

Multi-label classification with K labels:

    probabilities           (N, K)  float32
    true                    (N, K)  bool
    ids, losses, digest     as above; a loss is the mean logistic loss over the labels

All are plain arrays: np.load(path, allow_pickle=False) reads them.
"""

import io
import struct
import zipfile
import zlib
from dataclasses import MISSING, Field, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline import run_files
from pipeline.reports.evaluation_statistics import Bools, Floats, Ints
from pipeline.run_files import DamagedFileError
from pipeline.system.files import write_atomically

PREDICTIONS_FILE = run_files.PREDICTIONS.name
ARRAYS = ("log_probabilities", "said", "targets", "ids", "losses", "predicted", "true", "probabilities")
TWO_DIMENSIONAL = ("log_probabilities", "predicted", "true", "probabilities")
UNREADABLE = (  # raised by numpy and zipfile for a damaged file
    DamagedFileError,
    OSError,
    ValueError,
    LookupError,
    TypeError,
    ArithmeticError,
    EOFError,
    MemoryError,
    NotImplementedError,
    SyntaxError,
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
)
FULL_PRECISION_VALUES = 2_000_000
LOWEST_LOG_PROBABILITY = -60_000.0  # float16 ends at -65,504
WORST_MISTAKES = 24
LOWEST_MARGINS = 12
LONGEST_SENTENCE = 600

Strings = npt.NDArray[np.str_]


def _key(entry: Field[Any]) -> str:
    return str(entry.metadata.get("key", entry.name))


@dataclass(frozen=True)
class ClassPredictions:
    """The module's docstring gives the shapes."""

    log_probabilities: Floats
    predicted: Ints = field(metadata={"key": "said"})  # its array's name in the file
    targets: Ints
    ids: Ints
    losses: Floats
    digest: str
    pictured: Ints
    pictures: Ints
    # Files of older versions hold no sentences.
    sentences: Strings = field(default_factory=lambda: np.zeros(0, dtype=np.str_))

    @cached_property
    def correct(self) -> Bools:
        equal: Bools = self.predicted == self.targets
        return equal

    @cached_property
    def confidence(self) -> Floats:
        """(N,) the probability of the predicted class."""
        probabilities: Floats = np.exp(self.log_probabilities.max(axis=1).astype(np.float32))
        return probabilities

    @cached_property
    def top_two(self) -> Ints:
        """(N, 2) the two likeliest classes, the likelier first."""
        two = np.argpartition(self.log_probabilities, -2, axis=1)[:, -2:]
        values = np.take_along_axis(self.log_probabilities, two, axis=1)
        ordered: Ints = np.take_along_axis(two, np.argsort(-values, axis=1, kind="stable"), axis=1)
        return ordered

    def probability(self, row: int, label: int) -> float:
        return float(np.exp(np.float32(self.log_probabilities[row, label])))

    @cached_property
    def worst_mistakes(self) -> Ints:
        """Positions of the wrong predictions with the highest losses."""
        wrong = np.flatnonzero(~self.correct)
        return wrong[np.argsort(-self.losses[wrong], kind="stable")][:WORST_MISTAKES]

    @cached_property
    def lowest_margins(self) -> Ints:
        """Positions with the smallest difference between the two highest probabilities, correct or not."""
        values = np.take_along_axis(self.log_probabilities, self.top_two, axis=1).astype(np.float32)
        margin = np.exp(values[:, 0]) - np.exp(values[:, 1])
        order: Ints = np.argsort(margin, kind="stable")
        return order[:LOWEST_MARGINS]

    @cached_property
    def reported_rows(self) -> Ints:
        """Positions of the samples that a report shows, ascending."""
        rows: Ints = np.union1d(self.worst_mistakes, self.lowest_margins)
        return rows

    def picture(self, row: int) -> Ints | None:
        """Return the sample's picture, (H, W) or (H, W, 3), or None if the file has none of it."""
        positions = np.flatnonzero(self.pictured == row)
        return self.pictures[positions[0]] if len(positions) and len(self.pictures) else None

    def sentence(self, row: int) -> str | None:
        """Return the sample's text, or None if the file has none of it."""
        positions = np.flatnonzero(self.pictured == row)
        return str(self.sentences[positions[0]]) if len(positions) and len(self.sentences) else None


@dataclass(frozen=True)
class RegressionPredictions:
    """The module's docstring gives the shapes."""

    predicted: Floats
    targets: Floats = field(metadata={"key": "true"})
    ids: Ints
    losses: Floats
    digest: str

    @property
    def residuals(self) -> Floats:
        """(N, T) target less prediction."""
        differences: Floats = self.targets - self.predicted
        return differences

    @cached_property
    def largest_errors(self) -> Ints:
        """Positions of the samples with the highest losses."""
        order: Ints = np.argsort(-self.losses, kind="stable")
        return order[:LOWEST_MARGINS]


@dataclass(frozen=True)
class MultilabelPredictions:
    """The module's docstring gives the shapes."""

    probabilities: Floats
    targets: Bools = field(metadata={"key": "true"})
    ids: Ints
    losses: Floats
    digest: str

    @cached_property
    def predicted(self) -> Bools:
        """(N, K) labels with a probability above a half."""
        likelier: Bools = self.probabilities > 0.5
        return likelier

    @cached_property
    def wrong(self) -> Bools:
        """(N, K) labels whose prediction is not the target."""
        unequal: Bools = self.predicted != self.targets
        return unequal

    @cached_property
    def correct(self) -> Bools:
        """(N,) samples with all labels correct."""
        all_equal: Bools = self.wrong.sum(axis=1) == 0
        return all_equal


TestPredictions = ClassPredictions | RegressionPredictions | MultilabelPredictions


def compact_log_probabilities(log_probabilities: Floats) -> Floats:
    """Return them as float32, or as float16 where there are many."""
    if log_probabilities.size <= FULL_PRECISION_VALUES:
        return log_probabilities.astype(np.float32)
    return np.maximum(log_probabilities, LOWEST_LOG_PROBABILITY).astype(np.float16)


def write_predictions(folder: Path, predictions: TestPredictions) -> None:
    arrays: dict[str, Any] = {_key(entry): getattr(predictions, entry.name) for entry in fields(predictions)}
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    write_atomically(folder / PREDICTIONS_FILE, buffer.getvalue())


def load_predictions(folder: Path) -> TestPredictions | None:
    """Return the run's test predictions, or None if the file is missing, damaged or incomplete."""
    try:
        file = run_files.PREDICTIONS.open(folder)
        if file is None:
            return None
        with file, np.load(file, allow_pickle=False) as archive:
            arrays: dict[str, Any] = {key: archive[key] for key in archive.files}
    except UNREADABLE:
        return None
    for kind in (ClassPredictions, RegressionPredictions, MultilabelPredictions):
        entries = [entry for entry in fields(kind) if _key(entry) in arrays or entry.default_factory is MISSING]
        if all(_key(entry) in arrays for entry in entries):
            values = {entry.name: arrays[_key(entry)] for entry in entries}
            return kind(**{**values, "digest": str(values["digest"])}) if _is_consistent(arrays) else None
    return None


def _is_consistent(arrays: dict[str, Any]) -> bool:
    """Return whether all arrays are numbers of equally many samples, with no class beyond K."""
    known = [(arrays[key], 2 if key in TWO_DIMENSIONAL else 1) for key in ARRAYS if key in arrays]
    if any(array.dtype.kind not in "fiub" or array.ndim != dimensions for array, dimensions in known):
        return False
    labels = [arrays[key] for key in ("said", "targets") if "log_probabilities" in arrays]
    classes = arrays["log_probabilities"].shape[1] if labels else 0
    return len({len(array) for array, _ in known}) == 1 and all(
        ((array >= 0) & (array < classes)).all() for array in labels
    )
