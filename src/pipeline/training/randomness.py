"""What torch draws next, as a function of (seed, step, process) and of nothing else."""

import torch

from pipeline.seeds import derive


def reseed(seed: int, purpose: str, step: int, rank: int = 0) -> None:
    """Set torch's generators of this process, on the CPU and on its current accelerator.

    `rank` is left out where all processes must draw the same numbers (augmentation, which is drawn for the
    global batch and sliced) and given where they must not (dropout).
    """
    value = derive(seed, purpose, step, rank)
    # Not torch.manual_seed: that visits every device module, 20 times the cost, on every step.
    torch.default_generator.manual_seed(value)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.manual_seed(value)
