"""What torch draws next, as a function of (seed, step) and of nothing else."""

import torch

from pipeline.seeds import derive


def reseed(seed: int, purpose: str, step: int) -> None:
    """Set torch's generators of this process, on the CPU and on its current accelerator.

    All processes draw the same numbers: those of the global batch, of which each takes its rows.
    """
    value = derive(seed, purpose, step, 0)
    # Not torch.manual_seed: that visits every device module, 20 times the cost, on every step.
    torch.default_generator.manual_seed(value)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.manual_seed(value)
