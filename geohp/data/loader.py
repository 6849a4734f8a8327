"""How images are read by several processes at once."""

from __future__ import annotations

import os
import sys
from typing import Any


def reader_options(workers: int) -> dict[str, Any]:
    """Arguments of a DataLoader that reads in so many processes, as far as there are processors; 0 reads in this one.

    They are not forked from this process: GDAL and Pillow may hold threads and locks here that a fork takes along
    without what would ever release them, and reading would hang.
    """
    if not workers:
        return {"num_workers": 0}
    workers = min(workers, os.cpu_count() or 1)
    method = "spawn" if sys.platform == "win32" else "forkserver"
    return {"num_workers": workers, "multiprocessing_context": method, "persistent_workers": True}
