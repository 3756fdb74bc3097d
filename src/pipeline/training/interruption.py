"""Signals that end a run: noticed at once, answered at the next step."""

import signal
import time
from types import FrameType

import torch
from torch import distributed

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class Interrupted(Exception):
    """Training was asked to stop; `saved` names the checkpoint to go on from, if there is one."""

    def __init__(self, signal_number: int, saved: str | None) -> None:
        super().__init__(f"{signal.Signals(signal_number).name}; saved: {saved or 'nothing'}")
        self.signal_number = signal_number
        self.saved = saved

    @property
    def by_user(self) -> bool:
        """Ctrl-C, not a scheduler that wants its machine back."""
        return self.signal_number == signal.SIGINT


class Interruption:
    """Remembers the first signal. A handler does nothing else: whatever it ran could meet a half-done step,
    and with several processes a collective operation inside it deadlocks."""

    def __init__(self) -> None:
        self.signal_number = 0  # 0: none came
        self.installed = False

    def install(self) -> None:
        """From now on; a second Ctrl-C no longer waits for the step."""
        for number in SIGNALS:
            signal.signal(number, self._remember)
        self.installed = True

    def reinstall_handlers(self) -> None:
        """Lightning puts handlers of its own around ours when it begins, which enter collective operations and hang."""
        if self.installed:
            self.install()

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if self.signal_number and number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            raise KeyboardInterrupt
        self.signal_number = number


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
