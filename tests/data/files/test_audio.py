"""What a file of sound holds, whatever it is encoded in, and what is wrong with it."""

import os
import struct
import wave
from pathlib import Path

import numpy as np
import pytest
import soundfile
from tests.data.conftest import Record

from pipeline.data.files.audio_folder import (
    AudioFormat,
    AudioHeader,
    decode_audio,
    pad_or_crop,
    read_audio_header,
    resample,
)
from pipeline.data.files.cache import UnreadableFile

TONE = 0.5 * np.sin(2 * np.pi * 440 * np.arange(1600) / 8000)


@pytest.mark.parametrize("width, off", [(1, 300), (2, 1), (3, 1), (4, 1)])
def test_any_number_of_bits_becomes_the_same_waveform(record: Record, tmp_path: Path, width: int, off: int) -> None:
    path = record(tmp_path / "tone.wav", values=TONE, width=width)
    assert read_audio_header(path) == AudioHeader(8000, 1600)
    found = decode_audio(path, AudioFormat(8000, 1600))
    assert found.dtype == np.int16
    assert np.abs(found - TONE * 32768).max() <= off


def test_channels_are_averaged(record: Record, tmp_path: Path) -> None:
    both = np.stack([TONE, np.zeros_like(TONE)], axis=1)
    found = decode_audio(record(tmp_path / "stereo.wav", values=both), AudioFormat(8000, 1600))
    assert np.abs(found - TONE * 16384).max() <= 1


def test_another_rate_keeps_the_tone_and_loses_what_cannot_be_heard_at_it(record: Record, tmp_path: Path) -> None:
    seconds = np.arange(16_000) / 16_000
    low, high = (0.5 * np.sin(2 * np.pi * hertz * seconds) for hertz in (440, 7000))
    found = decode_audio(record(tmp_path / "both.wav", values=low + 0.9 * high, rate=16_000), AudioFormat(8000, 8000))
    expected = 32768 * 0.5 * np.sin(2 * np.pi * 440 * np.arange(8000) / 8000)
    assert np.abs(found - expected)[100:-100].max() < 400
    assert len(resample(TONE, 8000, 11_025)) == 2205


def test_what_is_shorter_stands_in_the_middle_of_silence_and_of_what_is_longer_the_middle_stays() -> None:
    sound = np.arange(1, 6, dtype=np.int16)
    assert pad_or_crop(sound, 8).tolist() == [0, 1, 2, 3, 4, 5, 0, 0]
    assert pad_or_crop(sound, 3).tolist() == [2, 3, 4]
    assert pad_or_crop(sound, 2).tolist() == [2, 3]
    assert pad_or_crop(sound, 5).tolist() == [1, 2, 3, 4, 5]


def test_what_holds_no_sound_or_none_that_is_read_says_what_it_is(record: Record, tmp_path: Path) -> None:
    whole = record(tmp_path / "whole.wav").read_bytes()
    unknown = bytearray(whole)
    unknown[20:22] = struct.pack("<H", 0x1234)  # no known encoding
    with wave.open(str(tmp_path / "silent.wav"), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
    promising, slow, fast = bytearray(whole), bytearray(whole), bytearray(whole)
    promising[40:44] = struct.pack("<I", 2**32 - 16)  # bytes of sound
    slow[24:28], fast[24:28] = struct.pack("<I", 1), struct.pack("<I", 2**30)  # samples a second
    contents = {
        "is cut off: its header promises 4,294,967,280 bytes of sound, 1,600 are there": bytes(promising),
        "has 1 samples a second by its header, expected 100 to 1,000,000": bytes(slow),
        "has 1,073,741,824 samples a second by its header": bytes(fast),
        "is empty": b"",
        "is not a sound file that can be read .*Format not recognised": b"no sound at all, but long enough to be some",
        "is not a sound file that can be read .*": whole[:6],
        "is cut off: its header promises 1,600 bytes of sound, 956 are there": whole[:1000],
        "is not a sound file that can be read": bytes(unknown),
        "has a length of zero: there is no sound in it": (tmp_path / "silent.wav").read_bytes(),
    }
    for reason, content in contents.items():
        (tmp_path / "bad.wav").write_bytes(content)
        with pytest.raises(UnreadableFile, match=reason):
            read_audio_header(tmp_path / "bad.wav")


@pytest.mark.parametrize("encoding, off", [("FLOAT", 1), ("DOUBLE", 1), ("PCM_24", 1), ("ULAW", 1000)])
@pytest.mark.parametrize("container", ["WAV", "WAVEX"])
def test_any_encoding_of_wav_is_read(tmp_path: Path, container: str, encoding: str, off: int) -> None:
    path = tmp_path / "tone.wav"
    soundfile.write(str(path), TONE, 8000, format=container, subtype=encoding)
    assert read_audio_header(path) == AudioHeader(8000, 1600)
    assert np.abs(decode_audio(path, AudioFormat(8000, 1600)) - TONE * 32768).max() <= off


def test_values_that_are_no_numbers_are_no_sound(tmp_path: Path) -> None:
    soundfile.write(str(tmp_path / "nan.wav"), np.array([0.1, np.nan, 0.2]), 8000, subtype="FLOAT")
    with pytest.raises(UnreadableFile, match="holds values that are not finite numbers"):
        decode_audio(tmp_path / "nan.wav", AudioFormat(8000, 3))


def test_a_header_that_promises_hours_without_end_is_refused_before_there_is_memory_for_it(tmp_path: Path) -> None:
    path = tmp_path / "long.flac"
    soundfile.write(path, np.zeros(800, dtype=np.int16), 8000)
    content = bytearray(path.read_bytes())
    content[21] |= 0x0F  # of the number of samples, 36 bits of which the file has 10
    path.write_bytes(bytes(content))
    with pytest.raises(UnreadableFile, match=r"has 64,\d{3},\d{3},\d{3} samples by its header, expected 1,000,000,000"):
        read_audio_header(path)


@pytest.mark.parametrize("suffix", ["flac", "ogg"])
def test_flac_and_ogg_are_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"tone.{suffix}"
    soundfile.write(str(path), TONE, 8000)
    assert read_audio_header(path) == AudioHeader(8000, 1600)
    error = decode_audio(path, AudioFormat(8000, 1600)) - TONE * 32768
    assert np.sqrt((error**2).mean()) < (2 if suffix == "flac" else 1500)
    path.write_bytes(b"not what it seems")
    with pytest.raises(UnreadableFile, match="is not a sound file that can be read"):
        read_audio_header(path)


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_plain_pcm_is_read_exactly(record: Record, tmp_path: Path, width: int) -> None:
    path = record(tmp_path / "noise.wav", seed=width, width=width)
    with wave.open(str(path)) as file:
        content = np.frombuffer(file.readframes(800), dtype=np.uint8).reshape(800, width)
    wide = np.zeros((800, 4), dtype=np.uint8)
    wide[:, 4 - width :] = content ^ (0x80 if width == 1 else 0)  # 8 bits have no sign
    expected = (wide.view("<i4")[:, 0] / 65536).astype(np.float32)
    assert decode_audio(path, AudioFormat(8000, 800)).tolist() == np.clip(np.rint(expected), -32768, 32767).tolist()


def test_a_float_wav_that_is_cut_off_is_refused_too(tmp_path: Path) -> None:
    path = tmp_path / "tone.wav"
    soundfile.write(str(path), TONE, 8000, subtype="FLOAT")
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(UnreadableFile, match="is cut off: its header promises 6,400 bytes"):
        read_audio_header(path)


def test_a_file_with_any_name_is_read(record: Record, tmp_path: Path) -> None:
    for name in ("a 'b\" \u00e9.wav", os.fsdecode(b"latin \xe9.wav")):
        path = record(tmp_path / "tone.wav", values=TONE).rename(tmp_path / name)
        assert read_audio_header(path) == AudioHeader(8000, 1600)
        assert len(decode_audio(path, AudioFormat(8000, 1600))) == 1600
