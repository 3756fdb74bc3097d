"""`pipeline chaos`: kill a training again and again, and check that nothing of it is lost.

One run is not disturbed. Others of the same configuration are killed (SIGKILL) at random moments and started again by
the same command, until all kills are done. Then weights, journals and MLflow are compared.
"""

import hashlib
import random
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.cli_args import values_and_overrides, whole_number
from pipeline.errors import DONE, FAILED, TrainingFailed
from pipeline.system.process import module_command

if TYPE_CHECKING:  # a run reads configurations, which takes a tenth of a second
    import psutil

    from pipeline.runs.run_directory import Run

# Short enough to be run many times; saves often enough to get on between two kills.
SHORT = (
    "model.widths=[8,16]",
    "trainer.max_epochs=30",
    "trainer.log_every_n_steps=5",
    "checkpoint.every_n_steps=9",
    "callbacks.early_stopping.patience=1000",
)
TARGETS = ("parent", "rank", "sidecar", "checkpoint", "start")
MOMENT_SECONDS = 1.5  # a kill comes up to this long after the first new step,
START_SECONDS = 5.0  # or, before it, up to this long after the command
PATIENCE_SECONDS = 120.0
POLL_SECONDS = 0.005
MEASURED = "system/"  # the machine, not the training


@dataclass(frozen=True)
class Training:
    """A command that starts a run of this name or goes on with it."""

    name: str
    overrides: tuple[str, ...]
    runs_dir: Path

    @property
    def command(self) -> list[str]:
        named = (f"runs_dir={self.runs_dir}", f"name={self.name}", "auto_resume=true")
        return module_command("pipeline", "train", *SHORT, *self.overrides, *named)

    @property
    def run(self) -> "Run | None":
        from pipeline.runs.run_directory import Run

        started = [path.parent for path in self.runs_dir.glob(f"*-{self.name}-*/journal.jsonl")]
        return Run(started[0]) if started else None

    @property
    def is_finished(self) -> bool:
        return self.run is not None and self.run.is_finished

    @property
    def step(self) -> int:
        return -1 if self.run is None else newest_step(self.run.folder)

    def finish(self) -> "Run":
        """Train to the end and send everything to MLflow. Raise TrainingFailed if that fails."""
        self._do(self.command)
        run = self.run
        assert run is not None
        if run.config().tracking.uri is not None:
            self._do(module_command("pipeline", "sync", f"run={run.folder}"))
        return run

    def _do(self, command: list[str]) -> None:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != DONE:
            raise TrainingFailed(f"{' '.join(command)}\n{(done.stdout + done.stderr)[-3000:]}")


def newest_step(folder: Path) -> int:
    """Return the newest step that the journal of a run directory has; -1 before the first."""
    from pipeline.runs.run_directory import Run
    from pipeline.tracking import journal

    path = Run(folder).journal_path
    return (
        max((record.get("step") or 0 for record, _ in journal.read_journal(path)), default=-1) if path.exists() else -1
    )


def chaos(arguments: list[str]) -> int:
    """Return 0 if every killed run equals the undisturbed one, else 1 after printing the differences."""
    named, overrides = values_and_overrides(arguments, {"kills": "50", "chaos_seed": "0", "runs_dir": "runs"})
    kills, seed = (whole_number(named, key, example="50") for key in ("kills", "chaos_seed"))
    runs_dir = named["runs_dir"]
    chance, stamp = random.Random(seed), f"chaos-{int(time.time()):x}"

    def training(number: int | str) -> Training:
        return Training(f"{stamp}-{number}", tuple(overrides), Path(runs_dir).absolute())

    peaceful = training("peace").finish()
    print(f"{peaceful.id}: not disturbed", flush=True)
    killed, number, differing = 0, 0, 0
    while killed < kills:
        number += 1
        victim = training(number)
        while killed < kills and not victim.is_finished:
            for sentence in one_life(victim, chance):
                killed += 1
                print(f"  kill {killed}/{kills}: {sentence}", flush=True)
        run = victim.finish()
        differences = run_differences(peaceful, run)
        differing += bool(differences)
        print(f"{run.id}: {'; '.join(differences) or 'weights, journal and MLflow are the same'}", flush=True)
    print(f"{killed} kills in {number} runs: {f'{differing} of them differ' if differing else 'zero differences'}")
    return FAILED if differing else DONE


def one_life(victim: Training, chance: random.Random) -> list[str]:
    """Start the training, kill one of its processes, and wait until all have ended. Return a sentence for each kill."""
    import psutil

    from pipeline.tracking import journal

    target, before, told = chance.choice(TARGETS), victim.step, []
    started = subprocess.Popen(victim.command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    parent = psutil.Process(started.pid)
    if target == "start":
        time.sleep(chance.uniform(0, START_SECONDS))
    else:
        _wait(lambda: victim.step > before or started.poll() is not None)
        time.sleep(chance.uniform(0, MOMENT_SECONDS))
    if target == "sidecar":
        told += _kill(processes_of(parent.pid, "pipeline.tracking.shipping.sync_worker"), target, victim)
        time.sleep(chance.uniform(0, MOMENT_SECONDS))
        target = "rank"
    ranks = processes_of(parent.pid, "pipeline.lifecycle.training_process")
    if target == "checkpoint":
        run = victim.run
        _wait(
            lambda: run is None or started.poll() is not None or any(run.checkpoints.glob(".step-*.partial")), seconds=3
        )
    chosen = [chance.choice(ranks)] if ranks and target in ("rank", "checkpoint") else [parent]
    told += _kill(chosen, target, victim)
    started.wait(PATIENCE_SECONDS)
    psutil.wait_procs(ranks, timeout=PATIENCE_SECONDS)
    _wait(lambda: victim.run is None or not journal.is_open(victim.run.journal_path))
    return told


def _kill(processes: "list[psutil.Process]", what: str, victim: Training) -> list[str]:
    import psutil

    killed = []
    for process in processes:
        try:
            if process.status() == psutil.STATUS_ZOMBIE:
                continue
            process.kill()
            killed.append(f"{what}, after step {max(victim.step, 0)}")
        except psutil.NoSuchProcess:
            continue  # it had ended by itself
    return killed


def processes_of(parent: int, module: str) -> "list[psutil.Process]":
    """Return the processes below a process that Python started with `-m module`."""
    import psutil

    try:
        below = psutil.Process(parent).children(recursive=True)
        return [process for process in below if _module_of(process.cmdline()) == module]
    except psutil.Error:
        return []


def _module_of(command: list[str]) -> str | None:
    return command[command.index("-m") + 1] if "-m" in command[:-1] else None


def _wait(until: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not until() and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)


def run_differences(peaceful: "Run", killed: "Run") -> list[str]:
    """Return a sentence for each difference between two runs."""
    found = []
    last, last_of_killed = checkpoint_of(peaceful), checkpoint_of(killed)
    if hash_of(last) != hash_of(last_of_killed):
        found.append("the final weights differ")
    counted, counted_by_killed = counts_of(last), counts_of(last_of_killed)
    if counted != counted_by_killed:
        names = sorted({name for name, _ in counted.items() ^ counted_by_killed.items()})
        found.append(f"callbacks counted differently: {', '.join(names)}")
    expected, recorded = _history(peaceful), _history(killed)
    wrong = [name for name in {**expected, **recorded} if expected.get(name) != recorded.get(name)]
    if wrong:
        found.append(f"the journal differs in {', '.join(sorted(wrong))}")
    if killed.config().tracking.uri is not None:
        found += _differences_in_mlflow(killed, recorded)
    return found


def checkpoint_of(run: "Run") -> dict[str, Any]:
    from pipeline.training import checkpoints

    return checkpoints.load_checkpoint(run.checkpoints / "last.ckpt")


def counts_of(checkpoint: dict[str, Any]) -> dict[str, float]:
    """{callback.attribute: value}: what decides how training goes on, such as early stopping's epochs of patience."""
    return {
        f"{callback}.{name}": float(value)
        for callback, state in checkpoint["callbacks"].items()
        for name, value in state.items()
        if isinstance(value, int | float) or (hasattr(value, "numel") and value.numel() == 1)
    }


def hash_of(checkpoint: dict[str, Any]) -> str:
    """Return the SHA-256 of a checkpoint's weights, averaged ones included."""
    digest = hashlib.sha256()
    for part in ("state_dict", "evaluation_state_dict"):
        for name, value in sorted(checkpoint.get(part, {}).items()):
            digest.update(f"{part} {name}".encode())
            digest.update(value.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _history(run: "Run") -> dict[str, list[tuple[int, float]]]:
    from pipeline.tracking import journal

    curves = journal.metric_history(run.journal_path)
    return {name: points for name, points in curves.items() if not name.startswith(MEASURED)}


def _differences_in_mlflow(run: "Run", recorded: dict[str, list[tuple[int, float]]]) -> list[str]:
    from pipeline.tracking.mlflow.mlflow_client import mlflow_client, quiet_mlflow

    quiet_mlflow()
    client = mlflow_client(run.config().tracking.uri)
    experiments = [each.experiment_id for each in client.search_experiments()]
    there = client.search_runs(experiments, f"tags.run_uid = '{run.id}'")
    if len(there) != 1:
        return [f"MLflow has {len(there)} runs of it"]
    found = [] if there[0].info.status == "FINISHED" else [f"MLflow says {there[0].info.status}"]
    for name, points in recorded.items():
        stored = sorted((point.step, point.value) for point in client.get_metric_history(there[0].info.run_id, name))
        if stored != sorted(points):
            found.append(f"MLflow has {len(stored)} points of {name}, the journal {len(points)}")
    return found
