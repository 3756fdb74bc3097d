"""Dropout, noise and batch norm of a batch that several processes share, as one process would have them.

Three of torch's operations take another course while a Learner computes a loss and its gradient. They are replaced in
torch's dispatcher, below whatever calls them: `nn.Dropout` and attention's own dropout, GRU and LSTM between their
layers, stochastic depth, libraries, a network of the user's own. What a network does with rows of its batch by itself
(a permutation, a queue of earlier samples) stays within each process.
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

# B samples of the global batch, b of them here, E values a sample

# What draws random numbers into a tensor; torch.rand, torch.randn_like, nn.Dropout2d, ... all end in one of them.
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
SMALLEST = -(2**31)  # of int32


@dataclass(frozen=True)
class LocalRows:
    """`rows` are the places that the samples at hand have among the `total` of a global batch.

    sync_batchnorm  whether processes take the statistics of batch norm together
    """

    total: int
    rows: slice
    sync_batchnorm: bool

    @cached_property
    def count(self) -> int:
        return len(range(self.total)[self.rows])

    def axis(self, shape: torch.Size) -> int | None:
        """Along which samples lie: the first two are looked at; of the first, samples may have several rows each.

        None: it is a tensor of no samples, such as a weight.
        """
        if len(shape) > 1 and shape[0] != self.count and shape[1] == self.count:
            return 1
        return 0 if len(shape) > 0 and shape[0] > 0 and shape[0] % self.count == 0 else None


_share: LocalRows | None = None  # of the process, not of a thread: autograd may compute a forward pass again in its own


@contextmanager
def global_batch_semantics(share: LocalRows | None) -> Iterator[None]:
    """Meanwhile torch works on this share of a global batch; None: on whatever it is given, as ever."""
    global _share
    _replace_operations()
    before, _share = _share, share
    try:
        yield
    finally:
        _share = before


@cache
def _replace_operations() -> Any:
    library: Any = torch.library.Library("aten", "IMPL")  # type: ignore[no-untyped-call]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch tells that something is replaced
        library.impl("dropout", _dropout, "CompositeImplicitAutograd")
        library.impl("batch_norm", _batch_norm, "CompositeImplicitAutograd")
        for device in ("CPU", *(["CUDA"] if torch.cuda.is_available() else [])):
            for name in RANDOM_FILLS:
                original = torch.library.get_kernel(f"aten::{name}", device)
                library.impl(name, partial(_filled, original.call_boxed), device, with_keyset=True)
    return library


def _dropout(values: Tensor, p: float, train: bool) -> Tensor:
    if not train or p == 0 or values.numel() == 0:
        return values
    if _share is None:
        dropped: Tensor = torch.native_dropout(values, p, True)[0]
        return dropped
    if p == 1:
        return values * 0
    kept = dropout_mask(_share, values.shape, p, values.device)
    return values * kept.to(values.dtype).mul_(1 / (1 - p))


def dropout_mask(share: LocalRows, shape: torch.Size, p: float, device: torch.device) -> Tensor:
    """1 for what is kept and 0 for what is not, int32, of this shape.

    One number is drawn for each place in a sample, and two for each sample of the global batch, a factor and a
    summand; their product and sum, modulo 2^32, decides (multiply-add hashing, Dietzfelbinger 1996). So the effort is
    that of the samples at hand, however many processes there are; on CPUs a fraction of that of drawing each.
    """
    axis = share.axis(shape)
    total, rows, count = (1, slice(None), 1) if axis is None else (share.total, share.rows, share.count)
    outer = shape[0] if axis == 1 else 1
    places = shape.numel() // count
    with global_batch_semantics(None):
        drawn = torch.empty(places + 2 * total, dtype=torch.int32, device=device).random_(SMALLEST, None)
    of_place, of_sample = drawn[:places].view(outer, 1, -1), drawn[places:].view(2, total)[:, rows]
    factor, summand = of_sample.view(2, 1, count, 1)
    mixed = of_place.mul(factor | 1).add_(summand)  # odd, so that no two numbers become the same
    kept: Tensor = mixed.ge_(round(p * 2**32) + SMALLEST).view(shape)
    return kept


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
    if training and _share is not None and _share.sync_batchnorm:
        return batch_norm_over_processes(values, weight, bias, running_mean, running_var, momentum, eps)
    return batch_norm(values, weight, bias, running_mean, running_var, training, momentum, eps, cudnn_enabled)


def _filled(original: Callable[..., Tensor], keys: Any, values: Tensor, *arguments: Any, **named: Any) -> Tensor:
    """Random numbers drawn for the global batch, of which the rows of this share are taken."""
    share = _share
    axis = None if share is None or share.count == share.total else share.axis(values.shape)
    if share is None or axis is None or named.get("generator") is not None:
        return original(keys, values, *arguments, **named)
    size = list(values.shape)
    size[axis] = size[axis] // share.count * share.total
    # Laid out in memory in the same order, in which torch draws.
    order = sorted(range(values.ndim), key=values.stride, reverse=True)

    def whole(own: Tensor) -> tuple[Tensor, Tensor]:
        """Of the global batch, and its rows (b, ...) that are ours."""
        tensor = torch.empty_permuted(size, order, dtype=own.dtype, device=own.device)
        return tensor, _by_sample(tensor, axis, share.total)[(slice(None),) * axis + (share.rows,)]

    def spread(own: Tensor) -> Tensor:
        tensor, rows = whole(own)
        tensor.zero_()
        rows.copy_(_by_sample(own, axis, share.count))
        return tensor

    drawn, rows = whole(values)
    alike = [spread(each) if isinstance(each, Tensor) and each.shape == values.shape else each for each in arguments]
    original(keys, drawn, *alike, **named)
    _by_sample(values, axis, share.count).copy_(rows)
    return values


def _by_sample(values: Tensor, axis: int, count: int) -> Tensor:
    """A view in which this axis is one of so many samples, and one of the rows of each."""
    viewed: Tensor = values.unflatten(axis, (count, -1))  # type: ignore[no-untyped-call]
    return viewed


def reseed(seed: int, purpose: str, step: int) -> None:
    """Set torch's generators of this process, on the CPU and on its current accelerator.

    All processes draw the same numbers: those of the global batch, of which each takes its rows.
    """
    value = derive_seed(seed, purpose, step, 0)
    # Not torch.manual_seed: that visits every device module, 20 times the cost, on every step.
    torch.default_generator.manual_seed(value)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.manual_seed(value)
