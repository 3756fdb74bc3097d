"""Learning-rate schedules over the whole training, in shares of it or in epochs, not in steps."""

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

from pipeline.constraints import NonNegativeFloat, Probability
from pipeline.errors import ConfigError


@dataclass(frozen=True)
class Schedule:
    """Make a scheduler, and say when it is stepped.

    build     takes the optimiser, and total_steps and steps_per_epoch if its signature names them
    interval  whether it is stepped after each optimiser step or after each epoch
    monitor   the metric of a ReduceLROnPlateau
    """

    build: Callable[..., LRScheduler]
    interval: Literal["step", "epoch"] = "step"
    monitor: str | None = None

    def make(self, optimizer: Optimizer, *, total_steps: int, steps_per_epoch: int) -> LRScheduler:
        parameters = inspect.signature(self.build).parameters
        takes_all = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
        lengths = {"total_steps": total_steps, "steps_per_epoch": steps_per_epoch}
        known: dict[str, Any] = {name: value for name, value in lengths.items() if takes_all or name in parameters}
        if "schedulers" in parameters:  # SequentialLR and ChainedScheduler, whose parts need the optimiser, too
            factories = self.build.keywords["schedulers"]  # type: ignore[attr-defined]  # a partial
            known["schedulers"] = [make(optimizer) for make in factories]
        if "optimizer" in parameters:  # ChainedScheduler takes it as its second argument
            return self.build(optimizer=optimizer, **known)
        return self.build(optimizer, **known)


def one_cycle(
    optimizer: Optimizer,
    *,
    total_steps: int,
    steps_per_epoch: int,
    warmup_share: Probability,
    warmup_epochs: NonNegativeFloat | None,
) -> LRScheduler:
    """Return the 1cycle schedule (Smith & Topin 2018): up to the optimiser's learning rate and down to almost nothing,
    both along a cosine.

    Momentum (the first beta of Adam) goes the other way, from 0.95 to 0.85 and back.
    """
    # In a cycle of a single step the learning rate would be almost nothing.
    steps = max(total_steps, 2)
    rising = warmup_steps(warmup_share, warmup_epochs, steps_per_epoch, total_steps) / total_steps * steps
    if math.isclose(rising, 1) or math.isclose(rising, steps):
        rising -= 1e-6  # with the peak exactly at the first step, or at the last, torch divides 0 by 0
    return OneCycleLR(
        optimizer,
        max_lr=[group["lr"] for group in optimizer.param_groups],
        total_steps=steps,
        pct_start=rising / steps,
        cycle_momentum=any(name in optimizer.defaults for name in ("momentum", "betas")),
    )


def cosine(
    optimizer: Optimizer,
    *,
    total_steps: int,
    steps_per_epoch: int,
    warmup_share: Probability,
    warmup_epochs: NonNegativeFloat | None,
    final_share: Probability,
) -> LRScheduler:
    """Return a linear warm-up (Goyal et al. 2017), then half a cosine down to `final_share` of the peak."""
    rising = warmup_steps(warmup_share, warmup_epochs, steps_per_epoch, total_steps)

    def scale(step: int) -> float:
        if step < rising:
            return (step + 1) / (rising + 1)
        progress = min((step - rising) / max(total_steps - rising, 1), 1.0)
        return final_share + (1 - final_share) * (1 + math.cos(math.pi * progress)) / 2

    return LambdaLR(optimizer, scale)


def constant(optimizer: Optimizer, *, total_steps: int, steps_per_epoch: int) -> LRScheduler:
    """Return a schedule that keeps the optimiser's learning rate."""
    del total_steps, steps_per_epoch  # every schedule gets them
    return LambdaLR(optimizer, lambda step: 1.0)


def warmup_steps(share: float, epochs: float | None, steps_per_epoch: int, total_steps: int) -> float:
    """Return the steps of the warm-up: `epochs` if given, else that share of all steps.

    Raise ConfigError for a warm-up longer than training.
    """
    if epochs is not None and not 0 <= epochs * steps_per_epoch <= total_steps:
        raise ConfigError(
            f"scheduler.warmup_epochs={epochs} does not fit into {total_steps / steps_per_epoch:g} epochs of "
            "training: use less, or a share of training with scheduler.warmup_epochs=null scheduler.warmup_share=0.1"
        )
    return share * total_steps if epochs is None else epochs * steps_per_epoch
