"""The parts there are, by name, in the order of the table."""

from __future__ import annotations

from benchmarks.reliability import configurations, mutants, offline, soak
from benchmarks.reliability.part import Part

PARTS: tuple[Part, ...] = (configurations.PART, soak.PART, offline.PART, mutants.PART)
