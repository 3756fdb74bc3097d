"""Optimisers and schedulers of torch, each by the name that a configuration gives: a resumed run is the whole run."""

from functools import partial
from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler

from pipeline.errors import ConfigError
from pipeline.training.callbacks.monitors import LearningRate
from pipeline.training.optimizers import check_optimizer
from pipeline.training.schedules import Schedule, one_cycle

# 20 steps an epoch, 3 epochs

LATER = {"schedulers": [partial(lr_scheduler.LinearLR, total_iters=1), partial(lr_scheduler.ExponentialLR, gamma=0.5)]}
SCHEDULERS: list[tuple[Any, str, dict[str, Any]]] = [
    (lr_scheduler.ReduceLROnPlateau, "epoch", {"patience": 0, "threshold": 100.0, "threshold_mode": "abs"}),
    (lr_scheduler.StepLR, "epoch", {"step_size": 1, "gamma": 0.5}),
    (lr_scheduler.StepLR, "step", {"step_size": 7, "gamma": 0.5}),
    (lr_scheduler.MultiStepLR, "epoch", {"milestones": [1, 2]}),
    (lr_scheduler.ExponentialLR, "epoch", {"gamma": 0.5}),
    (lr_scheduler.ConstantLR, "epoch", {"total_iters": 2}),
    (lr_scheduler.LinearLR, "step", {"total_iters": 30}),
    (lr_scheduler.PolynomialLR, "epoch", {"total_iters": 3}),
    (lr_scheduler.CosineAnnealingLR, "epoch", {"T_max": 3}),
    (lr_scheduler.CosineAnnealingWarmRestarts, "epoch", {"T_0": 2}),
    (lr_scheduler.CyclicLR, "step", {"base_lr": 1e-3, "max_lr": 1e-2, "step_size_up": 9, "cycle_momentum": False}),
    (lr_scheduler.OneCycleLR, "step", {"max_lr": 1e-2}),
    (lr_scheduler.SequentialLR, "epoch", {**LATER, "milestones": [2]}),
    (lr_scheduler.ChainedScheduler, "epoch", LATER),
]


@pytest.mark.parametrize(
    "scheduler, interval, settings", SCHEDULERS, ids=[f"{cls.__name__}-{interval}" for cls, interval, _ in SCHEDULERS]
)
def test_a_run_with_any_scheduler_of_torch_is_resumed_exactly(
    fit: Any, tmp_path: Any, scheduler: Any, interval: Any, settings: dict[str, Any]
) -> None:
    schedule = Schedule(partial(scheduler, **settings), interval=interval, monitor="val/loss")
    once = {"learner": {"schedule": schedule}, "callbacks": lambda: [LearningRate()]}
    _, whole, metrics = fit(tmp_path / "whole", **once)
    fit(tmp_path / "parts", interrupt_at=33, **once)
    _, resumed, after = fit(tmp_path / "parts", **once)
    rates = dict(metrics.named("train/learning_rate"))
    assert len(set(rates.values())) > 1
    assert dict(after.named("train/learning_rate")).items() <= rates.items()
    assert all(torch.equal(value, resumed.state_dict()[name]) for name, value in whole.state_dict().items())


def test_reduce_on_plateau_counts_validations_not_epochs_without_one(fit: Any, tmp_path: Any) -> None:
    seen: list[float] = []

    class Spy(lr_scheduler.ReduceLROnPlateau):
        def step(self, metrics: Any, epoch: Any = None) -> None:
            seen.append(float(metrics))
            super().step(metrics, epoch)

    schedule = Schedule(Spy, interval="epoch", monitor="val/loss")
    _, _, metrics = fit(tmp_path, epochs=4, learner={"schedule": schedule}, check_val_every_n_epoch=2)
    assert seen == [value for _, value in metrics.named("val/loss")] and len(seen) == 2


def of_torch() -> list[str]:
    found = vars(torch.optim).items()
    return sorted(name for name, each in found if isinstance(each, type) and issubclass(each, torch.optim.Optimizer))


NOT_HERE = {"Optimizer", "LBFGS", "SparseAdam", "Muon"}  # Muon takes matrices alone, and every network has biases


@pytest.mark.parametrize("name", [name for name in of_torch() if name not in NOT_HERE])
def test_a_run_with_any_optimiser_of_torch_is_resumed_exactly(fit: Any, tmp_path: Any, name: str) -> None:
    make = partial(getattr(torch.optim, name), lr=1e-3)
    check_optimizer(make, name)
    schedule = Schedule(partial(one_cycle, warmup_share=0.25, warmup_epochs=None))
    settings = {"make_optimizer": make, "schedule": schedule, "gradient_clip_val": None}
    _, whole, _ = fit(tmp_path / "whole", epochs=2, learner=settings)
    fit(tmp_path / "parts", epochs=2, interrupt_at=13, learner=settings)
    _, resumed, _ = fit(tmp_path / "parts", epochs=2, learner=settings)
    assert all(torch.equal(value, resumed.state_dict()[key]) for key, value in whole.state_dict().items())


@pytest.mark.parametrize("name", ["LBFGS", "SparseAdam"])
def test_an_optimiser_that_needs_more_than_gradients_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"optimizer: {name} cannot train here"):
        check_optimizer(partial(getattr(torch.optim, name), lr=1e-3), name)
