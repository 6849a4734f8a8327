"""The parts there are, by name, in the order of the table."""

from __future__ import annotations

from benchmarks.reliability import (
    configurations,
    markup,
    models,
    mutants,
    offline,
    rasters,
    secrets,
    soak,
    vectors,
)
from benchmarks.reliability.part import Part

PARTS: tuple[Part, ...] = (
    rasters.PART,
    vectors.PART,
    models.PART,
    configurations.PART,
    markup.PART,
    secrets.PART,
    soak.PART,
    offline.PART,
    mutants.PART,
)
