"""The user's own table: columns of every kind, splits that do not leak, and mistakes named with their line."""

from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from pipeline.data.source import Parts
from pipeline.data.table import Table
from pipeline.errors import DataError, UserError

SETTINGS: dict[str, Any] = {
    "target": "price", "answer": None, "categorical": [], "ignore": [], "time": None, "group": None,
    "validation_share": 0.2, "test_share": 0.2, "split_seed": 0,
}  # fmt: skip
ROWS = [f"{20 + row},{'ab'[row % 2]},2026-01-{row % 28 + 1:02},{row * 1.5}" for row in range(50)]


def load(folder: Path, rows: list[str], *, header: str = "size,town,built,price", **settings: Any) -> Parts:
    path = folder / "own.csv"
    path.write_text("\n".join([header, *rows]))
    return Table(**SETTINGS | settings).load(path)


def test_numbers_names_and_dates_become_columns(tmp_path: Path) -> None:
    parts = load(tmp_path, ROWS)
    assert parts.task == "regression" and parts.feature_names == ("size", "town=a", "town=b", "built")
    assert [len(part) for part in parts.by_name().values()] == [30, 10, 10]
    assert parts.train.inputs.dtype == torch.float32 and parts.train.targets.shape == (30, 1)


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


@pytest.mark.parametrize(
    "rows, settings, said",
    [
        ([*ROWS, "many,a,2026-01-01,1"], {}, r"line 52: size is 'many', where 50 of 51 cells are a number.*ignore="),
        ([*ROWS, "inf,a,2026-01-01,1"], {}, "line 52: size is inf, expected a finite number"),
        ([*ROWS, "1,a,2026-01-01"], {}, "line 52: 3 cells, expected 4"),
        ([*ROWS, "1,a,2026-01-01,"], {}, "line 52: the target price is missing"),
        ([*ROWS, "1,c,2026-01-01,1"], {"target": "town"}, "line 52: c is the only one of its class"),
        (ROWS, {"target": "prise"}, "has no column prise; did you mean price?"),
        ([], {}, "is empty"),
        (ROWS[:2], {}, "leaves? a part empty"),
    ],
)
def test_a_mistake_is_named_with_its_line_and_a_remedy(
    tmp_path: Path, rows: list[str], settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(UserError, match=f"(?s){said}"):
        load(tmp_path, rows, **settings)


def test_what_is_not_utf_8_or_no_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_bytes("town,price\nKöln,1\n".encode("latin1"))
    with pytest.raises(DataError, match=r"not UTF-8.*iconv"):
        Table(**SETTINGS).load(tmp_path / "own.csv")
    with pytest.raises(DataError, match=r"expected a file that ends in \.csv"):
        Table(**SETTINGS).load(tmp_path)


def test_a_file_larger_than_memory_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = psutil.virtual_memory()
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory._replace(available=1000))
    with pytest.raises(DataError, match="memory are free"):
        load(tmp_path, ROWS)


def test_rows_in_two_parts_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    load(tmp_path, ROWS + ROWS)
    assert "rows of the validation and test parts are in the training part too" in caplog.text
