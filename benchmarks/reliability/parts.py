"""The parts there are, by name, in the order of the table."""

from __future__ import annotations

from benchmarks.reliability import mutants
from benchmarks.reliability.part import Part
from benchmarks.reliability.soak import SOAK

PARTS: tuple[Part, ...] = (SOAK, mutants.PART)
