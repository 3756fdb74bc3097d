"""The small data sets in scikit-learn: four tables, and images of digits.

Their files are read without importing the package, which takes a second. They are split by shares, in an order that
depends on `split_seed` alone: runs with other seeds have the same splits.
"""

import io
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch

from pipeline.constraints import ProperFraction, Seed
from pipeline.data.dataset import Split, Splits, SplitSpec
from pipeline.data.datasets.published_files import PublishedFile, package_folder, read_published_files
from pipeline.data.splitting import one_vs_rest
from pipeline.data.targets import classification_task
from pipeline.errors import ConfigError
from pipeline.spec import Kind, TaskKind

# N rows, F features

Rows = npt.NDArray[np.float64]
REMEDY = "Type python -m pip install --force-reinstall --no-deps scikit-learn, and leave data.root out."


class LabelledTable:
    """A table whose last column is the class."""

    name: ClassVar[str]
    kind: ClassVar[Kind] = "table"
    file: ClassVar[PublishedFile]
    header_lines: ClassVar[int] = 1
    feature_names: ClassVar[tuple[str, ...]] = ()
    class_names: ClassVar[tuple[str, ...]]
    positive: str | None = None

    def __init__(self, *, validation_share: ProperFraction, test_share: ProperFraction, split_seed: Seed) -> None:
        self.split = SplitSpec(validation_share, test_share, split_seed)

    def load(self, root: Path | None) -> Splits:
        rows = read_numbers(self.file, root, delimiter=",", header_lines=self.header_lines)
        labels, names = one_vs_rest(rows[:, -1].astype(np.int64), self.class_names, self.positive)
        train, validation, test = self.split(Split(self.inputs(rows[:, :-1]), torch.from_numpy(labels)))
        task = classification_task(names, None)
        return Splits(self.name, self.kind, task, names, train, validation, test, self.feature_names)

    def inputs(self, columns: Rows) -> torch.Tensor:
        return torch.from_numpy(columns).float()


class OneVsRestTable(LabelledTable):
    """A table with several classes, or with two: the class `positive`, and all others."""

    task: ClassVar[TaskKind] = "multiclass"

    def __init__(
        self, *, positive: str | None, validation_share: ProperFraction, test_share: ProperFraction, split_seed: Seed
    ) -> None:
        super().__init__(validation_share=validation_share, test_share=test_share, split_seed=split_seed)
        if positive is not None and positive not in self.class_names:
            raise ConfigError(
                f"data.source.positive={positive}: expected {', '.join(self.class_names)}, or null for all of them"
            )
        self.positive = positive


class Iris(OneVsRestTable):
    """150 flowers of three species, 50 of each: length and width of sepals and petals (Fisher 1936)."""

    name = "iris"
    file = PublishedFile("iris.csv", 2_734, "f13ffa8fdd56fd8e6c8d16d4081a3fbd3114bcd0aae4256c43205169cd9d1449")
    feature_names = ("sepal length (cm)", "sepal width (cm)", "petal length (cm)", "petal width (cm)")
    class_names = ("setosa", "versicolor", "virginica")


class Wine(OneVsRestTable):
    """178 wines of three growers, with a chemical analysis (Aeberhard, Coomans & de Vel 1992)."""

    name = "wine"
    file = PublishedFile("wine_data.csv", 11_157, "10e8a802908b34f86e5da8ce962f3c806694bc98450a18f61851af59f324bede")
    feature_names = (
        *("alcohol", "malic_acid", "ash", "alcalinity_of_ash", "magnesium", "total_phenols", "flavanoids"),
        *("nonflavanoid_phenols", "proanthocyanins", "color_intensity", "hue", "od280/od315_of_diluted_wines"),
        "proline",
    )
    class_names = ("class_0", "class_1", "class_2")


class BreastCancer(LabelledTable):
    """569 tumours, malignant or benign, with ten measures of cell nuclei (Wolberg, Street & Mangasarian 1995).

    Each measure has a mean, a standard error, and the mean of the three largest values.
    """

    task: ClassVar[TaskKind] = "binary"

    name = "breast_cancer"
    file = PublishedFile(
        "breast_cancer.csv", 119_913, "fed3eb72d0575ef6192293f5093c6e801b1476b577d0386bf4455504522172ed"
    )
    measures: ClassVar[tuple[str, ...]] = (
        *("radius", "texture", "perimeter", "area", "smoothness", "compactness"),
        *("concavity", "concave points", "symmetry", "fractal dimension"),
    )
    feature_names = (
        *(f"mean {measure}" for measure in measures),
        *(f"{measure} error" for measure in measures),
        *(f"worst {measure}" for measure in measures),
    )
    class_names = ("malignant", "benign")


class Digits(LabelledTable):
    """1,797 handwritten digits as grey images of 8x8 (Alpaydin & Kaynak 1998)."""

    task: ClassVar[TaskKind] = "multiclass"

    name = "digits"
    kind = "image"
    file = PublishedFile("digits.csv", 264_712, "6ebb3d2fee246a4e99363262ddf8a00a3c41bee6014c373ed9d9216ba7f651b8")
    header_lines = 0
    class_names = tuple("0123456789")

    def inputs(self, columns: Rows) -> torch.Tensor:
        # 0 to 16, the number of black pixels of 4x4, scaled to 0 to 255.
        return torch.from_numpy(columns).mul(255 / 16).round().to(torch.uint8).reshape(-1, 1, 8, 8)


class Diabetes:
    """442 patients: the progress of their disease after a year, and ten measures (Efron et al. 2004)."""

    kind: ClassVar[Kind] = "table"
    task: ClassVar[TaskKind] = "regression"

    name: ClassVar[str] = "diabetes"
    inputs: ClassVar[PublishedFile] = PublishedFile(
        "diabetes_data_raw.csv", 19_596, "86badf50b4f9436ddd1e497dc0ae1b93166f8120221ee7dca4634fe849f3be7c"
    )
    targets: ClassVar[PublishedFile] = PublishedFile(
        "diabetes_target.csv", 11_050, "244713a551f62a291a354212d8a048adec6cb1244b2bc44e66a0698f5006d26d"
    )
    feature_names: ClassVar[tuple[str, ...]] = ("age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6")

    def __init__(self, *, validation_share: ProperFraction, test_share: ProperFraction, split_seed: Seed) -> None:
        self.split = SplitSpec(validation_share, test_share, split_seed)

    def load(self, root: Path | None) -> Splits:
        inputs, targets = (
            torch.from_numpy(read_numbers(file, root, delimiter=None, header_lines=0)).float()
            for file in (self.inputs, self.targets)
        )
        train, validation, test = self.split(Split(inputs, targets))
        return Splits(self.name, "table", "regression", (), train, validation, test, self.feature_names)


def read_numbers(file: PublishedFile, root: Path | None, *, delimiter: str | None, header_lines: int) -> Rows:
    """Return the rows and columns of a file, from `root` or from the installed scikit-learn. Raises DataError."""
    folder = package_folder("sklearn", remedy=REMEDY) / "datasets" / "data" if root is None else root
    content = read_published_files(folder, [file], remedy=REMEDY)[file.name]
    return np.loadtxt(io.BytesIO(content), delimiter=delimiter, skiprows=header_lines, ndmin=2)
