"""What a process holds, and whether it holds more and more."""

from __future__ import annotations

import ctypes
import gc
import os
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scipy.stats import linregress

from benchmarks.reliability.isolation import resident_mb


@dataclass(frozen=True)
class Usage:
    """What a process holds at a moment.

    Attributes:
        memory_mb: resident, in MiB.
        trimmed_mb: what it has asked for, once garbage was collected and free memory given back to the system: resident
            without the pages of files, such as the code of libraries, which the system takes out of memory and puts
            back as it likes: tens of MiB where others need it.
        handles: open file descriptors.
        threads: of the system.
        temporary: files and folders in its folder of temporary files.
    """

    memory_mb: float
    trimmed_mb: float
    handles: int
    threads: int
    temporary: int


@dataclass(frozen=True)
class Slope:
    """Growth by the straight line through measurements, with its standard error."""

    value: float
    error: float

    @property
    def grows(self) -> bool:
        """Whether it is above zero by more than chance explains: four standard errors, and not only in the digits."""
        return self.value > 4 * self.error + 1e-9

    def __str__(self) -> str:
        return f"{self.value:+.2f} ± {self.error:.2f}"


def usage() -> Usage:
    """Of this process. Linux only."""
    memory = resident_mb(os.getpid())
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    counts = [sum(1 for _ in Path(f"/proc/self/{kind}").iterdir()) for kind in ("fd", "task")]
    # Walked so that folders of other processes may vanish meanwhile.
    temporary = sum(len(folders) + len(files) for _, folders, files in os.walk(tempfile.gettempdir()))
    return Usage(memory, _anonymous_mb(), counts[0] - 1, counts[1], temporary)


def _anonymous_mb() -> float:
    """Resident memory of this process that belongs to no file, in MiB."""
    status = Path("/proc/self/status").read_text()
    return sum(int(kb) for kb in re.findall(r"^Rss(?:Anon|Shmem):\s*(\d+) kB$", status, re.MULTILINE)) / 1024


def slope(x: Sequence[float], y: Sequence[float]) -> Slope:
    """Of y over x, by least squares; at least three of each."""
    if min(y) == max(y):
        return Slope(0.0, 0.0)
    line = linregress(x, y)
    return Slope(float(line.slope), float(line.stderr))
