"""Tell this user's run directories from others', which may name code to call and servers that a password goes to.

A seal is a keyed digest (HMAC-SHA256) of a directory's configuration, with a key that lies among this user's own
files. It stays valid where a directory is moved or renamed, and no longer where its configuration was changed by hand.
"""

import hashlib
import hmac
import os
import secrets
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from pipeline.system.files import ContentError, read_inside, state_folder, write_atomically

RUN_FILES = ("config.yaml",)  # what was typed for it is for people alone
SEARCH_FILES = ("config.yaml", "overrides.txt")  # both make its trials
SEAL = "seal.txt"
PENDING = "next"  # where a new configuration waits with its seal: a kill may part the two when they take effect
KEY = "key"
KEY_BYTES = 32


def set_seal(folder: Path, names: Sequence[str] = RUN_FILES) -> None:
    """Seal a written configuration. Without a place for a key (a read-only home) the directory stays unsealed."""
    with suppress(OSError):
        write_atomically(folder / SEAL, f"{_digest(folder, names, _own_key())}\n")


def is_made_here(folder: Path, names: Sequence[str] = RUN_FILES) -> bool:
    """Return whether this user's key sealed these files of the directory as they are now."""
    try:
        key = (state_folder() / KEY).read_bytes()
        expected = _digest(folder, names, key).encode()
    except (OSError, ContentError):
        return False
    found = (_seal_in(folder, name) for name in (SEAL, f"{PENDING}/{SEAL}"))
    return len(key) == KEY_BYTES and any(hmac.compare_digest(each, expected) for each in found)


def _seal_in(folder: Path, name: str) -> bytes:
    try:
        return read_inside(folder, name)[: 2 * hashlib.sha256().digest_size]
    except (OSError, ContentError):
        return b""


def _digest(folder: Path, names: Sequence[str], key: bytes) -> str:
    sealed = hmac.new(key, digestmod=hashlib.sha256)
    for name in names:
        sealed.update(hashlib.sha256(read_inside(folder, name)).digest())
    return sealed.hexdigest()


def _own_key() -> bytes:
    path = state_folder() / KEY
    with suppress(FileNotFoundError):
        if len(key := path.read_bytes()) == KEY_BYTES:
            return key
        path.unlink()  # a damaged one seals nothing
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{KEY}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(secrets.token_bytes(KEY_BYTES))
    try:
        os.link(temporary, path)  # of several that begin at once only one wins
    except FileExistsError:
        pass
    finally:
        temporary.unlink()
    return path.read_bytes()
