"""A user's own recordings: found, cut into parts, brought to one rate and length, and what is wrong with them named."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.data.conftest import Record

from pipeline.data.data_spec import build_data_spec
from pipeline.data.dataset import Splits
from pipeline.data.files.audio_folder import AudioFolder
from pipeline.errors import ConfigError, DataError

ARGUMENTS: dict[str, Any] = {
    "labels": None,
    "pattern": None,
    "group": None,
    "sample_rate": None,
    "seconds": None,
    "validation_share": 0.2,
    "test_share": 0.2,
    "split_seed": 0,
    "on_bad_sample": "fail",
}
PATTERN = "{label}_{speaker}_{index}.wav"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "pipeline" / "recordings"


def load(root: Path, **changed: Any) -> Splits:
    return AudioFolder(**{**ARGUMENTS, **changed}).load(root)


@pytest.fixture
def birds(tmp_path: Path, record: Record) -> Path:
    """20 recordings of crows and 10 of owls, a tenth of a second each."""
    for number in range(30):
        record(tmp_path / "birds" / ("crow" if number < 20 else "owl") / f"{number:02}.wav", number)
    return tmp_path / "birds"


@pytest.fixture
def words(tmp_path: Path, record: Record) -> Path:
    """Two words by five speakers, three times each, named for what they are."""
    for number in range(30):
        name = f"{('yes', 'no')[number % 2]}_{'abcde'[number // 6]}_{number}.wav"
        record(tmp_path / "words" / name, number)
    return tmp_path / "words"


def test_a_folder_a_class_becomes_three_parts_of_waveforms(birds: Path) -> None:
    parts = load(birds)
    assert (parts.name, parts.kind, parts.task, parts.class_names) == ("birds", "audio", "binary", ("crow", "owl"))
    assert {name: len(part) for name, part in parts.by_name().items()} == {"train": 18, "validation": 6, "test": 6}
    assert {int((part.targets == 1).sum()) for part in (parts.validation, parts.test)} == {2}
    assert parts.train.inputs.dtype == torch.int16
    spec = build_data_spec(parts)
    assert (spec.input_shape, spec.sample_rate, spec.mean, spec.std) == ((800,), 8000, (), ())


def test_folders_of_parts_and_lists_do_as_for_pictures(tmp_path: Path, birds: Path, record: Record) -> None:
    for number in range(40):
        part = "test" if number < 8 else "train"
        record(tmp_path / "data" / part / "ab"[number % 2] / f"{number}.wav", number)
    assert [len(part) for part in load(tmp_path / "data").by_name().values()] == [26, 6, 8]
    rows = [f"{path.relative_to(birds)},{path.parent.name},{'test' if path.stem < '05' else ''}" for path in
            birds.rglob("*.wav")]  # fmt: skip
    (birds / "labels.csv").write_text("\n".join(["path,label,split", *rows]))
    parts = load(birds, labels="labels.csv")
    assert len(parts.test) == 5 and not parts.test.targets.any()


def test_a_pattern_reads_labels_from_names_and_a_group_stays_in_one_part(words: Path) -> None:
    parts = load(words, pattern=PATTERN)
    assert parts.class_names == ("no", "yes") and [len(part) for part in parts.by_name().values()] == [18, 6, 6]
    speakers = {path.name: path.name.split("_")[1] for path in words.iterdir()}
    for seed in range(3):
        apart = load(words, pattern=PATTERN, group="speaker", split_seed=seed)
        heard = [spoken_by(words, part.inputs, speakers) for part in apart.by_name().values()]
        assert [len(each) for each in heard] == [3, 1, 1] and not set.intersection(*heard)


def spoken_by(folder: Path, waveforms: torch.Tensor, speakers: dict[str, str]) -> set[str]:
    known = {path.read_bytes()[44:]: speakers[path.name] for path in folder.iterdir()}
    return {known[waveform.numpy().tobytes()] for waveform in waveforms}


def test_all_are_as_long_as_the_longest_or_as_long_as_is_asked_for(birds: Path, record: Record) -> None:
    record(birds / "owl" / "long.wav", 99, samples=1200)
    assert load(birds).train.inputs.shape[1] == 1200
    assert load(birds, seconds=0.05).train.inputs.shape[1] == 400


def test_the_longest_does_not_make_all_others_endless(
    birds: Path, record: Record, caplog: pytest.LogCaptureFixture
) -> None:
    record(birds / "owl" / "night.wav", values=np.zeros(8000 * 12))
    assert load(birds).train.inputs.shape[1] == 80_000
    assert "the longest recording of" in caplog.text and "data.source.seconds=12" in caplog.text
    assert load(birds, seconds=12).train.inputs.shape[1] == 96_000


def test_mixed_rates_become_the_usual_one_and_that_is_said(
    birds: Path, record: Record, caplog: pytest.LogCaptureFixture
) -> None:
    record(birds / "owl" / "fine.wav", 99, samples=1600, rate=16_000)
    parts = load(birds)
    assert parts.sample_rate == 8000 and parts.train.inputs.shape[1] == 800
    assert "30 have 8000 samples a second, 1 have 16000, such as owl/fine.wav. All are resampled" in caplog.text
    caplog.clear()
    assert load(birds, sample_rate=16_000).train.inputs.shape[1] == 1600
    assert not caplog.text


def test_waveforms_are_decoded_once_and_anew_when_a_file_changed(birds: Path, cache: Path, record: Record) -> None:
    before = build_data_spec(load(birds)).digest
    (waveforms,) = cache.glob("*.values")
    made_at = waveforms.stat().st_mtime_ns
    assert build_data_spec(load(birds)).digest == before and waveforms.stat().st_mtime_ns == made_at
    record(birds / "crow" / "00.wav", 99)
    assert build_data_spec(load(birds)).digest != before


def test_silence_is_sound(birds: Path, record: Record) -> None:
    record(birds / "owl" / "asleep.wav", values=np.zeros(800))
    assert sum(len(part) for part in load(birds).by_name().values()) == 31


@pytest.mark.parametrize("content", [b"", b"no sound", None])
def test_a_recording_that_cannot_be_used_is_named_and_left_out_on_demand(
    birds: Path, content: bytes | None, record: Record, caplog: pytest.LogCaptureFixture
) -> None:
    bad = record(birds / "owl" / "bad.wav")
    bad.write_bytes(bad.read_bytes()[:-25] if content is None else content)
    with pytest.raises(DataError, match=r"(?s)1 of 31 recordings.*bad\.wav is .*on_bad_sample=skip"):
        load(birds)
    parts = load(birds, on_bad_sample="skip")
    assert sum(len(part) for part in parts.by_name().values()) == 30
    assert len(parts.skipped) == 1 and parts.skipped[0].startswith(f"{bad} is ")
    assert "left out 1 of 31 recordings" in caplog.text


def test_names_that_do_not_fit_the_pattern_are_told_or_left_out(words: Path, record: Record) -> None:
    record(words / "noise.wav")
    with pytest.raises(DataError, match=r"noise\.wav does not fit data\.source\.pattern=\{label\}_"):
        load(words, pattern=PATTERN)
    parts = load(words, pattern=PATTERN, on_bad_sample="skip")
    assert sum(len(part) for part in parts.by_name().values()) == 30
    assert len(parts.skipped) == 1 and "noise.wav does not fit" in parts.skipped[0]


def test_what_is_wrong_with_a_folder_is_said_with_the_remedy(tmp_path: Path, birds: Path, record: Record) -> None:
    with pytest.raises(ConfigError, match=r"where your recordings are: data\.root=/path/to/folder"):
        AudioFolder(**ARGUMENTS).load(None)
    with pytest.raises(DataError, match="does not exist"):
        load(tmp_path / "nowhere")
    with pytest.raises(
        DataError, match=r"crow holds no recordings; expected one folder a class .*data\.source\.pattern="
    ):
        load(birds / "crow")
    (birds / "emu").mkdir()
    with pytest.raises(DataError, match=r"emu holds no recording \(\.wav, \.flac, \.ogg\)"):
        load(birds)
    record(birds / "emu" / "1.wav", 1)
    with pytest.raises(DataError, match="the class emu has 1 recording; expected two or more"):
        load(birds)
    for path in birds.rglob("*.wav"):
        path.write_bytes(b"")
    (birds / "emu" / "2.wav").touch()
    with pytest.raises(DataError, match="none of its 32 recordings can be read; the first is empty"):
        load(birds)


def test_a_class_that_training_never_shows_is_named(tmp_path: Path, record: Record) -> None:
    for number in range(20):
        record(tmp_path / "data" / "train" / "ab"[number % 2] / f"{number}.wav", number)
    record(tmp_path / "data" / "test" / "c" / "odd.wav", 50)
    with pytest.raises(DataError, match=r"odd\.wav \(test\) is of the class c, which no training recording has"):
        load(tmp_path / "data")


def test_impossible_settings_are_refused(birds: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.source\.sample_rate=0: expected 4000"):
        load(birds, sample_rate=0)
    with pytest.raises(ConfigError, match=r"data\.source\.seconds=0: expected more than 0"):
        load(birds, seconds=0)
    with pytest.raises(ConfigError, match=r"labels and data\.source\.pattern are both set"):
        load(birds, labels="a.csv", pattern=PATTERN)
    with pytest.raises(ConfigError, match=r"data\.source\.group=speaker is a field of data\.source\.pattern"):
        load(birds, group="speaker")
    with pytest.raises(ConfigError, match=r"test_share=0\.9 and .*validation_share=0\.9 of 30 recordings"):
        load(birds, test_share=0.9, validation_share=0.9)
