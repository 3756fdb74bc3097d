"""What MLflow takes as a name or a text, and what is made of anything else.

A metric's, parameter's or tag's name may hold letters and digits of any script, and `_ - . : /` and blanks. It must
read as a plain relative path (no `..`, no double, leading or trailing slash) of at most 250 characters. Any other
name is rewritten: refused characters become `_`, empty and dotted parts of the path go, what is too long is cut, and
`-` with four hexadecimal digits of the original's SHA-256 keeps two names from falling together.
"""

import hashlib
import json
import posixpath
import re
from typing import Any

LONGEST_NAME = 250
LONGEST_PARAM = 6_000
LONGEST_TAG = 8_000
REFUSED = re.compile(r"[^/\w.\- :]")


def name(original: str) -> str:
    """A name that MLflow takes: the original if it does, else the original rewritten by the rule above."""
    if _is_taken(original):
        return original
    parts = REFUSED.sub("_", original).split("/")
    path = "/".join(part for part in parts if part not in ("", ".", ".."))
    digest = hashlib.sha256(original.encode(errors="surrogatepass")).hexdigest()[:4]
    return f"{path[: LONGEST_NAME - 5] or '_'}-{digest}"


def param(value: Any) -> str:
    """A parameter's value as YAML would show it, cut at MLflow's limit (the config artifact holds it whole)."""
    return cut(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str), LONGEST_PARAM)


def cut(text: str, longest: int) -> str:
    """The text in at most `longest` characters, three dots marking that there was more."""
    return text if len(text) <= longest else text[: longest - 3] + "..."


def _is_taken(original: str) -> bool:
    plain_path = posixpath.normpath(original) == original and not original.startswith(("/", ".."))
    return 0 < len(original) <= LONGEST_NAME and original != "." and plain_path and not REFUSED.search(original)
