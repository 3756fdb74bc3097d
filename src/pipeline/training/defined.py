"""Metrics that say where they are not defined, where torchmetrics counts 0: a part that lacks a class has no AUROC.

`lacks(targets)`: what the targets of a part have not that the metric needs, in words; "" where nothing is missing.
`undefined` is the same, after `compute()`, of all that was seen: its value is then no figure.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics.classification import MulticlassAUROC, MultilabelF1Score
from torchmetrics.regression import R2Score
from torchmetrics.utilities import dim_zero_cat

# N samples, K classes or labels, T numbers to predict


def not_a_number(like: Tensor) -> Tensor:
    return torch.full((), float("nan"), device=like.device)


class AUROC(MulticlassAUROC):
    """One class against the rest, averaged over the classes; every one must occur."""

    undefined = ""

    def __init__(self, class_names: Sequence[str]) -> None:
        super().__init__(len(class_names), average="macro", validate_args=False)
        self.class_names = class_names

    def lacks(self, targets: Tensor) -> str:  # (N,)
        counts = torch.bincount(targets, minlength=len(self.class_names)).tolist()
        missing = [name for name, count in zip(self.class_names, counts, strict=True) if count == 0]
        return f"no sample of class {', '.join(missing)}" if missing else ""

    def compute(self) -> Tensor:  # type: ignore[override]  # as the class above declares it for its curve
        targets = dim_zero_cat(self.target)
        self.undefined = self.lacks(targets)
        found: Tensor = not_a_number(targets) if self.undefined else super().compute()
        return found


class LabelF1(MultilabelF1Score):
    """Averaged over the labels that hold or are said to hold; of any other it is 0 / 0."""

    undefined = ""

    def __init__(self, num_labels: int) -> None:
        super().__init__(num_labels, average="macro", validate_args=False)

    def lacks(self, targets: Tensor) -> str:
        return ""  # what is said counts, too

    def compute(self) -> Tensor:
        hits, wrong, _, missed = self._final_state()  # (K,) each
        concerned = 2 * hits + wrong + missed
        self.undefined = "" if concerned.any() else "no label holds or is said to hold"
        f1 = 2 * hits[concerned > 0] / concerned[concerned > 0]
        return not_a_number(concerned) if self.undefined else f1.mean()


class CentredR2(R2Score):
    """From deviations: torchmetrics sums squares, which in float32 leave nothing of numbers such as 2000 to 2020.

    Of numbers that do not vary there is no share of variance that could be explained.
    """

    centre: Tensor
    lowest: Tensor
    highest: Tensor
    undefined = ""

    def __init__(self, centre: Tensor) -> None:
        super().__init__()
        self.register_buffer("centre", centre, persistent=False)
        self.add_state("lowest", torch.full_like(centre, float("inf")), dist_reduce_fx="min")
        self.add_state("highest", torch.full_like(centre, -float("inf")), dist_reduce_fx="max")

    def update(self, preds: Tensor, target: Tensor) -> None:
        super().update(preds - self.centre, target - self.centre)
        self.lowest = torch.minimum(self.lowest, target.amin(dim=0))
        self.highest = torch.maximum(self.highest, target.amax(dim=0))

    def lacks(self, targets: Tensor) -> str:  # (N, T)
        return _variation(len(targets), targets.amin(dim=0), targets.amax(dim=0))

    def compute(self) -> Tensor:
        self.undefined = _variation(int(self.total), self.lowest, self.highest)
        found: Tensor = not_a_number(self.lowest) if self.undefined else super().compute()
        return found


def _variation(count: int, lowest: Tensor, highest: Tensor) -> str:
    if count < 2:
        return f"{count} sample"
    alike = (lowest == highest).nonzero().flatten().tolist()
    return f"all samples are {lowest[alike[0]]:g}" if alike else ""
