"""The source for a user's own recordings: folders, lists or names of files, their headers, and their waveforms."""

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
from pipeline.data.files import labelled_files
from pipeline.data.files.build_splits import SplitBuilder, existing_folder, make_splits
from pipeline.data.files.cache import Decoder, UnreadableFile, read_headers
from pipeline.data.files.labelled_files import PATTERN_EXAMPLE, FileKind, LabelledFile, NamePattern
from pipeline.errors import ConfigError, DataError, missing_package_error
from pipeline.spec import Kind

# S samples of a waveform, C channels of a recording

AUDIO_FILES = FileKind(
    "recording", (".wav", ".flac", ".ogg"), elsewhere=f"; or with labels in names: {PATTERN_EXAMPLE}"
)
VERSION = 1  # of decode_audio; another number makes all caches invalid
INT16_MAX = 32767
MAX_SAMPLES = 1_000_000_000  # almost six hours at 48 kHz; a damaged header may promise any number
SAMPLE_RATE_RANGE = (100, 1_000_000)  # samples a second; resampling from beyond would not end
MIN_SAMPLE_RATE = 4000  # below it, speech cannot be understood
MAX_DEFAULT_SECONDS = 10.0  # unless `seconds` asks for more
TRUNCATED = re.compile(r"data *: (\d+) \(should be (\d+)\)")

Waveform = npt.NDArray[np.int16]
Channels = npt.NDArray[np.float32]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class AudioHeader:
    """The sample rate of a file, and the number of samples in each channel."""

    rate: int
    samples: int


@dataclass(frozen=True)
class AudioFormat:
    """The sample rate and the number of samples to which all recordings are converted."""

    rate: int
    samples: int


@dataclass(frozen=True)
class ClipLoader:
    """Loads recordings as clips of one format.

    sample_rate  None: the most frequent one
    seconds      None: the length of the longest recording, at most 10 s
    """

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

    def load(self, files: list[LabelledFile], builder: SplitBuilder, name: str, problems: Sequence[str] = ()) -> Splits:
        """Return the splits; `problems` has a line for each file that cannot be used."""
        root = builder.root
        files, skipped = builder.labelled(*builder.readable(files, problems))
        headers, bad = read_headers(read_audio_header, [root / file.path for file in files])
        if len(bad) == len(files):
            raise DataError(f"{root}: none of its {len(files)} recordings can be read; the first {bad[0].reason}.")
        target = self._format(headers, files, root)
        files, decoded = builder.decoded(files, bad, audio_decoder(target))
        names, task, splits = make_splits(files, decoded.inputs)
        return Splits(name, "audio", task, names, *splits, skipped=skipped + decoded.skipped, sample_rate=target.rate)

    def _format(self, headers: list[AudioHeader | None], files: list[LabelledFile], root: Path) -> AudioFormat:
        rate = self.sample_rate if self.sample_rate is not None else self._usual_rate(headers, files, root)
        if self.seconds is not None:
            return AudioFormat(rate, max(1, round(self.seconds * rate)))
        longest = max(header.samples / header.rate for header in headers if header is not None)
        if longest > MAX_DEFAULT_SECONDS:
            log.warning(
                f"the longest recording of {root} has {longest:.1f} s: of what is longer than "
                f"{MAX_DEFAULT_SECONDS:g} s the middle is kept; to keep more: data.source.seconds={longest:.0f}"
            )
        return AudioFormat(rate, max(1, round(min(longest, MAX_DEFAULT_SECONDS) * rate)))

    def _usual_rate(self, headers: list[AudioHeader | None], files: list[LabelledFile], root: Path) -> int:
        counts = Counter(header.rate for header in headers if header is not None)
        # The lower one of two that are equally frequent: to raise a rate would invent samples.
        usual = min(counts, key=lambda rate: (-counts[rate], rate))
        if usual < MIN_SAMPLE_RATE:
            raise ConfigError(
                f"the recordings of {root} have {usual} samples a second; expected {MIN_SAMPLE_RATE} or more. To "
                "convert them: data.source.sample_rate=8000"
            )
        if len(counts) > 1:
            row = next(row for row, header in enumerate(headers) if header is not None and header.rate != usual)
            others = ", ".join(f"{count} have {rate}" for rate, count in sorted(counts.items()) if rate != usual)
            log.warning(
                f"the recordings of {root} have different rates: {counts[usual]} have {usual} samples a second, "
                f"{others}, such as {files[row].path}. All are resampled to {usual}; to choose: "
                f"data.source.sample_rate={usual}"
            )
        return usual


class AudioFolder:
    """Recordings in `data.root`, with their labels.

    The recordings are in one folder a class; or in `train`, `validation` and `test` with such folders; or in `labels`,
    a CSV of path, label and perhaps split; or `pattern` reads the label from their names. Splits that do not exist are
    taken from the training recordings by their shares; recordings with the same `group`, a field of the pattern, stay
    in one split.

    The formats are WAV, FLAC and OGG. Waveforms are decoded once, as int16, into a file.
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
        builder = SplitBuilder(AUDIO_FILES, root, self.shares, self.split_seed, self.on_bad_sample)
        files, problems = self._files(root)
        return self.clips.load(files, builder, root.resolve().name, problems)

    def _files(self, root: Path) -> tuple[list[LabelledFile], list[str]]:
        """Return the labelled files, and a line for each file that cannot be used."""
        if self.labels is not None:
            return labelled_files.files_in_list(root, self.labels)
        if self.pattern is None:
            return labelled_files.files_in_folders(root, AUDIO_FILES)
        files, others = labelled_files.files_by_name(root, self.pattern, self.group, AUDIO_FILES)
        return files, [f"{root / path} does not fit data.source.pattern={self.pattern.pattern}" for path in others]


def read_audio_header(path: Path) -> AudioHeader:
    """Return the header of a file. Raises UnreadableFile."""
    try:
        size = path.stat().st_size
    except OSError as problem:
        raise UnreadableFile(f"cannot be read: {problem.strerror}") from problem
    if size == 0:
        raise UnreadableFile("is empty")
    with _soundfile() as soundfile:
        about = soundfile.info(os.fsencode(path), verbose=True)
    # libsndfile reads as much as there is; only its log says that the header promises more.
    if (found := TRUNCATED.search(about.extra_info)) is not None:
        promised, present = map(int, found.groups())
        if promised > present:
            raise UnreadableFile(f"is cut off: its header promises {promised:,} bytes of sound, {present:,} are there")
    header = AudioHeader(about.samplerate, about.frames)
    if header.samples == 0 or header.rate == 0:
        raise UnreadableFile("has a length of zero: there is no sound in it")
    if header.samples > MAX_SAMPLES:
        raise UnreadableFile(f"has {header.samples:,} samples by its header, expected {MAX_SAMPLES:,} at most: cut it")
    lowest, highest = SAMPLE_RATE_RANGE
    if not lowest <= header.rate <= highest:
        raise UnreadableFile(f"has {header.rate:,} samples a second by its header, expected {lowest} to {highest:,}")
    return header


def audio_decoder(target: AudioFormat) -> Decoder:
    """Return a decoder for (S,) int16."""
    decode = partial(decode_audio, target=target)
    return Decoder("recording", "recordings", f"{VERSION} {target.rate}", (target.samples,), np.int16, decode)


def decode_audio(path: Path, target: AudioFormat) -> Waveform:
    """Return (S,): the mean of all channels, resampled, with silence on both sides or cropped to its middle."""
    rate, channels = _read_waveform(path)
    mono = resample(channels.mean(axis=1, dtype=np.float64), rate, target.rate)
    return pad_or_crop(np.clip(np.rint(mono), -INT16_MAX - 1, INT16_MAX).astype(np.int16), target.samples)


def pad_or_crop(waveform: Waveform, samples: int) -> Waveform:
    """Pad or crop (any,) to (samples,), on both sides alike."""
    spare = samples - len(waveform)
    if spare <= 0:
        return waveform[-spare // 2 :][:samples]
    return np.pad(waveform, (spare // 2, spare - spare // 2))


def resample(waveform: npt.NDArray[np.float64], rate: int, new_rate: int) -> npt.NDArray[np.float64]:
    """Resample by a polyphase filter, which removes the frequencies that a lower rate cannot represent."""
    if rate == new_rate:
        return waveform
    from scipy.signal import resample_poly

    common = gcd(rate, new_rate)
    resampled: npt.NDArray[np.float64] = resample_poly(waveform, new_rate // common, rate // common)
    return resampled


def _read_waveform(path: Path) -> tuple[int, Channels]:
    """Return the rate, and the samples (S, C) in units of int16."""
    with _soundfile() as soundfile:
        values, rate = soundfile.read(os.fsencode(path), dtype="float32", always_2d=True)
    if not np.isfinite(values).all():
        raise UnreadableFile("holds values that are not finite numbers")
    return rate, values * (INT16_MAX + 1)


@contextmanager
def _soundfile() -> Iterator[Any]:
    """Import soundfile. Raises DataError where it is missing, UnreadableFile for a file that it cannot read."""
    try:
        import soundfile
    except (ImportError, OSError) as problem:  # OSError: the package is installed, its library is not
        raise missing_package_error("Sound", "soundfile") from problem
    try:
        yield soundfile
    except soundfile.LibsndfileError as problem:
        raise UnreadableFile(f"is not a sound file that can be read ({problem.error_string.rstrip('.')})") from problem
