"""The log of a process that ships to MLflow: on its standard error, without passwords and escape sequences."""

import logging

from pipeline.system.streams import printable
from pipeline.tracking import tracking_uri


class RedactingFormatter(logging.Formatter):
    """mlflow names whole addresses in its messages and tracebacks."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(tracking_uri.redacted(super().format(record)))


def log_redacted() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(RedactingFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.captureWarnings(True)
