"""Inputs in a file: what is asked for is what stands there, and equals what a tensor would give."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.data import on_disk
from pipeline.data.data_spec import channel_statistics, splits_digest
from pipeline.data.dataset import Split
from pipeline.data.loader import EvaluationLoader, TrainLoader
from pipeline.data.on_disk import OnDiskTensor, RowFile, concatenate, select_rows
from pipeline.errors import DataError

ROWS = 50
Pair = tuple[OnDiskTensor, torch.Tensor]


@pytest.fixture(params=["read", "kept"])
def both(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pair:
    """The same numbers in a file and in memory; in a file that is too large to be kept, and in one that is not."""
    monkeypatch.setattr(on_disk, "MAX_IN_MEMORY_BYTES", 0 if request.param == "read" else 1 << 20)
    return written(tmp_path / "rows")


def written(path: Path) -> Pair:
    numbers = torch.from_numpy(np.random.default_rng(0).standard_normal((ROWS, 3, 2)).astype(np.float32))
    path.write_bytes(numbers.numpy().tobytes())
    return OnDiskTensor(RowFile(path, tuple(numbers.shape), torch.float32), torch.arange(ROWS)), numbers


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.integers(0, ROWS - 1), max_size=20), first=st.integers(0, ROWS), last=st.integers(0, ROWS))
def test_rows_are_those_of_the_tensor(both: Pair, rows: list[int], first: int, last: int) -> None:
    lazy, tensor = both
    index = torch.tensor(rows, dtype=torch.int64)
    assert torch.equal(lazy.index_select(0, index), tensor.index_select(0, index))
    assert torch.equal(lazy[first:last], tensor[first:last])
    picked = select_rows(lazy, index)
    assert isinstance(picked, OnDiskTensor) and picked.shape == (len(rows), 3, 2)
    assert torch.equal(picked[:], tensor[index])


def test_what_is_joined_stands_one_after_the_other(both: Pair) -> None:
    lazy, tensor = both
    few = torch.tensor([7, 3])
    assert torch.equal(concatenate([select_rows(lazy, few), lazy])[:], torch.cat([tensor[few], tensor]))
    assert torch.equal(lazy.to(torch.device("cpu")), tensor)


def test_statistics_and_digest_are_those_of_the_tensor(both: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    lazy, tensor = both
    monkeypatch.setattr(on_disk, "BLOCK_BYTES", 7 * lazy.file.row_bytes)
    for found, expected in zip(channel_statistics(lazy), channel_statistics(tensor), strict=True):
        assert found == pytest.approx(expected, rel=1e-12)
    targets = torch.zeros(ROWS, dtype=torch.int64)
    assert splits_digest({"train": Split(lazy, targets)}) == splits_digest({"train": Split(tensor, targets)})


def test_statistics_from_sums_are_exact(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (ROWS, 3, 4, 4), dtype=np.uint8)
    values = pixels.reshape(ROWS, 3, -1).astype(np.int64)
    sums = np.stack([values.sum(2), (values**2).sum(2)], axis=2)
    rows = torch.arange(0, ROWS, 2)
    lazy = OnDiskTensor(RowFile(tmp_path / "none", pixels.shape, torch.uint8, sums=sums), rows)
    tensor = torch.from_numpy(pixels[::2])
    for found, expected in zip(channel_statistics(lazy), channel_statistics(tensor), strict=True):
        assert found == pytest.approx(expected, rel=1e-12)


def test_batches_are_those_of_the_tensor(both: Pair) -> None:
    lazy, tensor = both
    targets = torch.arange(ROWS)
    for mine, other in zip(*(_batches(Split(inputs, targets)) for inputs in (lazy, tensor)), strict=True):
        assert torch.equal(mine, other)


def _batches(part: Split) -> list[torch.Tensor]:
    train = TrainLoader(part, batch_size=8, seed=0, epoch=lambda: 0)
    evaluated = EvaluationLoader(part, batch_size=8, rank=1, world_size=3)
    return [batch.inputs for chunk in train for (batch,) in chunk] + [batch.inputs for batch in evaluated]


def test_a_file_that_became_shorter_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_disk, "MAX_IN_MEMORY_BYTES", 0)
    lazy, _ = written(tmp_path / "rows")
    (tmp_path / "rows").write_bytes(b"")
    with pytest.raises(DataError, match="rows became shorter while it was read"):
        lazy[:]
