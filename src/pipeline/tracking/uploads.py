"""A run's files and its model on their way to MLflow: one at a time, behind everything else."""

import logging
import os
import subprocess

from pipeline.tracking.journal import read
from pipeline.tracking.mlflow_calls import Unavailable
from pipeline.tracking.replica import Replica

MODEL_ATTEMPTS = 3

log = logging.getLogger(__name__)


class Uploads:
    """`on_model` is the command that logs the model, with MLFLOW_TRACKING_URI and MLFLOW_RUN_ID in its environment.

    It runs beside the metrics. If this process dies during its upload, the model may be in MLflow twice after a
    `sync`; a file that is sent twice is there once.
    """

    def __init__(self, replica: Replica, on_model: list[str] | None) -> None:
        self.replica = replica
        self.on_model = on_model
        self._command: subprocess.Popen[bytes] | None = None
        self._failures = 0

    @property
    def are_stuck(self) -> bool:
        """The model cannot be logged, now or soon: `sync` tries again."""
        return self._failures >= MODEL_ATTEMPTS

    def ship_next(self) -> bool:
        """One file, or a look at how the model's upload goes. False when nothing is left to do, or can be done.

        Raises Unavailable when the same has to be tried again later.
        """
        progress, run_id = self.replica.progress, self.replica.run_id
        if run_id is None or self.are_stuck:
            return False
        for record, end in read(self.replica.journal, progress.files_offset):
            if end > progress.offset:  # metrics first
                return False
            if record["kind"] == "model" and not self._model_is_there(run_id):
                return True
            if record["kind"] == "artifact":
                self.replica.ship_file(record["path"], record["folder"])
            progress.files_offset = end
            if record["kind"] in ("artifact", "model"):
                self.replica.note_progress()
                return True
        return False

    def _model_is_there(self, run_id: str) -> bool:
        if self.on_model is None:
            return True
        if self._command is None:
            log.info("logging the model")
            environment = {
                **os.environ,
                "MLFLOW_TRACKING_URI": self.replica.store.uri,
                "MLFLOW_RUN_ID": run_id,
            }
            self._command = subprocess.Popen(self.on_model, env=environment, stdin=subprocess.DEVNULL)
            return False
        code = self._command.poll()
        if code is None:
            return False
        self._command = None
        if code != 0:
            self._failures += 1
            raise Unavailable(f"the model could not be logged (exit code {code}); sidecar.log in the run says why")
        log.info("the model is logged")
        return True
