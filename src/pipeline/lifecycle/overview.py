"""The runs of a folder: which there are, how each is getting on, what it said, and its end. No torch in here."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.config import resolve
from pipeline.errors import DONE, RunError
from pipeline.launch.launcher import Launcher
from pipeline.lifecycle import run as runs
from pipeline.lifecycle.run import Run
from pipeline.tracking import journal

POLL_SECONDS = 0.3
HEADLINES = ("test/accuracy", "val/accuracy", "test/loss", "val/loss", "train/loss")
ONCE_AN_EPOCH = "system/seconds_per_epoch"
AGES = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


@dataclass(frozen=True)
class Standing:
    """status   RUNNING, FINISHED, FAILED, KILLED, INTERRUPTED (it could not say), PENDING (in a queue)
    epochs      how many are done
    step        the newest optimiser step that was recorded
    metrics     the newest value of each
    """

    status: str
    epochs: int
    step: int
    metrics: dict[str, float]


def list_runs(runs_dir: str) -> int:
    found = [Run(path.parent) for path in sorted(Path(runs_dir).glob("*/config.yaml"))]
    found = [run for run in found if not run.folder.is_symlink()]
    if not found:
        raise RunError(f"there is no run in {Path(runs_dir).absolute()} yet; `pipeline train` makes one")
    rows = [("run", "status", "epochs", "headline", "age", "where"), *map(_row, found)]
    widths = [max(len(row[column]) for row in rows) + 2 for column in range(len(rows[0]))]
    for row in rows:
        print("".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())
    return DONE


def _row(run: Run) -> tuple[str, ...]:
    standing = standing_of(run)
    total = run.config().trainer.get("max_epochs")
    return (
        run.id,
        standing.status,
        f"{standing.epochs}/{total}" if total else str(standing.epochs),
        _headline(standing.metrics),
        _age(time.time() - run.config_path.stat().st_mtime),
        _where(run),
    )


def show(reference: str, runs_dir: str) -> int:
    run = runs.find(reference, runs_dir)
    standing = standing_of(run)
    environment = json.loads((run.folder / "environment.json").read_text(encoding="utf-8"))
    rows = [
        ("run", run.id),
        ("status", standing.status),
        ("directory", str(run.folder)),
        ("where", _where(run)),
        ("command", " ".join(environment.get("command", []))),
        ("step", f"{standing.step} ({standing.epochs} epochs)"),
        ("checkpoints", ", ".join(sorted(path.name for path in run.checkpoints.glob("step-*.ckpt"))) or "none yet"),
        *((name, f"{value:.5g}") for name, value in sorted(standing.metrics.items())),
    ]
    width = max(len(label) for label, _ in rows) + 2
    print("\n".join(f"{label:<{width}}{value}" for label, value in rows))
    return DONE


def logs(reference: str, runs_dir: str, *, follow: bool) -> int:
    """What the run recorded and logged, file by file; with `follow` until it ends."""
    run = runs.find(reference, runs_dir)
    tails: dict[Path, Tail] = {}
    while True:
        under_way = standing_of(run).status in ("RUNNING", "PENDING")
        for path in [run.journal_path, *sorted(run.folder.glob("*.log"))]:
            tail = tails.setdefault(path, Tail(path, _told if path == run.journal_path else str))
            for line in tail.new_lines():
                print(line, flush=True)
        if not (follow and under_way):
            return DONE
        time.sleep(POLL_SECONDS)


def cancel(reference: str, runs_dir: str) -> int:
    """Raises RunError for a run that is not under way."""
    run = runs.find(reference, runs_dir)
    status = _status(run)
    if status != "RUNNING" and _launcher(run).state(run.folder) is None:
        raise RunError(f"{run.id} is not under way ({status}): there is nothing to cancel")
    print(f"{run.id}: {_launcher(run).cancel(run.folder)}\nto go on: pipeline resume run={run.id}")
    return DONE


def standing_of(run: Run) -> Standing:
    step, epochs = 0, set()
    metrics: dict[str, float] = {}
    if run.has_started:
        for record, _ in journal.read(run.journal_path):
            if record["kind"] == "metrics":
                step = record["step"]
                metrics |= record["values"]
                if ONCE_AN_EPOCH in record["values"]:
                    epochs.add(step)
    return Standing(_status(run), len(epochs), step, metrics)


def _status(run: Run) -> str:
    if journal.is_open(run.journal_path):
        return "RUNNING"
    queued = _launcher(run).state(run.folder) if run.is_submitted else None
    if queued is not None:
        return queued
    result = run.result()
    if result is not None and result["status"] != "RUNNING":
        return str(result["status"])
    return "INTERRUPTED" if run.has_started else "NOT STARTED"


def _launcher(run: Run) -> Launcher:
    config = run.config()
    launcher: Launcher = resolve.instantiate(config.launch, config)
    return launcher


def _where(run: Run) -> str:
    environment = json.loads((run.folder / "environment.json").read_text(encoding="utf-8"))
    target = str(run.config().launch._target_)
    return f"{target.split('.')[-2]} on {environment['host']}"


def _headline(metrics: dict[str, float]) -> str:
    return next((f"{name} {metrics[name]:.4f}" for name in HEADLINES if name in metrics), "")


def _age(seconds: float) -> str:
    size, unit = next((each for each in AGES if seconds >= each[0]), AGES[-1])
    return f"{seconds / size:.0f} {unit}"


def _told(line: str) -> str:
    """A record of the journal in words."""
    record: dict[str, Any] = json.loads(line)
    if record["kind"] == "metrics":
        return f"step {record['step']}  " + "  ".join(f"{key} {value:.5g}" for key, value in record["values"].items())
    if record["kind"] == "end":
        return f"{record['status']}{'' if not record.get('error') else ': ' + record['error']}"
    return {"start": "started", "resume": f"resumed at step {record.get('step')}"}.get(record["kind"], "")


class Tail:
    """The lines of a file that grows; each once, when it is whole."""

    def __init__(self, path: Path, form: Callable[[str], str]) -> None:
        self.path, self.form, self.offset = path, form, 0

    def new_lines(self) -> Iterator[str]:
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self.offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self.offset += len(line)
                told = self.form(line.decode(errors="replace").rstrip("\n"))
                if told:
                    yield told
