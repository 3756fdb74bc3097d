"""Standard output and error: messages with a label, and a reader that may go away (`train | head -1`)."""

import os
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any, TextIO

# What a terminal obeys instead of showing it, what turns the direction of writing, and halves of characters.
CONTROL_CHARACTERS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
# Of ours and Rich's: colours, and what redraws a line in its place.
ANSI_SEQUENCES = re.compile(r"\x1b\[(?:[0-9;]*m|[0-9]*[AK]|\?25[lh])|\r")


def printable(text: str) -> str:
    """Return a text from outside (a server, a log, a file name) without control characters."""
    return CONTROL_CHARACTERS.sub("\N{REPLACEMENT CHARACTER}", text)


@contextmanager
def broken_pipe_safe_output() -> Iterator[None]:
    """Drop output that nobody can read any more instead of raising: it must not end hours of work."""
    with open(os.devnull, "w") as nowhere:  # where a program without such a stream (`>&-`) writes
        output, errors = BrokenPipeSafe(sys.stdout or nowhere), BrokenPipeSafe(sys.stderr or nowhere)
        with redirect_stdout(output), redirect_stderr(errors):
            try:
                yield
            finally:
                output.flush()  # else the interpreter does at its end, and complains
                errors.flush()


class BrokenPipeSafe:
    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        shown = _harmless(text)
        self._try(lambda: self.stream.write(shown))
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


def print_labelled(label: str, message: str, stream: TextIO) -> None:
    """Print a message with its label: in colour and wrapped on a terminal, else as it is."""
    is_terminal = stream.isatty()
    text = f"{label}: {printable(message)}"
    if is_terminal:
        width = shutil.get_terminal_size().columns
        text = "\n".join(_broken(line, width) for line in text.splitlines())
    if is_terminal and "NO_COLOR" not in os.environ:
        text = re.sub(f"^{label}:", f"\x1b[1;31m{label}:\x1b[0m", text)
        text = re.sub(r"(?m)^(  did you mean  )(.+?)( \?)?$", "\\1\x1b[1;32m\\2\x1b[0m\\3", text)
    print(text, file=stream)


def _harmless(text: str) -> str:
    """Remove control sequences other than colours and the redrawing of a line."""
    if not CONTROL_CHARACTERS.search(text):
        return text
    kept = ANSI_SEQUENCES.findall(text)
    return "".join(map("".join, zip(map(printable, ANSI_SEQUENCES.split(text)), [*kept, ""], strict=True)))


def _broken(line: str, width: int) -> str:
    indent = " " * (len(line) - len(line.lstrip()) + 2)
    return textwrap.fill(
        line,
        width,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
        drop_whitespace=True,
        replace_whitespace=False,
    )
