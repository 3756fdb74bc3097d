"""Where the processes of one user on one machine meet that use the same store: a socket in a folder of their own."""

import hashlib
import os
import stat
import sys
import tempfile
from pathlib import Path

LONGEST_SOCKET_PATH = 100  # bytes; macOS allows 104, Linux 108
# Settings that make another store of the same address: its files' credentials, how it is reached.
SETTINGS = ("MLFLOW_", "AWS_", "AZURE_", "GOOGLE_", "PG")


def of_this_machine(uri: str) -> Path | None:
    """The socket's path for this store, this installation and these settings.

    None where there can be none: then each process has to hold the store itself.
    """
    folder = Path(tempfile.gettempdir(), f"pipeline-{os.getuid()}")
    settings = sorted(item for item in os.environ.items() if item[0].startswith(SETTINGS))
    key = hashlib.sha256(repr((uri, sys.executable, __file__, settings)).encode()).hexdigest()[:16]
    place = folder / f"{key}.sock"
    return place if _is_ours(folder) and len(os.fsencode(place)) <= LONGEST_SOCKET_PATH else None


def _is_ours(folder: Path) -> bool:
    """Whoever could write there would be told what we track."""
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077
