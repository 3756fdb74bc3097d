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
IGNORED_PREFIXES = (".", "__MACOSX")  # of folders that notebooks, archives and file managers leave behind


@dataclass(frozen=True)
class FileKind:
    """What files are called, how their names end, and where else their labels may be, for messages."""

    noun: str
    suffixes: tuple[str, ...]
    elsewhere: str = ""

    def is_name(self, name: str) -> bool:
        return name.lower().endswith(self.suffixes) and not name.startswith(".")


@dataclass(frozen=True)
class LabelledFile:
    """A file and its label.

    path       relative to the folder
    split      None where the folder does not say it
    group      files with the same one belong to the same split
    separator  of the labels in `label`, of which there may be any number; None: `label` is one
    """

    path: str
    label: str
    split: str | None
    group: str | None = None
    separator: str | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        return split_labels(self.label, self.separator)


def files_in_folders(root: Path, kind: FileKind) -> tuple[list[LabelledFile], list[str]]:
    """Return the files in one folder a class, or in `train`, `validation` and `test` with such folders.

    The second list has a line for each folder that cannot be used.
    """
    splits = {
        entry.name: SPLIT_FOLDERS[entry.name.lower()]
        for entry in subfolders(root)
        if entry.name.lower() in SPLIT_FOLDERS
    }
    if "train" in splits.values():
        found = [file for name, split in sorted(splits.items()) for file in _files_of_classes(root, name, split, kind)]
    else:
        found = list(_files_of_classes(root, "", None, kind))
    files = [file for file in found if isinstance(file, LabelledFile)]
    return files, [problem for problem in found if isinstance(problem, str)]


def _files_of_classes(root: Path, below: str, split: str | None, kind: FileKind) -> Iterator[LabelledFile | str]:
    """Yield the files of each class, or what is wrong with its folder."""
    for entry in subfolders(root / below):
        paths = find_paths(root, Path(below, entry.name), kind)
        if not entry.name.isprintable():
            yield f"{entry.path} has a name that cannot be shown, and a folder is a class: rename it"
        elif not paths:
            yield f"{entry.path} holds no {kind.noun} ({', '.join(kind.suffixes)}), and a folder is a class"
        else:
            yield from (LabelledFile(path, entry.name, split) for path in paths)


def find_paths(root: Path, below: Path, kind: FileKind) -> list[str]:
    """Return the paths of all files of this kind, at any depth, relative to `root`; through links, each folder once."""

    def fail(problem: OSError) -> None:
        raise DataError(f"{problem.filename} cannot be read: {problem.strerror}.")

    paths, visited = [], set()
    for folder, inner, names in os.walk(root / below, followlinks=True, onerror=fail):
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in visited:  # a link that leads back
            inner.clear()
            continue
        visited.add((status.st_dev, status.st_ino))
        inner[:] = sorted(name for name in inner if not name.startswith(IGNORED_PREFIXES))
        paths += [Path(folder, name).relative_to(root).as_posix() for name in names if kind.is_name(name)]
    return sorted(paths)


def subfolders(folder: Path) -> list["os.DirEntry[str]"]:
    try:
        entries = os.scandir(folder)
    except OSError as problem:
        raise DataError(f"{folder} cannot be read: {problem.strerror}.") from None
    with entries:
        visible = (entry for entry in entries if entry.is_dir() and entry.name[0] not in "._")
        return sorted(visible, key=lambda entry: entry.name)


def files_in_list(root: Path, name: str, separator: str | None = None) -> tuple[list[LabelledFile], list[str]]:
    """Return the files in a CSV with the columns path (relative to the folder), label, and perhaps split.

    With a `separator` a cell holds any number of labels. The second list has a line for each row that cannot be used.
    """
    path = root / name
    if (problem := file_problem(path)) is not None:
        raise DataError(f"{path} {problem}: data.source.labels names a CSV file in data.root.")
    try:
        csv.field_size_limit(MAX_CELL_CHARACTERS)
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, delimiter=delimiter_of(path, peek_first_line(file, path)))
            columns = tuple(reader.fieldnames or ())
            if not {"path", "label"} <= set(columns):
                raise DataError(
                    f"{path} has the columns {', '.join(columns) or '(none)'}; expected in its first line: path,label "
                    "and, if the data is split already, split (train, validation or test)."
                )
            rows = [(reader.line_num, row) for row in reader]
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 ({error.reason} at byte {error.start}): save it as UTF-8.") from None
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: {describe_csv_error(error)}") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from None
    results = [(line, _file_of_row(root, row, separator)) for line, row in rows]
    problems = [f"{path}, line {line}: {result}" for line, result in results if isinstance(result, str)]
    return [result for _, result in results if isinstance(result, LabelledFile)], problems


def _file_of_row(root: Path, row: dict[str, str | None], separator: str | None) -> LabelledFile | str:
    """Return the file of a row, or what is wrong with the row."""
    file, label, split = ((row.get(column) or "").strip() for column in COLUMNS)
    if not file or not (label or separator):
        return f"path={file!r}, label={label!r}; expected both to be filled in"
    if split and split.lower() not in SPLIT_FOLDERS:
        return f"split={split!r}; expected train, validation or test"
    if (problem := file_problem(root / file)) is not None:
        return f"{root / file} {problem}; paths are relative to data.root"
    return LabelledFile(file, label, SPLIT_FOLDERS[split.lower()] if split else None, separator=separator)


def training_labels(files: list[LabelledFile]) -> "Counter[str]":
    """Count the files of each label that are for training, or in no split yet."""
    return Counter(label for file in files if file.split in (None, "train") for label in file.labels)


def check_training_labels(files: list[LabelledFile], root: Path, kind: FileKind) -> None:
    """Raise DataError for fewer than two classes, or for a class with a single training file."""
    if not files:
        raise DataError(
            f"{root} holds no {kind.noun}s; expected one folder a class in it, such as {root / 'cat'} and "
            f"{root / 'dog'}, with {', '.join(kind.suffixes)} files; or a CSV of path,label: "
            f"data.source.labels=labels.csv{kind.elsewhere}"
        )
    counts = training_labels(files)
    if len(counts) < 2:
        raise DataError(
            f"{root}: all training {kind.noun}s are of one class, {', '.join(counts)}; expected two or more."
        )
    for label, count in sorted(counts.items()):
        if count == 1:
            raise DataError(
                f"{root}: the class {label} has 1 {kind.noun}; expected two or more. Add some, or leave it out."
            )


PATTERN_EXAMPLE = """'data.source.pattern="{label}_{speaker}_{index}.wav"'"""
PATTERN_FIELD = re.compile(r"\{([^{}]*)\}")


class NamePattern:
    """A path below data.root with fields in braces, which match one character or more, but no `/`.

    `label` must be one of them. Where a name fits in several ways, the earlier fields are the shorter ones.
    """

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.fields = PATTERN_FIELD.findall(pattern)
        wrong = [name for name in self.fields if not name.isidentifier() or self.fields.count(name) > 1]
        if "label" not in self.fields or wrong:
            problem = f"{{{wrong[0]}}} is not a name, or occurs twice" if wrong else "it has no {label}"
            raise ConfigError(f"data.source.pattern={pattern}: {problem}; expected for example {PATTERN_EXAMPLE}")
        # Every second piece is the name of a field, the others are text.
        pieces = PATTERN_FIELD.split(pattern)
        self._compiled = re.compile(
            "".join(f"(?P<{piece}>[^/]+?)" if number % 2 else re.escape(piece) for number, piece in enumerate(pieces))
        )

    def match(self, path: str) -> dict[str, str] | None:
        """Return the fields of a path, or None where it does not fit."""
        match = self._compiled.fullmatch(path)
        return None if match is None else match.groupdict()


def files_by_name(
    root: Path, pattern: NamePattern, group: str | None, kind: FileKind
) -> tuple[list[LabelledFile], list[str]]:
    """Return the files whose path fits, each with its field `group` if that is given; and the paths that do not fit."""
    if group is not None and group not in pattern.fields:
        raise ConfigError(
            f"data.source.group={group} is not a field of data.source.pattern={pattern.pattern}; expected one of "
            f"{', '.join(pattern.fields)}"
        )
    matches = {path: pattern.match(path) for path in find_paths(root, Path(), kind)}
    files = [
        LabelledFile(path, fields["label"], None, fields[group] if group is not None else None)
        for path, fields in matches.items()
        if fields is not None
    ]
    return files, [path for path, fields in matches.items() if fields is None]
