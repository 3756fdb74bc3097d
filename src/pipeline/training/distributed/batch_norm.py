"""Batch norm over the samples of all processes (Ioffe & Szegedy 2015), on any device.

Not torch.nn.SyncBatchNorm: that does not work on a CPU, and replaces modules, which must be found and changed.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from pipeline.training.distributed.collectives import all_gather

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
    """Return normed values (B, C, ...), and update the running statistics alike in all processes.

    All processes must call it equally often.
    """
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
        return _normed(values, weight, bias, mean, variance, eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:
        """Return weight / deviation * (gradient - mean(gradient) - x^ mean(gradient x^)), with x^ the normed values."""
        values, weight, mean, variance = ctx.saved_tensors
        # The sums over gradient x^ and over gradient come as the gradients of weight and bias.
        _, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
            gradient, values, weight, mean, variance, None, None, False, ctx.eps, [False, True, True]
        )
        sums = all_gather(torch.stack([of_weight, of_bias]).double()).sum(dim=0)
        scale = (variance.double() + ctx.eps).rsqrt_()
        if weight is not None:
            scale *= weight
        slope, offset = (sums * (scale / -ctx.count)).to(variance.dtype)
        # x^ slope + offset + gradient scale
        result = _normed(values, slope, offset, mean, variance, ctx.eps)
        result.addcmul_(gradient, scale.to(result.dtype).view(-1, *(1 for _ in values.shape[2:])))
        _, has_weight, has_bias, *others = ctx.needs_input_grad
        parameters = (of_weight if has_weight else None, of_bias if has_bias else None)
        return result, *parameters, *(None for _ in others)


def _normed(
    values: Tensor, weight: Tensor | None, bias: Tensor | None, mean: Tensor, variance: Tensor, eps: float
) -> Tensor:
    normed: Tensor = torch.native_batch_norm(values, weight, bias, mean, variance, False, 0.0, eps)[0]
    return normed


def _statistics(values: Tensor) -> tuple[Tensor, Tensor, float]:
    """Return mean and variance (C,) float64 over all processes, and the number of values in each channel."""
    exact = values if values.dtype in (torch.float32, torch.float64) else values.float()
    mean, variance = torch.batch_norm_update_stats(exact, None, None, 0.0)
    channels = values.shape[1]
    count = torch.tensor([values.numel() // channels], dtype=torch.float64, device=values.device)
    # Merged from deviations (Chan, Golub & LeVeque 1979), not from sums of squares.
    gathered = all_gather(torch.cat([mean, variance, count]))
    counts = gathered[:, -1]
    total = float(counts.sum())
    shares = counts / total
    mean, within = torch.split(shares @ gathered[:, :-1], channels)
    return mean, within + shares @ (gathered[:, :channels] - mean).square(), total
