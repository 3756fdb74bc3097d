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
    """A file: its official name, and the size and SHA-256 of its content, unpacked unless it is an archive."""

    name: str
    size: int
    sha256: str

    def paths(self, folders: Iterable[Path]) -> list[Path]:
        """Return where the file may be: under all names in use, with and without .gz."""
        names = (self.name, self.name.replace("-idx", ".idx"))
        return [folder / (name + suffix) for folder in folders for name in names for suffix in ("", ".gz")]


def read_published_files(
    root: Path, files: Sequence[PublishedFile], *, subfolders: Iterable[str] = (), remedy: str, unpack: bool = True
) -> dict[str, bytearray]:
    """Return the verified content of each file, by name, from `root` or one of its `subfolders`.

    If a file exists in several forms, the first one with the right content is taken. Raises DataError for missing and
    invalid files, with the `remedy`.
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
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise DataError(f"The data comes with the package {package}, which is not installed.\n{remedy}")
    return Path(spec.submodule_search_locations[0])


def _first_verified(file: PublishedFile, paths: Sequence[Path], remedy: str, unpack: bool) -> bytearray:
    problems = []
    for path in paths:
        try:
            return read_verified(path, size=file.size, sha256=file.sha256, unpack=unpack)
        except ContentError as error:
            problems.append(f"{path} {error}.")
    raise DataError("\n".join([*problems, f"Put a fresh copy of {file.name} in its place.", remedy]))


def extract(content: bytes | bytearray, names: Collection[str], *, where: str) -> dict[str, bytes]:
    """Return these files of a verified archive. Raises DataError for one that is not in it."""
    found = archive_members(content, names)
    missing = [name for name in names if name not in found]
    if missing:
        raise DataError(f"{where} lacks {', '.join(missing)}.")
    return found


def archive_members(content: bytes | bytearray, names: Collection[str]) -> dict[str, bytes]:
    """Return those of these files that the archive has, by name without folder. Raises tarfile.TarError.

    Links, sparse files (which may be larger than they seem) and paths that lead out of the archive are left out.
    """
    contents: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:*") as archive:
        for member in archive:
            path = PurePosixPath(member.name)
            is_inside = not path.is_absolute() and ".." not in path.parts
            is_plain = member.isfile() and not member.issparse()
            file = archive.extractfile(member) if is_plain and is_inside and path.name in names else None
            if file is not None:
                contents[path.name] = file.read()
    return contents


def decompress(file: Path, *, max_bytes: int) -> bytes:
    """Return the content of an unverified gzip file. Raises ContentError where it is damaged or too long."""
    try:
        with gzip.open(file) as stream:
            content = stream.read(max_bytes + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ContentError(f"is cut off or damaged ({error})") from error
    if len(content) > max_bytes:
        raise ContentError(f"holds more than the {max_bytes:,} bytes expected at most")
    return content
