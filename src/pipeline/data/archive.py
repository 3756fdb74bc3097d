"""Files that come in a tar archive."""

import io
import tarfile
from collections.abc import Sequence

from pipeline.errors import DataError


def unpacked(content: bytearray, names: Sequence[str], *, where: str) -> dict[str, bytes]:
    """Of a verified archive the content of its files, by their names without a folder. Raises DataError for one that
    is not in it."""
    found: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:*") as archive:
        for member in archive:
            name = member.name.rpartition("/")[2]
            file = archive.extractfile(member) if member.isfile() and name in names else None
            if file is not None:
                found[name] = file.read()
    missing = [name for name in names if name not in found]
    if missing:
        raise DataError(f"{where} lacks {', '.join(missing)}.")
    return found
