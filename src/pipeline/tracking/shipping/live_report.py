"""How far a run has come, on a page in MLflow that is made anew while the run goes on."""

import logging
import subprocess
import time

from pipeline.tracking.journal import read
from pipeline.tracking.shipping.run_sync import Replica

PAGE = "report.html"
PAUSE_SECONDS = 30.0
JUDGED = "val/"  # metrics that say that there is something new to see

log = logging.getLogger(__name__)


class LivePage:
    """`on_validation` is the command that writes the page into the run directory.

    It runs beside this process, at its low priority, and at most every `pause_seconds`. A page that cannot be made or
    sent is left out: the next one shows more, and the run itself leaves the last.
    """

    def __init__(
        self, replica: Replica, on_validation: list[str] | None, *, pause_seconds: float = PAUSE_SECONDS
    ) -> None:
        self.replica = replica
        self.on_validation = on_validation
        self.pause_seconds = pause_seconds
        self._command: subprocess.Popen[bytes] | None = None
        self._offset = 0  # in the journal, behind what the newest page shows
        self._looked_at = time.monotonic()

    def look(self) -> None:
        """Start the command, or send what it wrote. Raises Unavailable as the store does."""
        if self.on_validation is None or self.replica.run_id is None or self.replica.progress.status is not None:
            return
        if self._command is not None:
            self._send_when_made()
        elif time.monotonic() - self._looked_at >= self.pause_seconds:
            self._looked_at = time.monotonic()
            if self._is_news():
                self._command = subprocess.Popen(self.on_validation, stdin=subprocess.DEVNULL)

    def _is_news(self) -> bool:
        found = False
        for record, end in read(self.replica.journal, self._offset):
            self._offset = end
            found = found or any(name.startswith(JUDGED) for name in record.get("values", ()))
        return found

    def _send_when_made(self) -> None:
        if self._command is None or self._command.poll() is None:
            return
        code, self._command = self._command.returncode, None
        if code != 0:
            log.warning("%s could not be made (exit code %s)", PAGE, code)
            return
        self.replica.ship_file(PAGE, None)
