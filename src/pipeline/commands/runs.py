"""`pipeline runs`, `logs` and `cancel`: list runs, follow one, end one. Imports no torch."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from pipeline import cli_args, metrics, run_files
from pipeline.durations import format_age
from pipeline.errors import DONE, RunError, UserError
from pipeline.launch import job_record
from pipeline.run_files import warn_once
from pipeline.runs.find_run import runs_in
from pipeline.runs.run_directory import Run
from pipeline.runs.status import (
    ENDED_STATES,
    build_launcher,
    damage_as_run_error,
    launcher_state,
    read_run_status,
    run_state,
)
from pipeline.system.files import ContentError, open_inside
from pipeline.system.streams import printable
from pipeline.tracking import journal

POLL_SECONDS = 0.3
MAX_LINE_BYTES = 1 << 20  # a longer line is printed in parts
QUEUE_POLL_SECONDS = 5.0  # a cluster's controller is not asked more often
HEADLINES = (
    *(f"{part}/{name}" for part in ("test", "val") for name in metrics.HEADLINE_METRICS),
    *(f"{part}/loss" for part in ("test", "val", "train")),
)


def list_or_show(arguments: list[str]) -> int:
    """List the runs of a folder, or show one of them."""
    if arguments[:1] == ["show"]:
        return show_run(_run_of(arguments[1:]))
    named = cli_args.named_values(arguments, {"runs_dir": "runs", "last": "30"})
    return list_runs(named["runs_dir"], last=cli_args.number_or_all(named, "last", example="50"))


def logs(arguments: list[str]) -> int:
    """Print what a run recorded and logged, file by file; with --follow until it ends."""
    words = [word for word in arguments if word not in ("--follow", "-f")]
    return print_logs(_run_of(words), follow=len(words) < len(arguments))


def cancel(arguments: list[str]) -> int:
    """Ask a run to save a checkpoint and stop. Raise RunError if it is not running."""
    run = _run_of(arguments)
    with damage_as_run_error(run):
        config = run.config()
        is_open, launched = journal.is_open(run.journal_path), launcher_state(run, config)
        status = run_state(run, config)
    if is_open and job_record.read_job_record(run.folder) is None:
        raise RunError(f"{run.id} was started by a srun or torchrun of your own: end that, with scancel or Ctrl-C")
    if not is_open and launched is None:
        raise RunError(f"{run.id} is not running ({status}): there is nothing to cancel")
    print(f"{run.id}: {build_launcher(config).cancel(run.folder)}\nto continue: pipeline resume run={run.id}")
    return DONE


def _run_of(arguments: list[str]) -> Run:
    return cli_args.named_run(cli_args.named_values_after_first(arguments, {"run": "latest", "runs_dir": "runs"}))


def list_runs(runs_dir: str, *, last: int | None) -> int:
    """Print a table of the `last` runs (None: all), the newest at the end."""
    found = runs_in(runs_dir)
    if not found:
        raise RunError(f"there is no run in {Path(runs_dir).absolute()} yet; `pipeline train` makes one")
    shown = found if last is None else found[-last:]
    silent: set[str] = set()
    rows = [("run", "status", "epochs", "headline", "age", "where"), *(_row(run, silent) for run in shown)]
    widths = [max(len(row[column]) for row in rows) + 2 for column in range(len(rows[0]))]
    for row in rows:
        print("".join(f"{printable(cell):<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())
    if len(shown) < len(found):
        print(f"and {len(found) - len(shown)} older ones: pipeline runs last=all")
    return DONE


def _row(run: Run, silent: set[str]) -> tuple[str, ...]:
    """Return the cells of a run; one that cannot be read does not hide the others."""
    age = format_age(time.time() - run.config_path.lstat().st_mtime)
    try:
        with damage_as_run_error(run):
            config = run.config()
            status = read_run_status(run, config, silent)
            total = OmegaConf.select(config, "trainer.max_epochs")
            epochs = f"{status.epochs}/{total}" if total else str(status.epochs)
            return run.id, status.state, epochs, _headline(status.metrics), age, _where(run, config)
    except UserError:
        return run.id, "DAMAGED", "", "why: pipeline runs show NAME", age, ""


def show_run(run: Run) -> int:
    """Print what is known about a run. Raise RunError if it cannot be read."""
    with damage_as_run_error(run):
        rows = _described(run)
    width = max(len(label) for label, _ in rows) + 2
    print("\n".join(f"{printable(label):<{width}}{printable(value)}" for label, value in rows))
    return DONE


def _described(run: Run) -> list[tuple[str, str]]:
    config = run.config()
    status = read_run_status(run, config)
    number = (run_files.JOB.record_or_warn(run.folder) or {}).get("job")
    return [
        ("run", run.id),
        ("status", status.state),
        ("directory", str(run.folder)),
        ("where", _where(run, config)),
        *([] if number is None else [("job", str(number))]),
        ("command", " ".join(run.environment().get("command") or [])),
        ("step", f"{status.step} ({status.epochs} epochs)"),
        ("checkpoints", ", ".join(sorted(path.name for path in run.checkpoints.glob("step-*.ckpt"))) or "none yet"),
        *((name, f"{value:.5g}") for name, value in sorted(status.metrics.items())),
    ]


def print_logs(run: Run, *, follow: bool) -> int:
    """Print new lines of a run's files, once, or with `follow` until it ends."""
    config = run.config()
    tails: dict[Path, Tail] = {}
    last_status = ""
    while True:
        with damage_as_run_error(run):
            status = run_state(run, config)
        if follow and status != last_status:
            print(f"--- {status}", flush=True)
            last_status = status
        for path in [run.journal_path, *sorted(run.folder.glob("*.log"))]:
            tail = tails.setdefault(path, Tail(path, _record_text if path == run.journal_path else str))
            for line in tail.new_lines():
                print(printable(line), flush=True)
        if not follow or status in ENDED_STATES:
            return DONE
        is_in_queue = run.is_submitted and not journal.is_open(run.journal_path)
        time.sleep(QUEUE_POLL_SECONDS if is_in_queue else POLL_SECONDS)


def _where(run: Run, config: DictConfig) -> str:
    target = str(OmegaConf.select(config, "launch._target_"))
    return f"{target.split('.')[-2:][0]} on {run.environment().get('host') or 'an unknown machine'}"


def _headline(values: dict[str, float]) -> str:
    return next((f"{name} {values[name]:.4f}" for name in HEADLINES if name in values), "")


def _record_text(line: str) -> str:
    """Describe a record of the journal."""
    record = journal.parse_record(line.encode())
    if record is None:
        return "(a line of the journal that cannot be read)"
    if record["kind"] == "metrics":
        return f"step {record['step']}  " + "  ".join(f"{key} {value:.5g}" for key, value in record["values"].items())
    if record["kind"] == "end":
        return f"{record['status']}{'' if not record.get('error') else ': ' + record['error']}"
    return {"start": "started", "resume": f"resumed at step {record.get('step')}"}.get(record["kind"], "")


class Tail:
    """Read the lines of a growing file, each once, when it is complete."""

    def __init__(self, path: Path, format_line: Callable[[str], str]) -> None:
        self.path, self.format_line, self.offset = path, format_line, 0

    def new_lines(self) -> Iterator[str]:
        try:
            file = open_inside(self.path.parent, self.path.name)
        except FileNotFoundError:
            return
        except (ContentError, OSError) as problem:
            warn_once(f"{self.path} is left out: it {problem}")
            return
        with file:
            file.seek(self.offset)
            while line := file.readline(MAX_LINE_BYTES):
                if not line.endswith(b"\n") and len(line) < MAX_LINE_BYTES:
                    return
                self.offset += len(line)
                text = self.format_line(line.decode(errors="replace").rstrip("\n"))
                if text:
                    yield text
