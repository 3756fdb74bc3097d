"""The samples of a user's folder, one in each file, with their labels: from folders, a list, or the files' names."""

import csv
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.data.bad_samples import file_problem
from pipeline.data.delimited import MAX_CELL_CHARACTERS, delimiter_of, describe_csv_error, peek_first_line
from pipeline.data.targets import split_labels
from pipeline.errors import ConfigError, DataError

SPLIT_FOLDERS = {
    "train": "train",
    "validation": "validation",
    "val": "validation",
    "valid": "validation",
    "test": "test",
}
COLUMNS = ("path", "label", "split")
IGNORED_PREFIXES = (".", "__MACOSX")  # folders of notebooks, archives and file managers


@dataclass(frozen=True)
class FileKind:
    """What a file is called, how its name ends, and where labels may stand besides folders and a list."""

    noun: str
    suffixes: tuple[str, ...]
    elsewhere: str = ""

    def is_name(self, name: str) -> bool:
        return name.lower().endswith(self.suffixes) and not name.startswith(".")


@dataclass(frozen=True)
class LabelledFile:
    """`path` is relative to the folder; `part` is None where the folder does not say to which it belongs; files of one
    `group` belong to the same part; with a `separator`, `label` holds any number of labels."""

    path: str
    label: str
    part: str | None
    group: str | None = None
    separator: str | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        return split_labels(self.label, self.separator)


def files_in_folders(root: Path, kind: FileKind) -> tuple[list[LabelledFile], list[str]]:
    """Find files in one folder a class, or in `train`, `validation` and `test` with such folders; and list what is
    wrong with others, a line each."""
    groups = {
        entry.name: SPLIT_FOLDERS[entry.name.lower()]
        for entry in subfolders(root)
        if entry.name.lower() in SPLIT_FOLDERS
    }
    if "train" in groups.values():
        found = [
            each for name, part in sorted(groups.items()) for each in _files_of_classes(root, Path(name), part, kind)
        ]
    else:
        found = list(_files_of_classes(root, Path(), None, kind))
    return [each for each in found if isinstance(each, LabelledFile)], [each for each in found if isinstance(each, str)]


def _files_of_classes(root: Path, below: Path, part: str | None, kind: FileKind) -> Iterator[LabelledFile | str]:
    """Yield the files of each class, or what is wrong with a folder."""
    for entry in subfolders(root / below):
        paths = find_paths(root, below / entry.name, kind)
        if not entry.name.isprintable():
            yield f"{entry.path} has a name that cannot be shown, and a folder is a class: give it another one"
        elif not paths:
            yield f"{entry.path} holds no {kind.noun} ({', '.join(kind.suffixes)}), and a folder is a class"
        else:
            yield from (LabelledFile(path, entry.name, part) for path in paths)


def find_paths(root: Path, below: Path, kind: FileKind) -> list[str]:
    """Return the paths of all files of this kind, at any depth, relative to `root`; through links, each folder once."""

    def fail(problem: OSError) -> None:
        raise DataError(f"{problem.filename} cannot be read: {problem.strerror}.")

    found, seen = [], set()
    for place, inner, names in os.walk(root / below, followlinks=True, onerror=fail):
        here = os.stat(place)
        if (here.st_dev, here.st_ino) in seen:  # a link led back
            inner.clear()
            continue
        seen.add((here.st_dev, here.st_ino))
        inner[:] = sorted(name for name in inner if not name.startswith(IGNORED_PREFIXES))
        found += [Path(place, name).relative_to(root).as_posix() for name in names if kind.is_name(name)]
    return sorted(found)


def subfolders(place: Path) -> list["os.DirEntry[str]"]:
    try:
        entries = os.scandir(place)
    except OSError as problem:
        raise DataError(f"{place} cannot be read: {problem.strerror}.") from None
    with entries:
        return sorted(
            (each for each in entries if each.is_dir() and each.name[0] not in "._"), key=lambda each: each.name
        )


def files_in_list(root: Path, name: str, separator: str | None = None) -> tuple[list[LabelledFile], list[str]]:
    """The rows of a CSV with the columns path (relative to the folder), label, and perhaps split, and what is wrong
    with the others; with a `separator` labels stand side by side in their cell, or it is empty."""
    path = root / name
    if (why := file_problem(path)) is not None:
        raise DataError(f"{path} {why}: data.source.labels names a CSV file in data.root.")
    try:
        csv.field_size_limit(MAX_CELL_CHARACTERS)
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, delimiter=delimiter_of(path, peek_first_line(file, path)))
            columns = tuple(reader.fieldnames or ())
            if not {"path", "label"} <= set(columns):
                raise DataError(
                    f"{path} has the columns {', '.join(columns) or '(none)'}; expected in its first line: path,label "
                    "and, where you have cut the data yourself, split (train, validation or test)."
                )
            rows = [(reader.line_num, row) for row in reader]
    except UnicodeDecodeError as problem:
        raise DataError(f"{path} is not UTF-8 ({problem.reason} at byte {problem.start}): save it as UTF-8.") from None
    except csv.Error as problem:
        raise DataError(f"{path}, line {reader.line_num}: {describe_csv_error(problem)}") from None
    except OSError as problem:
        raise DataError(f"{path} cannot be read: {problem.strerror or problem}.") from None
    read = [(line, _file_of_row(root, row, separator)) for line, row in rows]
    wrong = [f"{path}, line {line}: {each}" for line, each in read if isinstance(each, str)]
    return [each for _, each in read if isinstance(each, LabelledFile)], wrong


def _file_of_row(root: Path, row: dict[str, str | None], separator: str | None) -> LabelledFile | str:
    """Return the file of a row, or what is wrong with the row."""
    file, label, part = ((row.get(column) or "").strip() for column in COLUMNS)
    if not file or not (label or separator):
        return f"path={file!r}, label={label!r}; expected both to be filled in"
    if part and part.lower() not in SPLIT_FOLDERS:
        return f"split={part!r}; expected train, validation or test"
    if (why := file_problem(root / file)) is not None:
        return f"{root / file} {why}; paths are relative to data.root"
    return LabelledFile(file, label, SPLIT_FOLDERS[part.lower()] if part else None, separator=separator)


def training_labels(files: list[LabelledFile]) -> "Counter[str]":
    return Counter(label for file in files if file.part in (None, "train") for label in file.labels)


def check_training_labels(files: list[LabelledFile], root: Path, kind: FileKind) -> None:
    """Raises DataError where there is nothing to tell apart, or to learn a class from."""
    if not files:
        raise DataError(
            f"{root} holds no {kind.noun}s; expected one folder a class in it, such as {root / 'cat'} and "
            f"{root / 'dog'}, with {', '.join(kind.suffixes)} files; or a CSV of path,label: "
            f"data.source.labels=labels.csv{kind.elsewhere}"
        )
    learned = training_labels(files)
    if len(learned) < 2:
        raise DataError(
            f"{root}: all {kind.noun}s to learn from are of one class, {', '.join(learned)}; expected two or more."
        )
    for label, count in sorted(learned.items()):
        if count == 1:
            raise DataError(
                f"{root}: the class {label} has 1 {kind.noun}; expected two or more. Add some, or leave it out."
            )


PATTERN_EXAMPLE = """'data.source.pattern="{label}_{speaker}_{index}.wav"'"""
PATTERN_FIELD = re.compile(r"\{([^{}]*)\}")


class NamePattern:
    """A path below data.root with fields in braces, which stand for one character or more, but for no `/`.

    `label` must be one of them. Where a name fits in several ways, the earlier fields are the shorter ones.
    """

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.fields = PATTERN_FIELD.findall(pattern)
        wrong = [name for name in self.fields if not name.isidentifier() or self.fields.count(name) > 1]
        if "label" not in self.fields or wrong:
            found = f"{{{wrong[0]}}} is no name of its own" if wrong else "it has no {label}"
            raise ConfigError(f"data.source.pattern={pattern}: {found}; expected such as {PATTERN_EXAMPLE}")
        # Every other piece is a field's name, the ones between them are text.
        pieces = PATTERN_FIELD.split(pattern)
        self._compiled = re.compile(
            "".join(f"(?P<{piece}>[^/]+?)" if place % 2 else re.escape(piece) for place, piece in enumerate(pieces))
        )

    def read(self, path: str) -> dict[str, str] | None:
        """Return the fields of a path; None where it does not fit."""
        found = self._compiled.fullmatch(path)
        return None if found is None else found.groupdict()


def files_by_name(
    root: Path, pattern: NamePattern, group: str | None, kind: FileKind
) -> tuple[list[LabelledFile], list[str]]:
    """Return the files whose path fits, each with its field `group` if that is given; and the paths that do not fit."""
    if group is not None and group not in pattern.fields:
        raise ConfigError(
            f"data.source.group={group} is no field of data.source.pattern={pattern.pattern}; expected one of "
            f"{', '.join(pattern.fields)}"
        )
    fields = {path: pattern.read(path) for path in find_paths(root, Path(), kind)}
    files = [
        LabelledFile(path, found["label"], None, found[group] if group is not None else None)
        for path, found in fields.items()
        if found is not None
    ]
    return files, [path for path, found in fields.items() if found is None]
