"""Means over training samples, summed on the device and read once an interval."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class RunningMeans:
    """Sums of named values and a count of samples. Part of a checkpoint, so that a mean over an interval in
    which training was taken up again covers the whole interval."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.count = 0

    def add(self, sums: dict[str, Tensor], count: int) -> None:
        """`sums` are scalars on the device: sums over `count` samples. Nothing is read, so nothing waits."""
        for name, value in sums.items():
            if name in self.sums:
                if self.sums[name].device != value.device:  # just loaded
                    self.sums[name] = self.sums[name].to(value.device)
                self.sums[name].add_(value)
            else:
                self.sums[name] = value.to(torch.float32, copy=True)  # ours from now on
        self.count += count

    def merge(self, other: "RunningMeans") -> None:
        self.add(other.sums, other.count)

    def compute(self, reduce: Callable[[Tensor], Any]) -> dict[str, float]:
        """Means over all processes; `reduce` sums a tensor over them. Waits for the device."""
        names = sorted(self.sums)
        together = torch.stack([*(self.sums[name] for name in names), self.sums[names[0]].new_tensor(self.count)])
        *sums, count = reduce(together).tolist()
        return {name: value / count for name, value in zip(names, sums, strict=True)}

    def reset(self) -> None:
        self.sums, self.count = {}, 0

    def state_dict(self, gather: Callable[[Tensor], Tensor]) -> dict[str, Any]:
        """Of all W processes together, which `gather` (n,) -> (W, n): each has summed its own samples."""
        names = sorted(self.sums)
        row = torch.tensor([*(float(self.sums[name]) for name in names), self.count], dtype=torch.float64)
        return {"names": names, "rows": gather(row).reshape(-1, len(row)).cpu()}

    def load_state_dict(self, state: dict[str, Any], *, rank: int, world_size: int) -> None:
        """Each takes up its own sums; where there are more or fewer processes now, the first takes those of all."""
        rows = state["rows"]
        if len(rows) != world_size:
            rows = torch.cat([rows.sum(dim=0, keepdim=True), torch.zeros(world_size - 1, rows.shape[1])])
        *sums, count = rows[rank]
        self.sums = {name: value.to(torch.float32) for name, value in zip(state["names"], sums, strict=True)}
        self.count = int(count)
