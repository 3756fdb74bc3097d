"""A table of the user's own: what its first row tells is told before torch is imported."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from pipeline.errors import UserError
from pipeline.lifecycle import preflight
from pipeline.lifecycle.preflight import check_data_files

GOOD = "size,town,price\n1,York,2\n"
TABLE: dict[str, Any] = {
    "_target_": "pipeline.data.tables.table.Table", "train": None, "validation": None, "test": None, "target": "price",
    "time": None, "group": None, "categorical": [], "ignore": [],
}  # fmt: skip
SENTENCES: dict[str, Any] = {
    "_target_": "pipeline.data.text.text_table.TextTable", "train": "own.csv", "validation": None, "test": None,
    "text": "town", "label": "price", "header": True,
}  # fmt: skip


def check(root: Path, source: dict[str, Any], launcher: str = "local.Local") -> None:
    launch = {"_target_": f"pipeline.launch.{launcher}"}
    check_data_files(OmegaConf.create({"data": {"root": str(root), "source": source}, "launch": launch}))


@pytest.mark.parametrize("source", ["files.audio_folder.AudioFolder", "datasets.spoken_digits.SpokenDigits"])
def test_sound_is_refused_at_once_where_soundfile_is_not_installed(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check(tmp_path, {"_target_": f"pipeline.data.{source}"})
    monkeypatch.setattr(preflight, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"Sound needs .* soundfile, .* Type python -m pip install soundfile"):
        check(tmp_path, {"_target_": f"pipeline.data.{source}"})
    check(tmp_path, TABLE | {"target": None})


# What the file holds (None: it is not there), what is asked for, and what is said.
MISTAKES: dict[str, tuple[str | bytes | None, dict[str, Any], str]] = {
    "a target that is not there": (
        GOOD,
        {"target": "prise"},
        r"has no column prise; did you mean price\? It has size,",
    ),
    "a group that is not there": (GOOD, {"group": "twon"}, "has no column twon; did you mean town"),
    "a column to ignore": (GOOD, {"ignore": ["id"]}, "has no column id"),
    "the target decides over the split": (GOOD, {"time": "price"}, "target and data.source.time are both price"),
    "no file": (None, {}, "own.csv does not exist: expected a file that ends in .csv"),
    "nothing in it": ("", {}, "own.csv is empty: expected a line with the columns' names"),
    "another encoding": (GOOD.encode("utf-16"), {}, "is in UTF-16"),
    "a picture": (b"\x89PNG\r\n\x1a\n\0\0", {}, "the first line is not UTF-8"),
    "one name twice": ("price,price\n", {}, "names 'price' twice"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_told_from_the_first_row(case: str, tmp_path: Path) -> None:
    content, asked, said = MISTAKES[case]
    if content is not None:
        (tmp_path / "own.csv").write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(UserError, match=said):
        check(tmp_path / "own.csv", TABLE | asked)


@pytest.mark.parametrize(
    "asked, said",
    [
        ({"text": "review"}, "data.source.text=review: .* has the columns size, town, price"),
        ({"label": "town"}, "data.source.text and data.source.label are both town"),
        ({"test": "nosuch.csv"}, "nosuch.csv does not exist"),
        ({"train": "own.xml"}, "own.xml does not exist"),
    ],
)
def test_a_mistake_about_sentences_is_told_from_the_first_row(asked: dict[str, Any], said: str, tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text(GOOD)
    with pytest.raises(UserError, match=said):
        check(tmp_path, SENTENCES | asked)


def test_correct_files_and_files_on_other_machines_are_accepted(tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text(GOOD)
    check(tmp_path / "own.csv", TABLE)
    check(tmp_path, TABLE | {"train": "own.csv", "test": "own.csv"})
    check(tmp_path, SENTENCES)
    check(tmp_path / "nowhere.csv", TABLE, launcher="slurm.Slurm")
    with pytest.raises(UserError):  # here it is missed
        check(tmp_path / "nowhere.csv", TABLE)


def test_the_check_of_data_files_needs_no_torch(tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text(GOOD)
    config = {"data": {"root": "own.csv", "source": TABLE}, "launch": {"_target_": "pipeline.launch.local.Local"}}
    asked = (
        "import sys\nfrom omegaconf import OmegaConf\nfrom pipeline.lifecycle.preflight import check_data_files\n"
        f"check_data_files(OmegaConf.create({config!r}))\nprint('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", asked], cwd=tmp_path, env=os.environ, capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr
