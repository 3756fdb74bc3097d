"""The user's own table: columns of every kind, splits that do not leak, and mistakes named with their line."""

import shutil
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
import torch

from pipeline.data import on_disk
from pipeline.data.data_spec import build_data_spec, data_digest
from pipeline.data.datamodule import DataModule, make_fold
from pipeline.data.dataset import Splits
from pipeline.data.on_disk import OnDiskTensor
from pipeline.data.tables import raw_table, table_files
from pipeline.data.tables.table import Table
from pipeline.errors import ConfigError, DataError, UserError

SETTINGS: dict[str, Any] = {
    "train": None, "validation": None, "test": None, "on_bad_sample": "fail",
    "target": "price", "answer": None, "categorical": [], "ignore": [], "time": None, "group": None,
    "one_hot_up_to": 50, "validation_share": 0.2, "test_share": 0.2, "split_seed": 0,
}  # fmt: skip
ROWS = [f"{20 + row},{'ab'[row % 2]},2026-01-{row % 28 + 1:02},{row * 1.5}" for row in range(50)]


def load(folder: Path, rows: list[str], *, header: str = "size,town,built,price", **settings: Any) -> Splits:
    path = folder / "own.csv"
    path.write_text("\n".join([header, *rows]))
    return Table(**SETTINGS | settings).load(path).fitted()


def test_numbers_names_and_dates_become_columns(tmp_path: Path) -> None:
    parts = load(tmp_path, ROWS)
    assert parts.task == "regression" and parts.feature_names == ("size", "town=a", "town=b", "built")
    assert parts.columns == ("size (number)", "town (2 names)", "built (date)")
    assert [len(part) for part in parts.by_name().values()] == [30, 10, 10]
    assert parts.train.inputs.dtype == torch.float32 and parts.train.targets.shape == (30, 1)


def test_where_semicolons_part_cells_commas_part_fractions(tmp_path: Path) -> None:
    plain = [f"{row / 8},{row}.5,Bath" if row % 2 else f"{row / 8},{row}.5,York" for row in range(40)]
    parts = load(tmp_path, plain, header="size,price,town")
    european = [row.replace(",", ";").replace(".", ",") for row in plain]
    again = load(tmp_path, european, header="size;price;town")
    assert again.feature_names == ("size", "town=Bath", "town=York") and data_digest(again) == data_digest(parts)


def test_text_is_predicted_as_classes(tmp_path: Path) -> None:
    parts = load(tmp_path, ROWS, target="town")
    assert parts.task == "binary" and parts.class_names == ("a", "b")


def test_a_gap_is_filled_with_the_median_of_the_training_rows_and_marked(tmp_path: Path) -> None:
    rows = [f"{row},,{row}" if row < 5 else f"{row},{row},{row}" for row in range(50)]
    parts = load(tmp_path, rows, header="when,size,price", time="when")
    assert parts.feature_names == ("size", "size missing")
    assert parts.train.inputs[:5].tolist() == [[17.0, 1.0]] * 5  # of 5 to 29: the last 20 rows are never looked at


def test_the_latest_rows_are_the_test_part(tmp_path: Path) -> None:
    parts = load(tmp_path, ROWS[::-1], time="size")
    assert parts.train.targets.max() < parts.validation.targets.min()
    assert parts.validation.targets.max() < parts.test.targets.min()
    assert "size" not in parts.feature_names


def test_a_group_is_never_in_two_parts(tmp_path: Path) -> None:
    parts = load(tmp_path, [f"{row // 5},{row},{row // 5 + 0.5}" for row in range(50)], header="who,x,price",
                 group="who")  # fmt: skip
    seen = [set(part.targets.flatten().tolist()) for part in parts.by_name().values()]
    assert sum(map(len, seen)) == len(set.union(*seen)) == 10
    for fold in range(4):
        train, validation, test = make_fold(parts, folds=4, fold=fold).by_name().values()
        seen = [set(part.targets.flatten().tolist()) for part in (train, validation, test)]
        assert sum(map(len, seen)) == 10 and len(seen[1]) == 2


def test_what_is_cut_by_time_is_not_folded(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.folds=3: .* follow each other in time"):
        make_fold(load(tmp_path, ROWS, time="size"), folds=3, fold=0)


@pytest.mark.parametrize(
    "rows, settings, said",
    [
        ([*ROWS, "many,a,2026-01-01,1"], {}, r"line 52: size is 'many', where 50 of 51 cells are a number.*ignore="),
        ([*ROWS, "inf,a,2026-01-01,1"], {}, "line 52: size is inf, expected a finite number"),
        ([*ROWS, "1,a,2026-01-01"], {}, "line 52 has 3 cells, expected 4"),
        ([*ROWS, "1,a,2026-01-01,"], {}, "line 52: the target price is missing"),
        ([*ROWS, "1,c,2026-01-01,1"], {"target": "town"}, "line 52: c is the only one of its class"),
        (ROWS, {"target": "prise"}, "has no column prise; did you mean price?"),
        ([], {}, "is empty"),
        (ROWS[:2], {}, "of 2 samples leave a split empty; add some, or make the shares larger"),
    ],
)
def test_a_mistake_is_named_with_its_line_and_a_remedy(
    tmp_path: Path, rows: list[str], settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(UserError, match=f"(?s){said}"):
        load(tmp_path, rows, **settings)


@pytest.mark.parametrize(
    "content, said",
    [
        ("town,price\nKöln,1\nBonn,2\n".encode("latin1"), "1 of 2 rows.*own.csv, line 2 is not UTF-8; iconv"),
        ("größe,price\n1,1\n".encode("latin1"), "own.csv: the first line is not UTF-8; iconv"),
        ("town,price\nKöln,1\n".encode("utf-16"), "own.csv is in UTF-16.*iconv -f utf-16"),
        (b"town,town,price\na,b,1\n", "own.csv: the first line names 'town' twice or not at all"),
    ],
)
def test_what_is_not_utf_8_or_names_no_columns_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "own.csv").write_bytes(content)
    with pytest.raises(DataError, match=f"(?s){said}"):
        Table(**SETTINGS).load(tmp_path / "own.csv")


def test_a_class_with_one_row_is_left_out_on_demand(tmp_path: Path) -> None:
    parts = load(tmp_path, [*ROWS, "1,c,2026-01-01,1"], target="town", on_bad_sample="skip")
    assert parts.class_names == ("a", "b")
    assert parts.skipped == (f"{tmp_path}/own.csv, line 52: c is the only one of its class",)


@pytest.mark.parametrize(
    "roles, said",
    [
        (
            {"time": "price"},
            r"data\.source\.target and data\.source\.time are both price.*leave out data\.source\.time",
        ),
        ({"group": "price"}, r"data\.source\.target and data\.source\.group are both price"),
        ({"ignore": ["town", "price"]}, r"data\.source\.ignore=\[price\] is data\.source\.target"),
        ({"ignore": ["built"], "time": "built"}, r"data\.source\.ignore=\[built\] is data\.source\.time"),
        ({"ignore": ["town"], "group": "town"}, r"data\.source\.ignore=\[town\] is data\.source\.group"),
    ],
)
def test_a_column_has_one_role(roles: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        load(tmp_path, ROWS, **roles)


def test_more_columns_than_anybody_names_are_refused_by_the_first_line(tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text(",".join(f"c{number}" for number in range(100_001)) + "\n")
    with pytest.raises(DataError, match=r"has 100,001 columns, expected 100,000 at most"):
        Table(**SETTINGS).load(tmp_path / "own.csv")


def test_a_row_group_larger_than_memory_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyarrow
    from pyarrow import parquet

    values = list(range(20_000))
    parquet.write_table(pyarrow.table({"size": values, "price": values}), tmp_path / "own.parquet")
    monkeypatch.setattr(table_files, "available_memory_bytes", lambda: 1000)
    with pytest.raises(DataError, match=r"has a row group of 0\.0 GB, and 0\.0 GB of memory are free.*row_group_size"):
        Table(**SETTINGS).load(tmp_path / "own.parquet")


def test_a_folder_is_no_table(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is a folder: expected a file that ends in \.csv"):
        Table(**SETTINGS).load(tmp_path)


def test_a_file_larger_than_memory_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = psutil.virtual_memory()
    monkeypatch.setattr(raw_table, "MAX_IN_MEMORY_BYTES", 0)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory._replace(available=1000))
    with pytest.raises(DataError, match=r"about 50 rows.*memory, and 0\.0 GB are free"):
        load(tmp_path, ROWS)


def test_values_that_the_disk_cannot_hold_are_refused_before_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(raw_table, "MAX_IN_MEMORY_BYTES", 0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=100))
    with pytest.raises(DataError, match=r"Its values take 0\.0 GB in .*Make room there"):
        load(tmp_path, ROWS)


def test_a_large_table_is_read_once_into_the_cache_and_gives_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [*ROWS, ",a,,7", "3,missing,2026-01-01,8"]
    expected = load(tmp_path, rows)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for module in (raw_table, on_disk):
        monkeypatch.setattr(module, "MAX_IN_MEMORY_BYTES", 0)
    monkeypatch.setattr(table_files, "CELLS_PER_CHUNK", 28)
    monkeypatch.setattr(on_disk, "BLOCK_BYTES", 100)
    found = load(tmp_path, rows)
    assert isinstance(found.train.inputs, OnDiskTensor)
    assert found.feature_names == expected.feature_names
    for mine, other in zip(found.by_name().values(), expected.by_name().values(), strict=True):
        assert torch.equal(mine.inputs[:], other.inputs[:]) and torch.equal(mine.targets, other.targets)
    assert data_digest(found) == data_digest(expected)
    assert build_data_spec(found).mean == pytest.approx(build_data_spec(expected).mean)
    monkeypatch.setattr(raw_table, "read_chunks", lambda path: pytest.fail("it was read again"))
    path = tmp_path / "own.csv"
    again = Table(**SETTINGS).load(path).fitted()
    assert data_digest(again) == data_digest(expected)


def test_parquet_is_read_like_a_csv(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    pyarrow = pytest.importorskip("pyarrow")
    expected = load(tmp_path, [",a,2026-01-09,3", *ROWS])
    sizes = [None, *(20 + row for row in range(50))]
    built = [date(2026, 1, 9), *(date(2026, 1, row % 28 + 1) for row in range(50))]
    columns = {"size": sizes, "town": ["a", *("ab"[row % 2] for row in range(50))], "built": built,
               "price": [3.0, *(row * 1.5 for row in range(50))]}  # fmt: skip
    parquet.write_table(pyarrow.table(columns), tmp_path / "own.parquet", row_group_size=7)
    found = Table(**SETTINGS).load(tmp_path / "own.parquet").fitted()
    assert data_digest(found) == data_digest(expected) and found.feature_names == expected.feature_names
    (tmp_path / "own.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(DataError, match="is not a Parquet file that can be read"):
        Table(**SETTINGS).load(tmp_path / "own.parquet")


def test_bad_rows_are_left_out_on_demand_and_listed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [*ROWS, "many,a,2026-01-01,1", "1,a,2026-01-01", "1,a,2026-01-01,"]
    parts = load(tmp_path, rows, on_bad_sample="skip")
    assert sum(len(part) for part in parts.by_name().values()) == 50
    assert [line.partition("own.csv, ")[2][:7] for line in parts.skipped] == ["line 53", "line 52", "line 54"]
    assert "left out 3 of 53 rows" in caplog.text


def test_files_of_parts_are_kept_and_the_missing_one_is_cut_from_training(tmp_path: Path) -> None:
    header = "size,town,built,price"
    (tmp_path / "learn.csv").write_text("\n".join([header, *ROWS]))
    (tmp_path / "judge.csv").write_text("\n".join(["town,size,price,built", "a,99,1,2026-01-01", "b,98,2,2026-01-01"]))
    source = Table(**SETTINGS | {"train": "learn.csv", "test": "judge.csv"})
    parts = source.load(tmp_path).fitted()
    assert [len(part) for part in parts.by_name().values()] == [40, 10, 2]
    assert parts.test.inputs[:, 0].tolist() == [99, 98] and parts.test.targets.flatten().tolist() == [1, 2]
    (tmp_path / "judge.csv").write_text("town,size\na,1")
    with pytest.raises(DataError, match=r"judge\.csv has the columns town, size; expected those of .*learn\.csv"):
        source.load(tmp_path)


def test_what_is_learned_is_learned_after_the_cut(tmp_path: Path) -> None:
    rows = [f"{'' if row % 5 == 0 else row},{'rare' if row == 1 else 'ab'[row % 2]},{row}" for row in range(100)]
    (tmp_path / "own.csv").write_text("\n".join(["size,town,price", *rows]))
    for options in ({"train_fraction": 0.2}, {"folds": 5, "fold": 1}, {}):
        data = DataModule(
            source=Table(**SETTINGS), root=str(tmp_path / "own.csv"), batch_size=4, evaluation_batch_size=4, seed=0,
            **{"train_fraction": 1.0, **options},
        )  # fmt: skip
        data.load()
        inputs, names = data.splits.train.inputs[:], data.splits.feature_names
        known = inputs[inputs[:, names.index("size missing")] == 0, 0]
        filled = inputs[inputs[:, names.index("size missing")] == 1, 0]
        assert set(filled.tolist()) == {float(np.median(known.numpy()))}
        assert ("town=rare" in names) == bool((data.splits.train.targets == 1).any())


def test_rows_in_two_parts_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    load(tmp_path, ROWS + ROWS)
    assert "rows are in the train split, too" in caplog.text


TOWNS = [f"{row},town {row % 20},2026-01-{row % 28 + 1:02},{row * 1.5}" for row in range(200)]


def test_many_names_are_numbered_by_the_training_rows_alone(tmp_path: Path) -> None:
    rows = [*TOWNS, "1,seldom,2026-01-01,1", "2,seldom,2026-01-01,2", "3,seldom,2026-01-01,3"]
    parts = load(tmp_path, rows, one_hot_up_to=10)
    assert parts.feature_names == ("size", "town", "built")
    assert parts.columns[1] == f"town ({len(parts.categories[1]) - 1} names, embedded)"
    names = parts.categories[1]
    assert parts.categories[::2] == ((), ()) and names[0] == "any other" and {"town 0", "town 19"} <= set(names)
    shown = parts.train.inputs[:, 1]
    assert shown.max() == len(names) - 1
    counts = torch.bincount(shown.long(), minlength=len(names))
    assert (counts[1:] >= 2).all()


def test_a_name_that_training_does_not_show_is_any_other(tmp_path: Path) -> None:
    late = [f"{row},new {row},2026-12-{row % 28 + 1:02},1" for row in range(60)]
    parts = load(tmp_path, TOWNS + late, one_hot_up_to=10, time="built")
    assert set(parts.train.inputs[:, 1].tolist()) <= set(map(float, range(1, 21)))
    assert (parts.test.inputs[:, 1] == 0).all()


def test_numbers_of_names_are_not_scaled(tmp_path: Path) -> None:
    spec = build_data_spec(load(tmp_path, TOWNS, one_hot_up_to=10))
    assert (spec.mean[1], spec.std[1]) == (0.0, 0.0) and spec.std[0] > 0
    assert spec.categories[1][1:] == tuple(sorted(f"town {n}" for n in range(20)))


def test_a_column_that_names_each_row_is_refused(tmp_path: Path) -> None:
    rows = [f"{row},person {row},2026-01-{row % 28 + 1:02},{row * 1.5}" for row in range(200)]
    with pytest.raises(DataError, match=r"town has 120 different texts in 120 training rows, of which 120 occur once"):
        load(tmp_path, rows)


def test_a_class_that_training_never_shows_is_named_in_its_file_and_left_out_on_demand(tmp_path: Path) -> None:
    rows = [f"{row},{'ab'[row % 2]}" for row in range(40)]
    (tmp_path / "learn.csv").write_text("\n".join(["x,y", *rows]))
    (tmp_path / "judge.csv").write_text("\n".join(["x,y", "50,b", "51,c", "52,a", "53,c"]))
    settings = SETTINGS | {"train": "learn.csv", "test": "judge.csv", "target": "y"}
    with pytest.raises(DataError, match=r"(?s)2 of 44 rows.*judge\.csv, line 3: y is c, which no training row has"):
        Table(**settings).load(tmp_path)
    parts = Table(**settings | {"on_bad_sample": "skip"}).load(tmp_path)
    assert parts.class_names == ("a", "b") and parts.test.targets.tolist() == [1, 0]
    assert [line.partition(":")[0] for line in parts.skipped] == [
        f"{tmp_path}/judge.csv, line {line}" for line in (3, 5)
    ]
