"""Noise and swaps in the rows of a table: how much, of which column, and the same for any number of processes."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from pipeline.spec import Batch, DataSpec
from pipeline.training.callbacks.tabular_augmentation import FeatureNoise, add_gaussian_noise, swap_values
from pipeline.training.distributed.global_batch import reseed

ROWS = torch.arange(4000.0).view(1000, 4)
TABLE = DataSpec("things", "table", "multiclass", (4,), ("a", "b"), (0.0,) * 4, (1.0, 10.0, 0.0, 2.0))


def trainer_of(spec: DataSpec) -> Any:
    strategy = SimpleNamespace(root_device=torch.device("cpu"))
    return SimpleNamespace(datamodule=SimpleNamespace(spec=spec), strategy=strategy, global_rank=0, world_size=1)


def test_feature_noise_is_in_units_of_each_columns_standard_deviation() -> None:
    noise, trainer = FeatureNoise(std=0.1), trainer_of(TABLE)
    noise.on_fit_start(trainer, Any)
    batch = Batch(ROWS, torch.zeros(1000, dtype=torch.int64), torch.arange(1000))
    reseed(0, "augmentation", 0)
    added = noise.transform_batch(trainer, batch).inputs - ROWS
    assert added.std(dim=0).tolist() == pytest.approx([0.1, 1.0, 0.0, 0.2], rel=0.1, abs=1e-6)
    assert added.mean(dim=0).abs().max() < 0.15


def test_swap_noise_takes_the_neighbours_value_in_the_same_column() -> None:
    reseed(0, "augmentation", 0)
    swapped = swap_values(ROWS, 0.25)
    changed = swapped != ROWS
    assert changed.float().mean() == pytest.approx(0.25, abs=0.03)
    assert torch.equal((swapped - ROWS)[changed].abs(), torch.full((int(changed.sum()),), 4.0))
    assert (changed.any(dim=1) & ~changed.all(dim=1)).float().mean() > 0.5, "each by itself, not whole rows"
    assert torch.equal(swap_values(ROWS, 0.0), ROWS)


@pytest.mark.parametrize(
    "change", [lambda *a, **k: swap_values(a[0], 0.3, **k), lambda *a, **k: add_gaussian_noise(*a, **k)]
)
def test_two_processes_change_the_same_rows_of_a_table_as_one(change: Any) -> None:
    deviations = torch.ones(4)
    reseed(0, "augmentation", 3)
    whole = change(ROWS, deviations)
    halves = []
    for rank, half in enumerate(ROWS.chunk(2)):
        reseed(0, "augmentation", 3)
        halves.append(change(half, deviations, rank=rank, world_size=2))
    assert torch.equal(torch.cat(halves), whole)
