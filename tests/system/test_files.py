"""Files that are whole or not there."""

import gzip
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from pipeline.system import files
from pipeline.system.files import (
    ContentError,
    cache_folder,
    file_lock,
    read_verified,
    sha256_of_file,
    temporary_folder,
    write_atomically,
    write_folder,
)

CONTENT = bytes(range(256)) * 40
DIGEST = hashlib.sha256(CONTENT).hexdigest()


def started(code: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def wait_for_line(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


class TestWriteAtomically:
    def test_bytes_and_text_are_written_as_they_are(self, tmp_path: Path) -> None:
        write_atomically(tmp_path / "bytes", b"\x00\r\n")
        write_atomically(tmp_path / "text", "ä\r\n")
        assert (tmp_path / "bytes").read_bytes() == b"\x00\r\n"
        assert (tmp_path / "text").read_bytes() == b"\xc3\xa4\r\n"

    def test_others_may_read_the_file_as_the_umask_says(self, tmp_path: Path) -> None:
        ordinary = tmp_path / "ordinary"
        ordinary.write_text("")
        write_atomically(tmp_path / "ours", "")
        assert (tmp_path / "ours").stat().st_mode == ordinary.stat().st_mode

    def test_a_reader_never_sees_a_part_even_when_the_writer_is_killed(self, tmp_path: Path) -> None:
        path = tmp_path / "file"
        write_atomically(path, b"a" * 1_000_000)
        writer = started(
            "import sys, itertools, pathlib; from pipeline.system.files import write_atomically\n"
            "print('ready', flush=True)\n"
            "for letter in itertools.cycle([b'a', b'b']):\n"
            "    write_atomically(pathlib.Path(sys.argv[1]), letter * 1_000_000)",
            path,
        )
        wait_for_line(writer)
        seen = {path.read_bytes() for _ in range(100)}
        end(writer)
        seen.add(path.read_bytes())
        assert seen <= {b"a" * 1_000_000, b"b" * 1_000_000}

    def test_without_room_the_old_file_stays_and_nothing_else_is_left(self, tmp_path: Path) -> None:
        path = tmp_path / "file"
        path.write_text("old")
        writer = started(
            "import sys, resource, pathlib; from pipeline.system.files import write_atomically\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
            "try: write_atomically(pathlib.Path(sys.argv[1]), b'new' * 1000)\n"
            "except OSError: print('refused')",
            path,
        )
        output, _ = writer.communicate()
        assert output == "refused\n"
        assert path.read_text() == "old"
        assert os.listdir(tmp_path) == ["file"]


class TestWriteFolder:
    def test_it_has_these_files_and_none_of_those_before(self, tmp_path: Path) -> None:
        write_folder(tmp_path / "folder", {"a": b"1", "b": b"2"})
        write_folder(tmp_path / "folder", {"b": b"3", "c": bytearray(b"4")})
        assert {path.name: path.read_bytes() for path in (tmp_path / "folder").iterdir()} == {"b": b"3", "c": b"4"}
        assert [path.name for path in tmp_path.iterdir()] == ["folder"]

    def test_what_cannot_be_written_leaves_what_was_there(self, tmp_path: Path) -> None:
        write_folder(tmp_path / "folder", {"a": b"1"})
        with pytest.raises(OSError, match="name too long"):
            write_folder(tmp_path / "folder", {"b": b"2", "c" * 300: b"3"})
        assert [path.name for path in (tmp_path / "folder").iterdir()] == ["a"]
        assert [path.name for path in tmp_path.iterdir()] == ["folder"]


class TestLocked:
    hold = (
        "import sys, time, pathlib; from pipeline.system.files import file_lock\n"
        "with file_lock(pathlib.Path(sys.argv[1])): print('ready', flush=True); time.sleep(60)"
    )

    def test_only_one_process_gets_in_and_the_wait_has_an_end(self, tmp_path: Path) -> None:
        holder = started(self.hold, tmp_path / "lock")
        wait_for_line(holder)
        with (
            pytest.raises(TimeoutError, match=r"lock is still locked by another process after 0\.2 s"),
            file_lock(tmp_path / "lock", timeout_seconds=0.2),
        ):
            pass
        end(holder)

    def test_a_lock_whose_holder_was_killed_is_free(self, tmp_path: Path) -> None:
        holder = started(self.hold, tmp_path / "lock")
        wait_for_line(holder)
        end(holder)
        entered = False
        with file_lock(tmp_path / "lock", timeout_seconds=0):
            entered = True
        assert entered

    def test_an_error_inside_gives_the_lock_back(self, tmp_path: Path) -> None:
        with pytest.raises(KeyError), file_lock(tmp_path / "lock"):
            raise KeyError
        with file_lock(tmp_path / "lock", timeout_seconds=0):
            pass


class TestReadVerified:
    @pytest.mark.parametrize("name", ["file", "file.gz"])
    @pytest.mark.parametrize("content", [CONTENT, gzip.compress(CONTENT, mtime=0)], ids=["plain", "packed"])
    def test_gzip_is_told_by_its_content_and_not_by_its_name(self, tmp_path: Path, name: str, content: bytes) -> None:
        path = tmp_path / name
        path.write_bytes(content)
        assert read_verified(path, size=len(CONTENT), sha256=DIGEST) == CONTENT

    @pytest.mark.parametrize(
        "content, reason",
        [
            (CONTENT[:-1], "holds 10,239 bytes, expected 10,240"),
            (CONTENT + b"x", "holds more than the expected 10,240 bytes"),
            (CONTENT[::-1], f"has other content: SHA-256 [0-9a-f]+, expected {DIGEST}"),
            (b"", "holds 0 bytes, expected 10,240"),
            (gzip.compress(CONTENT, mtime=0)[:-9], "is cut off or damaged"),
            (
                gzip.compress(CONTENT, mtime=0)[:60] + b"?" + gzip.compress(CONTENT, mtime=0)[61:],
                "is cut off or damaged",
            ),
            (gzip.compress(CONTENT, mtime=0) + b"trailing", "is cut off or damaged"),
            (gzip.compress(CONTENT[:-1], mtime=0), "holds 10,239 bytes, expected 10,240"),
        ],
    )
    def test_any_other_content_is_refused(self, tmp_path: Path, content: bytes, reason: str) -> None:
        path = tmp_path / "file"
        path.write_bytes(content)
        with pytest.raises(ContentError, match=reason):
            read_verified(path, size=len(CONTENT), sha256=DIGEST)

    def test_a_bomb_is_not_unpacked(self, tmp_path: Path) -> None:
        path = tmp_path / "bomb.gz"
        with gzip.open(path, "wb", compresslevel=1) as file:
            for _ in range(200):
                file.write(bytes(1 << 20))
        started_at = time.process_time()
        with pytest.raises(ContentError, match="holds more than the expected 1,000 bytes"):
            read_verified(path, size=1000, sha256=DIGEST)
        assert time.process_time() - started_at < 0.1  # to unpack all of it takes longer


def test_sha256_is_the_one_that_everybody_knows(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256_of_file(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


class TestCacheFolder:
    def test_it_is_where_the_user_wants_caches(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
        assert cache_folder() == Path("/somewhere/pipeline")

    @pytest.mark.parametrize("named", ["", "relative/path"])
    def test_else_it_is_in_the_home_folder(self, monkeypatch: pytest.MonkeyPatch, named: str) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", named)
        monkeypatch.setenv("HOME", "/home/someone")
        assert cache_folder() == Path("/home/someone/.cache/pipeline")


class TestAFileInAFolder:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        (tmp_path / "run" / "inner").mkdir(parents=True)
        (tmp_path / "run" / "inner" / "a.txt").write_text("mine")
        (tmp_path / "key").write_text("secret")
        return tmp_path / "run"

    def test_is_read_by_its_name_by_its_whole_path_and_through_links_that_stay_inside(self, folder: Path) -> None:
        (folder / "link").symlink_to("inner/a.txt")
        (folder / "folder").symlink_to(folder / "inner")
        for path in ("inner/a.txt", folder / "inner" / "a.txt", "link", "folder/a.txt", "inner/../inner/a.txt"):
            assert files.read_inside(folder, path) == b"mine"

    def test_is_none_where_the_way_leads_out(self, folder: Path) -> None:
        (folder / "link").symlink_to("../key")
        (folder / "absolute").symlink_to(folder.parent / "key")
        (folder / "up").symlink_to("..")
        (folder / "chain").symlink_to("link")
        for path in ("../key", folder.parent / "key", "link", "absolute", "up/key", "chain", "inner/../../key"):
            with pytest.raises(files.ContentError, match=f"leads out of .*{folder.parent / 'key'}"):
                files.read_inside(folder, path)

    def test_is_none_where_it_is_something_else(self, folder: Path) -> None:
        os.mkfifo(folder / "pipe")
        (folder / "loop").symlink_to("loop")
        for path in ("inner", ".", "", "pipe", "loop", "a\0b"):
            with pytest.raises(files.ContentError):
                files.read_inside(folder, path)
        with pytest.raises(FileNotFoundError):
            files.read_inside(folder, "nosuch")

    def test_is_not_read_beyond_what_it_may_hold(self, folder: Path) -> None:
        assert files.read_inside(folder, "inner/a.txt", max_bytes=4) == b"mine"
        with pytest.raises(files.ContentError, match="more than 3 bytes"):
            files.read_inside(folder, "inner/a.txt", max_bytes=3)

    def test_is_not_followed_to_what_took_its_place_after_the_look(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real_open = os.open

        def swapped(path: object, *arguments: object, **named: object) -> int:
            if path == "a.txt":
                (folder / "inner" / "a.txt").unlink()
                (folder / "inner" / "a.txt").symlink_to(folder.parent / "key")
            return real_open(path, *arguments, **named)  # type: ignore[arg-type]

        monkeypatch.setattr(os, "open", swapped)
        with pytest.raises(OSError, match=r"a\.txt|symbolic"):
            files.read_inside(folder, "inner/a.txt")

    def test_is_not_appended_to_through_a_link(self, folder: Path) -> None:
        (folder / "log").symlink_to("../key")
        with pytest.raises(OSError, match="symbolic"):
            files.open_for_append(folder / "log")
        with pytest.raises(OSError, match="symbolic"), files.file_lock(folder / "log"):
            pass


HOLDER = """
import os, sys, time
from pipeline.system.files import temporary_folder
with temporary_folder() as folder:
    print(folder, flush=True)
    time.sleep(60)
"""


class TestTemporaryFolder:
    @pytest.fixture(autouse=True)
    def place(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TMPDIR", str(tmp_path))
        monkeypatch.setattr(tempfile, "tempdir", None)

    def test_one_of_a_process_that_was_killed_is_removed_by_the_next(self, tmp_path: Path) -> None:
        with subprocess.Popen([sys.executable, "-c", HOLDER], stdout=subprocess.PIPE, text=True) as holder:
            assert holder.stdout is not None
            folder = Path(holder.stdout.readline().strip())
            with temporary_folder():
                assert folder.is_dir(), "its process lives"
            holder.kill()
        assert folder.is_dir()
        with temporary_folder() as own:
            assert list(tmp_path.iterdir()) == [own] and own.stat().st_mode & 0o077 == 0
        assert list(tmp_path.iterdir()) == []

    def test_what_others_call_alike_is_left_alone(self, tmp_path: Path) -> None:
        (tmp_path / "pipeline-mine").mkdir()
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "elsewhere" / ".held").touch()
        (tmp_path / "pipeline-link").symlink_to("elsewhere")
        with temporary_folder():
            pass
        assert {path.name for path in tmp_path.iterdir()} == {"pipeline-mine", "pipeline-link", "elsewhere"}
        assert (tmp_path / "elsewhere" / ".held").exists()
