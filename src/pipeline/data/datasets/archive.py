"""Files that come in a tar archive."""

import gzip
import io
import tarfile
import zlib
from collections.abc import Collection
from pathlib import Path, PurePosixPath

from pipeline.errors import DataError
from pipeline.files import ContentError


def unpacked(content: bytes | bytearray, names: Collection[str], *, where: str) -> dict[str, bytes]:
    """`members` of a verified archive. Raises DataError for one that is not in it."""
    found = members(content, names)
    missing = [name for name in names if name not in found]
    if missing:
        raise DataError(f"{where} lacks {', '.join(missing)}.")
    return found


def members(content: bytes | bytearray, names: Collection[str]) -> dict[str, bytes]:
    """Those of these files that are in the archive, by their names without a folder. Raises tarfile.TarError.

    Links do not count, nor do files with holes, which may be larger than they seem, nor what would lie elsewhere.
    """
    found: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:*") as archive:
        for member in archive:
            path = PurePosixPath(member.name)
            is_inside = not path.is_absolute() and ".." not in path.parts
            is_plain = member.isfile() and not member.issparse()
            file = archive.extractfile(member) if is_plain and is_inside and path.name in names else None
            if file is not None:
                found[path.name] = file.read()
    return found


def unzipped(file: Path, *, most_bytes: int) -> bytes:
    """The content of a gzip file that nobody has verified yet. Raises ContentError for one that is damaged or long."""
    try:
        with gzip.open(file) as stream:
            content = stream.read(most_bytes + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ContentError(f"is cut off or damaged ({error})") from error
    if len(content) > most_bytes:
        raise ContentError(f"holds more than the {most_bytes:,} bytes expected at most")
    return content
