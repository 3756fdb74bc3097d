"""Lightning's logger interface to the journal."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger

from pipeline.tracking.journal import Journal


class JournalLogger(Logger):
    """Writes what Lightning logs to the run's journal, in the run's first process.

    `finalize` does nothing, since Lightning does not know how the run ends; parameters are in the journal's start.
    """

    def __init__(self, journal: Journal) -> None:
        super().__init__()
        self.journal = journal

    @property
    def name(self) -> str:
        return ""  # with an empty version: a user's ModelCheckpoint then writes to RUN_DIR/checkpoints

    @property
    def version(self) -> str:
        return ""

    @property
    def save_dir(self) -> str:
        return str(Path(self.journal.path).parent)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        values = dict(metrics)
        epoch = values.pop("epoch", None)  # added by Lightning: not a metric, but when the others were taken
        self.journal.metrics(values, step=0 if step is None else step, epoch=None if epoch is None else int(epoch))

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the frozen configuration says more than a module's constructor."""
