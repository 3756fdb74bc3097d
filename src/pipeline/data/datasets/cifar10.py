"""CIFAR-10: ten classes of 32x32 images in colour (Krizhevsky 2009)."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from pipeline.constraints import PositiveInt
from pipeline.data.dataset import Split, Splits
from pipeline.data.datasets.published_files import PublishedFile, extract, read_published_files
from pipeline.data.splitting import FIXED_SEED, stratified_order
from pipeline.data.targets import check_class_labels
from pipeline.errors import ConfigError
from pipeline.spec import Kind, TaskKind
from pipeline.system.download import download
from pipeline.system.files import cache_folder, read_verified, write_folder

BYTES = 30_730_000
SHAPE = (3, 32, 32)
SUBFOLDER = "cifar-10-batches-bin"

Contents = Mapping[str, bytes | bytearray]  # of files, by name


def _batch(name: str, sha256: str) -> PublishedFile:
    return PublishedFile(f"{name}.bin", BYTES, sha256)


class CIFAR10:
    """50,000 training and 10,000 test images, in the binary version, of which nothing is executed.

    The validation split is taken from the training images, stratified; the test split is the official one.
    """

    kind: ClassVar[Kind] = "image"
    task: ClassVar[TaskKind] = "multiclass"

    mirrors: ClassVar[tuple[str, ...]] = (
        "https://www.cs.toronto.edu/~kriz/",
        "https://storage.googleapis.com/s4tf-hosted-binaries/datasets/CIFAR10/",
    )
    archive: ClassVar[PublishedFile] = PublishedFile(
        "cifar-10-binary.tar.gz", 170_052_171, "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
    )
    train: ClassVar[tuple[PublishedFile, ...]] = (
        _batch("data_batch_1", "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5"),
        _batch("data_batch_2", "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed"),
        _batch("data_batch_3", "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67"),
        _batch("data_batch_4", "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48"),
        _batch("data_batch_5", "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add"),
    )
    test: ClassVar[PublishedFile] = _batch(
        "test_batch", "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b"
    )
    class_names: ClassVar[tuple[str, ...]] = (
        *("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    )

    def __init__(self, *, validation_size: PositiveInt) -> None:
        self.validation_size = validation_size

    def load(self, root: Path | None) -> Splits:
        files = (*self.train, self.test)
        if root is None:
            contents: Contents = download(
                [f"{mirror}{self.archive.name}" for mirror in self.mirrors],
                cache_folder() / "cifar10",
                BatchArchive(self.archive, files),
                remedy="Without a network, put the files of cifar-10-binary.tar.gz into a folder and type "
                "data.root=/path/with/the/files, or type data=mnist5k, which comes with the installation.",
            )
        else:
            remedy = "Leave data.root out to have cifar10 downloaded."
            contents = read_published_files(root, files, subfolders=[SUBFOLDER], remedy=remedy)
        official = self._split(b"".join(contents[file.name] for file in self.train))
        if not 0 < self.validation_size < len(official):
            raise ConfigError(
                f"data.source.validation_size={self.validation_size}: expected 1 to {len(official) - 1}: cifar10 has "
                f"{len(official)} training images; such as {max(1, len(official) // 10)}"
            )
        order = torch.from_numpy(stratified_order(official.targets.numpy(), seed=FIXED_SEED))
        train, validation = official.rows(order[self.validation_size :]), official.rows(order[: self.validation_size])
        test = self._split(bytes(contents[self.test.name]))
        return Splits("cifar10", "image", "multiclass", self.class_names, train, validation, test)

    def _split(self, content: bytes) -> Split:
        """Read records of a label and three colour planes, row by row."""
        rows = np.frombuffer(content, dtype=np.uint8).reshape(-1, 1 + int(np.prod(SHAPE)))
        targets = torch.from_numpy(rows[:, 0].astype(np.int64))
        check_class_labels(targets, num_classes=len(self.class_names), where="cifar10's files")
        return Split(torch.from_numpy(rows[:, 1:].copy()).reshape(-1, *SHAPE), targets)


@dataclass(frozen=True)
class BatchArchive:
    """The `files` in the archive, which is deleted."""

    archive: PublishedFile
    files: tuple[PublishedFile, ...]

    @property
    def max_bytes(self) -> int:
        return self.archive.size

    def read_stored(self, path: Path) -> Contents:
        return {file.name: read_verified(path / file.name, size=file.size, sha256=file.sha256) for file in self.files}

    def read_download(self, file: Path) -> Contents:
        content = read_verified(file, size=self.archive.size, sha256=self.archive.sha256, unpack=False)
        return extract(content, [file.name for file in self.files], where=self.archive.name)

    def store(self, path: Path, content: Contents) -> None:
        write_folder(path, content)
