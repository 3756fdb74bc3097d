"""Recordings and what their files say of them, decoded into the cache as one waveform each."""

import wave
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from math import gcd
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from pipeline.data.files import cache
from pipeline.data.files.cache import Bad, Cached, Decoding, Unreadable, side_by_side
from pipeline.errors import DataError

# N recordings, S samples of a waveform, C channels of a recording

VERSION = 1  # of what decoding does: another one, and all caches are made anew
HIGHEST = 32767  # of int16
MOST_SAMPLES = 1_000_000_000  # almost six hours at 48 kHz; a header may promise anything
RATES = (100, 1_000_000)  # samples a second: what is beyond would be resampled to no end
ENCODINGS = "PCM of 8, 16, 24 or 32 bits (or python -m pip install soundfile, which reads all)"

Waveform = npt.NDArray[np.int16]
Channels = npt.NDArray[np.float32]
T = TypeVar("T")


class OtherEncoding(Unreadable):
    """A WAV file that holds no plain PCM."""


@dataclass(frozen=True)
class Header:
    """What a file says of itself; `samples` are those of one channel."""

    rate: int
    samples: int


@dataclass(frozen=True)
class Shape:
    """What all recordings are brought to: samples a second, and samples in all."""

    rate: int
    samples: int


def read_headers(paths: Sequence[Path]) -> tuple[list[Header | None], list[Bad]]:
    """Of each file its header, or why it cannot be used."""

    def read(path: Path) -> Header | str:
        try:
            return read_header(path)
        except Unreadable as problem:
            return str(problem)

    found = list(side_by_side(read, paths, "reading the headers"))
    bad = [Bad(row, each) for row, each in enumerate(found) if isinstance(each, str)]
    return [None if isinstance(each, str) else each for each in found], bad


def read_header(path: Path) -> Header:
    """Raises Unreadable for what holds no sound, or none that is read here."""
    try:
        size = path.stat().st_size
    except OSError as problem:
        raise Unreadable(f"cannot be read: {problem.strerror}") from problem
    if size == 0:
        raise Unreadable("is empty")
    header = _read(path, _header_of_wave, _header_of_other)
    if header.samples == 0 or header.rate == 0:
        raise Unreadable("has a length of zero: there is no sound in it")
    if header.samples > MOST_SAMPLES:
        raise Unreadable(f"is said to have {header.samples:,} samples, expected {MOST_SAMPLES:,} at most: cut it")
    if not RATES[0] <= header.rate <= RATES[1]:
        raise Unreadable(f"is said to have {header.rate:,} samples a second, expected {RATES[0]} to {RATES[1]:,}")
    return header


def decode(path: Path, shape: Shape) -> Waveform:
    """(S,), the mean of the channels, at the rate that is asked for. What is shorter stands in the middle of silence,
    of what is longer the middle is kept."""
    rate, channels = _read(path, _sound_of_wave, _sound_of_other)
    mono = resampled(channels.mean(axis=1, dtype=np.float64), rate, shape.rate)
    return in_the_middle(np.clip(np.rint(mono), -HIGHEST - 1, HIGHEST).astype(np.int16), shape.samples)


def cached(root: Path, shape: Shape, paths: Sequence[str]) -> Cached:
    """inputs (N, S) int16, the recordings in this order."""
    decoding = Decoding(
        "recording", f"{VERSION} {shape.rate}", (shape.samples,), np.int16, partial(decode, shape=shape)
    )
    return cache.cached(root, paths, decoding)


def in_the_middle(sound: Waveform, samples: int) -> Waveform:
    """(any,) -> (samples,)"""
    spare = samples - len(sound)
    if spare <= 0:
        return sound[-spare // 2 :][:samples]
    return np.pad(sound, (spare // 2, spare - spare // 2))


def resampled(sound: npt.NDArray[np.float64], rate: int, wanted: int) -> npt.NDArray[np.float64]:
    """By a polyphase filter, which leaves out the frequencies that the lower of both rates cannot carry."""
    if rate == wanted:
        return sound
    from scipy.signal import resample_poly

    common = gcd(rate, wanted)
    found: npt.NDArray[np.float64] = resample_poly(sound, wanted // common, rate // common)
    return found


def _read(path: Path, of_wave: Callable[[Path], T], of_other: Callable[[Path], T]) -> T:
    """Without the package soundfile as far as can be: of WAV files that hold plain PCM."""
    if path.suffix.lower() != ".wav":
        return of_other(path)
    try:
        return of_wave(path)
    except OtherEncoding:
        if find_spec("soundfile") is None:
            raise
        return of_other(path)


def _header_of_wave(path: Path) -> Header:
    with _wave(path) as file:
        header = Header(file.getframerate(), file.getnframes())
        told = file.getnframes() * file.getnchannels() * file.getsampwidth()
    size = path.stat().st_size
    if told > size:
        raise Unreadable(f"is cut off: it has {size:,} bytes, and its sound is said to have {told:,}")
    return header


def _header_of_other(path: Path) -> Header:
    with _soundfile() as soundfile:
        about = soundfile.info(str(path))
    return Header(about.samplerate, about.frames)


def _sound_of_wave(path: Path) -> tuple[int, Channels]:
    """The rate, and (S, C) in units of int16."""
    with _wave(path) as file:
        rate, width, count = file.getframerate(), file.getsampwidth(), file.getnchannels()
        content = np.frombuffer(file.readframes(file.getnframes()), dtype=np.uint8)
        told = file.getnframes() * width * count
    if len(content) < told:
        raise Unreadable(f"is cut off: its sound has {len(content):,} bytes of {told:,}")
    return rate, _numbers(content, width).reshape(-1, count)


def _numbers(content: npt.NDArray[np.uint8], width: int) -> Channels:
    """Little-endian, `width` bytes each; 8 bits have no sign. (values,) in units of int16."""
    if width == 1:
        return (content.astype(np.float32) - 128) * 256
    if width == 2:
        return content.view("<i2").astype(np.float32)
    wide = np.zeros((len(content) // width, 4), dtype=np.uint8)
    wide[:, 4 - width :] = content.reshape(-1, width)
    return (wide.view("<i4")[:, 0] / 65536).astype(np.float32)


def _sound_of_other(path: Path) -> tuple[int, Channels]:
    with _soundfile() as soundfile:
        values, rate = soundfile.read(str(path), dtype="float32", always_2d=True)
    if not np.isfinite(values).all():
        raise Unreadable("holds values that are no finite numbers")
    return rate, values * (HIGHEST + 1)


@contextmanager
def _wave(path: Path) -> Iterator[wave.Wave_read]:
    try:
        with wave.open(str(path), "rb") as file:
            yield file
    except wave.Error as problem:
        if "format" in str(problem) or "sample width" in str(problem):
            raise OtherEncoding(f"is encoded in a way that is not read ({problem}); expected {ENCODINGS}") from problem
        raise Unreadable(f"is no WAV file that can be read ({problem})") from problem
    except EOFError as problem:
        raise Unreadable("is cut off before its sound begins") from problem
    except OSError as problem:
        raise Unreadable(f"cannot be read: {problem.strerror or problem}") from problem


@contextmanager
def _soundfile() -> Iterator[Any]:
    """For all that is no WAV. Raises DataError where the package is missing."""
    try:
        import soundfile
    except (ImportError, OSError) as problem:
        raise DataError(
            "FLAC and OGG need the package soundfile, which is not installed. Type python -m pip install soundfile."
        ) from problem
    try:
        yield soundfile
    except (RuntimeError, OSError) as problem:  # a LibsndfileError is a RuntimeError
        raise Unreadable(f"cannot be read: {problem}") from problem
