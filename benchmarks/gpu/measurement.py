"""What a part measures with: sizes, clocks, floors, and where its figures go."""

from __future__ import annotations

import json
import statistics
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu.record import Figure, Record, write
from benchmarks.gpu.sizes import Sizes
from benchmarks.measuring import PeakMemory, multiplications_per_second, synchronise

_TOP_KERNELS = 30
_TIMELINE_EVENTS = 3000
_CUDA = torch.autograd.DeviceType.CUDA


class Measurement:
    """Of one part; every figure is on disk as soon as it is known.

    Args:
        record: of the part, still empty.
        folder: where it is written.
        device: ``cuda`` or ``cpu``.
        sizes: of the problems.
    """

    def __init__(self, record: Record, folder: Path, device: str, sizes: Sizes) -> None:
        self.record, self.folder, self.device, self.sizes = record, folder, device, sizes
        self._start = time.perf_counter()

    @property
    def on_card(self) -> bool:
        """Whether this is no dry run on a CPU."""
        return self.device != "cpu"

    @property
    def half(self) -> torch.dtype:
        """The type that products are to be fast in."""
        return torch.bfloat16 if self.on_card else torch.float32

    def report(
        self, name: str, value: float | str, unit: str = "", *, most: float | None = None, least: float | None = None
    ) -> None:
        """A figure; a dry run holds times against nothing, its sizes are not those that bounds are for."""
        if not self.on_card and unit in ("s", "ms", "x", "GB", "%"):
            most = least = None
        value = value if isinstance(value, str) else float(value)
        self.record.figures.append(Figure(name, value, unit, most, least))
        self._write()

    def note(self, sentence: str) -> None:
        """Something to be said beside the figures."""
        self.record.notes.append(sentence)
        self._write()

    def finish(self) -> None:
        """The part has come to its end."""
        self.record = replace(self.record, finished=True)
        self._write()

    def seconds(self, work: Callable[[], object], repeat: int | None = None) -> float:
        """The median of several runs, the first two of which do not count: by events on a card."""
        times = []
        for number in range((repeat or self.sizes.repeat) + 2):
            elapsed = self._timed(work)
            if number >= 2 or not self.on_card:
                times.append(elapsed)
        return statistics.median(times)

    def memory(self, work: Callable[[], object]) -> float:
        """Most memory that a run takes above what is there, in GB."""
        with PeakMemory(self.device) as peak:
            work()
            synchronise(self.device)
        return peak.gigabytes

    @cached_property
    def products_per_second(self) -> float:
        """Floating-point operations a second of large products in half precision: the floor of all that multiplies."""
        return multiplications_per_second(self.device, self.half, 1024 if self.on_card else 128)

    @cached_property
    def loss_floor(self) -> float:
        """Seconds that the products of the loss and its gradients take at that rate."""
        return self.sizes.loss_operations / self.products_per_second

    def profile(self, name: str, work: Callable[[], object]) -> float:
        """Where the time of a run goes: a table of kernels and a timeline as JSON, drawn as well where possible.

        Returns:
            The share of the time in which the card is busy, of 0 to 1; the CPU always is.
        """
        with profile(activities=[activity(self.device)]) as profiler:
            synchronise(self.device)
            start = time.perf_counter()
            work()
            synchronise(self.device)
            wall = time.perf_counter() - start
        return self.keep_profile(name, profiler, wall)

    def keep_profile(self, name: str, profiler: Any, wall: float) -> float:
        """Write what a profiler has seen in so many seconds; see :meth:`profile`."""
        rows = _kernel_table(profiler, on_card=self.on_card)
        spans = _timeline(profiler, on_card=self.on_card)
        busy = sum(row["ms"] for row in rows) / 1e3
        document = {"card": self.record.card, "seconds": wall, "kernels": rows[:_TOP_KERNELS], "timeline": spans}
        (self.folder / f"{name}.profile.json").write_text(json.dumps(document))
        for row in rows[:3]:
            self.note(f"{row['name'][:60]} takes {row['ms'] / wall / 10:.0f} % of the time")
        return min(1.0, busy / wall)

    def _write(self) -> None:
        self.record = replace(self.record, seconds=time.perf_counter() - self._start)
        write(self.folder, self.record)

    def _timed(self, work: Callable[[], object]) -> float:
        if not self.on_card:
            start = time.perf_counter()
            work()
            return time.perf_counter() - start
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        work()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) / 1e3


def activity(device: str) -> ProfilerActivity:
    """What a profiler is to watch: on a card, to watch the host as well would hold it up."""
    return ProfilerActivity.CPU if device == "cpu" else ProfilerActivity.CUDA


@contextmanager
def waits_counted() -> Iterator[Counter[str]]:
    """Where the host waits for the card without having been asked to, by file and line; filled at the end."""
    places: Counter[str] = Counter()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield places
        finally:
            torch.cuda.set_sync_debug_mode("default")
    places.update(f"{Path(w.filename).name}:{w.lineno}" for w in caught if "synchronizing" in str(w.message))


@contextmanager
def precision(measurement: Measurement) -> Iterator[None]:
    """Autocasting as training does it: on a card alone."""
    with torch.autocast(measurement.device, torch.bfloat16, enabled=measurement.on_card):
        yield


def _kernel_table(profiler: Any, *, on_card: bool) -> list[dict[str, Any]]:
    """Kernels, or on a CPU operations, by the time they take themselves."""
    rows = []
    for event in profiler.key_averages():
        taken = event.self_device_time_total if on_card else event.self_cpu_time_total
        # On a card there are spans of the host's beside kernels, which carry their kernels' time as well.
        if taken > 0 and (not on_card or event.device_type == _CUDA) and not event.is_user_annotation:
            rows.append({"name": event.key, "ms": taken / 1e3, "calls": event.count})
    return sorted(rows, key=lambda row: -row["ms"])


def _timeline(profiler: Any, *, on_card: bool) -> list[tuple[str, float, float]]:
    """Name, beginning and end in ms of what ran, in order."""
    wanted = _CUDA if on_card else torch.autograd.DeviceType.CPU
    spans = [
        (event.name[:80], event.time_range.start / 1e3, event.time_range.end / 1e3)
        for event in profiler.events()
        if event.device_type == wanted
    ]
    return sorted(spans, key=lambda span: span[1])[:_TIMELINE_EVENTS]
