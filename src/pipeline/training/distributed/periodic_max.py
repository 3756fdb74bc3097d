"""What one process of a run wants, all do, at the same step."""

import time

import torch
from torch import distributed

INTERVAL_SECONDS = 0.5
MOST_CALLS = 1000


class PeriodicMax:
    """All processes call `highest` equally often; about every INTERVAL_SECONDS they meet there and hear each other.

    A signal reaches them at different moments, and a collective operation that one of them enters alone never
    ends. To meet at every step would cost a small network a tenth of its speed, so the number of calls up to the next
    meeting follows from the longest time that a call took in any of them, which all know alike.
    """

    def __init__(self) -> None:
        self.calls = 0
        self.calls_until_meeting = 1
        self.met_at = time.monotonic()

    def all_reduce(self, *wishes: int, device: torch.device) -> tuple[int, ...]:
        """Of each wish (0: none) the highest that a process has; 0 between two meetings. One process alone always has
        its way."""
        if not (distributed.is_available() and distributed.is_initialized()):
            return wishes
        self.calls += 1
        if self.calls < self.calls_until_meeting:
            return (0,) * len(wishes)
        seconds_a_call = (time.monotonic() - self.met_at) / self.calls
        heard = torch.tensor([*wishes, seconds_a_call], dtype=torch.float64, device=device)
        distributed.all_reduce(heard, distributed.ReduceOp.MAX)
        *wanted, slowest = heard.tolist()
        self.calls_until_meeting = min(max(int(INTERVAL_SECONDS / max(slowest, 1e-6)), 1), MOST_CALLS)
        self.calls, self.met_at = 0, time.monotonic()
        return tuple(int(value) for value in wanted)
