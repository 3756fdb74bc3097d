"""What a run keeps of its data besides numbers."""

from pathlib import Path

import torch

from pipeline.data.dataset import Split, Splits
from pipeline.lifecycle.save_predictions import _save_data_files
from pipeline.runs.run_directory import Run

PART = Split(torch.zeros(2, 3, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64))


def test_skipped_samples_are_listed_in_the_run(tmp_path: Path) -> None:
    skipped = ("reviews.csv, row 3 has no label", "reviews.csv, row 9 is not UTF-8")
    _save_data_files(Run(tmp_path), Splits("reviews", "text", "binary", ("0", "1"), PART, PART, PART, skipped=skipped))
    assert (tmp_path / "skipped.txt").read_text().splitlines() == list(skipped)


def test_a_run_without_skipped_samples_has_no_list(tmp_path: Path) -> None:
    _save_data_files(Run(tmp_path), Splits("reviews", "text", "binary", ("0", "1"), PART, PART, PART))
    assert list(tmp_path.iterdir()) == []
