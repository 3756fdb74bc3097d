"""The private names of torch: tests/test_private_names.py says what an upgrade moves."""

from typing import Any

import torch
from torch import Tensor


def lerp_all(averages: tuple[Tensor, ...], weights: tuple[Tensor, ...], share: float) -> None:
    """average <- average + share * (weight - average), of all in one call; torch.lerp takes them one by one."""
    torch._foreach_lerp_(averages, weights, share)


def batch_norm(*arguments: Any) -> Tensor:
    """What torch.batch_norm computes, below the name in torch's dispatcher that we replace."""
    normed: Tensor = torch._batch_norm_impl_index(*arguments)[0]
    return normed


def collectives_of_group(group: Any) -> int:
    """Return how many collectives a process group has entered; also those of DDP's hooks, which no Python sees."""
    return int(group._get_sequence_number_for_group())


def forget_length(schedule: dict[str, Any]) -> None:
    """Take out of a learning rate schedule's state how long training was to last: OneCycleLR keeps it twice."""
    schedule.pop("total_steps", None)
    schedule.pop("_schedule_phases", None)
