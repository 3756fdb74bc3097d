"""Signals that end a run: noticed at once, answered at the next step.

It imports nothing heavy: a process of a run sets its handlers before it imports torch.
"""

import signal
from types import FrameType

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
