"""The parts there are, by name, in the order of the table."""

from __future__ import annotations

from benchmarks.reliability import mutants, offline, soak
from benchmarks.reliability.part import Part

PARTS: tuple[Part, ...] = (soak.PART, offline.PART, mutants.PART)
