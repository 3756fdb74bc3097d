"""The Free Spoken Digit Dataset: its official parts, and one speaker held out."""

from pathlib import Path
from typing import Any

import pytest
from tests.data.conftest import Record

from pipeline.data.source import Parts
from pipeline.data.spoken_digits import SpokenDigits
from pipeline.errors import ConfigError, DataError

FULL = Path(__file__).parents[3] / "shared/data/spoken-digits"  # what a machine without a network may have


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def recordings(tmp_path: Path, record: Record) -> Path:
    """Two digits by three speakers, ten times each."""
    for number in range(60):
        digit, speaker, index = number % 2, ("ann", "bob", "eve")[number // 20], number % 20 // 2
        record(tmp_path / "recordings" / f"{digit}_{speaker}_{index}.wav", number, samples=100)
    return tmp_path / "recordings"


def load(root: Path | None, **changed: Any) -> Parts:
    return SpokenDigits(**({"held_out_speaker": None, "seconds": 0.02, "validation_share": 0.2} | changed)).load(root)


def sizes(parts: Parts) -> list[int]:
    return [len(part) for part in parts.by_name().values()]


def test_the_recordings_with_the_lowest_numbers_are_the_test_part(recordings: Path) -> None:
    parts = load(recordings)
    assert parts.class_names == ("0", "1") and sizes(parts) == [24, 6, 30]
    assert parts.train.inputs.shape[1] == 160


def test_a_speaker_held_out_is_the_whole_test_part(recordings: Path) -> None:
    assert sizes(load(recordings, held_out_speaker="eve")) == [32, 8, 20]
    with pytest.raises(ConfigError, match=r"held_out_speaker=joe: .* has ann, bob, eve; expected one of them"):
        load(recordings, held_out_speaker="joe")


def test_without_the_recordings_it_is_said_where_they_are_to_be_had(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"(?s)not downloaded.*git clone https://github\.com/.*data\.root="):
        load(None)
    with pytest.raises(DataError, match=r"does not exist.*git clone"):
        load(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"no recordings such as 7_jackson_32\.wav.*git clone"):
        load(tmp_path)


def test_the_real_ones_are_three_thousand() -> None:
    if not FULL.is_dir():
        pytest.skip(f"{FULL} is not there")
    assert sizes(load(FULL, validation_share=0.1)) == [2430, 270, 300]
