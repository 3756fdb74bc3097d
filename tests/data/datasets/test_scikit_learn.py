"""What scikit-learn carries: read as it reads it, cut into parts, asked one class against the rest."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn import datasets

from pipeline.data.data_spec import build_data_spec
from pipeline.data.dataset import DataSource, Splits
from pipeline.data.datasets.scikit_learn import BreastCancer, Diabetes, Digits, Iris, Wine
from pipeline.errors import ConfigError, DataError

SHARES: dict[str, Any] = {"validation_share": 0.2, "test_share": 0.2, "split_seed": 0}
SOURCES: dict[str, DataSource] = {
    "iris": Iris(positive=None, **SHARES),
    "wine": Wine(positive=None, **SHARES),
    "breast_cancer": BreastCancer(**SHARES),
    "diabetes": Diabetes(**SHARES),
    "digits": Digits(**SHARES),
}
DIGESTS = {
    "iris": "37ac4170adc2f741c57b165463461ba5837f95e16c193239cb79d3b8940a5206",
    "wine": "f60e6032955a8336934db9ccabe0fdc067c16dc66658d3635d6235fd791c47fe",
    "breast_cancer": "deb87338396ebbbb7944455e3e46c46c8c9d15170b7cb6c241c4177106b7468c",
    "diabetes": "29d6f384fdf3da31139a079f5b7e68133defa56abd552292b5c83e58c92fcaf4",
    "digits": "d3bb001e9c8ded780cb47f74d5b6058793cf859dcfb3896354470afb9997c216",
}
each_source = pytest.mark.parametrize("name", SOURCES)


def together(parts: Splits) -> np.ndarray:
    """All rows with their targets, in an order of their own."""
    rows = [torch.cat([part.inputs.flatten(1), part.targets.reshape(len(part), -1)], 1) for part in parts_of(parts)]
    return in_order(torch.cat(rows).float().numpy())


def parts_of(parts: Splits) -> list[Any]:
    return list(parts.by_name().values())


def in_order(rows: np.ndarray) -> np.ndarray:
    return rows[np.lexsort(rows.T)]


@each_source
def test_the_parts_together_are_what_scikit_learn_reads(name: str) -> None:
    options = {"scaled": False} if name == "diabetes" else {}
    theirs = getattr(datasets, f"load_{name}")(**options)
    inputs = np.round(theirs.data * 255 / 16) if name == "digits" else theirs.data
    expected = in_order(np.column_stack([inputs, theirs.target]).astype(np.float32))
    assert np.array_equal(together(SOURCES[name].load(None)), expected)


@each_source
def test_names_are_scikit_learns(name: str) -> None:
    theirs, parts = getattr(datasets, f"load_{name}")(), SOURCES[name].load(None)
    assert list(parts.class_names) == [str(each) for each in theirs.get("target_names", [])]
    assert parts.kind == "image" or list(parts.feature_names) == [str(each) for each in theirs.feature_names]


@each_source
def test_the_content_is_the_same_on_every_machine(name: str) -> None:
    assert build_data_spec(SOURCES[name].load(None)).digest == DIGESTS[name]


def test_every_part_has_the_classes_in_the_same_proportion() -> None:
    counts = [torch.bincount(part.targets).tolist() for part in parts_of(SOURCES["iris"].load(None))]
    assert counts == [[30, 30, 30], [10, 10, 10], [10, 10, 10]]


def test_where_a_row_goes_follows_from_the_split_seed_alone() -> None:
    first, again, other = (Diabetes(**SHARES | {"split_seed": seed}).load(None).test.inputs for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_columns_are_scaled_by_the_training_part_alone() -> None:
    parts = SOURCES["wine"].load(None)
    spec = build_data_spec(parts)
    assert spec.mean == pytest.approx(parts.train.inputs.double().mean(0).tolist())
    assert spec.std == pytest.approx(parts.train.inputs.double().std(0, correction=0).tolist())


def test_a_regression_knows_how_its_training_targets_vary_and_has_no_classes() -> None:
    parts = SOURCES["diabetes"].load(None)
    spec = build_data_spec(parts)
    assert (spec.num_classes, spec.num_outputs, spec.answers) == (0, 1, "a number")
    assert spec.target_mean == pytest.approx(parts.train.targets.double().mean(0).tolist())


class TestOneAgainstTheRest:
    def test_one_class_is_to_be_told_from_the_others(self) -> None:
        parts = Iris(positive="versicolor", **SHARES).load(None)
        assert (parts.task, parts.class_names) == ("binary", ("not versicolor", "versicolor"))
        assert torch.bincount(parts.train.targets).tolist() == [60, 30]

    def test_a_class_that_there_is_not_is_refused(self) -> None:
        with pytest.raises(ConfigError, match=r"positive=rose: expected setosa, versicolor, virginica, or null"):
            Iris(positive="rose", **SHARES)

    def test_the_parts_are_as_large_and_as_rich_in_it_as_those_of_all_classes(self) -> None:
        whole, rest = SOURCES["iris"].load(None), Iris(positive="setosa", **SHARES).load(None)
        assert build_data_spec(whole).sizes == build_data_spec(rest).sizes
        assert int(rest.test.targets.sum()) == int((whole.test.targets == 0).sum()) == 10


class TestIsRefused:
    @pytest.mark.parametrize(
        "share, remedy", [(0.0, "such as 0.2 and 0.2"), (0.001, "larger"), (0.8, "such as 0.2"), (1.0, "such as 0.2")]
    )
    def test_a_cut_that_leaves_a_part_empty(self, share: float, remedy: str) -> None:
        with pytest.raises(ConfigError, match=f"of 150 samples leave a split empty; .*{remedy}"):
            Iris(positive=None, **SHARES | {"test_share": share}).load(None)

    def test_a_folder_without_the_file(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"(?s)lacks iris.csv.*pip install .*scikit-learn"):
            SOURCES["iris"].load(tmp_path)

    def test_a_file_with_other_content(self, tmp_path: Path) -> None:
        (tmp_path / "iris.csv").write_text("150,4,setosa,versicolor,virginica\n")
        with pytest.raises(DataError, match=r"iris.csv holds 34 bytes, expected 2,734"):
            SOURCES["iris"].load(tmp_path)


def test_it_is_read_without_importing_the_package() -> None:
    code = (
        "import sys; from pipeline.data.datasets.scikit_learn import Diabetes\n"
        "Diabetes(validation_share=0.2, test_share=0.2, split_seed=0).load(None)\n"
        "print('sklearn' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said == "False\n"
