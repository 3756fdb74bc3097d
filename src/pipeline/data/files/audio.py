"""Audio files: their headers, and their waveforms, decoded into the cache."""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from math import gcd
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.data.files import cache
from pipeline.data.files.cache import Bad, Cached, Decoding, Unreadable, side_by_side
from pipeline.errors import missing_package

# N recordings, S samples of a waveform, C channels of a recording

VERSION = 1  # of what decoding does: another one, and all caches are made anew
HIGHEST = 32767  # of int16
MOST_SAMPLES = 1_000_000_000  # almost six hours at 48 kHz; a header may promise anything
RATES = (100, 1_000_000)  # samples a second: what is beyond would be resampled to no end
CUT_OFF = re.compile(r"data *: (\d+) \(should be (\d+)\)")

Waveform = npt.NDArray[np.int16]
Channels = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Header:
    """A file's header; `samples` are those of one channel."""

    rate: int
    samples: int


@dataclass(frozen=True)
class Shape:
    """What all recordings are converted to: samples a second, and samples in all."""

    rate: int
    samples: int


def read_headers(paths: Sequence[Path]) -> tuple[list[Header | None], list[Bad]]:
    """Return the header of each file, and why files cannot be used."""

    def read(path: Path) -> Header | str:
        try:
            return read_header(path)
        except Unreadable as problem:
            return str(problem)

    found = list(side_by_side(read, paths, "reading the headers"))
    bad = [Bad(row, each) for row, each in enumerate(found) if isinstance(each, str)]
    return [None if isinstance(each, str) else each for each in found], bad


def read_header(path: Path) -> Header:
    """Return a file's header. Raises Unreadable for what holds no sound, or none that can be used."""
    try:
        size = path.stat().st_size
    except OSError as problem:
        raise Unreadable(f"cannot be read: {problem.strerror}") from problem
    if size == 0:
        raise Unreadable("is empty")
    with _soundfile() as soundfile:
        about = soundfile.info(os.fsencode(path), verbose=True)
    # libsndfile reads as much as there is; that the header promises more stands in its log alone.
    if (found := CUT_OFF.search(about.extra_info)) is not None:
        told, there = map(int, found.groups())
        if told > there:
            raise Unreadable(f"is cut off: its sound is said to have {told:,} bytes, of which {there:,} are there")
    header = Header(about.samplerate, about.frames)
    if header.samples == 0 or header.rate == 0:
        raise Unreadable("has a length of zero: there is no sound in it")
    if header.samples > MOST_SAMPLES:
        raise Unreadable(f"is said to have {header.samples:,} samples, expected {MOST_SAMPLES:,} at most: cut it")
    if not RATES[0] <= header.rate <= RATES[1]:
        raise Unreadable(f"is said to have {header.rate:,} samples a second, expected {RATES[0]} to {RATES[1]:,}")
    return header


def decode(path: Path, shape: Shape) -> Waveform:
    """Return (S,): the mean of the channels at the rate of `shape`, padded with silence on both sides or cut to the
    middle."""
    rate, channels = _sound(path)
    mono = resampled(channels.mean(axis=1, dtype=np.float64), rate, shape.rate)
    return in_the_middle(np.clip(np.rint(mono), -HIGHEST - 1, HIGHEST).astype(np.int16), shape.samples)


def cached(root: Path, shape: Shape, paths: Sequence[str]) -> Cached:
    """Return the recordings in this order; inputs are (N, S) int16."""
    decoding = Decoding(
        "recording", f"{VERSION} {shape.rate}", (shape.samples,), np.int16, partial(decode, shape=shape)
    )
    return cache.cached(root, paths, decoding)


def in_the_middle(sound: Waveform, samples: int) -> Waveform:
    """Pad or cut (any,) to (samples,), keeping the middle in the middle."""
    spare = samples - len(sound)
    if spare <= 0:
        return sound[-spare // 2 :][:samples]
    return np.pad(sound, (spare // 2, spare - spare // 2))


def resampled(sound: npt.NDArray[np.float64], rate: int, wanted: int) -> npt.NDArray[np.float64]:
    """Resample by a polyphase filter, which removes the frequencies that the lower rate cannot represent."""
    if rate == wanted:
        return sound
    from scipy.signal import resample_poly

    common = gcd(rate, wanted)
    found: npt.NDArray[np.float64] = resample_poly(sound, wanted // common, rate // common)
    return found


def _sound(path: Path) -> tuple[int, Channels]:
    """Return the rate, and the samples (S, C) in units of int16."""
    with _soundfile() as soundfile:
        values, rate = soundfile.read(os.fsencode(path), dtype="float32", always_2d=True)
    if not np.isfinite(values).all():
        raise Unreadable("holds values that are no finite numbers")
    return rate, values * (HIGHEST + 1)


@contextmanager
def _soundfile() -> Iterator[Any]:
    """Import soundfile; raises DataError where it is missing, and Unreadable for what it cannot read."""
    try:
        import soundfile
    except (ImportError, OSError) as problem:  # OSError: the package is there, its library is not
        raise missing_package("Sound", "soundfile") from problem
    try:
        yield soundfile
    except soundfile.LibsndfileError as problem:
        raise Unreadable(f"is no sound file that can be read ({problem.error_string.rstrip('.')})") from problem
