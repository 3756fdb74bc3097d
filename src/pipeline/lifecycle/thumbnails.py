"""What a sample looks like: a picture as it is, sound as its spectrogram."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline.data.datamodule import DataModule
from pipeline.lifecycle.build import Assembly
from pipeline.models.log_mel import LogMel
from pipeline.reports.statistics import Ints

# P samples that are pictured

LARGEST_SIDE = 64


def pictures_of(assembly: Assembly, part: Literal["train", "test"], rows: Tensor) -> Tensor | None:
    """(P, C, H, W) with 0 as black and 255 as white, of these rows (P,); None where samples cannot be looked at."""
    if not isinstance(assembly.data, DataModule) or assembly.spec is None:
        return None
    match assembly.spec.kind:
        case "image":
            return assembly.data.parts.by_name()[part].inputs[rows].cpu()
        case "audio":
            return spectrograms(assembly.data.parts.by_name()[part].inputs[rows].cpu(), assembly.spec.sample_rate)
    return None


def spectrograms(waveforms: Tensor, sample_rate: int) -> Tensor:
    """(P, S) -> (P, 1, M, F), high sounds above; each from its faintest, black, to its loudest, white."""
    if len(waveforms) == 0:  # no mistake was made; MKL has no Fourier transform of nothing
        return torch.zeros(0, *LogMel.shape(waveforms.shape[1], sample_rate=sample_rate))
    loudness: Tensor = LogMel(sample_rate=sample_rate)(waveforms).flip(2)
    faintest, loudest = loudness.amin(dim=(1, 2, 3), keepdim=True), loudness.amax(dim=(1, 2, 3), keepdim=True)
    return 255 * (loudness - faintest) / (loudest - faintest).clamp(min=1e-6)


def thumbnails(images: Tensor) -> Ints:
    """(P, C, H, W) with 0 as black and 255 as white -> (P, h, w) or (P, h, w, 3) uint8."""
    pixels = images.float()
    side = max(pixels.shape[2:])
    if side > LARGEST_SIDE:
        size = [max(round(each * LARGEST_SIDE / side), 1) for each in pixels.shape[2:]]
        pixels = F.interpolate(pixels, size=size, mode="area")
    pixels = pixels.round().clamp(0, 255).to(torch.uint8)
    colours = pixels.movedim(1, -1) if pixels.shape[1] == 3 else pixels[:, 0]
    numbers: Ints = colours.contiguous().numpy()
    return numbers
