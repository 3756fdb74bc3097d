"""One process of a run: `python -m pipeline.lifecycle.rank RUN_DIR`, started by the launcher.

Imports the training, which takes seconds, only when a signal that comes meanwhile ends the process at once and
without a traceback: nothing has been begun that would have to be saved.
"""

import os
import signal
import sys
from pathlib import Path
from types import FrameType

from pipeline.errors import INTERRUPTED, PREEMPTED
from pipeline.output import lasting_output
from pipeline.process import follow_parent, see_working_directory
from pipeline.training.interruption import SIGNALS


def leave(number: int, frame: FrameType | None) -> None:
    os._exit(INTERRUPTED if number == signal.SIGINT else PREEMPTED)


def work(folder: Path) -> int:
    """Be one of the run's processes; the exit code."""
    for number in SIGNALS:
        signal.signal(number, leave)
    follow_parent()
    see_working_directory()
    with lasting_output():
        from pipeline.lifecycle import train

        return train.main(folder)


if __name__ == "__main__":
    sys.exit(work(Path(sys.argv[1])))
