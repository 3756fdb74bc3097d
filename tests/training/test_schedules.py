"""Schedules of trainings that are over almost before they have begun."""

import pytest
import torch
from torch import nn

from pipeline.training.schedules import one_cycle


@pytest.mark.parametrize("total_steps", [1, 2, 3, 4, 5, 8])
@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0])
def test_one_cycle_has_a_learning_rate_for_each_step_however_few_there_are(total_steps: int, share: float) -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.9)
    schedule = one_cycle(optimizer, total_steps=total_steps, steps_per_epoch=1, warmup_share=share, warmup_epochs=None)
    rates = []
    for _ in range(total_steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert all(0 < rate <= 0.1 for rate in rates)
    if share * total_steps == 1 < total_steps:
        assert rates[0] == pytest.approx(0.1)
