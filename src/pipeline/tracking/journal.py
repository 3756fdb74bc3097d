"""The run's own record of itself: one JSON object a line, on disk before the training goes on.

Every record has a "kind" and a "time" (ms since 1970, fixed here once). The kinds and what else they hold:

    start     name, experiment, run_uid, params {name: value}, tags {name: text}
    metrics   step, epoch (or null), values {name: number, NaN, Infinity or -Infinity}
    tags      tags {name: text}
    note      text (Markdown; the target artifact:PATH, of a link or an image, is a file of the run)
    dataset   name, digest, sizes {part: samples}, source
    artifact  path (relative to the run directory), folder (among the run's files in MLflow, or null)
    model     (the best model can be had from the run directory)
    resume    step: the run goes on from a checkpoint taken after this many steps
    end       status (FINISHED, FAILED or KILLED), error (last lines, or null)

A run killed at step 90 and resumed from a checkpoint of step 60 logs steps 61 to 90 a second time. MLflow, which
cannot delete a point, knows one by (metric, time, step, value). So the writer gives a value that the journal already
holds for that metric and step the time of its first record: runs are exact, the replica sees the same point again,
and has it once, whatever part of it had been shipped before. A value that came out differently (changed settings, or
a measurement) is a new point at a new time, and a tag tells that the repetition was not exact.
"""

import errno
import fcntl
import json
import logging
import os
import re
import time as clock
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import orjson

from pipeline import run_files
from pipeline.system.files import ContentError, open_inside, parse_json
from pipeline.system.json_shape import MAX_INTEGER, DictOf, Nullable, find_mismatch

Record = dict[str, Any]
Status = Literal["FINISHED", "FAILED", "KILLED"]

DIVERGED_TAG = "resume.diverged"
PLAIN = {float}
MEASURED = "system/"  # metrics that measure the machine: of course they differ when a step is repeated
LONGEST_LINE = 64 << 20  # bytes
SHAPES: dict[str, Any] = {  # what each kind must have besides its time, whoever wrote it
    "start": {"name": str, "experiment": str, "run_uid": str, "params": DictOf(Nullable(object)), "tags": DictOf(str)},
    "metrics": {"step": int, "epoch": Nullable(int), "values": DictOf(float)},
    "tags": {"tags": DictOf(str)},
    "note": {"text": str},
    "dataset": {"name": str, "digest": str, "sizes": DictOf(int), "source": str},
    "artifact": {"path": str, "folder": Nullable(re.compile(r"(?!.*\.\.)[^/].*"))},
    "model": {},
    "resume": {"step": int},
    "end": {"status": re.compile("FINISHED|FAILED|KILLED"), "error": Nullable(str)},
}

log = logging.getLogger(__name__)


class Journal:
    """Appends to the journal at `path`, which is opened (and made) by the first record.

    A full or failing disk costs records and one warning, never the run. While it is open others can see that the
    run is alive (`is_open`); the lock behind that falls with the process, however it ends.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None
        self._torn = False  # the file ends inside a line
        self._warned = False
        self._diverged = False
        self._earlier: dict[tuple[str, int], dict[str, int]] = {}  # (name, step) -> {value: time of first record}

    def start(
        self, *, name: str, experiment: str, run_uid: str, params: Mapping[str, Any], tags: Mapping[str, str]
    ) -> None:
        self._append("start", name=name, experiment=experiment, run_uid=run_uid, params=params, tags=tags)

    def resume(self, step: int) -> None:
        """To be called before anything of the resumed part is logged; `step` is the checkpoint's."""
        for record, _ in read(self.path):
            # Lightning counts logged steps from 0, so a checkpoint after `step` steps belongs to step - 1, where an
            # epoch's last values may follow it.
            if record["kind"] == "metrics" and record["step"] >= step - 1:
                for name, value in record["values"].items():
                    times = self._earlier.setdefault((name, record["step"]), {})
                    times.setdefault(repr(value), record["time"])
        self._append("resume", step=step)

    def metrics(self, values: Mapping[str, float], step: int, epoch: int | None = None) -> None:
        now = _now()
        if not self._earlier:
            self._write(_metrics_line(now, step, epoch, values))
            return
        by_time: dict[int, dict[str, float]] = {}
        for name, value in values.items():
            time = self._first_time(name, step, float(value), now)
            by_time.setdefault(time, {})[name] = float(value)
        for time, group in by_time.items():
            self._write(_metrics_line(time, step, epoch, group))

    def tags(self, tags: Mapping[str, str]) -> None:
        self._append("tags", tags=tags)

    def note(self, text: str) -> None:
        self._append("note", text=text)

    def dataset(self, name: str, digest: str, sizes: Mapping[str, int], source: str = "") -> None:
        self._append("dataset", name=name, digest=digest, sizes=sizes, source=source)

    def artifact(self, path: Path | str, folder: str | None = None) -> None:
        self._append("artifact", path=str(path), folder=folder)

    def model(self) -> None:
        self._append("model")

    def end(self, status: Status, error: str | None = None) -> None:
        self._append("end", status=status, error=error)

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _first_time(self, name: str, step: int, value: float, now: int) -> int:
        times = self._earlier.get((name, step))
        if times is None or repr(value) in times:
            return now if times is None else times[repr(value)]
        if not self._diverged and not name.startswith(MEASURED):
            self._diverged = True
            self.tags({DIVERGED_TAG: f"from step {step} on ({name})"})
        return now

    def _append(self, kind: str, **fields: Any) -> None:
        self._write(encode({"kind": kind, "time": _now(), **fields}))

    def _write(self, line: bytes) -> None:
        try:
            if self._descriptor is None:
                self._open()
            assert self._descriptor is not None
            if self._torn:
                line = b"\n" + line  # or it would be glued to what is there
            # One write appends one line: in the page cache it outlives this process, and there is no wait for the
            # disk.
            written = os.write(self._descriptor, line)
            self._torn = written < len(line)
            if self._torn:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            if not self._warned:
                self._warned = True
                log.warning("%s cannot be written (%s): records are lost, the run goes on", self.path, error.strerror)

    def _open(self) -> None:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._descriptor = os.open(self.path, flags, 0o644)
        size = os.fstat(self._descriptor).st_size
        self._torn = size > 0 and os.pread(self._descriptor, 1, size - 1) != b"\n"
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_SH)
        except OSError:  # a file system without locks: `is_open` is then always False
            log.info("no locks on %s", self.path)


def encode(record: Record) -> bytes:
    """A line of the journal; what is no JSON, such as a path, becomes its text."""
    return (json.dumps(record, separators=(",", ":"), default=str) + "\n").encode()


def is_open(path: Path) -> bool:
    """Whether a process has the journal open for writing."""
    try:
        with open_inside(path.parent, path.name) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except (OSError, ContentError):  # no journal, or no locks
        return False
    return False


def read(path: Path, offset: int = 0) -> Iterator[tuple[Record, int]]:
    """The whole records from byte `offset` on, each with the offset behind it. A journal not yet there is empty.

    A last line without its end is left for later. A broken line in the middle, where a writer died or the disk was
    full, is passed over, as is one that `record_of` does not take. Raises DamagedFileError.
    """
    file = run_files.JOURNAL.open(path.parent)
    if file is None:
        return
    with file:
        file.seek(offset)
        while line := file.readline(LONGEST_LINE):
            whole = line
            while not whole.endswith(b"\n"):  # too long for any record, or the last
                offset += len(whole)
                whole = file.readline(LONGEST_LINE)
                if not whole:
                    return
            offset += len(whole)
            record = record_of(line)
            if record is not None:
                yield record, offset


def record_of(line: bytes) -> Record | None:
    """None for what is no record: no JSON, or not of the shape of its kind."""
    try:
        found = parse_json(line)
    except ContentError:
        return None
    if _is_plain_metrics(found):  # nearly all of a journal: to look into each by the rules below takes 3 times as long
        plain: Record = found
        return plain
    problem = find_mismatch(found, {"kind": str, "time": int})
    if problem is None:
        problem = find_mismatch(found, SHAPES.get(found["kind"], {}))
    if problem is not None:
        return None
    record: Record = found
    return record


def _is_plain_metrics(found: Any) -> bool:
    """Of the form that is written for each step."""
    if type(found) is not dict or found.get("kind") != "metrics":
        return False
    counts, values = (found.get("time"), found.get("step"), found.get("epoch") or 0), found.get("values")
    whole = all(type(count) is int and 0 <= count < MAX_INTEGER for count in counts)
    return whole and type(values) is dict and PLAIN.issuperset(map(type, values.values()))


def history(path: Path) -> dict[str, list[tuple[int, float]]]:
    """{metric: [(step, value), ...]} by step, as the run really went: what a resume threw away is not in it."""
    series: dict[str, dict[int, float]] = {}
    for record, _ in read(path):
        if record["kind"] == "metrics":
            for name, value in record["values"].items():
                series.setdefault(name, {})[record["step"]] = value
        elif record["kind"] == "resume":
            for points in series.values():
                for step in [step for step in points if step > record["step"]]:
                    del points[step]
    return {name: sorted(points.items()) for name, points in series.items() if points}


def outcome(path: Path) -> dict[str, Any] | None:
    """What result.json would hold of the newest life of a run, as far as it is told here; None before its start."""
    found: dict[str, Any] | None = None
    for record, _ in read(path):
        if record["kind"] == "start":
            found = {"status": "RUNNING", "metrics": {}, "best_checkpoint": None, "mlflow_run_id": None}
            found |= {"seconds": 0.0, "command": record["tags"].get("command")}
        elif found is not None and record["kind"] == "metrics":
            found["metrics"] |= {name: value for name, value in record["values"].items() if name.startswith("test/")}
        elif found is not None and record["kind"] == "end":
            found["status"] = record["status"]
    return found


def taken_up_again(path: Path) -> str | None:
    """What became of a training that went on after the run had finished: its status, INTERRUPTED while it has none.

    None where there was none, or where it finished, too.
    """
    is_finished, status = False, None
    for record, _ in read(path):
        if record["kind"] in ("start", "resume"):
            status = "INTERRUPTED" if is_finished else None
        elif record["kind"] == "end":
            is_finished |= record["status"] == "FINISHED"
            status = record["status"] if is_finished and record["status"] != "FINISHED" else None
    return status


def newest_params(path: Path) -> dict[str, Any]:
    """With which the run was last started; {} before its first start."""
    found: dict[str, Any] = {}
    for record, _ in read(path):
        if record["kind"] == "start":
            found = record["params"]
    return found


def _metrics_line(time: int, step: int, epoch: int | None, values: Mapping[str, float]) -> bytes:
    """On every step: for plain numbers it is put together by hand, which is twice as fast."""
    if PLAIN.issuperset(map(type, values.values())):
        numbers = orjson.dumps(values)
        if b"null" not in numbers:  # its way to write what JSON has not: infinities and NaN
            place = b"null" if epoch is None else b"%d" % epoch
            return b'{"kind":"metrics","time":%d,"step":%d,"epoch":%b,"values":%b}\n' % (time, step, place, numbers)
    plain = dict(zip(values, map(float, values.values()), strict=True))
    return encode({"kind": "metrics", "time": time, "step": step, "epoch": epoch, "values": plain})


def _now() -> int:
    return clock.time_ns() // 1_000_000
