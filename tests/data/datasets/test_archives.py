"""CIFAR-10 and California's houses: downloaded once, verified, unpacked, read."""

import hashlib
import io
import socket
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from pipeline.data.datasets.california_housing import CaliforniaHousing
from pipeline.data.datasets.cifar10 import CIFAR10
from pipeline.data.datasets.published_files import PublishedFile
from pipeline.errors import ConfigError, DataError

if TYPE_CHECKING:
    from conftest import Mirror

BATCHES = [*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "pipeline"


def batches() -> dict[str, bytes]:
    """Twenty pictures a file, two of each class; every value of a plane of colour is its number and the class's."""
    found = {}
    for number, name in enumerate(BATCHES):
        rows = np.zeros((20, 3073), dtype=np.uint8)
        rows[:, 0] = np.arange(20) % 10
        planes = rows[:, 1:].reshape(20, 3, 1024)
        planes[:] = (100 * np.arange(3)[None, :, None]) + rows[:, :1, None] + 10 * (number == 5)
        found[name] = rows.tobytes()
    return found


def archive(files: dict[str, bytes], folder: str) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def file(name: str, content: bytes) -> PublishedFile:
    return PublishedFile(name, len(content), hashlib.sha256(content).hexdigest())


def cifar10(packed: bytes, mirror: str = "") -> CIFAR10:
    """CIFAR10, if these were its official files."""
    files = batches()

    class Small(CIFAR10):
        mirrors = (f"{mirror}/",)
        archive = file("cifar-10-binary.tar.gz", packed)
        train = tuple(file(name, files[name]) for name in BATCHES[:5])
        test = file(BATCHES[5], files[BATCHES[5]])

    return Small(validation_size=20)


class TestCIFAR10:
    def test_it_is_downloaded_once_and_kept_unpacked(self, mirror: "Mirror", cache: Path) -> None:
        packed = archive(batches(), "cifar-10-batches-bin")
        mirror.files = {"/cifar-10-binary.tar.gz": packed}
        for _ in range(2):
            parts = cifar10(packed, mirror.url).load(None)
        assert len(mirror.requests) == 1
        assert sorted(path.name for path in (cache / "cifar10").glob("[!.]*")) == sorted(BATCHES)
        assert [len(part) for part in parts.by_name().values()] == [80, 20, 20]
        assert parts.test.inputs.shape == (20, 3, 32, 32)
        assert parts.test.inputs[3].unique().tolist() == [13, 113, 213] and parts.test.inputs[3, 2, 5, 7] == 213
        assert (parts.train.inputs[:, 0, 0, 0] == parts.train.targets).all()
        assert np.bincount(parts.validation.targets).tolist() == [2] * 10

    def test_processes_that_want_it_at_the_same_time_download_it_once(self, mirror: "Mirror") -> None:
        packed = archive(batches(), "cifar-10-batches-bin")
        mirror.files = {"/cifar-10-binary.tar.gz": packed}
        with ThreadPoolExecutor(6) as pool:
            found = list(pool.map(lambda _: cifar10(packed, mirror.url).load(None), range(6)))
        assert [len(parts.test) for parts in found] == [20] * 6
        assert len(mirror.requests) == 1

    def test_the_unpacked_files_will_do(self, tmp_path: Path) -> None:
        folder = tmp_path / "own" / "cifar-10-batches-bin"
        folder.mkdir(parents=True)
        for name, content in batches().items():
            (folder / name).write_bytes(content)
        source = cifar10(b"")
        assert len(source.load(tmp_path / "own").test) == 20
        (folder / BATCHES[2]).write_bytes(bytes(20 * 3073))
        with pytest.raises(DataError, match=r"data_batch_3\.bin has other content"):
            source.load(tmp_path / "own")
        source.validation_size = 100
        (folder / BATCHES[2]).write_bytes(batches()[BATCHES[2]])
        with pytest.raises(ConfigError, match=r"validation_size=100: expected 1 to 99"):
            source.load(tmp_path / "own")

    def test_another_archive_is_refused(self, mirror: "Mirror", cache: Path) -> None:
        packed = archive(batches(), "cifar-10-batches-bin")
        mirror.files = {"/cifar-10-binary.tar.gz": packed[:-1] + b"x"}
        with pytest.raises(DataError, match=r"(?s)has other content.*data\.root=/path/with/the/files"):
            cifar10(packed, mirror.url).load(None)
        assert not list((cache / "cifar10").glob("*.bin"))


def test_the_official_files_are_told_by_their_sums() -> None:
    assert {each.size for each in (*CIFAR10.train, CIFAR10.test)} == {10_000 * 3073}
    assert all(len(each.sha256) == 64 for each in (CIFAR10.archive, *CIFAR10.train, CIFAR10.test))
    scikit_learn = pytest.importorskip("sklearn.datasets._california_housing").ARCHIVE
    assert scikit_learn.checksum == CaliforniaHousing.archive.sha256
    assert scikit_learn.url == CaliforniaHousing.mirrors[0]


class TestCaliforniaHousing:
    SETTINGS = {"validation_share": 0.2, "test_share": 0.2, "split_seed": 0}  # noqa: RUF012

    def content(self) -> bytes:
        row = "-122.23,37.88,41.0,880.0,129.0,322.0,126.0,8.3252,452600.0\n"
        return archive({"cal_housing.data": (row * 10).encode(), "cal_housing.domain": b"no"}, "CaliforniaHousing")

    def test_it_has_the_features_of_scikit_learn(self, mirror: "Mirror", monkeypatch: pytest.MonkeyPatch) -> None:
        packed = self.content()
        mirror.files = {"/files/5976036": packed}
        monkeypatch.setattr(CaliforniaHousing, "mirrors", (f"{mirror.url}/files/5976036",))
        monkeypatch.setattr(CaliforniaHousing, "archive", file("cal_housing.tgz", packed))
        for _ in range(2):
            parts = CaliforniaHousing(**self.SETTINGS).load(None)
        assert len(mirror.requests) == 1
        assert [len(part) for part in parts.by_name().values()] == [6, 2, 2]
        expected = [8.3252, 41.0, 880 / 126, 129 / 126, 322.0, 322 / 126, 37.88, -122.23]
        assert parts.train.inputs[0].tolist() == pytest.approx(expected)
        assert parts.train.targets[0].tolist() == pytest.approx([4.526])

    def test_the_users_own_copy_is_verified(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        packed = self.content()
        monkeypatch.setattr(CaliforniaHousing, "archive", file("cal_housing.tgz", packed))
        (tmp_path / "cal_housing.tgz").write_bytes(packed)
        assert len(CaliforniaHousing(**self.SETTINGS).load(tmp_path).train) == 6
        (tmp_path / "cal_housing.tgz").write_bytes(packed[:-9])
        with pytest.raises(DataError, match=r"cal_housing\.tgz holds .* bytes, expected"):
            CaliforniaHousing(**self.SETTINGS).load(tmp_path)

    def test_without_a_network_the_user_is_told_what_to_type(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            nobody = f"http://127.0.0.1:{unused.getsockname()[1]}/files/5976036"
        monkeypatch.setattr(CaliforniaHousing, "mirrors", (nobody,))
        with pytest.raises(DataError, match=r"(?s)cannot be reached.*data=diabetes"):
            CaliforniaHousing(**self.SETTINGS).load(None)
