"""Values that all processes of a run act on at the same step, such as a signal that reached one of them."""

import time

import torch
from torch import distributed

INTERVAL_SECONDS = 0.5
MAX_CALLS = 1000


class PeriodicMax:
    """The maximum of values over all processes, exchanged about every INTERVAL_SECONDS.

    All processes must call `all_reduce` equally often: a collective operation that one of them enters alone never ends.
    An exchange at every step would cost a small network a tenth of its speed, so the number of calls up to the next one
    follows from the longest time that a call took in any process, which all know alike.
    """

    def __init__(self) -> None:
        self.calls = 0
        self.calls_until_exchange = 1
        self.exchanged_at = time.monotonic()

    def all_reduce(self, *values: int, device: torch.device) -> tuple[int, ...]:
        """Return the maximum of each value over the processes; 0 between two exchanges. A single process gets its own
        values at every call."""
        if not (distributed.is_available() and distributed.is_initialized()):
            return values
        self.calls += 1
        if self.calls < self.calls_until_exchange:
            return (0,) * len(values)
        seconds_a_call = (time.monotonic() - self.exchanged_at) / self.calls
        exchanged = torch.tensor([*values, seconds_a_call], dtype=torch.float64, device=device)
        distributed.all_reduce(exchanged, distributed.ReduceOp.MAX)
        *highest, slowest = exchanged.tolist()
        self.calls_until_exchange = min(max(int(INTERVAL_SECONDS / max(slowest, 1e-6)), 1), MAX_CALLS)
        self.calls, self.exchanged_at = 0, time.monotonic()
        return tuple(int(value) for value in highest)
