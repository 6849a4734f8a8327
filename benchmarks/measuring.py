"""What the benchmarks measure with."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.optim import Optimizer

from geohp.methods.base import Method


def multiplications_per_second(device: str, dtype: torch.dtype = torch.float32, size: int = 1024) -> float:
    """Floating-point operations a second of a square matrix product, the best of several."""
    size = size if device == "cpu" else 8 * size
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    best = float("inf")
    for _ in range(12):
        synchronise(device)
        start = time.perf_counter()
        a @ b
        synchronise(device)
        best = min(best, time.perf_counter() - start)
    return float(2 * size**3 / best)


def describe(device: str) -> str:
    """What the figures are taken on."""
    if device != "cpu":
        return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}"
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    return f"{name}, {torch.get_num_threads()} threads, torch {torch.__version__}"


def synchronise(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


def optimise(method: Method, losses: Mapping[str, Tensor], optimizers: Sequence[Optimizer]) -> None:
    """What the training loop does with a step's losses: one backward pass, bounded gradients, every optimiser."""
    for optimizer in optimizers:
        optimizer.zero_grad()
    torch.stack(list(losses.values())).sum().backward()
    method.clip_gradients()
    for optimizer in optimizers:
        optimizer.step()


class PeakMemory:
    """Most memory held within the context, above what was held when entering it.

    On the CPU the process's resident memory is sampled every few milliseconds (Linux only; 0 elsewhere).
    """

    def __init__(self, device: str) -> None:
        self.gigabytes = 0.0
        self._cuda = device != "cpu"
        self._over = threading.Event()

    def __enter__(self) -> PeakMemory:
        if self._cuda:
            torch.cuda.reset_peak_memory_stats()
            self._before = torch.cuda.memory_allocated()
        else:
            if sys.platform == "linux":
                ctypes.CDLL(None).malloc_trim(0)  # or what earlier runs left behind would hide what this one takes
            self._before = resident_bytes()
            self._sampler = threading.Thread(target=self._sample)
            self._sampler.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._cuda:
            self.gigabytes = (torch.cuda.max_memory_allocated() - self._before) / 1e9
        else:
            self._over.set()
            self._sampler.join()

    def _sample(self) -> None:
        while not self._over.wait(0.004):
            self.gigabytes = max(self.gigabytes, (resident_bytes() - self._before) / 1e9)


def resident_bytes(process: int | str = "self") -> int:
    """Resident memory of a process; 0 once it is gone. Linux only."""
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0
