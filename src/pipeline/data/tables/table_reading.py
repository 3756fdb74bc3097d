"""The cells of a table as numbers, chunk by chunk: what the columns hold, and which rows cannot be used."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import numpy.typing as npt

from pipeline.data.bad_samples import OnBadSample, skip_or_fail
from pipeline.data.tables.columns import LARGEST, MISSING_LEVEL, Column, ColumnKind, Numbers, Survey, levels_of
from pipeline.data.tables.table_files import Chunk, chunks, place_in
from pipeline.errors import ConfigError, DataError

# N rows, n of a chunk, F columns of inputs, A others: the target, a time, a group


@dataclass(frozen=True)
class Reading:
    """Two passes over the files: what the columns hold, then their numbers.

    `categorical` columns are taken as names, however they look; `target`, `time` and `group` are no inputs.
    """

    files: Mapping[str, Path]
    categorical: Sequence[str]
    ignored: Sequence[str]
    target: str
    answer: Literal["number", "class"] | None
    time: str | None
    group: str | None
    on_bad_sample: OnBadSample

    @property
    def others(self) -> list[str]:
        return [name for name in (self.target, self.time, self.group) if name is not None]

    def into(self, values: BinaryIO) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
        """Writes (N, F) float32. (what is kept of each row, what is kept of the columns)"""
        found = self._surveyed()
        others = [found.pop(name) for name in self.others]
        columns = list(found.values())
        for column in (*columns, *others):
            if column.kind == "category" and column.known and not column.levels:
                raise DataError(
                    f"{self._where}: {column.name} has more different texts than can be told apart. Leave it out with "
                    f"data.source.ignore=[{column.name}]."
                )
        kept: dict[str, list[Any]] = {name: [] for name in ("others", "file_of", "places", "hashes")}
        bad: list[str] = []
        rows = 0
        for number, path in enumerate(self.files.values()):
            for chunk in chunks(path):
                inputs = _matrix(columns, chunk)
                aside = _matrix(others, chunk)
                wrong = self._wrong((*columns, *others), np.hstack([inputs, aside]), chunk, path)
                bad += [f"{place_in(path, each)} {reason}" for each, reason in chunk.bad]
                bad += [f"{place_in(path, chunk.places[row])}: {reason}" for row, reason in sorted(wrong.items())]
                good = np.setdiff1d(np.arange(len(chunk.places)), list(wrong))
                stored = inputs[good].astype(np.float32)
                values.write(stored.tobytes())
                kept["others"].append(aside[good])
                kept["file_of"].append(np.full(len(good), number, dtype=np.int8))
                kept["places"].append(np.asarray(chunk.places, dtype=np.int64)[good])
                kept["hashes"].append(hashes_of(np.hstack([stored, aside[good].astype(np.float32)])))
                rows += len(chunk.places) + len(chunk.bad)
        skipped = skip_or_fail(bad, on_bad_sample=self.on_bad_sample, of=rows, what="rows")
        about = {"columns": list(map(asdict, columns)), "others": list(map(asdict, others)), "skipped": skipped}
        return {name: np.concatenate(each) for name, each in kept.items()}, about

    def _surveyed(self) -> dict[str, Column]:
        """All columns but those that are ignored, in the first file's order."""
        surveys: dict[str, Survey] = {}
        for path in self.files.values():
            for number, chunk in enumerate(chunks(path)):
                names = [name for name in chunk.cells if name not in self.ignored]
                if not surveys:
                    check_asked(path, list(chunk.cells), (*self.others, *self.categorical, *self.ignored))
                    surveys = {name: Survey(name) for name in names}
                if number == 0 and set(names) != set(surveys):
                    raise DataError(
                        f"{path} has the columns {', '.join(names)}; expected those of {self._where}: "
                        f"{', '.join(surveys)}."
                    )
                for name, survey in surveys.items():
                    survey.add(chunk.cells[name])
        if next(iter(surveys.values())).cells == 0:
            raise DataError(f"{self._where} is empty: expected a line with the columns' names, and rows below it.")
        return {name: each.column(self._kind(each)) for name, each in surveys.items()}

    def _kind(self, survey: Survey) -> ColumnKind | None:
        if survey.name == self.group:
            return "key"
        if survey.name == self.target and (self.answer == "class" or (self.answer is None and survey.is_class)):
            return "category"
        return "category" if survey.name in self.categorical else None

    def _wrong(self, columns: Sequence[Column], numbers: Numbers, chunk: Chunk, path: Path) -> dict[int, str]:
        """{row of the chunk: why it cannot be used}"""
        wrong: dict[int, str] = {}
        beyond = np.abs(numbers) > LARGEST
        for row, place in zip(*np.nonzero(beyond), strict=True):
            column = columns[place]
            wrong.setdefault(int(row), column.reason(str(chunk.cells[column.name][row])))
        for name in self.others:
            missing = np.array([level == MISSING_LEVEL for level in levels_of(chunk.cells[name])], dtype=bool)
            for row in np.flatnonzero(missing).tolist():
                is_target = name == self.target
                wrong[row] = (
                    f"the target {name} is missing" if is_target else f"{name} is missing, which decides the split"
                )
        return wrong

    @property
    def _where(self) -> Path:
        return next(iter(self.files.values()))


def check_asked(path: Path, names: Sequence[str], asked: Sequence[str]) -> None:
    """Raises DataError for a column that is not there."""
    for name in asked:
        if name not in names:
            raise DataError(f"{path} has no column {name}{_listing(name, names)}")


def check_roles(target: str, time: str | None, group: str | None, ignored: Sequence[str]) -> None:
    """Raises ConfigError for a column that is to be two things."""
    taken = {"target": target, "time": time, "group": group}
    taken = {role: name for role, name in taken.items() if name is not None}
    for role, other in combinations(taken, 2):
        if taken[role] == taken[other]:
            raise ConfigError(
                f"data.source.{role} and data.source.{other} are both {taken[other]}, and a column is one of them: "
                f"choose another, or leave out data.source.{other}"
            )
    for role, name in taken.items():
        if name in ignored:
            raise ConfigError(
                f"data.source.ignore=[{name}] is data.source.{role}, which is no input anyway: leave out one of them"
            )


def _listing(name: str, names: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, names, n=1)
    meant = f"; did you mean {near[0]}?" if near else "."
    return f"{meant} It has {', '.join(names[:20])}{' and more' if len(names) > 20 else ''}."


def _matrix(columns: Sequence[Column], chunk: Chunk) -> Numbers:
    """(n, F)"""
    found = np.empty((len(chunk.places), len(columns)), dtype=np.float64)
    for place, column in enumerate(columns):
        found[:, place] = column.numbers(chunk.cells[column.name])
    return found


def hashes_of(rows: npt.NDArray[np.float32]) -> npt.NDArray[np.uint64]:
    """(n,) of (n, F): each number mixed with its column's (Steele, Lea & Flood 2014: SplitMix64), and summed."""
    mixed = np.ascontiguousarray(rows).view(np.uint32).astype(np.uint64)
    mixed += np.arange(1, rows.shape[1] + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    found: npt.NDArray[np.uint64] = (mixed ^ (mixed >> np.uint64(31))).sum(axis=1, dtype=np.uint64)
    return found
