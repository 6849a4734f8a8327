"""What worker processes on this machine do first, as dask's preloads do."""

from __future__ import annotations

import logging
import signal


def dask_setup(_: object) -> None:
    """Leave to the main process what is its affair: Ctrl-C, and that it has ended.

    A terminal sends Ctrl-C to all processes, and the main one ends the others. When that closes, a worker may just be
    telling it that it is alive: dask logs a traceback then, and the worker ends as it is to.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.getLogger("distributed.worker").addFilter(_is_of_interest)


def _is_of_interest(record: logging.LogRecord) -> bool:
    """Whether a message is about anything but that the main process has closed."""
    error = record.exc_info[1] if record.exc_info else None
    return not (isinstance(error, OSError) and "heartbeat" in record.getMessage())
