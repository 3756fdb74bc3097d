"""The private names of torch. After an upgrade tests/test_private_names.py names those that have changed."""

from typing import Any

import torch
from torch import Tensor


def lerp_all(averages: tuple[Tensor, ...], weights: tuple[Tensor, ...], share: float) -> None:
    """Do average <- average + share * (weight - average) for all in one call; torch.lerp takes one tensor."""
    torch._foreach_lerp_(averages, weights, share)


def batch_norm(*arguments: Any) -> Tensor:
    """Return what torch.batch_norm does, below the name in torch's dispatcher that we replace."""
    normed: Tensor = torch._batch_norm_impl_index(*arguments)[0]
    return normed


def collectives_of_group(group: Any) -> int:
    """Return how many collectives a process group has entered, with those of DDP's hooks, which are not in Python."""
    return int(group._get_sequence_number_for_group())


def forget_length(schedule: dict[str, Any]) -> None:
    """Remove the length of training from the state of a learning-rate schedule; OneCycleLR stores it twice."""
    schedule.pop("total_steps", None)
    schedule.pop("_schedule_phases", None)
