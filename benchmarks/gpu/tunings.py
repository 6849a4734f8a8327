"""Ways of cutting the fused loss into tiles and blocks, to be tried on a card."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from geohp.methods.hp.kernels import Tuning

_VARIATIONS: tuple[dict[str, int], ...] = (
    {},
    {"registers": None},
    {"registers": 200},
    {"stages": 2},
    {"stages": 4, "registers": 255},
    {"depth": 32, "stages": 6},
    {"depth": 128, "stages": 2, "registers": 255},
    {"height": 128, "warps": 8, "registers": 255},
    {"height": 128, "warps": 8, "registers": 255, "stages": 4},
    {"height": 128, "width": 64},
    {"found_bytes": 0},
    {"block": 4096},
    {"block": 16384},
    {"strip": 8192, "block": 4096},
    {"strip": 2048},
)
"""What differs from the default: first how a tile is multiplied, then how tiles are gone through."""


def candidates(default: Tuning) -> list[Tuning]:
    """A device's default, and what else may be faster."""
    return [replace(default, **variation) for variation in _VARIATIONS]  # type: ignore[arg-type]


def describe(tuning: Tuning, default: Tuning) -> str:
    """What differs from a device's default, as it is to be written there."""
    changed = {
        f.name: getattr(tuning, f.name) for f in fields(tuning) if getattr(tuning, f.name) != getattr(default, f.name)
    }
    return f"Tuning({', '.join(f'{name}={value}' for name, value in changed.items())})"
