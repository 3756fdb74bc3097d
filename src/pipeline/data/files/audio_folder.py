"""A user's own recordings."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pipeline.constraints import PositiveFloat, ProperFraction, Range, Seed
from pipeline.data.dataset import Splits
from pipeline.data.files import audio, labelled_files
from pipeline.data.files.audio import Header, Shape
from pipeline.data.files.build_splits import Selection, existing, parts_of
from pipeline.data.files.labelled_files import EXAMPLE, FileKind, LabelledFile, NamePattern, in_names
from pipeline.errors import ConfigError, DataError
from pipeline.spec import Kind

log = logging.getLogger(__name__)

RECORDINGS = FileKind("recording", (".wav", ".flac", ".ogg"), elsewhere=f"; or of labels in names: {EXAMPLE}")
LOWEST_RATE = 4000  # below it, speech cannot be understood
LONGEST_SECONDS = 10.0  # unless `seconds` asks for more


@dataclass(frozen=True)
class Clips:
    """What all recordings are converted to: `sample_rate` None is the one that most of them have, `seconds` None the
    length of the longest."""

    sample_rate: int | None
    seconds: float | None

    def __post_init__(self) -> None:
        if self.sample_rate is not None and self.sample_rate < LOWEST_RATE:
            raise ConfigError(
                f"data.source.sample_rate={self.sample_rate}: expected {LOWEST_RATE} samples a second or more, such as "
                "16000"
            )
        if self.seconds is not None and self.seconds <= 0:
            raise ConfigError(f"data.source.seconds={self.seconds:g}: expected more than 0, such as 1.0")

    def load(self, files: list[LabelledFile], selection: Selection, name: str, wrong: Sequence[str] = ()) -> Splits:
        """Load the recordings; `wrong` lists files that cannot be used, a line each."""
        root = selection.root
        files, skipped = selection.labelled(*selection.readable(files, wrong))
        headers, bad = audio.read_headers([root / file.path for file in files])
        if len(bad) == len(files):
            raise DataError(f"{root}: none of its {len(files)} recordings can be read; the first {bad[0].reason}.")
        shape = self._shape(headers, files, root)
        files, found = selection.decoded(files, bad, partial(audio.cached, root, shape))
        names, task, parts = parts_of(files, found.inputs)
        return Splits(name, "audio", task, names, *parts, skipped=skipped + found.skipped, sample_rate=shape.rate)

    def _shape(self, headers: list[Header | None], files: list[LabelledFile], root: Path) -> Shape:
        good = [header for header in headers if header is not None]
        rate = self.sample_rate if self.sample_rate is not None else self._usual_rate(headers, files, root)
        if self.seconds is not None:
            return Shape(rate, max(1, round(self.seconds * rate)))
        longest = max(header.samples / header.rate for header in good)
        if longest > LONGEST_SECONDS:
            log.warning(
                f"the longest recording of {root} has {longest:.1f} s: of what is longer than {LONGEST_SECONDS:g} s "
                f"the middle is kept; to keep more: data.source.seconds={longest:.0f}"
            )
        return Shape(rate, max(1, round(min(longest, LONGEST_SECONDS) * rate)))

    def _usual_rate(self, headers: list[Header | None], files: list[LabelledFile], root: Path) -> int:
        counts = Counter(header.rate for header in headers if header is not None)
        # Of rates that are as frequent the lower: nothing is made up then.
        usual = min(counts, key=lambda rate: (-counts[rate], rate))
        if usual < LOWEST_RATE:
            raise ConfigError(
                f"the recordings of {root} have {usual} samples a second; expected {LOWEST_RATE} or more. To make them "
                "fit: data.source.sample_rate=8000"
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
        self.clips = Clips(sample_rate, seconds)
        self.shares = {"test": test_share, "validation": validation_share}
        self.split_seed = split_seed
        self.on_bad_sample = on_bad_sample

    def load(self, root: Path | None) -> Splits:
        root = existing(root, option="audio_folder", noun=RECORDINGS.noun)
        selection = Selection(RECORDINGS, root, self.shares, self.split_seed, self.on_bad_sample)
        files, wrong = self._files(root)
        return self.clips.load(files, selection, root.resolve().name, wrong)

    def _files(self, root: Path) -> tuple[list[LabelledFile], list[str]]:
        """Return the labelled files, and what is wrong with others, a line each."""
        if self.labels is not None:
            return labelled_files.in_list(root, self.labels)
        if self.pattern is None:
            return labelled_files.in_folders(root, RECORDINGS)
        files, others = in_names(root, self.pattern, self.group, RECORDINGS)
        return files, [f"{root / path} does not fit data.source.pattern={self.pattern.pattern}" for path in others]
