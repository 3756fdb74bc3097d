"""Runs with one fault each, known beforehand, and runs without any: what `pipeline diagnose` is judged by.

All of it from what the installation carries, or drawn here; a case differs from seed to seed in its data or its split,
too, wherever there is one to be drawn.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

# N samples, F features

Rows = npt.NDArray[np.floating]
Labels = npt.NDArray[np.integer]
Write = Callable[[Path, int], None]

MLP = ("model=mlp", "model.dropout=0", "optimizer.learning_rate=1e-3")
TABLE = ("data=table", "data.root=rows.csv", "data.source.target=label", *MLP)
FOLDER = ("data=image_folder", "data.root=pictures")
DIGITS = ("data=mnist5k", "model=mlp")


@dataclass(frozen=True)
class Case:
    """fault    the name of the finding that has to come first; None: nothing may be found
    settings    what `pipeline train` gets; {seed} stands for the seed
    write       makes the files that it reads, in this folder
    """

    fault: str | None
    settings: tuple[str, ...]
    write: Write | None = None

    def command(self, seed: int) -> list[str]:
        return ["train", *(word.format(seed=seed) for word in self.settings), f"seed={seed}", "tracking=none"]


def drawn(seed: int) -> np.random.Generator:
    """Not default_rng(seed) itself, whose first numbers are those that cut a table into its parts."""
    return np.random.default_rng([seed, 1])


def digits() -> tuple[Rows, Labels]:
    """scikit-learn's 1,797 pictures of 8x8, 0 to 255, and what they show."""
    from sklearn.datasets import load_digits

    pictures, labels = load_digits(return_X_y=True)
    return np.round(pictures * 255 / 16), labels.astype(np.int64)


def two_clouds(generator: np.random.Generator, counts: tuple[int, int], distance: float) -> tuple[Rows, Labels]:
    """Two normal distributions in five dimensions, whose means are so many standard deviations apart."""
    labels = np.repeat([0, 1], counts)
    rows = generator.normal(size=(len(labels), 5))
    rows[:, 0] += distance * labels
    order = generator.permutation(len(labels))
    return rows[order], labels[order]


def flipped(labels: Labels, share: float, generator: np.random.Generator) -> Labels:
    """So many of them are another class, any of the others."""
    classes = int(labels.max()) + 1
    chosen = generator.random(len(labels)) < share
    return np.where(chosen, (labels + generator.integers(1, classes, len(labels))) % classes, labels)


def write_table(folder: Path, rows: Rows, labels: Labels) -> None:
    head = ",".join([*(f"x{column}" for column in range(rows.shape[1])), "label"])
    lines = [
        ",".join([*(f"{value:.6g}" for value in row), f"c{label}"]) for row, label in zip(rows, labels, strict=True)
    ]
    (folder / "rows.csv").write_text("\n".join([head, *lines]) + "\n")


def write_pictures(folder: Path, part: str, pictures: Rows, labels: Labels, names: Labels) -> None:
    """`names` are numbers that tell the files apart."""
    for pixels, label, name in zip(pictures, labels, names, strict=True):
        path = folder / "pictures" / part / str(label) / f"{name:05}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.reshape(8, 8).astype(np.uint8)).save(path)


def rare_class(folder: Path, seed: int) -> None:
    """3 % of the rows are of a class that lies half inside the other."""
    write_table(folder, *two_clouds(drawn(seed), (1940, 60), 1.5))


def wrong_labels_everywhere(share: float) -> Write:
    def write(folder: Path, seed: int) -> None:
        pictures, labels = digits()
        write_table(folder, pictures, flipped(labels, share, drawn(seed)))

    return write


def wrong_labels_in_training(folder: Path, seed: int) -> None:
    """15 % of the training pictures alone."""
    pictures, labels = digits()
    generator = drawn(seed)
    names = generator.permutation(len(labels))
    train, others = names[:1200], names[1200:]
    write_pictures(folder, "train", pictures[train], flipped(labels[train], 0.15, generator), train)
    write_pictures(folder, "validation", pictures[others[:300]], labels[others[:300]], others[:300])
    write_pictures(folder, "test", pictures[others[300:]], labels[others[300:]], others[300:])


def pictures_in_both(folder: Path, seed: int) -> None:
    pictures, labels = digits()
    names = drawn(seed).permutation(len(labels))
    train, others = names[:1200], names[1200:]
    copied = np.concatenate([train, others[300:400]])
    write_pictures(folder, "train", pictures[copied], labels[copied], copied)
    write_pictures(folder, "validation", pictures[others[:300]], labels[others[:300]], others[:300])
    write_pictures(folder, "test", pictures[others[300:]], labels[others[300:]], others[300:])


def rows_twice(folder: Path, seed: int) -> None:
    """A third of the rows stands in the file a second time, as after a careless join."""
    rows, labels = two_clouds(drawn(seed), (500, 500), 3.0)
    write_table(folder, np.concatenate([rows, rows[:333]]), np.concatenate([labels, labels[:333]]))


def overlapping(folder: Path, seed: int) -> None:
    """No network is right in more than 84 % of them."""
    write_table(folder, *two_clouds(drawn(seed), (1500, 1500), 2.0))


LONG = ("callbacks=none", "optimizer.weight_decay=0")
CASES = {
    # Networks that learn their few samples by heart.
    "a thousand digits by heart": Case(
        "overfitting",
        (
            *DIGITS,
            "data.train_fraction=0.286",
            "model.widths=[1024,1024]",
            "model.dropout=0",
            *LONG,
            "trainer.max_epochs=30",
        ),
    ),
    "patients by heart": Case(
        "overfitting",
        (
            "data=diabetes",
            "data.source.split_seed={seed}",
            *MLP,
            *LONG,
            "trainer.max_epochs=100",
            "checkpoint.monitor=train/loss",
        ),
    ),
    # Networks that cannot fit, or are not let.
    "two units": Case("underfitting", (*DIGITS, "model.widths=[2]", "trainer.max_epochs=20")),
    "a heavy penalty": Case("underfitting", ("data=mnist5k", "regularizer=l2", "regularizer.l2.strength=100.0")),
    "nearly all dropped out": Case(
        "underfitting", (*DIGITS, "model.widths=[32,32]", "model.dropout=0.9", "trainer.max_epochs=20")
    ),
    # Steps that are too long or too short.
    "leaps": Case("learning rate too high", ("data=mnist5k", "optimizer.learning_rate=3.0", "scheduler=constant")),
    "leaps of plain descent": Case(
        "learning rate too high",
        (*DIGITS, "model.batch_norm=false", "optimizer=sgd", "optimizer.learning_rate=3.0", "scheduler=constant"),
    ),
    "leaps until it is no number": Case(
        "learning rate too high",
        (
            "data=diabetes",
            "model=linear_regression",
            "optimizer=sgd",
            "optimizer.learning_rate=10.0",
            "scheduler=constant",
        ),
    ),
    "creeping": Case("learning rate too low", ("data=mnist5k", "optimizer.learning_rate=1e-5")),
    "creeping down a constant slope": Case(
        "learning rate too low",
        (*DIGITS, "optimizer=sgd", "optimizer.learning_rate=1e-4", "scheduler=constant", "trainer.max_epochs=15"),
    ),
    # Trainings that end on the way.
    "two epochs": Case("stopped too early", ("data=mnist5k", "optimizer.learning_rate=1e-3", "trainer.max_epochs=2")),
    "three epochs of a constant rate": Case(
        "stopped too early",
        ("data=digits", "model=cnn", "optimizer.learning_rate=1e-3", "scheduler=constant", "trainer.max_epochs=3"),
    ),
    # Faults of the data.
    "a rare class": Case("class imbalance", (*TABLE, "trainer.max_epochs=30"), rare_class),
    "wrong labels everywhere": Case("label noise", (*TABLE, "trainer.max_epochs=30"), wrong_labels_everywhere(0.15)),
    "wrong labels learned by heart": Case(
        "label noise",
        (*TABLE, *LONG, "trainer.max_epochs=60", "checkpoint.monitor=train/loss"),
        wrong_labels_everywhere(0.1),
    ),
    "wrong labels in the training pictures": Case(
        "label noise", (*FOLDER, "model=cnn", "model.widths=[16,32]", "trainer.max_epochs=15"), wrong_labels_in_training
    ),
    "test pictures in the training folder": Case(
        "leakage", (*FOLDER, "model=cnn", "model.widths=[16,32]", "trainer.max_epochs=15"), pictures_in_both
    ),
    "rows twice in the file": Case("leakage", (*TABLE, "trainer.max_epochs=20"), rows_twice),
    # Networks that are right as often as others, and say so too loudly or too quietly.
    "scores that are no probabilities": Case(
        "miscalibration",
        (
            *TABLE[:3],
            "model=perceptron",
            "optimizer=sgd",
            "optimizer.learning_rate=0.1",
            "trainer.max_epochs=10",
            "callbacks=none",
        ),
        overlapping,
    ),
    "not sure enough": Case("miscalibration", ("data=mnist5k", "task.label_smoothing=0.4")),
    # Nothing is wrong with these.
    "digits of mnist5k": Case(None, ("data=mnist5k",)),
    "digits of scikit-learn": Case(None, ("data=digits", "data.source.split_seed={seed}", "trainer.max_epochs=20")),
    "iris": Case(None, ("experiment=softmax_iris", "data.source.split_seed={seed}")),
    "wine": Case(None, ("experiment=softmax_wine", "data.source.split_seed={seed}")),
    "tumours": Case(None, ("experiment=logistic_regression", "data.source.split_seed={seed}")),
    "patients": Case(None, ("experiment=linear_regression", "data.source.split_seed={seed}")),
    "a setosa or not": Case(None, ("experiment=perceptron", "data.source.split_seed={seed}")),
    "clouds that overlap": Case(None, (*TABLE, "trainer.max_epochs=20"), overlapping),
}
