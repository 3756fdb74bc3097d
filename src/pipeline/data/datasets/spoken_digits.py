"""The Free Spoken Digit Dataset: ten digits by six speakers, fifty recordings of each digit by each speaker."""

import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import product
from pathlib import Path
from typing import ClassVar

from pipeline.constraints import PositiveFloat, ProperFraction
from pipeline.data.dataset import Splits
from pipeline.data.datasets.published_files import archive_members, decompress
from pipeline.data.files.audio_folder import AUDIO_FILES, ClipLoader
from pipeline.data.files.build_splits import SplitBuilder
from pipeline.data.files.labelled_files import LabelledFile, NamePattern, files_by_name
from pipeline.data.splitting import FIXED_SEED
from pipeline.errors import ConfigError, DataError
from pipeline.spec import Kind, TaskKind
from pipeline.system.download import download
from pipeline.system.files import ContentError, cache_folder, write_folder

NAMES = NamePattern("{label}_{speaker}_{index}.wav")
OFFICIAL_TEST = 5  # recordings with a lower index: "numbered 0-4 (inclusive) are in the test and 5-49 in the training"
OWN_COPY = (
    "type git clone https://github.com/Jakobovski/free-spoken-digit-dataset, then "
    "data.root=free-spoken-digit-dataset/recordings"
)
MAX_ARCHIVE_BYTES = 64 * 1024**2  # packed and unpacked; all recordings together have 21 MB


class SpokenDigits:
    """Recordings with 8,000 samples a second (Jackson et al. 2018, doi:10.5281/zenodo.1342401).

    The test split is the official one or, with `held_out_speaker`, all recordings of this speaker. The validation split
    is taken from the training recordings.

    The recordings are those of version 1.0.10. Its archive is sometimes packed again, so `digest` identifies the
    recordings: it is what `export LC_ALL=C; sha256sum *.wav | sha256sum` prints in their folder.
    """

    kind: ClassVar[Kind] = "audio"
    task: ClassVar[TaskKind] = "multiclass"

    mirrors: ClassVar[tuple[str, ...]] = (
        "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/refs/tags/v1.0.10.tar.gz",
    )
    speakers: ClassVar[tuple[str, ...]] = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
    digest: ClassVar[str] = "1801eae019c063377d98f831d3f93574f259475df7332bb0e3d1b080fb5e6959"

    def __init__(
        self, *, held_out_speaker: str | None, seconds: PositiveFloat | None, validation_share: ProperFraction
    ) -> None:
        self.held_out_speaker = held_out_speaker
        self.clips = ClipLoader(None, seconds)
        self.validation_share = validation_share

    def load(self, root: Path | None) -> Splits:
        root = self._downloaded() if root is None else root
        remedy = f"Leave data.root out to have spoken_digits downloaded, or {OWN_COPY}."
        if not root.is_dir():
            raise DataError(f"data.root={root} {'is no folder' if root.exists() else 'does not exist'}. {remedy}")
        files, _ = files_by_name(root, NAMES, "speaker", AUDIO_FILES)
        if not files:
            raise DataError(f"{root} holds no recordings such as 7_jackson_32.wav. {remedy}")
        shares = {"validation": self.validation_share}
        builder = SplitBuilder(AUDIO_FILES, root, shares, FIXED_SEED, "fail")
        return self.clips.load(self._with_splits(files, root), builder, "spoken_digits")

    def _downloaded(self) -> Path:
        """Return the folder in the cache, downloaded if need be."""
        files = product(range(10), self.speakers, range(50))
        names = frozenset(f"{digit}_{speaker}_{index}.wav" for digit, speaker, index in files)
        folder = cache_folder() / "spoken_digits"
        remedy = f"Where there is a network, {OWN_COPY}."
        download(self.mirrors, folder, RecordingArchive(names, self.digest), remedy=remedy)
        return folder

    def _with_splits(self, files: list[LabelledFile], root: Path) -> list[LabelledFile]:
        speakers = sorted({str(file.group) for file in files})
        if self.held_out_speaker is not None and self.held_out_speaker not in speakers:
            raise ConfigError(
                f"data.source.held_out_speaker={self.held_out_speaker}: {root} has {', '.join(speakers)}; expected one "
                "of them, or null for the official test split"
            )
        # Without groups: the validation split has all speakers of the training split.
        return [replace(file, split="test" if self._is_test(file) else None, group=None) for file in files]

    def _is_test(self, file: LabelledFile) -> bool:
        if self.held_out_speaker is not None:
            return file.group == self.held_out_speaker
        index = Path(file.path).stem.rpartition("_")[2]
        return index.isdecimal() and int(index) < OFFICIAL_TEST


@dataclass(frozen=True)
class RecordingArchive:
    """The files of these `names` in an archive, which is deleted; together they have this `digest`."""

    names: frozenset[str]
    digest: str
    max_bytes: int = MAX_ARCHIVE_BYTES

    def read_stored(self, path: Path) -> dict[str, bytes]:
        return self._verified({name: (path / name).read_bytes() for name in self.names})

    def read_download(self, file: Path) -> dict[str, bytes]:
        try:
            return self._verified(archive_members(decompress(file, max_bytes=self.max_bytes), self.names))
        except tarfile.TarError as error:
            raise ContentError(f"is not an archive that can be read ({error})") from error

    def store(self, path: Path, content: dict[str, bytes]) -> None:
        write_folder(path, content)

    def _verified(self, contents: dict[str, bytes]) -> dict[str, bytes]:
        digest = digest_of_files(contents)
        if digest != self.digest:
            raise ContentError(
                f"has other content: {len(contents):,} of {len(self.names):,} recordings, together of SHA-256 "
                f"{digest}, expected {self.digest}"
            )
        return contents


def digest_of_files(contents: Mapping[str, bytes]) -> str:
    """Return the SHA-256 of what sha256sum prints about these files."""
    lines = (f"{sha256(contents[name]).hexdigest()}  {name}\n" for name in sorted(contents))
    return sha256("".join(lines).encode()).hexdigest()
