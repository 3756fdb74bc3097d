"""Console and log file of a process."""

import io
import logging
from pathlib import Path
from typing import TextIO

from rich.console import Console
from rich.text import Text

from pipeline.errors import RunError
from pipeline.system.files import open_for_append
from pipeline.system.streams import printable


def open_console(log_path: Path, *, quiet: bool = False) -> Console:
    """Log this process to a file, and return the console, which shows only our own warnings."""
    log_to_file(log_path)
    console = Console(quiet=quiet, highlight=False)
    logging.getLogger("pipeline").addHandler(_ConsoleHandler(console))
    return console


def log_to_file(log_path: Path) -> None:
    """Send the messages of Lightning and Python's warnings to the log file."""
    handler = logging.StreamHandler(open_log_file(log_path))
    handler.setFormatter(_PlainFormatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.INFO)
    logging.captureWarnings(True)
    logging.raiseExceptions = False  # a full disk costs lines of the log; it must not print a traceback for each
    for name in ("pytorch_lightning", "lightning_fabric", "lightning"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True


def open_log_file(path: Path) -> TextIO:
    """Open the log. Raises RunError if it is not a plain file: another user's run directory may have a link there."""
    try:
        return io.TextIOWrapper(open_for_append(path), encoding="utf-8", write_through=True)
    except OSError as problem:
        raise RunError(f"{path} cannot be written: {problem.strerror}") from problem


class _PlainFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


class _ConsoleHandler(logging.Handler):
    def __init__(self, console: Console) -> None:
        super().__init__()
        self.console = console
        self.addFilter(lambda record: record.levelno == logging.WARNING)

    def emit(self, record: logging.LogRecord) -> None:
        self.console.print(Text(f"warning: {printable(record.getMessage())}", style="yellow"), soft_wrap=True)
