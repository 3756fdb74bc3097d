"""A hand-written PyTorch loop: python -m benchmarks.baselines.by_hand cnn|mlp DATA EPOCHS"""

import json
import sys
import time

import torch
from torch.nn import functional

from benchmarks.baselines import nets
from benchmarks.baselines.digits import training_images

BATCH, MEAN, STD = 128, 33.3, 78.6


def main(kind: str, folder: str, epochs: int) -> list[float]:
    """Samples per second of each epoch: uint8 in memory, AdamW fused, one cycle, running loss and accuracy."""
    images, labels = training_images(folder, 55_000)
    torch.manual_seed(0)
    net = getattr(nets, kind)()
    if kind == "cnn":
        net = net.to(memory_format=torch.channels_last)
    steps = len(images) // BATCH
    weights = [parameter for parameter in net.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in net.parameters() if parameter.ndim <= 1]
    groups = [{"params": weights, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-2, fused=True)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=steps * epochs, pct_start=0.25)
    speeds = []
    for _ in range(epochs):
        started_at = time.perf_counter()
        order = torch.randperm(len(images))
        loss_sum, hits = torch.zeros(()), torch.zeros(())
        for step in range(steps):
            rows = order[step * BATCH : (step + 1) * BATCH]
            inputs, targets = (images.index_select(0, rows).float() - MEAN) / STD, labels.index_select(0, rows)
            if kind == "cnn":
                inputs = inputs.contiguous(memory_format=torch.channels_last)
            scores = net(inputs)
            loss = functional.cross_entropy(scores, targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            loss_sum += loss.detach()
            hits += (scores.argmax(1) == targets).sum()
        float(loss_sum), float(hits)
        speeds.append(steps * BATCH / (time.perf_counter() - started_at))
    return speeds


if __name__ == "__main__":
    print(json.dumps({"samples_per_second": main(sys.argv[1], sys.argv[2], int(sys.argv[3]))}))
