"""MNIST and Fashion-MNIST: ten classes of grey 28x28 images."""

import importlib.util
import io
import os
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
import torch

from pipeline.data.idx import parse
from pipeline.data.source import Part, Parts, check_labels
from pipeline.data.splits import stratified_order
from pipeline.download import fetch
from pipeline.errors import ConfigError, DataError
from pipeline.files import WrongContent, read_verified

SPLIT_SEED = 0  # of the cut between training and validation: the same for every run, whatever its own seed


class File(NamedTuple):
    """A file's official name, and the size in bytes and SHA-256 of its unpacked content."""

    name: str
    size: int
    sha256: str

    def spellings(self) -> list[str]:
        """The names under which this file goes about, unpacked and not."""
        dotted = self.name.replace("-idx", ".idx")
        return [name + suffix for name in (self.name, dotted) for suffix in ("", ".gz")]


class MNIST:
    """The handwritten digits of LeCun, Cortes & Burges: 60,000 training images, 10,000 for the test.

    The validation part is cut from the training images, stratified; the test part is the official one.
    """

    name: ClassVar[str] = "mnist"
    class_names: ClassVar[tuple[str, ...]] = tuple("0123456789")
    torchvision_folder: ClassVar[str] = "MNIST/raw"
    mirrors: ClassVar[tuple[str, ...]] = (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    )
    train_images: ClassVar[File] = File(
        "train-images-idx3-ubyte",
        47_040_016,
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    )
    train_labels: ClassVar[File] = File(
        "train-labels-idx1-ubyte",
        60_008,
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    )
    test_images: ClassVar[File] = File(
        "t10k-images-idx3-ubyte",
        7_840_016,
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    )
    test_labels: ClassVar[File] = File(
        "t10k-labels-idx1-ubyte",
        10_008,
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    )

    def __init__(self, *, validation_size: int) -> None:
        self.validation_size = validation_size

    def load(self, root: Path | None) -> Parts:
        files = (self.train_images, self.train_labels, self.test_images, self.test_labels)
        if root is not None:
            check_folder(root, files, self._folders(root))
        official = self._part(root, self.train_images, self.train_labels)
        if not 0 < self.validation_size < len(official):
            raise ConfigError(
                f"data.source.validation_size={self.validation_size}: expected 1 to {len(official) - 1}, because "
                f"{self.name} has {len(official)} training images; such as {max(1, len(official) // 12)}"
            )
        order = torch.from_numpy(stratified_order(official.targets.numpy(), seed=SPLIT_SEED))
        return Parts(
            name=self.name,
            kind="image",
            task="multiclass",
            class_names=self.class_names,
            train=official.rows(order[self.validation_size :]),
            validation=official.rows(order[: self.validation_size]),
            test=self._part(root, self.test_images, self.test_labels),
        )

    def _part(self, root: Path | None, images: File, labels: File) -> Part:
        where = f"{self.name}'s {{}} in {root if root is not None else cache_folder()}"
        inputs = parse(self._content(root, images), dimensions=3, where=where.format(images.name))
        targets = parse(self._content(root, labels), dimensions=1, where=where.format(labels.name)).long()
        if len(inputs) != len(targets):
            raise DataError(
                f"{where.format(images.name)} has {len(inputs)} images, {labels.name} {len(targets)} labels."
            )
        if len(targets) > 0:
            check_labels(targets, num_classes=len(self.class_names), where=where.format(labels.name))
        return Part(inputs.unsqueeze(1), targets)

    def _content(self, root: Path | None, file: File) -> bytearray:
        if root is not None:
            return read_first_good(file, self._folders(root))
        return fetch(
            [f"{mirror}{file.name}.gz" for mirror in self.mirrors],
            cache_folder() / self.name / file.name,
            size=file.size,
            sha256=file.sha256,
            remedy=f"Without a network: put {self.name}'s four files into a folder and type "
            "data.root=/path/with/the/files, or type data=mnist5k, which is installed already.",
        )

    def _folders(self, root: Path) -> list[Path]:
        return [root, root / self.torchvision_folder]


class FashionMNIST(MNIST):
    """Zalando's articles in MNIST's format (Xiao, Rasul & Vollgraf 2017), harder to tell apart than digits."""

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
    test_images = MNIST.test_images._replace(
        sha256="5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"
    )
    test_labels = MNIST.test_labels._replace(
        sha256="0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"
    )
