"""The plain PyTorch MNIST example's net and loop: python -m benchmarks.baselines.torch_example DATA STEPS

Two convolutions of 32 and 64 channels, dropout, Adadelta, batches of 64, samples transformed one by one as they are
loaded. Written anew, without torchvision: its ToTensor and Normalize are what `Digits.__getitem__` does.
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


class Digits(Dataset[tuple[Tensor, int]]):
    def __init__(self, folder: str) -> None:
        images, labels = training_images(folder, TRAINING_IMAGES)
        self.images, self.labels = images[:, 0].numpy(), labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = Image.fromarray(self.images[index])
        pixels = torch.from_numpy(np.array(image, copy=True)).unsqueeze(0).float().div(255)
        return pixels.sub_(0.1307).div_(0.3081), int(self.labels[index])


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
    """Seconds of one epoch, from `steps` timed steps of it."""
    torch.manual_seed(1)
    net = Net().train()
    optimizer = torch.optim.Adadelta(net.parameters(), lr=1.0)
    batches = iter(DataLoader(Digits(folder), batch_size=BATCH, shuffle=True))
    started_at = 0.0
    for step in range(WARM_UP_STEPS + steps):
        if step == WARM_UP_STEPS:
            started_at = time.perf_counter()
        inputs, targets = next(batches)
        optimizer.zero_grad()
        loss = functional.nll_loss(net(inputs), targets)
        loss.backward()
        optimizer.step()
    return (time.perf_counter() - started_at) / steps * (TRAINING_IMAGES / BATCH)


if __name__ == "__main__":
    print(json.dumps({"seconds_per_epoch": main(sys.argv[1], int(sys.argv[2]))}))
