"""Means that go on after a restart, on as many processes or on others."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from pipeline.training.evaluation import RunningMeans


def summed(*losses: float) -> RunningMeans:
    means = RunningMeans()
    for loss in losses:
        means.add({"loss": torch.tensor(loss)}, 2)
    return means


def saved(*processes: RunningMeans) -> dict[str, object]:
    """What each of them would save: all of them gathered."""
    rows: list[Tensor] = []
    for each in processes:
        each.state_dict(lambda row: rows.append(row) or row)  # type: ignore[func-returns-value]
    gather: Callable[[Tensor], Tensor] = lambda row: torch.stack(rows)  # noqa: E731
    return processes[0].state_dict(gather)


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_a_resumed_mean_covers_the_samples_of_all_earlier_processes_whatever_their_number_is_now(
    world_size: int,
) -> None:
    state = saved(summed(1.0, 3.0), summed(5.0))
    now = [RunningMeans() for _ in range(world_size)]
    for rank, means in enumerate(now):
        means.load_state_dict(state, rank=rank, world_size=world_size)
        assert means.sums.keys() == {"loss"}, "all take part in the sum, also those that have none"
    total = sum(float(means.sums["loss"]) for means in now)
    assert (total, sum(means.count for means in now)) == (9.0, 6)


def test_each_process_resumes_its_own_sums_to_the_last_bit() -> None:
    mine = summed(0.1, 0.2, 0.7)
    state = saved(summed(0.3), mine)
    resumed = RunningMeans()
    resumed.load_state_dict(state, rank=1, world_size=2)
    assert torch.equal(resumed.sums["loss"], mine.sums["loss"]) and resumed.count == mine.count


def test_saved_sums_do_not_change_afterwards() -> None:
    means = summed(1.0)
    state = saved(means)
    means.add({"loss": torch.tensor(7.0)}, 2)
    resumed = RunningMeans()
    resumed.load_state_dict(state, rank=0, world_size=1)
    assert float(resumed.sums["loss"]) == 1.0
