"""Mix training samples, and their targets with them: MixUp and CutMix."""

from dataclasses import replace
from math import sqrt

import pytorch_lightning as pl
import torch
from torch import Tensor

from pipeline.constraints import PositiveFloat, Probability
from pipeline.errors import ConfigError
from pipeline.spec import Batch, DataSpec, Mixed
from pipeline.training.callbacks.hooks import BatchTransform

# B batch of this process, C channels, H height, W width

Box = tuple[int, int, int, int]  # top, bottom, left, right


class PairedTransform(BatchTransform):
    """Change each sample with its neighbour: the first with the second and the second with the first, the third with
    the fourth, ...; a last one without a partner stays as it is.

    The order of an epoch is random already, so neighbours are random partners.
    """

    def check_share(self, samples: int, processes: int) -> None:
        if processes > 1 and samples % 2 == 1:
            raise ConfigError(
                f"callbacks.{self.name} takes samples in pairs, and data.batch_size={samples * processes} gives each "
                f"of {processes} processes {samples}, which splits a pair: use a multiple of {2 * processes}, such as "
                f"data.batch_size={(samples + 1) * processes}"
            )


class _MixingTransform(PairedTransform):
    """Draw the share once for each batch, as in the papers; leave a batch as it is with probability 1 - `p`."""

    def __init__(self, *, alpha: PositiveFloat, p: Probability) -> None:
        self.distribution = torch.distributions.Beta(alpha, alpha)
        self.p = p

    @torch.no_grad()
    def transform_batch(self, trainer: pl.Trainer, batch: Batch) -> Batch:
        # Drawn on the CPU, whose generator is seeded with the same value: reading from a device would wait for it.
        is_unchanged = float(torch.rand(())) >= self.p
        share = float(self.distribution.sample())
        return batch if is_unchanged else self.mix(batch, share)

    def mix(self, batch: Batch, share: float) -> Batch:
        raise NotImplementedError


class MixUp(_MixingTransform):
    """MixUp (Zhang et al. 2018): x <- (1 - share) x + share x', likewise for targets; share ~ Beta(alpha, alpha)."""

    name = "mixup"
    kinds = ("image", "table", "audio")  # not text: tokens are numbers that stand for words

    def check_data(self, spec: DataSpec) -> None:
        super().check_data(spec)
        for column, names in enumerate(spec.categories):
            if names:
                raise ConfigError(
                    f"callbacks.mixup blends amounts, and {spec.feature_names[column]} of {spec.name} has numbers for "
                    f"{len(names):,} names: leave it out, ~callbacks.mixup, or make each name an input of 0 and 1, "
                    f"data.source.one_hot_up_to={len(names)}"
                )

    def mix(self, batch: Batch, share: float) -> Batch:
        return replace(batch, inputs=blend_neighbours(batch.inputs, share), mixed=mix_targets(batch, share))


class CutMix(_MixingTransform):
    """CutMix (Yun et al. 2019): replace a box of each image by its partner's, and that share of its target."""

    name = "cutmix"
    kinds = ("image",)

    def mix(self, batch: Batch, share: float) -> Batch:
        height, width = batch.inputs.shape[2:]
        top, bottom, left, right = box = draw_box(height, width, share)
        area = (bottom - top) * (right - left) / (height * width)
        return replace(batch, inputs=paste_neighbours(batch.inputs, box), mixed=mix_targets(batch, area))


def swap_neighbours(values: Tensor) -> Tensor:
    """Return (B, ...) with the two rows of each pair swapped; a last row without a partner stays."""
    paired = len(values) // 2 * 2
    swapped = values[:paired].reshape(-1, 2, *values.shape[1:]).flip(1).flatten(0, 1)
    return torch.cat([swapped, values[paired:]])


def mix_targets(batch: Batch, share: float) -> Mixed:
    """Return the neighbours' targets and their share, when `share` of each sample is its neighbour.

    If the samples were mixed before, a part of the neighbour is the sample itself.
    """
    before = 0.0 if batch.mixed is None else batch.mixed.share
    return Mixed(swap_neighbours(batch.targets), (1 - share) * before + share * (1 - before))


def blend_neighbours(inputs: Tensor, share: float) -> Tensor:
    """Return (B, ...) numbers, each with `share` of its neighbour; integers are rounded to integers again."""
    if inputs.is_floating_point():
        return inputs.lerp(swap_neighbours(inputs), share)
    values = inputs.float()
    return values.lerp(swap_neighbours(values), share).round().to(inputs.dtype)


def draw_box(height: int, width: int, share: float) -> Box:
    """Return a random box with `share` of the area around a random point, clipped to the image."""
    row, column = torch.rand(2).tolist()
    half_height, half_width = height * sqrt(share) / 2, width * sqrt(share) / 2
    top, bottom = (round(height * row + offset) for offset in (-half_height, half_height))
    left, right = (round(width * column + offset) for offset in (-half_width, half_width))
    return max(top, 0), min(bottom, height), max(left, 0), min(right, width)


def paste_neighbours(images: Tensor, box: Box) -> Tensor:
    """Return images (B, C, H, W), each with its neighbour's pixels in the box."""
    top, bottom, left, right = box
    result = images.clone()
    result[:, :, top:bottom, left:right] = swap_neighbours(images[:, :, top:bottom, left:right])
    return result
