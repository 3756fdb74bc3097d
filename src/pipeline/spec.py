"""What passes between data and models: one batch, and what a model may know of its data."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:  # torch is imported by those who hold tensors, not by those who describe them
    from torch import Tensor, device

Kind = Literal["image", "table", "audio", "text"]
TaskKind = Literal["multiclass", "binary", "multilabel", "regression"]

PADDING, UNKNOWN = "[PAD]", "[UNK]"  # the tokens that are numbered 0 and 1 in every vocabulary


@dataclass(frozen=True)
class Mixed:
    """The second targets of mixed samples (MixUp, CutMix).

    targets  as those of the Batch: what else is in each sample
    share    how much of each loss they are, from 0 to 1; the Batch's own targets are the rest
    """

    targets: "Tensor"
    share: float


@dataclass(frozen=True)
class Batch:
    """B samples, all tensors on one device.

    inputs   (B, *DataSpec.input_shape), in the type the source stores (uint8 for images, int16 for sound)
    targets  (B,) int64 class numbers, (B, K) float32 with 1 for each label that holds, or (B, T) float32 numbers
    ids      (B,) int64 row numbers in the part the batch is taken from (train, validation or test)
    mask     (B,) bool, False where a row only pads the batch and must not be counted;
             None says that every row counts
    mixed    what else was mixed into the samples; None where nothing was
    """

    inputs: "Tensor"
    targets: "Tensor"
    ids: "Tensor"
    mask: "Tensor | None" = None
    mixed: Mixed | None = None

    def __len__(self) -> int:
        return len(self.targets)

    def to(self, device: "device | str", *, non_blocking: bool = False) -> "Batch":
        return self._each(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def rows(self, rows: slice) -> "Batch":
        """Return some of the samples as views; nothing is copied."""
        return self._each(lambda tensor: tensor[rows])

    def _each(self, change: "Callable[[Tensor], Tensor]") -> "Batch":
        return Batch(
            change(self.inputs),
            change(self.targets),
            change(self.ids),
            None if self.mask is None else change(self.mask),
            None if self.mixed is None else Mixed(change(self.mixed.targets), self.mixed.share),
        )


@dataclass(frozen=True)
class DataSpec:
    """What a model may know of its data. Plain numbers and strings only, so that it can be written as JSON.

    class_names    empty where targets are numbers
    mean, std      one value a channel (of a table: a column), in the units the inputs are stored in (0-255 for uint8
                   images), computed on the training part alone; empty for text, whose numbers name tokens, and for
                   sound, of which each sample is scaled by itself
    sizes          samples in each part: {"train": 3500, "validation": 500, "test": 1000}
    digest         SHA-256 over the content of all parts
    feature_names  of a table's columns; empty for other kinds
    categories     of each of these columns the names that its numbers (from 0) stand for, and none where they are
                   amounts; the first stands for all that are not told apart. mean and std are 0 where there are names
    columns        of the user's table what was made of each, for a person
    target_mean, target_std
                   the same of each number that is to be predicted; empty for classes
    class_counts   training samples of each class; empty where targets are numbers
    vocabulary_size
                   of text: its tokens are numbered 0 (padding), 1 (unknown) to vocabulary_size - 1; else 0
    sample_rate    of sound: values a second; else 0
    """

    name: str
    kind: Kind
    task: TaskKind
    input_shape: tuple[int, ...]
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    sizes: dict[str, int] = field(default_factory=dict)
    digest: str = ""
    feature_names: tuple[str, ...] = ()
    target_mean: tuple[float, ...] = ()
    target_std: tuple[float, ...] = ()
    vocabulary_size: int = 0
    class_counts: tuple[int, ...] = ()
    sample_rate: int = 0
    categories: tuple[tuple[str, ...], ...] = ()
    columns: tuple[str, ...] = ()

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def num_outputs(self) -> int:
        """Return the number of scores for a sample: one per number, one for two classes, else one per class."""
        if self.task == "regression":
            return len(self.target_mean)
        return 1 if self.task == "binary" else self.num_classes

    @property
    def answers(self) -> str:
        """Return what the model predicts, in words."""
        if self.task == "regression":
            return "a number" if self.num_outputs == 1 else f"{self.num_outputs} numbers"
        if self.task == "multilabel":
            return f"any of {self.num_classes} labels"
        return f"{self.num_classes} classes"
