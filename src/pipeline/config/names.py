"""What a run may be called: its name becomes part of a directory's."""

import re
from typing import Any

from pipeline.config.texts import check_given
from pipeline.errors import ConfigError

LONGEST = 100
RESERVED = {"latest": "the newest run", "all": "every run"}  # what the word means after run=
FORM = re.compile(r"\w[\w.+-]*")


def check_name(name: Any) -> None:
    """Raises ConfigError, with a name that would do."""
    if isinstance(name, str):
        check_given("name", name, without="name=null")
    if isinstance(name, str) and name in RESERVED:
        raise ConfigError(f"name={name} is taken: run={name} means {RESERVED[name]}; such as  name=my-{name}")
    if isinstance(name, str) and len(name) <= LONGEST and FORM.fullmatch(name):
        return
    cleaned = re.sub(r"[^\w.+]+", "-", str(name)).strip("-.+")[:LONGEST] or "run"
    if not isinstance(name, str):
        cleaned = f"run-{cleaned}"
    raise ConfigError(
        f"name={name} cannot be part of a directory's name: expected a text of letters, digits, '-', '_', '.' "
        f"and '+', {LONGEST} at most\n  such as  name={cleaned}"
    )
