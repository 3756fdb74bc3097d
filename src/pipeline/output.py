"""Standard output and error that may go away: `train | head -1`, a terminal that was closed."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any, TextIO


@contextmanager
def lasting_output() -> Iterator[None]:
    """Within it, what nobody can read any more is dropped instead of raising: hours of work must not end for it."""
    with open(os.devnull, "w") as nowhere:  # where a program without such a stream (`>&-`) writes
        output, errors = Lasting(sys.stdout or nowhere), Lasting(sys.stderr or nowhere)
        with redirect_stdout(output), redirect_stderr(errors):
            try:
                yield
            finally:
                output.flush()  # else the interpreter does at its end, and complains
                errors.flush()


class Lasting:
    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        self._try(lambda: self.stream.write(text))
        return len(text)

    def flush(self) -> None:
        self._try(self.stream.flush)

    def _try(self, what: Callable[[], object]) -> None:
        try:
            what()
        except OSError:  # EPIPE from a pipe, EIO from a terminal
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.stream.fileno())
            os.close(nowhere)
