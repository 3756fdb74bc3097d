"""Training recordings changed at random, whole batches at once, on the device."""

from collections.abc import Sequence
from dataclasses import replace

import pytorch_lightning as pl
import torch
from torch import Tensor

from pipeline.constraints import NonNegativeInt, Probability, ProbabilityBelowOne
from pipeline.errors import ConfigError
from pipeline.spec import Batch
from pipeline.training.callbacks.hooks import BatchTransform, local_rows

# B batch of this process, W processes, S samples of a waveform, M bands, F frames


class _AudioTransform(BatchTransform):
    kinds = ("audio",)

    @torch.no_grad()
    def transform_batch(self, trainer: pl.Trainer, batch: Batch) -> Batch:
        return replace(batch, inputs=self.transform(trainer, batch.inputs))

    def transform(self, trainer: pl.Trainer, inputs: Tensor) -> Tensor:
        """(B, S), or what a callback before this one has made of it -> the same, changed."""
        raise NotImplementedError


class TimeShift(_AudioTransform):
    """Each recording earlier or later by up to a `share` of its length; silence comes in."""

    name = "time_shift"

    def __init__(self, *, share: ProbabilityBelowOne) -> None:
        self.share = share

    def transform(self, trainer: pl.Trainer, inputs: Tensor) -> Tensor:
        check_waveforms(inputs, self.name)
        return shift_waveforms(inputs, self.share, rank=trainer.global_rank, world_size=trainer.world_size)


class WaveformNoise(_AudioTransform):
    """White noise in a share `p` of the recordings, fainter than these by `decibels` drawn between two bounds."""

    name = "waveform_noise"

    def __init__(self, *, decibels: tuple[float, float], p: Probability) -> None:
        self.decibels = decibels
        self.p = p

    def transform(self, trainer: pl.Trainer, inputs: Tensor) -> Tensor:
        check_waveforms(inputs, self.name)
        return add_white_noise(inputs, self.decibels, self.p, rank=trainer.global_rank, world_size=trainer.world_size)


class SpecAugment(_AudioTransform):
    """Bands and frames of the spectrogram masked by its mean (Park et al. 2019, without the warping of time):
    `frequency_masks` of up to `frequency_width` bands, `time_masks` of up to `time_width` frames.

    What follows gets spectrograms, so it comes after whatever changes waveforms.
    """

    name = "spec_augment"

    def __init__(
        self,
        *,
        frequency_masks: NonNegativeInt,
        frequency_width: NonNegativeInt,
        time_masks: NonNegativeInt,
        time_width: NonNegativeInt,
    ) -> None:
        self.masks = {2: (frequency_masks, frequency_width), 3: (time_masks, time_width)}

    def transform(self, trainer: pl.Trainer, inputs: Tensor) -> Tensor:
        # The network's own first stage, which takes what it has made as it is.
        pictures: Tensor = trainer.lightning_module.network.standardize(inputs)  # type: ignore[operator,union-attr]
        for axis, (count, width) in self.masks.items():
            for _ in range(count):
                pictures = mask_spectrograms(
                    pictures, axis, width, rank=trainer.global_rank, world_size=trainer.world_size
                )
        return pictures


def check_waveforms(inputs: Tensor, callback: str) -> None:
    if inputs.ndim != 2:
        raise ConfigError(
            f"callbacks.{callback} changes waveforms, and gets inputs of shape {tuple(inputs.shape[1:])}: spec_augment "
            f"has to come after it, callbacks=[default,{callback},spec_augment]"
        )


def shift_waveforms(sounds: Tensor, share: float, *, rank: int = 0, world_size: int = 1) -> Tensor:
    """(B, S) of any number type -> the same, drawn from torch's generator."""
    samples, furthest = sounds.shape[1], int(share * sounds.shape[1])
    drawn = torch.randint(-furthest, furthest + 1, (world_size * len(sounds), 1), device=sounds.device)
    places = torch.arange(samples, device=sounds.device) - local_rows(drawn, rank, len(sounds))
    there = (places >= 0) & (places < samples)
    return sounds.gather(1, places.clamp(0, samples - 1)).masked_fill(~there, 0)


def add_white_noise(
    sounds: Tensor, decibels: Sequence[float], p: float, *, rank: int = 0, world_size: int = 1
) -> Tensor:
    """(B, S) of any number type -> the same in float32, drawn from torch's generator."""
    total, device = world_size * len(sounds), sounds.device
    below = torch.empty((total, 1), device=device).uniform_(*decibels)
    chosen = torch.rand((total, 1), device=device) < p
    noise = torch.randn((total, sounds.shape[1]), device=device)
    below, chosen, noise = (local_rows(each, rank, len(sounds)) for each in (below, chosen, noise))
    clean = sounds.float()
    loudness = clean.square().mean(dim=1, keepdim=True).sqrt()
    return clean + noise * loudness * 10 ** (-below / 20) * chosen


def mask_spectrograms(pictures: Tensor, axis: int, width: int, *, rank: int = 0, world_size: int = 1) -> Tensor:
    """(B, 1, M, F) -> the same with zeros, the mean, in up to `width` neighbours along the axis, 2 or 3."""
    size, total = pictures.shape[axis], world_size * len(pictures)
    drawn = torch.rand((2, total), device=pictures.device)
    widths = (drawn[0] * (min(width, size) + 1)).long()
    starts = (drawn[1] * (size - widths + 1)).long()
    places = torch.arange(size, device=pictures.device)
    within = (places >= starts[:, None]) & (places < (starts + widths)[:, None])  # (W * B, size)
    form = (-1, 1, size, 1) if axis == 2 else (-1, 1, 1, size)
    return pictures.masked_fill(local_rows(within, rank, len(pictures)).view(form), 0)
