"""The Free Spoken Digit Dataset: ten digits, six speakers, fifty recordings of each by each."""

from dataclasses import replace
from pathlib import Path

from pipeline.data.audio_folder import RECORDINGS, Clips
from pipeline.data.labelled_files import LabelledFile
from pipeline.data.name_pattern import NamePattern, in_names
from pipeline.data.selection import Selection
from pipeline.data.source import Parts
from pipeline.errors import ConfigError, DataError

NAMES = NamePattern("{label}_{speaker}_{index}.wav")
OFFICIAL_TEST = 5  # recordings with a lower index: "numbered 0-4 (inclusive) are in the test and 5-49 in the training"
SPLIT_SEED = 0  # of the cut between training and validation: the same for every run, whatever its own seed
REMEDY = (
    "Type git clone https://github.com/Jakobovski/free-spoken-digit-dataset, and "
    "data.root=free-spoken-digit-dataset/recordings"
)


class SpokenDigits:
    """Jackson et al. 2018, doi:10.5281/zenodo.1342401; 8,000 samples a second.

    The test part is the official one or, with `held_out_speaker`, all that this one says. The validation part is cut
    from the training recordings.
    """

    def __init__(self, *, held_out_speaker: str | None, seconds: float | None, validation_share: float) -> None:
        self.held_out_speaker = held_out_speaker
        self.clips = Clips(None, seconds)
        self.validation_share = validation_share

    def load(self, root: Path | None) -> Parts:
        if root is None:
            raise ConfigError(f"data=spoken_digits needs the recordings, which are not downloaded here. {REMEDY}")
        if not root.is_dir():
            raise DataError(f"data.root={root} {'is no folder' if root.exists() else 'does not exist'}. {REMEDY}")
        files, _ = in_names(root, NAMES, "speaker", RECORDINGS)
        if not files:
            raise DataError(f"{root} holds no recordings such as 7_jackson_32.wav. {REMEDY}")
        shares = {"validation": self.validation_share}
        selection = Selection(RECORDINGS, root, shares, SPLIT_SEED, "fail")
        return self.clips.load(self._parted(files, root), selection, "spoken_digits")

    def _parted(self, files: list[LabelledFile], root: Path) -> list[LabelledFile]:
        speakers = sorted({str(file.group) for file in files})
        if self.held_out_speaker is not None and self.held_out_speaker not in speakers:
            raise ConfigError(
                f"data.source.held_out_speaker={self.held_out_speaker}: {root} has {', '.join(speakers)}; expected one "
                "of them, or null for the official test part"
            )
        # No groups: the validation part has all speakers that training has.
        return [replace(file, part="test" if self._is_test(file) else None, group=None) for file in files]

    def _is_test(self, file: LabelledFile) -> bool:
        if self.held_out_speaker is not None:
            return file.group == self.held_out_speaker
        index = Path(file.path).stem.rpartition("_")[2]
        return index.isdecimal() and int(index) < OFFICIAL_TEST
