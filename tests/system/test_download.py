"""Files from the network, whatever the network does."""

import gzip
import hashlib
import random
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pipeline.errors import DataError
from pipeline.system import download
from pipeline.system.download import ATTEMPTS, download_file

if TYPE_CHECKING:
    from conftest import Mirror

CONTENT = random.Random(0).randbytes(200_000)
DIGEST = hashlib.sha256(CONTENT).hexdigest()
PACKED = gzip.compress(CONTENT, mtime=0)


def fetched(destination: Path, *urls: str) -> bytearray:
    return download_file(
        urls,
        destination,
        size=len(CONTENT),
        sha256=DIGEST,
        remedy="Type something else.",
        backoff_seconds=0.01,
    )


def test_a_packed_file_is_kept_unpacked_and_asked_for_only_once(mirror: "Mirror", tmp_path: Path) -> None:
    mirror.files["/file.gz"] = PACKED
    destination = tmp_path / "deep" / "file"
    assert fetched(destination, f"{mirror.url}/file.gz") == CONTENT
    assert destination.read_bytes() == CONTENT
    assert fetched(destination, f"{mirror.url}/file.gz") == CONTENT
    assert len(mirror.requests) == 1
    assert not list(destination.parent.glob(".*.part"))


def test_a_plain_file_will_do_as_well(mirror: "Mirror", tmp_path: Path) -> None:
    mirror.files["/file"] = CONTENT
    assert fetched(tmp_path / "file", f"{mirror.url}/file") == CONTENT


class TestWhenTheNetworkIsBad:
    def test_what_broke_off_goes_on_where_it_stopped(self, mirror: "Mirror", tmp_path: Path) -> None:
        mirror.files["/file.gz"] = PACKED
        mirror.faults = ["cut", "cut"]
        assert fetched(tmp_path / "file", f"{mirror.url}/file.gz") == CONTENT
        half = len(PACKED) // 2
        ranges = [f"bytes={half}-", f"bytes={half + (len(PACKED) - half) // 2}-"]
        assert mirror.requests == [("/file.gz", None), *(("/file.gz", each) for each in ranges)]

    def test_a_server_that_knows_no_parts_sends_all_of_it_again(self, mirror: "Mirror", tmp_path: Path) -> None:
        mirror.files["/file.gz"] = PACKED
        mirror.faults = ["cut"]
        mirror.ranges = False
        assert fetched(tmp_path / "file", f"{mirror.url}/file.gz") == CONTENT

    def test_a_server_in_trouble_is_asked_again(self, mirror: "Mirror", tmp_path: Path) -> None:
        mirror.files["/file.gz"] = PACKED
        mirror.faults = [500, 503, 429]
        assert fetched(tmp_path / "file", f"{mirror.url}/file.gz") == CONTENT

    def test_a_mirror_without_the_file_is_asked_once_and_then_the_next(
        self, mirror: "Mirror", another_mirror: "Mirror", tmp_path: Path
    ) -> None:
        another_mirror.files["/file.gz"] = PACKED
        urls = [f"{mirror.url}/file.gz", f"{another_mirror.url}/file.gz"]
        assert fetched(tmp_path / "file", *urls) == CONTENT
        assert len(mirror.requests) == 1

    def test_what_arrived_is_kept_for_the_next_time(self, mirror: "Mirror", tmp_path: Path) -> None:
        mirror.files["/file.gz"] = PACKED
        mirror.faults = ["cut"] + [503] * (ATTEMPTS - 1)
        with pytest.raises(DataError, match="503"):
            fetched(tmp_path / "file", f"{mirror.url}/file.gz")
        assert fetched(tmp_path / "file", f"{mirror.url}/file.gz") == CONTENT
        assert mirror.requests[-1] == ("/file.gz", f"bytes={len(PACKED) // 2}-")

    def test_a_mirror_that_sends_a_byte_now_and_then_is_left(
        self, mirror: "Mirror", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(download, "TIMEOUT_SECONDS", 0.2)
        mirror.files["/file.gz"] = PACKED
        mirror.faults = ["drip"] * download.ATTEMPTS
        with pytest.raises(DataError, match=r"sent but \d+ bytes in"):
            download_file(
                [f"{mirror.url}/file.gz"], tmp_path / "f", size=len(CONTENT), sha256="", remedy="", backoff_seconds=0.01
            )

    def test_after_a_kill_in_the_middle_it_goes_on_too(self, mirror: "Mirror", tmp_path: Path) -> None:
        mirror.files["/file.gz"] = PACKED
        mirror.faults = ["hang"]
        code = (
            "import sys, pathlib; from pipeline.system.download import download_file\n"
            "download_file([sys.argv[1]], pathlib.Path(sys.argv[2]), size=int(sys.argv[3]), sha256='', remedy='')"
        )
        victim = subprocess.Popen(
            [sys.executable, "-c", code, f"{mirror.url}/file.gz", tmp_path / "file", str(len(CONTENT))],
            stderr=subprocess.DEVNULL,
        )
        assert mirror.half_sent.wait(timeout=20)
        while not any(part.stat().st_size for part in tmp_path.glob(".file.*.part")):
            time.sleep(0.01)
        victim.kill()
        victim.wait()
        assert not (tmp_path / "file").exists()
        assert fetched(tmp_path / "file", f"{mirror.url}/file.gz") == CONTENT
        assert mirror.requests[-1][1] is not None

    def test_a_complete_part_is_not_asked_for_again(self, mirror: "Mirror", tmp_path: Path) -> None:
        mirror.files["/file.gz"] = PACKED
        mirror.faults = ["cut"] + [503] * (ATTEMPTS - 1)
        with pytest.raises(DataError):
            fetched(tmp_path / "file", f"{mirror.url}/file.gz")
        (part,) = tmp_path.glob(".file.*.part")
        part.write_bytes(PACKED)
        mirror.requests.clear()
        assert fetched(tmp_path / "file", f"{mirror.url}/file.gz") == CONTENT
        assert mirror.requests == [("/file.gz", f"bytes={len(PACKED)}-")]  # answered by 416

    def test_a_part_of_another_version_is_thrown_away(self, mirror: "Mirror", tmp_path: Path) -> None:
        mirror.files["/file.gz"] = gzip.compress(CONTENT[::-1], mtime=0)
        mirror.faults = ["cut"] + [503] * (ATTEMPTS - 1)
        with pytest.raises(DataError):
            fetched(tmp_path / "file", f"{mirror.url}/file.gz")
        mirror.files["/file.gz"] = PACKED
        assert fetched(tmp_path / "file", f"{mirror.url}/file.gz") == CONTENT

    def test_many_at_the_same_time_download_once(self, mirror: "Mirror", tmp_path: Path) -> None:
        mirror.files["/file.gz"] = PACKED
        with ThreadPoolExecutor(8) as pool:
            contents = list(pool.map(lambda _: fetched(tmp_path / "file", f"{mirror.url}/file.gz"), range(8)))
        assert contents == [CONTENT] * 8
        assert len(mirror.requests) == 1


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        "sent, reason",
        [
            (gzip.compress(CONTENT[::-1], mtime=0), "has other content"),
            (PACKED[:1000], "is cut off or damaged"),
            (PACKED[:1000] + bytes(8) + PACKED[1008:], "is cut off or damaged|has other content"),
            (b"<html>Log in to the network first</html>", "holds 40 bytes, expected 200,000"),
            (bytes(1_000_000), "is longer than the 204,296 bytes expected at most"),
            (gzip.compress(bytes(100_000_000), 1, mtime=0), "is longer than|holds more than the expected 200,000"),
        ],
        ids=["swapped", "truncated", "corrupted", "captive portal", "too long", "bomb"],
    )
    def test_wrong_content_is_refused_by_name_and_nothing_is_kept(
        self, mirror: "Mirror", tmp_path: Path, sent: bytes, reason: str
    ) -> None:
        mirror.files["/file.gz"] = sent
        with pytest.raises(DataError, match=rf"file could not be downloaded:\n  {mirror.url}/file.gz ({reason})"):
            fetched(tmp_path / "file", f"{mirror.url}/file.gz")
        assert {path.name for path in tmp_path.iterdir()} == {".file.lock"}
        assert len(mirror.requests) == 1

    def test_and_the_next_mirror_is_asked(self, mirror: "Mirror", another_mirror: "Mirror", tmp_path: Path) -> None:
        mirror.files["/file.gz"] = PACKED[:1000]
        another_mirror.files["/file.gz"] = PACKED
        urls = [f"{mirror.url}/file.gz", f"{another_mirror.url}/file.gz"]
        assert fetched(tmp_path / "file", *urls) == CONTENT

    def test_a_file_that_was_damaged_since_is_named_and_downloaded_anew(
        self, mirror: "Mirror", tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        mirror.files["/file.gz"] = PACKED
        (tmp_path / "file").write_bytes(CONTENT[:-1])
        assert fetched(tmp_path / "file", f"{mirror.url}/file.gz") == CONTENT
        assert f"{tmp_path}/file holds 199,999 bytes, expected 200,000" in capsys.readouterr().err


class TestWhatTheUserIsTold:
    def test_without_a_network_what_was_tried_and_what_to_do_at_once(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("it waited and tried again"))
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            port = unused.getsockname()[1]
        urls = [f"http://127.0.0.1:{port}/file.gz", "http://no-such-host.invalid/file.gz"]
        with pytest.raises(DataError) as caught:
            fetched(tmp_path / "file", *urls)
        first, refused, unknown, remedy = str(caught.value).splitlines()
        assert first == "file could not be downloaded:"
        assert "cannot be reached: [Errno" in refused
        assert refused.startswith(f"  {urls[0]} ")
        assert unknown.startswith(f"  {urls[1]} cannot be reached")
        assert remedy == "Type something else."

    def test_a_damaged_file_that_cannot_be_replaced_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(CONTENT[:-1])
        with pytest.raises(DataError, match="file holds 199,999 bytes, expected 200,000"):
            fetched(tmp_path / "file", "http://no-such-host.invalid/file.gz")
        assert (tmp_path / "file").read_bytes() == CONTENT[:-1]

    def test_where_no_folder_can_be_made(self, mirror: "Mirror", tmp_path: Path) -> None:
        (tmp_path / "occupied").write_text("")
        with pytest.raises(DataError, match=r"(?s)file cannot be used: .*XDG_CACHE_HOME.*Type something else"):
            fetched(tmp_path / "occupied" / "file", f"{mirror.url}/file.gz")

    def test_when_the_disk_is_full_and_what_arrived_is_kept(self, mirror: "Mirror", tmp_path: Path) -> None:
        mirror.files["/file.gz"] = PACKED
        code = (
            "import sys, pathlib, resource; from pipeline.system.download import download_file\n"
            "from pipeline.errors import DataError\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
            "try: download_file([sys.argv[1]], pathlib.Path(sys.argv[2]), size=200_000, sha256='', remedy='')\n"
            "except DataError as error: print(error)"
        )
        command = [sys.executable, "-c", code, f"{mirror.url}/file.gz", str(tmp_path / "file")]
        said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout
        assert "file cannot be used: File too large. Make room" in said
        assert fetched(tmp_path / "file", f"{mirror.url}/file.gz") == CONTENT
        assert mirror.requests[-1][1] is not None

    def test_where_it_comes_from_in_one_line_when_nobody_watches(
        self, mirror: "Mirror", tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        mirror.files["/file.gz"] = PACKED
        fetched(tmp_path / "file", f"{mirror.url}/file.gz")
        captured = capsys.readouterr()
        assert captured.err == f"Downloading {mirror.url}/file.gz (0.2 MB)\n"
        assert captured.out == ""
