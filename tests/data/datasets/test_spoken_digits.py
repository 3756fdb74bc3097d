"""The Free Spoken Digit Dataset: its official parts, one speaker held out, and how it comes from the network."""

import io
import socket
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.data.conftest import Record

from pipeline.data.dataset import Splits
from pipeline.data.datasets.spoken_digits import SpokenDigits, digest_of_files
from pipeline.errors import ConfigError, DataError

if TYPE_CHECKING:
    from conftest import Mirror

FULL = Path(__file__).parents[4] / "shared/data/spoken-digits"  # what a machine without a network may have


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "pipeline"


@pytest.fixture
def recordings(tmp_path: Path, record: Record) -> Path:
    """Two digits by three speakers, ten times each."""
    for number in range(60):
        digit, speaker, index = number % 2, ("ann", "bob", "eve")[number // 20], number % 20 // 2
        record(tmp_path / "recordings" / f"{digit}_{speaker}_{index}.wav", number, samples=100)
    return tmp_path / "recordings"


def load(root: Path | None, **changed: Any) -> Splits:
    return SpokenDigits(**({"held_out_speaker": None, "seconds": 0.02, "validation_share": 0.2} | changed)).load(root)


def sizes(parts: Splits) -> list[int]:
    return [len(part) for part in parts.by_name().values()]


def test_the_recordings_with_the_lowest_numbers_are_the_test_part(recordings: Path) -> None:
    parts = load(recordings)
    assert parts.class_names == ("0", "1") and sizes(parts) == [24, 6, 30]
    assert parts.train.inputs.shape[1] == 160


def test_a_speaker_held_out_is_the_whole_test_part(recordings: Path) -> None:
    assert sizes(load(recordings, held_out_speaker="eve")) == [32, 8, 20]
    with pytest.raises(ConfigError, match=r"held_out_speaker=joe: .* has ann, bob, eve; expected one of them"):
        load(recordings, held_out_speaker="joe")


def test_in_a_folder_without_recordings_it_is_said_where_they_are_to_be_had(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"does not exist\. Leave data\.root out .*git clone"):
        load(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"no recordings such as 7_jackson_32\.wav.*git clone"):
        load(tmp_path)


URL = "/v1.0.10.tar.gz"
TOP = "free-spoken-digit-dataset-1.0.10"


@pytest.fixture
def contents(tmp_path: Path, record: Record) -> dict[str, bytes]:
    """One speaker's 500 recordings."""
    whole = record(tmp_path / "own.wav", samples=2).read_bytes()
    names = (f"{digit}_ann_{index}.wav" for digit in range(10) for index in range(50))
    return {name: whole[:-2] + number.to_bytes(2) for number, name in enumerate(names)}


def packed(contents: dict[str, bytes], *others: tarfile.TarInfo, level: int = 1) -> bytes:
    """As GitHub packs a tag; `others` come last."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz", compresslevel=level) as file:
        for name, content in contents.items():
            file.addfile(described(f"{TOP}/recordings/{name}", content), io.BytesIO(content))
        for other in others:
            file.addfile(other, io.BytesIO(bytes(other.size)))
    return archive.getvalue()


def described(path: str, content: bytes) -> tarfile.TarInfo:
    member = tarfile.TarInfo(path)
    member.size = len(content)
    return member


def linked(name: str, target: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo(f"{TOP}/recordings/{name}")
    member.type, member.linkname = tarfile.SYMTYPE, target
    return member


def downloaded(url: str, contents: dict[str, bytes]) -> Splits:
    """As if these were the official recordings."""

    class Small(SpokenDigits):
        mirrors = (f"{url}{URL}",)
        speakers = ("ann",)
        digest = digest_of_files(contents)

    return Small(held_out_speaker=None, seconds=0.001, validation_share=0.1).load(None)


class TestTheDownload:
    def test_it_is_made_once_and_leaves_the_recordings_and_nothing_else(
        self, mirror: "Mirror", cache: Path, contents: dict[str, bytes]
    ) -> None:
        mirror.files = {URL: packed(contents)}
        for _ in range(2):
            assert sizes(downloaded(mirror.url, contents)) == [405, 45, 50]
        assert len(mirror.requests) == 1
        assert {path.name: path.read_bytes() for path in (cache / "spoken_digits").iterdir()} == contents
        assert [path.name for path in cache.iterdir() if ".part" in path.name or ".tmp" in path.name] == []

    def test_however_it_is_packed(self, mirror: "Mirror", contents: dict[str, bytes]) -> None:
        mirror.files = {URL: packed(dict(reversed(contents.items())), level=9)}
        assert sizes(downloaded(mirror.url, contents)) == [405, 45, 50]

    def test_processes_that_want_it_at_the_same_time_make_one(
        self, mirror: "Mirror", contents: dict[str, bytes]
    ) -> None:
        mirror.files = {URL: packed(contents)}
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda _: downloaded(mirror.url, contents), range(4)))
        assert len(mirror.requests) == 1

    def test_what_broke_off_goes_on_where_it_stopped(self, mirror: "Mirror", contents: dict[str, bytes]) -> None:
        mirror.files, mirror.faults = {URL: packed(contents)}, ["cut"]
        assert sizes(downloaded(mirror.url, contents)) == [405, 45, 50]
        assert mirror.requests[1] == (URL, f"bytes={len(mirror.files[URL]) // 2}-")

    def test_a_recording_that_was_changed_since_is_noticed(
        self, mirror: "Mirror", cache: Path, contents: dict[str, bytes], capsys: pytest.CaptureFixture[str]
    ) -> None:
        mirror.files = {URL: packed(contents)}
        downloaded(mirror.url, contents)
        (cache / "spoken_digits/3_ann_7.wav").write_bytes(contents["3_ann_8.wav"])
        downloaded(mirror.url, contents)
        assert "spoken_digits has other content: 500 of 500 recordings" in capsys.readouterr().err
        assert (cache / "spoken_digits/3_ann_7.wav").read_bytes() == contents["3_ann_7.wav"]

    def test_what_is_no_recording_is_ignored(
        self, mirror: "Mirror", tmp_path: Path, cache: Path, contents: dict[str, bytes]
    ) -> None:
        others = [
            described(f"{TOP}/recordings/../../../0_ann_0.wav", b"evil"),
            described(f"{tmp_path}/0_ann_0.wav", b"evil"),
            described(f"{TOP}/recordings/0_eve_0.wav", b"evil"),
            linked("0_ann_1.wav", "/etc/passwd"),
        ]
        mirror.files = {URL: packed(contents, *others)}
        downloaded(mirror.url, contents)
        assert {path.name: path.read_bytes() for path in (cache / "spoken_digits").iterdir()} == contents
        assert not list(tmp_path.rglob("*eve*")) and not (tmp_path / "0_ann_0.wav").exists()

    @pytest.mark.parametrize(
        "change, reason",
        [
            (lambda files: files | {"3_ann_7.wav": files["3_ann_8.wav"]}, "other content: 500 of 500 recordings"),
            (lambda files: {name: files[name] for name in sorted(files)[1:]}, "other content: 499 of 500 recordings"),
            (lambda files: files | {"more.bin": bytes(65 * 1024**2)}, "more than the 67,108,864 bytes"),
        ],
        ids=["a changed byte", "one that is missing", "a bomb"],
    )
    def test_other_content_is_refused_and_nothing_is_kept(
        self, mirror: "Mirror", cache: Path, contents: dict[str, bytes], change: Any, reason: str
    ) -> None:
        mirror.files = {URL: packed(change(contents))}
        with pytest.raises(DataError, match=rf"(?s)spoken_digits could not be downloaded.*{reason}.*git clone"):
            downloaded(mirror.url, contents)
        assert [path.name for path in cache.iterdir()] == [".spoken_digits.lock"]

    @pytest.mark.parametrize(
        "sent",
        [b"<html>Log in first</html>", packed({})[:50], b"\x1f\x8b" + bytes(99)],
        ids=["a page", "cut off", "damaged"],  # else the time of packing would stand in its name
    )
    def test_what_is_no_archive_is_refused(self, mirror: "Mirror", contents: dict[str, bytes], sent: bytes) -> None:
        mirror.files = {URL: sent}
        with pytest.raises(DataError, match="is cut off or damaged"):
            downloaded(mirror.url, contents)

    def test_without_a_network_the_user_is_told_what_to_type(self, contents: dict[str, bytes]) -> None:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            nobody = f"http://127.0.0.1:{unused.getsockname()[1]}"
        remedy = r"git clone https://github\.com/.*data\.root=free-spoken-digit-dataset/recordings"
        with pytest.raises(DataError, match=rf"(?s)cannot be reached.*{remedy}"):
            downloaded(nobody, contents)

    def test_with_a_folder_of_the_users_own_nothing_is(self, recordings: Path, cache: Path) -> None:
        load(recordings)
        assert not (cache / "spoken_digits").exists()


class TestTheRealOnes:
    @pytest.fixture(autouse=True)
    def there(self) -> None:
        if not FULL.is_dir():
            pytest.skip(f"{FULL} is not there")

    def test_they_are_three_thousand(self) -> None:
        assert sizes(load(FULL, validation_share=0.1)) == [2430, 270, 300]

    def test_they_are_known_by_their_digest_when_they_come_from_the_network(
        self, mirror: "Mirror", monkeypatch: pytest.MonkeyPatch
    ) -> None:
        mirror.files = {URL: packed({path.name: path.read_bytes() for path in FULL.glob("*.wav")})}
        monkeypatch.setattr(SpokenDigits, "mirrors", (f"{mirror.url}{URL}",))
        assert sizes(load(None, validation_share=0.1)) == [2430, 270, 300]
