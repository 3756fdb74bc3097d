"""MNIST's training images for the baselines, read without our package."""

import gzip
from pathlib import Path

import numpy as np
import torch
from torch import Tensor


def training_images(folder: str, count: int) -> tuple[Tensor, Tensor]:
    """(count, 1, 28, 28) uint8 and (count,) int64."""
    images = gzip.decompress(Path(folder, "train-images-idx3-ubyte.gz").read_bytes())
    labels = gzip.decompress(Path(folder, "train-labels-idx1-ubyte.gz").read_bytes())
    pixels = np.frombuffer(images, np.uint8, offset=16).reshape(-1, 1, 28, 28)[:count]
    return torch.from_numpy(pixels.copy()), torch.from_numpy(
        np.frombuffer(labels, np.uint8, offset=8)[:count].copy()
    ).long()
