"""What is said to the person, and what is only kept in a log."""

import logging
from pathlib import Path

from rich.console import Console
from rich.text import Text


def console_beside(log_path: Path, *, quiet: bool = False) -> Console:
    """For this process, whose log is there from now on. Our own warnings, and no others, are also for the person."""
    quieten(log_path)
    console = Console(quiet=quiet, highlight=False)
    logging.getLogger("pipeline").addHandler(_ToConsole(console))
    return console


def quieten(log_path: Path) -> None:
    """Lightning's chatter and Python's warnings go to the log."""
    logging.basicConfig(filename=log_path, level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    logging.captureWarnings(True)
    logging.raiseExceptions = False  # a full disk costs lines of the log; it must not print a traceback for each
    for name in ("pytorch_lightning", "lightning_fabric", "lightning"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True


class _ToConsole(logging.Handler):
    def __init__(self, console: Console) -> None:
        super().__init__()
        self.console = console
        self.addFilter(lambda record: record.levelno == logging.WARNING)

    def emit(self, record: logging.LogRecord) -> None:
        self.console.print(Text(f"warning: {record.getMessage()}", style="yellow"), soft_wrap=True)
