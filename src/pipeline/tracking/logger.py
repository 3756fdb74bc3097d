"""Lightning's logger interface over the journal."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger

from pipeline.tracking.journal import Journal


class JournalLogger(Logger):
    """Writes what Lightning logs into the run's journal. Only the run's first process is given one.

    How the run ends is not Lightning's to say, so `finalize` does nothing; parameters are in the journal's start.
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
        epoch = values.pop("epoch", None)  # added by Lightning; it places the other values and is none itself
        self.journal.metrics(values, step=0 if step is None else step, epoch=None if epoch is None else int(epoch))

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Nothing: the frozen configuration says more than a module's constructor."""
