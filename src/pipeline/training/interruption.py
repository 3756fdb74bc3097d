"""Signals that end a run: remembered at once, acted on at the next step.

The module imports nothing heavy: a process of a run sets its handlers before it imports torch.
"""

import signal
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class Interrupted(Exception):
    """Training was stopped by a signal; `saved` names the checkpoint to resume from, if there is one."""

    def __init__(self, signal_number: int, saved: str | None) -> None:
        super().__init__(f"{signal.Signals(signal_number).name}; saved: {saved or 'nothing'}")
        self.signal_number = signal_number
        self.saved = saved

    @property
    def by_user(self) -> bool:
        """Return whether it was Ctrl-C, and not a scheduler that takes the machine back."""
        return self.signal_number == signal.SIGINT


class Interruption:
    """Remember the first signal.

    The handler does nothing else: it may run in the middle of a step, and with several processes a collective
    operation in it would deadlock.
    """

    def __init__(self) -> None:
        self.signal_number = 0  # 0: none came
        self.installed = False

    def install(self) -> None:
        """Handle signals from now on; a second Ctrl-C does not wait for the end of the step."""
        for number in SIGNALS:
            signal.signal(number, self._remember)
        self.installed = True

    def reinstall_handlers(self) -> None:
        """Take the place of Lightning's handlers, which it puts around ours and which hang in collective operations."""
        if self.installed:
            self.install()

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if self.signal_number and number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            raise KeyboardInterrupt
        self.signal_number = number
