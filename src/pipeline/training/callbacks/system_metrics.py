"""Load and memory of every node and process as metrics."""

import json
import logging
import threading
from pathlib import Path

import pytorch_lightning as pl

from pipeline.constraints import PositiveFloat
from pipeline.system.files import write_atomically
from pipeline.training import machine

FOLDER = ".system"  # in the run directory: what the other processes have to tell

log = logging.getLogger(__name__)


class SystemMetrics(pl.Callback):
    """Records `system/*` every n seconds, from a thread: training waits for nothing.

    cpu_percent, memory_percent, disk_percent   of the first node; of others with their number before: node1_cpu_percent
    process_memory_mb, gpu_percent, gpu_memory_mb   of the first process; of others: rank1_process_memory_mb

    Each process samples itself. The first one writes all samples into the journal; the others leave theirs in the run
    directory for it.
    """

    def __init__(self, *, every_n_seconds: PositiveFloat) -> None:
        self.every_n_seconds = every_n_seconds
        self.thread: threading.Thread | None = None
        self.over = threading.Event()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        machine.of_node(self._folder(trainer))  # from here on the load is counted
        self.over.clear()
        self.thread = threading.Thread(target=self._watch, args=[trainer], name="system-metrics", daemon=True)
        self.thread.start()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._stop()
        self._sample(trainer)  # also of a run that was too short for one

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._stop()

    def _stop(self) -> None:
        self.over.set()
        if self.thread is not None:
            self.thread.join(machine.SMI_SECONDS)
            self.thread = None

    def _watch(self, trainer: pl.Trainer) -> None:
        while not self.over.wait(self.every_n_seconds):
            self._sample(trainer)

    def _sample(self, trainer: pl.Trainer) -> None:
        try:
            found = self._own(trainer)
            if trainer.is_global_zero:
                found |= self._of_others(trainer)
                for logger in trainer.loggers:
                    logger.log_metrics({f"system/{name}": value for name, value in found.items()}, trainer.global_step)
            else:
                folder = self._folder(trainer) / FOLDER
                folder.mkdir(exist_ok=True)
                write_atomically(folder / f"rank{trainer.global_rank}.json", json.dumps(found))
        except OSError as problem:  # a full or a lost disk is for the checkpoints to tell
            log.info("no system metrics: %s", problem)

    def _own(self, trainer: pl.Trainer) -> dict[str, float]:
        rank, node = trainer.global_rank, trainer.node_rank
        found = _named(f"rank{rank}" if rank > 0 else "", machine.of_process(trainer.strategy.root_device))
        if trainer.local_rank == 0:
            found |= _named(f"node{node}" if node > 0 else "", machine.of_node(self._folder(trainer)))
        return found

    def _of_others(self, trainer: pl.Trainer) -> dict[str, float]:
        found: dict[str, float] = {}
        for rank in range(1, trainer.world_size):
            path = self._folder(trainer) / FOLDER / f"rank{rank}.json"
            if path.exists():
                found |= json.loads(path.read_text(encoding="utf-8"))
        return found

    def _folder(self, trainer: pl.Trainer) -> Path:
        return Path(trainer.default_root_dir)


def _named(whose: str, values: dict[str, float]) -> dict[str, float]:
    return {f"{whose}_{name}" if whose else name: value for name, value in values.items()}
