"""What the best weights said of every test sample: `predictions.npz` in the run directory. No torch in here.

    log_probabilities   (N, K)  of each class; float32, or float16 where there are more than FULL_VALUES of them
    said, targets, ids  (N,)    the likeliest class, the true one, the row of the test part; in the order of the rows
    losses              (N,)    float32, what each costs by the task's measure: cross-entropy
    digest              ()      SHA-256 of the test part: samples are the same where it is
    pictured            (P,)    places in the arrays above of the samples that a report shows; P is 0 where it cannot
    pictures            (P, H, W) or (P, H, W, 3) uint8, at most 64 pixels a side, of sound its spectrogram; none
                        where samples are neither
    sentences           (P,)    text, at most LONGEST characters of each; none where samples are no text

Where numbers were to be predicted, T of them for each sample:

    predicted, true   (N, T)
    ids, losses, digest     as above; the losses are squared errors in units of the training part's variance

Where any of K labels may hold:

    probabilities     (N, K)  float32, of each label
    true              (N, K)  bool
    ids, losses, digest     as above; the losses are the mean of the labels' logistic losses

Plain arrays, to be read with np.load(path, allow_pickle=False).
"""

import io
import struct
import zipfile
import zlib
from dataclasses import MISSING, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from pipeline import run_files
from pipeline.reports.evaluation_statistics import Bools, Floats, Ints
from pipeline.run_files import DamagedFileError
from pipeline.system.files import write_atomically

PREDICTIONS_FILE = run_files.PREDICTIONS.name
OF_ALL = ("log_probabilities", "said", "targets", "ids", "losses", "predicted", "true", "probabilities")
WIDE = ("log_probabilities", "predicted", "true", "probabilities")
UNREADABLE = (  # what numpy and zipfile raise over a damaged file
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
FULL_VALUES = 2_000_000
LOWEST_LOG_PROBABILITY = -60_000.0  # float16 ends at -65,504
WORST_MISTAKES = 24
LOWEST_MARGINS = 12
LONGEST_SENTENCE = 600

Strings = npt.NDArray[np.str_]


@dataclass(frozen=True)
class ClassPredictions:
    log_probabilities: Floats
    said: Ints
    targets: Ints
    ids: Ints
    losses: Floats
    digest: str
    pictured: Ints
    pictures: Ints
    sentences: Strings = field(
        default_factory=lambda: np.zeros(0, dtype=np.str_)
    )  # a file of an older version has none

    @cached_property
    def right(self) -> Bools:
        equal: Bools = self.said == self.targets
        return equal

    @cached_property
    def confidence(self) -> Floats:
        """(N,) the probability of what was said."""
        probabilities: Floats = np.exp(self.log_probabilities.max(axis=1).astype(np.float32))
        return probabilities

    @cached_property
    def likeliest_two(self) -> Ints:
        """(N, 2) classes, the likelier first."""
        two = np.argpartition(self.log_probabilities, -2, axis=1)[:, -2:]
        values = np.take_along_axis(self.log_probabilities, two, axis=1)
        ordered: Ints = np.take_along_axis(two, np.argsort(-values, axis=1, kind="stable"), axis=1)
        return ordered

    def probability(self, row: int, label: int) -> float:
        return float(np.exp(np.float32(self.log_probabilities[row, label])))

    @cached_property
    def worst_mistakes(self) -> Ints:
        """Places of the mistakes that cost the most."""
        wrong = np.flatnonzero(~self.right)
        return wrong[np.argsort(-self.losses[wrong], kind="stable")][:WORST_MISTAKES]

    @cached_property
    def closest_calls(self) -> Ints:
        """Places where the two likeliest classes were nearest to each other, whichever was right."""
        values = np.take_along_axis(self.log_probabilities, self.likeliest_two, axis=1).astype(np.float32)
        margin = np.exp(values[:, 0]) - np.exp(values[:, 1])
        order: Ints = np.argsort(margin, kind="stable")
        return order[:LOWEST_MARGINS]

    @cached_property
    def shown(self) -> Ints:
        """Places of the samples that a report shows, ascending."""
        rows: Ints = np.union1d(self.worst_mistakes, self.closest_calls)
        return rows

    def picture(self, row: int) -> Ints | None:
        """(H, W) or (H, W, 3) of this sample, if it was kept."""
        found = np.flatnonzero(self.pictured == row)
        return self.pictures[found[0]] if len(found) and len(self.pictures) else None

    def sentence(self, row: int) -> str | None:
        """Of this sample, if it was kept."""
        found = np.flatnonzero(self.pictured == row)
        return str(self.sentences[found[0]]) if len(found) and len(self.sentences) else None


@dataclass(frozen=True)
class RegressionPredictions:
    predicted: Floats
    true: Floats
    ids: Ints
    losses: Floats
    digest: str

    @property
    def residuals(self) -> Floats:
        """(N, T) what was missing; negative where too much was predicted."""
        missing: Floats = self.true - self.predicted
        return missing

    @cached_property
    def furthest(self) -> Ints:
        """Places of the samples that cost the most."""
        order: Ints = np.argsort(-self.losses, kind="stable")
        return order[:LOWEST_MARGINS]


@dataclass(frozen=True)
class MultilabelPredictions:
    probabilities: Floats
    true: Bools
    ids: Ints
    losses: Floats
    digest: str

    @cached_property
    def said(self) -> Bools:
        """(N, K) the likelier of the two, for each label by itself."""
        likelier: Bools = self.probabilities > 0.5
        return likelier

    @cached_property
    def wrong(self) -> Bools:
        """(N, K) labels that were said to hold and do not, or the other way round."""
        unequal: Bools = self.said != self.true
        return unequal

    @cached_property
    def right(self) -> Bools:
        """(N,) in all labels."""
        found: Bools = self.wrong.sum(axis=1) == 0
        return found


TestPredictions = ClassPredictions | RegressionPredictions | MultilabelPredictions
Kind = TypeVar("Kind", ClassPredictions, RegressionPredictions, MultilabelPredictions)


def compact_log_probabilities(log_probabilities: Floats) -> Floats:
    """As they are kept."""
    if log_probabilities.size <= FULL_VALUES:
        return log_probabilities.astype(np.float32)
    return np.maximum(log_probabilities, LOWEST_LOG_PROBABILITY).astype(np.float16)


def write_predictions(folder: Path, predictions: TestPredictions) -> None:
    arrays: dict[str, Any] = {each.name: getattr(predictions, each.name) for each in fields(predictions)}
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    write_atomically(folder / PREDICTIONS_FILE, buffer.getvalue())


def load(folder: Path) -> ClassPredictions | None:
    """None where there are none, or where they are not whole, or numbers."""
    return _read(folder, ClassPredictions)


def load_numbers(folder: Path) -> RegressionPredictions | None:
    """None where there are none, or where they are not whole, or classes."""
    return _read(folder, RegressionPredictions)


def load_labels(folder: Path) -> MultilabelPredictions | None:
    """None where there are none, or where they are not whole, or something else."""
    return _read(folder, MultilabelPredictions)


def saved_test_digest(folder: Path) -> str | None:
    """Whatever was predicted."""
    kept = load(folder) or load_numbers(folder) or load_labels(folder)
    return None if kept is None else kept.digest


def _read(folder: Path, kind: type[Kind]) -> Kind | None:
    try:
        file = run_files.PREDICTIONS.open(folder)
        if file is None:
            return None
        with file, np.load(file, allow_pickle=False) as arrays:
            held: dict[str, Any] = {
                each.name: arrays[each.name]
                for each in fields(kind)
                if each.name in arrays or each.default_factory is MISSING
            }
    except UNREADABLE:
        return None
    found = kind(**{**held, "digest": str(held["digest"])})
    return found if _fits(held) else None


def _fits(held: dict[str, Any]) -> bool:
    """Numbers, of as many samples each, and no class that there is not."""
    arrays = [(held[name], 2 if name in WIDE else 1) for name in OF_ALL if name in held]
    if any(array.dtype.kind not in "fiub" or array.ndim != width for array, width in arrays):
        return False
    classes = [held[name] for name in ("said", "targets") if name in held]
    known = held["log_probabilities"].shape[1] if classes else 0
    in_range = all(((each >= 0) & (each < known)).all() for each in classes)
    return in_range and len({len(array) for array, _ in arrays}) == 1
