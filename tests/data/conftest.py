"""Recordings, as a microphone would have made them."""

import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

Record = Callable[..., Path]


@pytest.fixture
def record() -> Record:
    """Writes a WAV of noise, or of `values` (S,) or (S, C) between -1 and 1."""

    def written(
        path: Path,
        seed: int = 0,
        *,
        samples: int = 800,
        rate: int = 8000,
        width: int = 2,
        values: "np.ndarray[tuple[int, ...], np.dtype[np.float64]] | None" = None,
    ) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        sound = np.random.default_rng(seed).uniform(-0.5, 0.5, samples) if values is None else values
        whole = np.rint(sound * (2.0 ** (8 * width - 1) - 1)).astype(np.int64)
        if width == 1:
            whole = whole + 128  # 8 bits have no sign
        content = whole.astype("<i8").reshape(-1, 1).view(np.uint8)[:, :width]
        with wave.open(str(path), "wb") as file:
            file.setnchannels(1 if sound.ndim == 1 else sound.shape[1])
            file.setsampwidth(width)
            file.setframerate(rate)
            file.writeframes(content.tobytes())
        return path

    return written
