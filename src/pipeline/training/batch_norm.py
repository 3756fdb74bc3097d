"""Batch norm over the samples of all processes (Ioffe & Szegedy 2015), on any device.

Not torch.nn.SyncBatchNorm: that refuses the CPU, and takes the place of modules, which have to be found and changed.
"""

from typing import Any

import torch
from torch import Tensor, distributed
from torch.autograd.function import once_differentiable

# C channels, W processes


def batch_norm_over_processes(
    values: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    momentum: float,
    eps: float,
) -> Tensor:
    """(B, C, ...) -> the same. All processes call it equally often; it moves the running statistics of all alike."""
    normed: Tensor = _BatchNorm.apply(values, weight, bias, running_mean, running_var, momentum, eps)  # type: ignore[no-untyped-call]
    return normed


class _BatchNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        values: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        momentum: float,
        eps: float,
    ) -> Tensor:
        mean, variance, count = _statistics(values)
        if running_mean is not None and running_var is not None:
            running_mean.lerp_(mean.to(running_mean.dtype), momentum)
            running_var.lerp_((variance * (count / (count - 1))).to(running_var.dtype), momentum)
        kind = values.dtype if weight is None else weight.dtype
        mean, variance = mean.to(kind), variance.to(kind)
        ctx.save_for_backward(values, weight, mean, variance)
        ctx.count, ctx.eps = count, eps
        return torch.batch_norm(values, weight, bias, mean, variance, False, 0.0, eps, torch.backends.cudnn.enabled)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:
        """With x^ the normed values: weight / deviation * (gradient - mean(gradient) - x^ mean(gradient x^))."""
        values, weight, mean, variance = ctx.saved_tensors
        # As if the statistics were constants; the sums over gradient x^ and gradient come as those of weight and bias.
        own, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
            gradient, values, weight, mean, variance, None, None, False, ctx.eps, [True, True, True]
        )
        sums = _of_all(torch.stack([of_weight, of_bias]).double()).sum(dim=0)
        deviation = (variance.double() + ctx.eps).sqrt()
        scale = (1 if weight is None else weight.double()) / deviation / ctx.count
        slope, offset = ((scale * each).to(variance.dtype) for each in sums)
        # x^ slope + offset
        shared = torch.batch_norm(values, slope, offset, mean, variance, False, 0.0, ctx.eps, False)
        _, has_weight, has_bias, *others = ctx.needs_input_grad
        parameters = (of_weight if has_weight else None, of_bias if has_bias else None)
        return own.sub_(shared), *parameters, *(None for _ in others)


def _statistics(values: Tensor) -> tuple[Tensor, Tensor, float]:
    """Mean and variance (C,) float64 over all processes, and how many values they are of in each channel."""
    exact = values if values.dtype in (torch.float32, torch.float64) else values.float()
    mean, variance = torch.batch_norm_update_stats(exact, None, None, 0.0)
    channels = values.shape[1]
    count = values.numel() // channels
    own = torch.cat([mean.double(), variance.double(), mean.new_full((1,), count, dtype=torch.float64)])
    # Merged from deviations (Chan, Golub & LeVeque 1979), not from sums of squares.
    together = _of_all(own)
    means, variances, counts = together[:, :channels], together[:, channels:-1], together[:, -1:]
    total = counts.sum()
    mean = (means * counts).sum(dim=0) / total
    variance = ((variances + (means - mean).square()) * counts).sum(dim=0) / total
    return mean, variance, float(total)


def _of_all(own: Tensor) -> Tensor:
    """(W, ...): what each process has, in the same order everywhere. On gloo half the time of all_reduce."""
    rows = [torch.empty_like(own) for _ in range(distributed.get_world_size())]
    distributed.all_gather(rows, own)
    return torch.stack(rows)
