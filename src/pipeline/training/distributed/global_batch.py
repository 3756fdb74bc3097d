"""Dropout, noise and batch norm of a batch that is divided among processes, equal to those of one process alone.

While a Learner computes a loss and its gradient, three kinds of torch's operations are replaced in torch's dispatcher,
below whatever calls them: `nn.Dropout` and attention's own dropout, GRU and LSTM between their layers, stochastic
depth, libraries, a user's own network. Other operations over the rows of a batch (a permutation, a queue of earlier
samples) stay within each process.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property, partial
from typing import Any

import torch
from torch import Tensor

from pipeline.seeds import derive_seed
from pipeline.training.distributed.batch_norm import batch_norm_over_processes
from pipeline.training.torch_private import batch_norm

# B samples of the global batch, b of them in this process

# Operations that fill a tensor with random numbers; torch.rand, torch.randn_like, nn.Dropout2d, ... call one of them.
RANDOM_FILLS = (
    "bernoulli_.float",
    "bernoulli_.Tensor",
    "exponential_",
    "normal_",
    "random_",
    "random_.from",
    "random_.to",
    "uniform_",
)
INT32_MIN = -(2**31)


@dataclass(frozen=True)
class LocalRows:
    """The rows of a global batch that are in this process.

    total           samples in the global batch
    rows            their indices
    sync_batchnorm  whether batch norm takes its statistics over all processes
    """

    total: int
    rows: slice
    sync_batchnorm: bool

    @cached_property
    def count(self) -> int:
        return len(range(self.total)[self.rows])

    def axis(self, shape: torch.Size) -> int | None:
        """Return the axis of samples, 0 or 1, or None for a tensor without one, such as a weight.

        On axis 0 each sample may have several rows.
        """
        if len(shape) > 1 and shape[0] != self.count and shape[1] == self.count:
            return 1
        return 0 if len(shape) > 0 and shape[0] > 0 and shape[0] % self.count == 0 else None


# Of the process, not of a thread: autograd may compute a forward pass again in a thread of its own.
_local_rows: LocalRows | None = None


@contextmanager
def global_batch_semantics(local_rows: LocalRows | None) -> Iterator[None]:
    """Let torch treat its tensors as these rows of a global batch; with None, as usual."""
    global _local_rows
    _replace_operations()
    before, _local_rows = _local_rows, local_rows
    try:
        yield
    finally:
        _local_rows = before


@cache
def _replace_operations() -> Any:
    library: Any = torch.library.Library("aten", "IMPL")  # type: ignore[no-untyped-call]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns that an operation is replaced
        library.impl("dropout", _dropout, "CompositeImplicitAutograd")
        library.impl("batch_norm", _batch_norm, "CompositeImplicitAutograd")
        for device in ("CPU", *(["CUDA"] if torch.cuda.is_available() else [])):
            for name in RANDOM_FILLS:
                original = torch.library.get_kernel(f"aten::{name}", device)
                library.impl(name, partial(_fill, original.call_boxed), device, with_keyset=True)
    return library


def _dropout(values: Tensor, p: float, train: bool) -> Tensor:
    if not train or p == 0 or values.numel() == 0:
        return values
    if _local_rows is None:
        dropped: Tensor = torch.native_dropout(values, p, True)[0]
        return dropped
    if p == 1:
        return values * 0
    mask = dropout_mask(_local_rows, values.shape, p, values.device)
    return values * mask.to(values.dtype).mul_(1 / (1 - p))


def dropout_mask(local: LocalRows, shape: torch.Size, p: float, device: torch.device) -> Tensor:
    """Return an int32 mask of this shape: 1 for values that are kept, 0 for those that are dropped.

    One number is drawn for each position in a sample, and two for each sample of the global batch, a factor and a
    summand; position * factor + summand, modulo 2^32, decides (multiply-add hashing, Dietzfelbinger 1996). The cost
    depends on the local samples alone, however many processes there are, and on CPUs is a fraction of that of drawing
    each value.
    """
    axis = local.axis(shape)
    total, rows, count = (1, slice(None), 1) if axis is None else (local.total, local.rows, local.count)
    outer = shape[0] if axis == 1 else 1
    positions = shape.numel() // count
    with global_batch_semantics(None):
        drawn = torch.empty(positions + 2 * total, dtype=torch.int32, device=device).random_(INT32_MIN, None)
    position = drawn[:positions].view(outer, 1, -1)
    factor, summand = drawn[positions:].view(2, total)[:, rows].view(2, 1, count, 1)
    hashed = position.mul(factor | 1).add_(summand)  # an odd factor maps different numbers to different ones
    mask: Tensor = hashed.ge_(round(p * 2**32) + INT32_MIN).view(shape)
    return mask


def _batch_norm(
    values: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool,
) -> Tensor:
    if training and _local_rows is not None and _local_rows.sync_batchnorm:
        return batch_norm_over_processes(values, weight, bias, running_mean, running_var, momentum, eps)
    return batch_norm(values, weight, bias, running_mean, running_var, training, momentum, eps, cudnn_enabled)


def _fill(original: Callable[..., Tensor], keys: Any, values: Tensor, *arguments: Any, **named: Any) -> Tensor:
    """Draw random numbers for the global batch, and fill `values` with the local rows of them."""
    local = _local_rows
    axis = None if local is None or local.count == local.total else local.axis(values.shape)
    if local is None or axis is None or named.get("generator") is not None:
        return original(keys, values, *arguments, **named)
    size = list(values.shape)
    size[axis] = size[axis] // local.count * local.total
    # The same order of axes in memory, in which torch draws.
    order = sorted(range(values.ndim), key=values.stride, reverse=True)

    def empty_global(own: Tensor) -> tuple[Tensor, Tensor]:
        """Return a tensor of the global batch, and a view of its local rows (b, ...)."""
        tensor = torch.empty_permuted(size, order, dtype=own.dtype, device=own.device)
        return tensor, _by_sample(tensor, axis, local.total)[(slice(None),) * axis + (local.rows,)]

    def expand(argument: Any) -> Any:
        """Return a parameter of each value, such as its probability, for the global batch."""
        if not isinstance(argument, Tensor) or argument.shape != values.shape:
            return argument
        tensor, rows = empty_global(argument)
        tensor.zero_()
        rows.copy_(_by_sample(argument, axis, local.count))
        return tensor

    drawn, rows = empty_global(values)
    original(keys, drawn, *(expand(argument) for argument in arguments), **named)
    _by_sample(values, axis, local.count).copy_(rows)
    return values


def _by_sample(values: Tensor, axis: int, count: int) -> Tensor:
    """Return a view in which this axis is divided into samples and the rows of each."""
    viewed: Tensor = values.unflatten(axis, (count, -1))  # type: ignore[no-untyped-call]
    return viewed


def reseed(seed: int, purpose: str, step: int) -> None:
    """Seed torch's generators of this process, on the CPU and on its current accelerator.

    All processes draw the same numbers: those of the global batch, of which each takes its rows.
    """
    value = derive_seed(seed, purpose, step, 0)
    # Not torch.manual_seed, which goes through every device module: 20 times the cost, on every step.
    torch.default_generator.manual_seed(value)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.manual_seed(value)
