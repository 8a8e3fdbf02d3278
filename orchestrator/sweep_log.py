"""The log file of a sweep, which every process of its driver writes to."""

from __future__ import annotations

import logging
from pathlib import Path

LOGGERS = ("orchestrator", "trainables", "dashboards", "mlflow", "ray", "py.warnings")


class _LogFile(logging.FileHandler):
    """A log that leaves out what a disk does not take, being full or away, rather than fill the terminal
    with it, or end whoever logs.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, delay=True)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            super().emit(record)
        except OSError:  # the file cannot be opened: the next record tries again
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's own name
        pass


def log_to(path: Path) -> None:
    """Sends the log of our own code and the warnings of the libraries to the sweep's log file."""
    handler = _LogFile(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    for name in LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.propagate = False
        logger.setLevel(logging.INFO if name == "orchestrator" else logging.WARNING)
    logging.captureWarnings(True)
