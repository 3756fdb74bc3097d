"""The journal of a run: one JSON object a line, written to disk before the training goes on.

Every record has a "kind" and a "time" (ms since 1970). The kinds and their other fields:

    start     name, experiment, run_uid, params {name: value}, tags {name: text}
    metrics   step, epoch (or null), values {name: number, NaN, Infinity or -Infinity}
    tags      tags {name: text}
    note      text (Markdown; the target artifact:PATH, of a link or an image, is a file of the run)
    dataset   name, digest, sizes {part: samples}, source
    artifact  path (relative to the run directory), folder (among the run's files in MLflow, or null)
    model     (none: the best model is in the run directory)
    resume    step: the run goes on from a checkpoint taken after this many steps
    end       status (FINISHED, FAILED or KILLED), error (last lines, or null)

A run killed at step 90 and resumed from a checkpoint of step 60 logs steps 61 to 90 a second time. MLflow cannot
delete a point and identifies it by (metric, time, step, value). So a value that the journal already holds for that
metric and step gets the time of its first record, and MLflow stores the point once, however much was sent before the
kill. A different value (changed settings, or a measurement) is a new point at a new time, and a
tag says that the repetition was not exact.
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
EndStatus = Literal["FINISHED", "FAILED", "KILLED"]

DIVERGED_TAG = "resume.diverged"
PLAIN_TYPES = {float}
MEASUREMENT_PREFIX = "system/"  # metrics of the machine, which differ when a step is repeated
MAX_LINE_BYTES = 64 << 20  # bytes
SHAPES: dict[str, Any] = {  # the fields of each kind besides its time
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
    """Appends to the journal at `path`, which the first record creates and opens.

    A full or failing disk costs records and one warning, never the run. An open journal is locked, which tells other
    processes that the run is alive (`is_open`); the lock ends with the process, however that ends.
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
        """Record that the run goes on from a checkpoint of this step, before anything of the new part is logged."""
        for record, _ in read_journal(self.path):
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

    def end(self, status: EndStatus, error: str | None = None) -> None:
        self._append("end", status=status, error=error)

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _first_time(self, name: str, step: int, value: float, now: int) -> int:
        times = self._earlier.get((name, step))
        if times is None or repr(value) in times:
            return now if times is None else times[repr(value)]
        if not self._diverged and not name.startswith(MEASUREMENT_PREFIX):
            self._diverged = True
            self.tags({DIVERGED_TAG: f"from step {step} on ({name})"})
        return now

    def _append(self, kind: str, **fields: Any) -> None:
        self._write(encode_record({"kind": kind, "time": _now(), **fields}))

    def _write(self, line: bytes) -> None:
        try:
            if self._descriptor is None:
                self._open()
            assert self._descriptor is not None
            if self._torn:
                line = b"\n" + line  # else it would continue the torn line
            # One write appends one line. In the page cache it outlives this process; nobody waits for the disk.
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


def encode_record(record: Record) -> bytes:
    """Return a line of the journal; a value that JSON does not know, such as a path, becomes text."""
    return (json.dumps(record, separators=(",", ":"), default=str) + "\n").encode()


def is_open(path: Path) -> bool:
    """Tell whether a process has the journal open for writing."""
    try:
        with open_inside(path.parent, path.name) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except (OSError, ContentError):  # no journal, or no locks
        return False
    return False


def read_journal(path: Path, offset: int = 0) -> Iterator[tuple[Record, int]]:
    """Yield the complete records from byte `offset` on, with the offset behind each. A missing journal is empty.

    A last line without its end is left for later. A broken line in the middle, where a writer died or the disk was
    full, is skipped, as is one that `parse_record` refuses. Raises DamagedFileError.
    """
    file = run_files.JOURNAL.open(path.parent)
    if file is None:
        return
    with file:
        file.seek(offset)
        while line := file.readline(MAX_LINE_BYTES):
            piece = line
            while not piece.endswith(b"\n"):  # too long for any record, or the last
                offset += len(piece)
                piece = file.readline(MAX_LINE_BYTES)
                if not piece:
                    return
            offset += len(piece)
            record = parse_record(line)
            if record is not None:
                yield record, offset


def parse_record(line: bytes) -> Record | None:
    """Return the record of a line; None where it is not JSON, or lacks the shape of its kind."""
    try:
        record: Any = parse_json(line)
    except ContentError:
        return None
    if not _is_plain_metrics(record):  # nearly all records are, and the rules below take 3 times as long
        problem = find_mismatch(record, {"kind": str, "time": int})
        if problem is not None or find_mismatch(record, SHAPES.get(record["kind"], {})) is not None:
            return None
    return record  # type: ignore[no-any-return]


def _is_plain_metrics(record: Any) -> bool:
    """Tell whether this is a record of the form that is written at every step."""
    if type(record) is not dict or record.get("kind") != "metrics":
        return False
    counts, values = (record.get("time"), record.get("step"), record.get("epoch") or 0), record.get("values")
    are_integers = all(type(count) is int and 0 <= count < MAX_INTEGER for count in counts)
    return are_integers and type(values) is dict and PLAIN_TYPES.issuperset(map(type, values.values()))


def metric_history(path: Path) -> dict[str, list[tuple[int, float]]]:
    """Return {metric: [(step, value), ...]} by step, without the values that a resume discarded."""
    series: dict[str, dict[int, float]] = {}
    for record, _ in read_journal(path):
        if record["kind"] == "metrics":
            for name, value in record["values"].items():
                series.setdefault(name, {})[record["step"]] = value
        elif record["kind"] == "resume":
            for points in series.values():
                for step in [step for step in points if step > record["step"]]:
                    del points[step]
    return {name: sorted(points.items()) for name, points in series.items() if points}


def journal_result(path: Path) -> dict[str, Any] | None:
    """Return what result.json would hold since the run's last start, as far as the journal knows; None before it."""
    result: dict[str, Any] | None = None
    for record, _ in read_journal(path):
        if record["kind"] == "start":
            result = {"status": "RUNNING", "metrics": {}, "best_checkpoint": None, "mlflow_run_id": None}
            result |= {"seconds": 0.0, "command": record["tags"].get("command")}
        elif result is not None and record["kind"] == "metrics":
            result["metrics"] |= {name: value for name, value in record["values"].items() if name.startswith("test/")}
        elif result is not None and record["kind"] == "end":
            result["status"] = record["status"]
    return result


def status_after_reopening(path: Path) -> str | None:
    """Return the status of a training that went on after the run had finished; INTERRUPTED while it has no end.

    None where no training went on, or where it finished, too.
    """
    is_finished, status = False, None
    for record, _ in read_journal(path):
        if record["kind"] in ("start", "resume"):
            status = "INTERRUPTED" if is_finished else None
        elif record["kind"] == "end":
            is_finished |= record["status"] == "FINISHED"
            status = record["status"] if is_finished and record["status"] != "FINISHED" else None
    return status


def latest_params(path: Path) -> dict[str, Any]:
    """Return the parameters of the run's last start; {} before its first start."""
    params: dict[str, Any] = {}
    for record, _ in read_journal(path):
        if record["kind"] == "start":
            params = record["params"]
    return params


def _metrics_line(time: int, step: int, epoch: int | None, values: Mapping[str, float]) -> bytes:
    """Return a metrics record; at every step, so plain numbers are formatted by hand, which is twice as fast."""
    if PLAIN_TYPES.issuperset(map(type, values.values())):
        numbers = orjson.dumps(values)
        if b"null" not in numbers:  # orjson's way to write infinities and NaN
            epoch_text = b"null" if epoch is None else b"%d" % epoch
            return b'{"kind":"metrics","time":%d,"step":%d,"epoch":%b,"values":%b}\n' % (
                time,
                step,
                epoch_text,
                numbers,
            )
    plain = dict(zip(values, map(float, values.values()), strict=True))
    return encode_record({"kind": "metrics", "time": time, "step": step, "epoch": epoch, "values": plain})


def _now() -> int:
    return clock.time_ns() // 1_000_000
