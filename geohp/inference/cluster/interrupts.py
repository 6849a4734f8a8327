"""What worker processes on this machine do first, as dask's preloads do."""

from __future__ import annotations

import signal


def dask_setup(_: object) -> None:
    """Leave Ctrl-C, which a terminal sends to all processes, to the main one, which ends the others."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
