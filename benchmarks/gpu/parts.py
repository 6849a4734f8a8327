"""The parts by name: what they measure, and how long they may take on a card."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.gpu.measurement import Measurement


@dataclass(frozen=True)
class Part:
    """A part.

    Attributes:
        name: of it and of its module.
        limit_s: seconds after which it is stopped; what it had measured stays.
        title: what it shows.
    """

    name: str
    limit_s: float
    title: str

    def load(self) -> Callable[[Measurement], None]:
        """Its function; imports what it needs."""
        measure: Callable[[Measurement], None] = importlib.import_module(f"benchmarks.gpu.part_{self.name}").measure
        return measure


PARTS = (
    Part("loss", 110, "the contrastive loss and both gradients"),
    Part("step", 50, "a training step on features in device memory"),
    Part("parity", 40, "the same labels as on the CPU"),
    Part("engine", 70, "the engine over the bare forward passes"),
    Part("crf", 30, "the dense CRF"),
    Part("memory", 30, "out of memory: half the batch"),
    Part("ddp", 30, "two processes equal one"),
    Part("compile", 120, "torch.compile of head and backbone"),
    Part("kernels", 60, "what the compiler makes of the Triton kernels"),
    Part("job", 120, "the whole training job"),
)
