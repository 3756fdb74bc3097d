"""Labels read from the names of files."""

from pathlib import Path

import pytest

from pipeline.data.files.audio_folder import AUDIO_FILES
from pipeline.data.files.labelled_files import LabelledFile, NamePattern, files_by_name
from pipeline.errors import ConfigError


@pytest.mark.parametrize(
    "pattern, path, fields",
    [
        ("{label}_{speaker}_{index}.wav", "7_jackson_32.wav", {"label": "7", "speaker": "jackson", "index": "32"}),
        ("{speaker}/{label}-{index}.flac", "ann/yes-1.flac", {"speaker": "ann", "label": "yes", "index": "1"}),
        ("{label}.wav", "a+b (1).wav", {"label": "a+b (1)"}),
        ("{label}_{speaker}_{index}.wav", "7_32.wav", None),
        ("{label}_{index}.wav", "deep/7_32.wav", None),
        ("{label}_{index}.wav", "7_32xwav", None),
    ],
)
def test_a_pattern_reads_the_fields_of_a_path_that_fits(pattern: str, path: str, fields: dict[str, str] | None) -> None:
    assert NamePattern(pattern).match(path) == fields


@pytest.mark.parametrize(
    "pattern, found",
    [
        ("{speaker}_{index}.wav", r"it has no \{label\}"),
        ("{label}_{label}.wav", r"\{label\} is not a name, or occurs twice"),
        ("{label}_{}.wav", r"\{\} is not a name, or occurs twice"),
        ("{label}_{2nd}.wav", r"\{2nd\} is not a name, or occurs twice"),
    ],
)
def test_a_pattern_that_cannot_work_is_refused_with_one_that_can(pattern: str, found: str) -> None:
    with pytest.raises(ConfigError, match=rf"{found}; expected for example 'data\.source\.pattern="):
        NamePattern(pattern)


def test_files_that_fit_are_found_at_any_depth_and_the_others_told(tmp_path: Path) -> None:
    (tmp_path / "ann").mkdir()
    for name in ("ann/yes.wav", "ann/no.WAV", "no.wav", "ann/notes.txt"):
        (tmp_path / name).touch()
    files, others = files_by_name(tmp_path, NamePattern("{speaker}/{label}.wav"), "speaker", AUDIO_FILES)
    assert files == [LabelledFile("ann/yes.wav", "yes", None, "ann")]
    assert others == ["ann/no.WAV", "no.wav"]
    with pytest.raises(
        ConfigError, match=r"data\.source\.group=speeker is not a field .* expected one of speaker, label"
    ):
        files_by_name(tmp_path, NamePattern("{speaker}/{label}.wav"), "speeker", AUDIO_FILES)
