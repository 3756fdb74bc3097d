"""A user's own recordings."""

import logging
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from math import gcd
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from pipeline.constraints import PositiveFloat, ProperFraction, Range, Seed
from pipeline.data.dataset import Splits
from pipeline.data.files import cache, labelled_files
from pipeline.data.files.build_splits import SplitBuilder, existing_folder, make_splits
from pipeline.data.files.cache import BadFile, DecodedFiles, Decoder, UnreadableFile, map_in_threads
from pipeline.data.files.labelled_files import PATTERN_EXAMPLE, FileKind, LabelledFile, NamePattern, files_by_name
from pipeline.errors import ConfigError, DataError, missing_package_error
from pipeline.spec import Kind

# N recordings, S samples of a waveform, C channels of a recording

VERSION = 1  # of what decoding does: another one, and all caches are made anew
INT16_MAX = 32767  # of int16
MAX_SAMPLES = 1_000_000_000  # almost six hours at 48 kHz; a header may promise anything
SAMPLE_RATE_RANGE = (100, 1_000_000)  # samples a second: what is beyond would be resampled to no end
TRUNCATED = re.compile(r"data *: (\d+) \(should be (\d+)\)")

Waveform = npt.NDArray[np.int16]
Channels = npt.NDArray[np.float32]


@dataclass(frozen=True)
class AudioHeader:
    """A file's header; `samples` are those of one channel."""

    rate: int
    samples: int


@dataclass(frozen=True)
class AudioFormat:
    """What all recordings are converted to: samples a second, and samples in all."""

    rate: int
    samples: int


def read_audio_headers(paths: Sequence[Path]) -> tuple[list[AudioHeader | None], list[BadFile]]:
    """Return the header of each file, and why files cannot be used."""

    def read(path: Path) -> AudioHeader | str:
        try:
            return read_audio_header(path)
        except UnreadableFile as problem:
            return str(problem)

    found = list(map_in_threads(read, paths, "reading the headers"))
    bad = [BadFile(row, each) for row, each in enumerate(found) if isinstance(each, str)]
    return [None if isinstance(each, str) else each for each in found], bad


def read_audio_header(path: Path) -> AudioHeader:
    """Return a file's header. Raises Unreadable for what holds no sound, or none that can be used."""
    try:
        size = path.stat().st_size
    except OSError as problem:
        raise UnreadableFile(f"cannot be read: {problem.strerror}") from problem
    if size == 0:
        raise UnreadableFile("is empty")
    with _soundfile() as soundfile:
        about = soundfile.info(os.fsencode(path), verbose=True)
    # libsndfile reads as much as there is; that the header promises more stands in its log alone.
    if (found := TRUNCATED.search(about.extra_info)) is not None:
        told, there = map(int, found.groups())
        if told > there:
            raise UnreadableFile(f"is cut off: its sound is said to have {told:,} bytes, of which {there:,} are there")
    header = AudioHeader(about.samplerate, about.frames)
    if header.samples == 0 or header.rate == 0:
        raise UnreadableFile("has a length of zero: there is no sound in it")
    if header.samples > MAX_SAMPLES:
        raise UnreadableFile(f"is said to have {header.samples:,} samples, expected {MAX_SAMPLES:,} at most: cut it")
    lowest, highest = SAMPLE_RATE_RANGE
    if not lowest <= header.rate <= highest:
        raise UnreadableFile(f"is said to have {header.rate:,} samples a second, expected {lowest} to {highest:,}")
    return header


def decode_audio(path: Path, shape: AudioFormat) -> Waveform:
    """Return (S,): the mean of the channels at the rate of `shape`, padded with silence on both sides or cut to the
    middle."""
    rate, channels = _read_waveform(path)
    mono = resample(channels.mean(axis=1, dtype=np.float64), rate, shape.rate)
    return pad_or_crop(np.clip(np.rint(mono), -INT16_MAX - 1, INT16_MAX).astype(np.int16), shape.samples)


def decoded_audio(root: Path, shape: AudioFormat, paths: Sequence[str]) -> DecodedFiles:
    """Return the recordings in this order; inputs are (N, S) int16."""
    decoding = Decoder(
        "recording", f"{VERSION} {shape.rate}", (shape.samples,), np.int16, partial(decode_audio, shape=shape)
    )
    return cache.load_decoded(root, paths, decoding)


def pad_or_crop(sound: Waveform, samples: int) -> Waveform:
    """Pad or cut (any,) to (samples,), keeping the middle in the middle."""
    spare = samples - len(sound)
    if spare <= 0:
        return sound[-spare // 2 :][:samples]
    return np.pad(sound, (spare // 2, spare - spare // 2))


def resample(sound: npt.NDArray[np.float64], rate: int, wanted: int) -> npt.NDArray[np.float64]:
    """Resample by a polyphase filter, which removes the frequencies that the lower rate cannot represent."""
    if rate == wanted:
        return sound
    from scipy.signal import resample_poly

    common = gcd(rate, wanted)
    found: npt.NDArray[np.float64] = resample_poly(sound, wanted // common, rate // common)
    return found


def _read_waveform(path: Path) -> tuple[int, Channels]:
    """Return the rate, and the samples (S, C) in units of int16."""
    with _soundfile() as soundfile:
        values, rate = soundfile.read(os.fsencode(path), dtype="float32", always_2d=True)
    if not np.isfinite(values).all():
        raise UnreadableFile("holds values that are no finite numbers")
    return rate, values * (INT16_MAX + 1)


@contextmanager
def _soundfile() -> Iterator[Any]:
    """Import soundfile; raises DataError where it is missing, and Unreadable for what it cannot read."""
    try:
        import soundfile
    except (ImportError, OSError) as problem:  # OSError: the package is there, its library is not
        raise missing_package_error("Sound", "soundfile") from problem
    try:
        yield soundfile
    except soundfile.LibsndfileError as problem:
        raise UnreadableFile(f"is no sound file that can be read ({problem.error_string.rstrip('.')})") from problem


log = logging.getLogger(__name__)

AUDIO_FILES = FileKind("recording", (".wav", ".flac", ".ogg"), elsewhere=f"; or of labels in names: {PATTERN_EXAMPLE}")
MIN_SAMPLE_RATE = 4000  # below it, speech cannot be understood
MAX_DEFAULT_SECONDS = 10.0  # unless `seconds` asks for more


@dataclass(frozen=True)
class ClipLoader:
    """What all recordings are converted to: `sample_rate` None is the one that most of them have, `seconds` None the
    length of the longest."""

    sample_rate: int | None
    seconds: float | None

    def __post_init__(self) -> None:
        if self.sample_rate is not None and self.sample_rate < MIN_SAMPLE_RATE:
            raise ConfigError(
                f"data.source.sample_rate={self.sample_rate}: expected {MIN_SAMPLE_RATE} samples a second or more, "
                "such as 16000"
            )
        if self.seconds is not None and self.seconds <= 0:
            raise ConfigError(f"data.source.seconds={self.seconds:g}: expected more than 0, such as 1.0")

    def load(self, files: list[LabelledFile], selection: SplitBuilder, name: str, wrong: Sequence[str] = ()) -> Splits:
        """Load the recordings; `wrong` lists files that cannot be used, a line each."""
        root = selection.root
        files, skipped = selection.labelled(*selection.readable(files, wrong))
        headers, bad = read_audio_headers([root / file.path for file in files])
        if len(bad) == len(files):
            raise DataError(f"{root}: none of its {len(files)} recordings can be read; the first {bad[0].reason}.")
        shape = self._shape(headers, files, root)
        files, found = selection.decoded(files, bad, partial(decoded_audio, root, shape))
        names, task, parts = make_splits(files, found.inputs)
        return Splits(name, "audio", task, names, *parts, skipped=skipped + found.skipped, sample_rate=shape.rate)

    def _shape(self, headers: list[AudioHeader | None], files: list[LabelledFile], root: Path) -> AudioFormat:
        good = [header for header in headers if header is not None]
        rate = self.sample_rate if self.sample_rate is not None else self._usual_rate(headers, files, root)
        if self.seconds is not None:
            return AudioFormat(rate, max(1, round(self.seconds * rate)))
        longest = max(header.samples / header.rate for header in good)
        if longest > MAX_DEFAULT_SECONDS:
            log.warning(
                f"the longest recording of {root} has {longest:.1f} s: of what is longer than {MAX_DEFAULT_SECONDS:g} "
                f"s the middle is kept; to keep more: data.source.seconds={longest:.0f}"
            )
        return AudioFormat(rate, max(1, round(min(longest, MAX_DEFAULT_SECONDS) * rate)))

    def _usual_rate(self, headers: list[AudioHeader | None], files: list[LabelledFile], root: Path) -> int:
        counts = Counter(header.rate for header in headers if header is not None)
        # Of rates that are as frequent the lower: nothing is made up then.
        usual = min(counts, key=lambda rate: (-counts[rate], rate))
        if usual < MIN_SAMPLE_RATE:
            raise ConfigError(
                f"the recordings of {root} have {usual} samples a second; expected {MIN_SAMPLE_RATE} or more. To make "
                "them fit: data.source.sample_rate=8000"
            )
        if len(counts) > 1:
            odd = next(row for row, header in enumerate(headers) if header is not None and header.rate != usual)
            others = ", ".join(f"{count} have {rate}" for rate, count in sorted(counts.items()) if rate != usual)
            log.warning(
                f"the recordings of {root} have different rates: {counts[usual]} have {usual} samples a second, "
                f"{others}, such as {files[odd].path}. All are resampled to {usual}; to choose: "
                f"data.source.sample_rate={usual}"
            )
        return usual


class AudioFolder:
    """`data.root`: one folder a class; or `train`, `validation` and `test` with such folders; or `labels`, a CSV of
    path, label and perhaps split; or recordings with the label in their names, which `pattern` reads. Parts that are
    not there are cut from the training recordings by their shares; what has the same `group`, a field of the pattern,
    stays in one part.

    WAV, FLAC or OGG. The waveforms are decoded once, as int16, and mapped into memory.
    """

    kind: ClassVar[Kind] = "audio"

    def __init__(
        self,
        *,
        labels: str | None,
        pattern: str | None,
        group: str | None,
        sample_rate: Annotated[int, Range(ge=4000)] | None,
        seconds: PositiveFloat | None,
        validation_share: ProperFraction,
        test_share: ProperFraction,
        split_seed: Seed,
        on_bad_sample: Literal["fail", "skip"],
    ) -> None:
        if labels is not None and pattern is not None:
            raise ConfigError("data.source.labels and data.source.pattern are both set; leave one of them out")
        if group is not None and pattern is None:
            raise ConfigError(f"data.source.group={group} is a field of data.source.pattern, which is not set")
        self.labels = labels
        self.pattern = None if pattern is None else NamePattern(pattern)
        self.group = group
        self.clips = ClipLoader(sample_rate, seconds)
        self.shares = {"test": test_share, "validation": validation_share}
        self.split_seed = split_seed
        self.on_bad_sample = on_bad_sample

    def load(self, root: Path | None) -> Splits:
        root = existing_folder(root, option="audio_folder", noun=AUDIO_FILES.noun)
        selection = SplitBuilder(AUDIO_FILES, root, self.shares, self.split_seed, self.on_bad_sample)
        files, wrong = self._files(root)
        return self.clips.load(files, selection, root.resolve().name, wrong)

    def _files(self, root: Path) -> tuple[list[LabelledFile], list[str]]:
        """Return the labelled files, and what is wrong with others, a line each."""
        if self.labels is not None:
            return labelled_files.files_in_list(root, self.labels)
        if self.pattern is None:
            return labelled_files.files_in_folders(root, AUDIO_FILES)
        files, others = files_by_name(root, self.pattern, self.group, AUDIO_FILES)
        return files, [f"{root / path} does not fit data.source.pattern={self.pattern.pattern}" for path in others]
