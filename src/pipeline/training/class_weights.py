"""What a sample of each class counts in the loss."""

from collections.abc import Sequence
from math import isfinite
from typing import Literal

import torch
from torch import Tensor

from pipeline.constraints import NonNegativeFloat
from pipeline.errors import ConfigError
from pipeline.spec import DataSpec

# K classes, N training samples

ClassWeights = Sequence[NonNegativeFloat] | Literal["balanced"] | None


def weights_of_classes(asked: Sequence[float] | Literal["balanced"], spec: DataSpec) -> Tensor:
    """(K,) the weights as they are given; `balanced`: N / (K * count), so that the mean over the samples is 1 and the
    classes weigh the same (King & Zeng 2001).

    Raises ConfigError for weights that are none, and where nobody has counted.
    """
    if isinstance(asked, str):
        if asked != "balanced":
            raise ConfigError(f"task.class_weights={asked}: expected null, balanced, or a weight for each class")
        if not spec.class_counts:
            raise ConfigError(
                f"task.class_weights=balanced: {spec.name} does not tell how many samples its classes have "
                "(DataSpec.class_counts); give a weight for each class, such as task.class_weights=[1,2]"
            )
        return balanced(spec.class_counts)
    given = ",".join(f"{each:g}" for each in asked)
    if len(asked) != spec.num_classes:
        ones = ",".join("1" for _ in range(spec.num_classes))
        raise ConfigError(
            f"task.class_weights=[{given}] has {len(asked)} weights, and {spec.name} has {spec.num_classes} classes: "
            f"one for each, such as [{ones}], in the order {', '.join(spec.class_names)}"
        )
    if not all(isfinite(each) and each >= 0 for each in asked) or not any(asked):
        raise ConfigError(f"task.class_weights=[{given}]: expected 0 or more of each class, and not 0 of all")
    return torch.tensor([float(each) for each in asked])


def balanced(counts: Sequence[int]) -> Tensor:
    """(K,) for classes of so many samples; 0 for one without any, which is not counted among the K."""
    there = torch.tensor(counts, dtype=torch.float64)
    present = int((there > 0).sum())
    return torch.where(there > 0, there.sum() / (present * there.clamp(min=1)), 0.0).float()
