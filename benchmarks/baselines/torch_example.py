"""The plain PyTorch MNIST example's net and loop: python -m benchmarks.baselines.torch_example DATA STEPS

Two convolutions of 32 and 64 channels, dropout, Adadelta, batches of 64, samples transformed one by one as they are
loaded, a pass over the test set after each epoch. Written anew, without torchvision: `Digits` does to a sample what
torchvision's MNIST, ToTensor and Normalize do, operation by operation.
"""

import json
import sys
import time

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from benchmarks.baselines.digits import training_images

TRAINING_IMAGES, BATCH, WARM_UP_STEPS = 60_000, 64, 10
TEST_IMAGES, TEST_BATCH = 10_000, 1000


class Digits(Dataset[tuple[Tensor, int]]):
    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images, self.labels = images[:, 0], labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image, label = self.images[index], int(self.labels[index])
        return normalized(to_tensor(Image.fromarray(image.numpy(), mode="L"))), label


def to_tensor(image: Image.Image) -> Tensor:
    pixels = torch.from_numpy(np.array(image, np.uint8, copy=True))
    pixels = pixels.view(image.size[1], image.size[0], len(image.getbands()))
    return pixels.permute((2, 0, 1)).contiguous().to(torch.get_default_dtype()).div(255)


def normalized(pixels: Tensor) -> Tensor:
    pixels = pixels.clone()
    mean, std = (torch.as_tensor(value, dtype=pixels.dtype, device=pixels.device) for value in ((0.1307,), (0.3081,)))
    if (std == 0).any():
        raise ValueError("a standard deviation of 0")
    return pixels.sub_(mean.view(-1, 1, 1)).div_(std.view(-1, 1, 1))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.25)
        )
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(9216, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, 10))

    def forward(self, inputs: Tensor) -> Tensor:
        return functional.log_softmax(self.head(self.features(inputs)), dim=1)


def main(folder: str, steps: int) -> float:
    """Seconds of one epoch, from `steps` timed steps of it and one timed batch of 1,000 test images."""
    torch.manual_seed(1)
    net = Net().train()
    optimizer = torch.optim.Adadelta(net.parameters(), lr=1.0)
    data = Digits(*training_images(folder, TRAINING_IMAGES))
    batches = iter(DataLoader(data, batch_size=BATCH, shuffle=True))
    started_at = 0.0
    for step in range(WARM_UP_STEPS + steps):
        if step == WARM_UP_STEPS:
            started_at = time.perf_counter()
        inputs, targets = next(batches)
        optimizer.zero_grad()
        loss = functional.nll_loss(net(inputs), targets)
        loss.backward()
        optimizer.step()
    training = (time.perf_counter() - started_at) / steps * (TRAINING_IMAGES / BATCH)
    return training + seconds_of_testing(net.eval(), data)


@torch.no_grad()
def seconds_of_testing(net: nn.Module, data: Digits) -> float:
    started_at = time.perf_counter()
    inputs, targets = next(iter(DataLoader(data, batch_size=TEST_BATCH)))
    scores = net(inputs)
    float(functional.nll_loss(scores, targets, reduction="sum")), int((scores.argmax(1) == targets).sum())
    return (time.perf_counter() - started_at) * TEST_IMAGES / TEST_BATCH


if __name__ == "__main__":
    print(json.dumps({"seconds_per_epoch": main(sys.argv[1], int(sys.argv[2]))}))
