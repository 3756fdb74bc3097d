"""Augment training recordings, whole batches at once, on the device."""

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
        """Return changed inputs: waveforms (B, S), or what an earlier callback made of them."""
        raise NotImplementedError


class TimeShift(_AudioTransform):
    """Shift each recording in time by up to a `share` of its length, either way, and fill with silence."""

    name = "time_shift"

    def __init__(self, *, share: ProbabilityBelowOne) -> None:
        self.share = share

    def transform(self, trainer: pl.Trainer, inputs: Tensor) -> Tensor:
        check_waveforms(inputs, self.name)
        return shift_waveforms(inputs, self.share, rank=trainer.global_rank, world_size=trainer.world_size)


class WaveformNoise(_AudioTransform):
    """Add white noise to a share `p` of the recordings, fainter than them by `decibels`, drawn between two bounds."""

    name = "waveform_noise"

    def __init__(self, *, decibels: tuple[float, float], p: Probability) -> None:
        self.decibels = decibels
        self.p = p

    def transform(self, trainer: pl.Trainer, inputs: Tensor) -> Tensor:
        check_waveforms(inputs, self.name)
        return add_white_noise(inputs, self.decibels, self.p, rank=trainer.global_rank, world_size=trainer.world_size)


class SpecAugment(_AudioTransform):
    """Mask bands and frames of the spectrogram with its mean (SpecAugment, Park et al. 2019, without time warping):
    `frequency_masks` of up to `frequency_width` bands, `time_masks` of up to `time_width` frames.

    Later callbacks get spectrograms, so it comes after those that change waveforms.
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
        # By the network's own first layer, which leaves spectrograms as they are.
        spectrograms: Tensor = trainer.lightning_module.network.standardize(inputs)  # type: ignore[operator,union-attr]
        for axis, (count, width) in self.masks.items():
            for _ in range(count):
                spectrograms = mask_spectrograms(
                    spectrograms, axis, width, rank=trainer.global_rank, world_size=trainer.world_size
                )
        return spectrograms


def check_waveforms(inputs: Tensor, callback: str) -> None:
    """Raise ConfigError for inputs that are spectrograms already."""
    if inputs.ndim != 2:
        raise ConfigError(
            f"callbacks.{callback} changes waveforms, and gets inputs of shape {tuple(inputs.shape[1:])}: spec_augment "
            f"must come after it, callbacks=[default,{callback},spec_augment]"
        )


def shift_waveforms(waveforms: Tensor, share: float, *, rank: int = 0, world_size: int = 1) -> Tensor:
    """Return shifted waveforms (B, S), of the same type; draws from torch's generator."""
    samples = waveforms.shape[1]
    limit = int(share * samples)
    shifts = torch.randint(-limit, limit + 1, (world_size * len(waveforms), 1), device=waveforms.device)
    sources = torch.arange(samples, device=waveforms.device) - local_rows(shifts, rank, len(waveforms))
    is_inside = (sources >= 0) & (sources < samples)
    return waveforms.gather(1, sources.clamp(0, samples - 1)).masked_fill(~is_inside, 0)


def add_white_noise(
    waveforms: Tensor, decibels: Sequence[float], p: float, *, rank: int = 0, world_size: int = 1
) -> Tensor:
    """Return waveforms (B, S) with noise, as float32; draws from torch's generator."""
    total, device = world_size * len(waveforms), waveforms.device
    ratios = torch.empty((total, 1), device=device).uniform_(*decibels)
    chosen = torch.rand((total, 1), device=device) < p
    noise = torch.randn((total, waveforms.shape[1]), device=device)
    ratios, chosen, noise = (local_rows(values, rank, len(waveforms)) for values in (ratios, chosen, noise))
    clean = waveforms.float()
    loudness = clean.square().mean(dim=1, keepdim=True).sqrt()
    return clean + noise * loudness * 10 ** (-ratios / 20) * chosen


def mask_spectrograms(spectrograms: Tensor, axis: int, width: int, *, rank: int = 0, world_size: int = 1) -> Tensor:
    """Return spectrograms (B, 1, M, F) with zeros, their mean, in up to `width` neighbours along axis 2 or 3."""
    size, total = spectrograms.shape[axis], world_size * len(spectrograms)
    drawn = torch.rand((2, total), device=spectrograms.device)
    widths = (drawn[0] * (min(width, size) + 1)).long()
    starts = (drawn[1] * (size - widths + 1)).long()
    indices = torch.arange(size, device=spectrograms.device)
    is_masked = (indices >= starts[:, None]) & (indices < (starts + widths)[:, None])  # (W * B, size)
    shape = (-1, 1, size, 1) if axis == 2 else (-1, 1, 1, size)
    return spectrograms.masked_fill(local_rows(is_masked, rank, len(spectrograms)).view(shape), 0)
