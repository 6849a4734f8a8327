"""The parts there are, by name, in the order of the table."""

from __future__ import annotations

from benchmarks.reliability import (
    changed_files,
    configurations,
    full_disk,
    kills,
    load,
    markup,
    models,
    mutants,
    offline,
    places,
    races,
    rasters,
    secrets,
    signals,
    soak,
    stalls,
    supply_chain,
    vectors,
    workers,
)
from benchmarks.reliability.part import Part

PARTS: tuple[Part, ...] = (
    rasters.PART,
    vectors.PART,
    models.PART,
    configurations.PART,
    markup.PART,
    secrets.PART,
    kills.PART,
    full_disk.PART,
    places.PART,
    changed_files.PART,
    stalls.PART,
    races.PART,
    signals.PART,
    workers.PART,
    load.PART,
    soak.PART,
    offline.PART,
    supply_chain.PART,
    mutants.PART,
)


def part_named(name: str) -> Part:
    """A part by its name."""
    return next(part for part in PARTS if part.name == name)
