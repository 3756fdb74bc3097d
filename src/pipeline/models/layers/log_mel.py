"""Log-mel spectrograms of waveforms."""

from math import log, log10

import torch
from torch import Tensor, nn

# B batch, S samples of a waveform, F frames, M bands

BANDS = 40
WINDOW_SECONDS = 0.025
FRAMES_PER_SECOND = 100
LOWEST_HERTZ = 20.0
RANGE_DECIBELS = 80.0  # below the loudest; everything fainter counts as silence
FULL_SCALE = 32768.0  # of int16
FAINTEST = 1e-10  # power, of a full scale of 1


class LogMel(nn.Module):
    """Converts waveforms (B, S) in units of int16 to log-mel spectrograms (B, 1, M, F).

    They are the logarithm of the power in bands of equal width on the mel scale (Davis & Mermelstein 1980). Each sample
    has mean 0 and deviation 1, because the volume of a recording is not information. Spectrograms (B, 1, M, F) are
    passed on unchanged: a callback may have made them.
    """

    window: Tensor
    bands: Tensor

    def __init__(self, *, sample_rate: int) -> None:
        super().__init__()
        self.hop = sample_rate // FRAMES_PER_SECOND
        samples = round(WINDOW_SECONDS * sample_rate)
        self.size = 1 << (samples - 1).bit_length()  # of the Fourier transform
        # They are functions of the sample rate, so they are not saved with the weights.
        self.register_buffer("window", torch.hann_window(samples), persistent=False)
        self.register_buffer("bands", mel_filterbank(sample_rate, self.size), persistent=False)

    @staticmethod
    def shape(samples: int, *, sample_rate: int) -> tuple[int, int, int]:
        """Return the channels, bands and frames (1, M, F) of a spectrogram."""
        return 1, BANDS, 1 + samples // (sample_rate // FRAMES_PER_SECOND)

    def forward(self, inputs: Tensor) -> Tensor:  # (B, S) -> (B, 1, M, F)
        if inputs.ndim == 4:
            return inputs
        # Not in low precision, whose range and digits are too small for the power of loud and faint sounds.
        with torch.autocast(inputs.device.type, enabled=False):
            spectrum = torch.stft(
                inputs.float() / FULL_SCALE,
                self.size,
                hop_length=self.hop,
                win_length=len(self.window),
                window=self.window.float(),
                pad_mode="constant",
                return_complex=True,
            )
            power = spectrum.real.square() + spectrum.imag.square()  # (B, size / 2 + 1, F)
            loudness = torch.log((self.bands.float() @ power).clamp(min=FAINTEST))
            return standardize_spectrogram(loudness).unsqueeze(1).to(self.bands.dtype)


def standardize_spectrogram(loudness: Tensor) -> Tensor:
    """Return (B, M, F) where each sample has mean 0 and deviation 1; zeros where it is constant, such as silence."""
    loudest = loudness.amax(dim=(1, 2), keepdim=True)
    heard = torch.maximum(loudness, loudest - RANGE_DECIBELS / 10 * log(10))
    variance, mean = torch.var_mean(heard, dim=(1, 2), correction=0, keepdim=True)
    return (heard - mean) / (variance + 1e-5).sqrt()


def mel_filterbank(sample_rate: int, size: int) -> Tensor:
    """Return (M, size / 2 + 1) float32: triangular filters whose corners are the centres of their neighbours."""
    lowest, highest = (2595 * log10(1 + hertz / 700) for hertz in (LOWEST_HERTZ, sample_rate / 2))
    corners = 700 * (10 ** (torch.linspace(lowest, highest, BANDS + 2, dtype=torch.float64) / 2595) - 1)
    low, centre, high = (corners[place : place + BANDS, None] for place in range(3))
    hertz = torch.linspace(0, sample_rate / 2, size // 2 + 1, dtype=torch.float64)
    return torch.minimum((hertz - low) / (centre - low), (high - hertz) / (high - centre)).clamp(min=0).float()
