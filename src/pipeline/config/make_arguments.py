"""Read the overrides typed after `make train` from the environment variables in which the Makefile passes them."""

import re
import shlex
from collections.abc import MutableMapping

from pipeline.errors import ConfigError

OVERRIDES = "PIPELINE_MAKE_ARGUMENTS"  # make's command-line variables, the last first, in make's own quoting
DELETIONS = "PIPELINE_MAKE_DELETIONS"  # goals that begin with ~
FURTHER = "PIPELINE_MAKE_ARGS"  # the text of ARGS="...", as it was typed

# Variables that make sets for a make inside it. If we start a make, it is not one inside this one.
LEFT_BY_MAKE = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "MAKEOVERRIDES", "MAKE_TERMOUT", "MAKE_TERMERR")


def decode_make_arguments(environ: MutableMapping[str, str]) -> list[str]:
    """Return what the user typed after the verb: deletions, then overrides in the order typed, then ARGS.

    Deletions come first, because make does not say where they stood, and a deleted key can be added again but not the
    other way round. Everything of make's is removed from `environ`. White space at the beginning of a value is lost:
    make drops it. Raise ConfigError if a quote in ARGS is not closed.
    """
    overrides = _split(environ.pop(OVERRIDES, ""))
    deletions = environ.pop(DELETIONS, "").split()
    further = environ.pop(FURTHER, "")
    for name in LEFT_BY_MAKE:
        environ.pop(name, None)
    return [*deletions, *(text for text in reversed(overrides) if not _is_makes_own(text)), *_words(further)]


def _split(quoted: str) -> list[str]:
    """Undo make's quoting: a backslash before blanks and backslashes, $ doubled, blanks between words."""
    words: list[str] = re.findall(r"(?:\\.|[^\\ ])+", quoted, flags=re.DOTALL)
    return [re.sub(r"\\(.)", r"\1", word, flags=re.DOTALL).replace("$$", "$") for word in words]


def _is_makes_own(override: str) -> bool:
    """Return whether this sets a variable in capitals, such as VENV, which is make's or the environment's."""
    return re.match(r"[A-Z][A-Z0-9_]*:?=", override) is not None


def _words(args: str) -> list[str]:
    try:
        return shlex.split(args)
    except ValueError as error:
        raise ConfigError(
            f"ARGS={args} cannot be split into words ({error}); close each quote, as in "
            """ARGS="--cfg job 'name=my run'\""""
        ) from error
