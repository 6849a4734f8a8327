"""The street plan: a grid bent by smooth waves, and the blocks between its streets.

Streets are straight in plan coordinates (u, v) and bent in the scene's (x, y), both in metres, so that
everything that follows a street (kerbs, markings, parked cars, house fronts) is simple in (u, v).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from geohp.demo.town.canvas import Floats

KERB_RADIUS_M = 4.0


@dataclass(frozen=True)
class Street:
    """A street at u = ``at`` (or v = ``at``): half the carriageway's width and the pavement's, in metres."""

    at: float
    half_width: float
    pavement: float
    cobbled: bool = False

    @property
    def is_main(self) -> bool:
        """Whether the street has four lanes."""
        return self.half_width > 5


@dataclass(frozen=True)
class CityBlock:
    """The land between four streets, pavements excluded, in plan coordinates."""

    u0: float
    u1: float
    v0: float
    v1: float
    number: tuple[int, int]


class StreetPlan:
    """Where the streets run over an extent of (width, height) metres."""

    def __init__(self, extent_m: tuple[float, float], rng: np.random.Generator):
        self.angle = rng.uniform(-0.6, 0.6)
        wavelength = rng.uniform(130, 260, 4)
        heading = rng.uniform(0, 2 * np.pi, 4)
        self._waves = np.stack([np.cos(heading), np.sin(heading)]) * 2 * np.pi / wavelength
        self._phase = rng.uniform(0, 2 * np.pi, 4)
        # Slopes of the displacement stay near a tenth: distances in (u, v) are metres to a good approximation.
        self._amplitude = wavelength / (2 * np.pi) * rng.uniform(0.05, 0.13, 4)
        corners = [self.to_uv(x, y) for x in (0.0, extent_m[0]) for y in (0.0, extent_m[1])]
        us, vs = [float(c[0]) for c in corners], [float(c[1]) for c in corners]
        # The first blocks of a small scene must not lie wholly outside: streets start one block before it.
        self.u_streets = _draw_streets(min(us), max(us), (78.0, 104.0), rng)
        self.v_streets = _draw_streets(min(vs), max(vs), (94.0, 126.0), rng)

    def to_uv(self, x: float | Floats, y: float | Floats) -> tuple[Floats, Floats]:
        """Plan coordinates of (x, y)."""
        du, dv = self._displacement(x, y)
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        return np.float32(cos) * x + np.float32(sin) * y + du, np.float32(cos) * y - np.float32(sin) * x + dv

    def to_xy(self, u: float, v: float) -> tuple[float, float]:
        """Scene coordinates of (u, v): the inverse of :meth:`to_uv` by fixed-point iteration."""
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        x, y = cos * u - sin * v, sin * u + cos * v
        for _ in range(12):
            du, dv = self._displacement(x, y)
            a, b = u - float(du), v - float(dv)
            x, y = cos * a - sin * b, sin * a + cos * b
        return x, y

    def place(self, u: float, v: float, *, along_v: bool = False) -> tuple[float, float, float]:
        """Where (u, v) lies in the scene, and the direction (radians) in which u (or v) grows there."""
        du, dv = (0.0, 1.0) if along_v else (1.0, 0.0)
        x0, y0 = self.to_xy(u - du, v - dv)
        x1, y1 = self.to_xy(u + du, v + dv)
        x, y = self.to_xy(u, v)
        return x, y, math.atan2(y1 - y0, x1 - x0)

    def blocks(self) -> list[CityBlock]:
        """All blocks, also those partly or wholly off the scene."""
        blocks = []
        for i, (west, east) in enumerate(zip(self.u_streets, self.u_streets[1:], strict=False)):
            for j, (north, south) in enumerate(zip(self.v_streets, self.v_streets[1:], strict=False)):
                u0, u1 = west.at + west.half_width + west.pavement, east.at - east.half_width - east.pavement
                v0, v1 = north.at + north.half_width + north.pavement, south.at - south.half_width - south.pavement
                blocks.append(CityBlock(u0, u1, v0, v1, (i, j)))
        return blocks

    def _displacement(self, x: float | Floats, y: float | Floats) -> tuple[Floats, Floats]:
        waves = [
            np.float32(a) * np.sin(np.float32(kx) * x + np.float32(ky) * y + np.float32(p), dtype=np.float32)
            for a, (kx, ky), p in zip(self._amplitude, self._waves.T, self._phase, strict=True)
        ]
        return waves[0] + waves[1], waves[2] + waves[3]


def _draw_streets(low: float, high: float, spacing: tuple[float, float], rng: np.random.Generator) -> list[Street]:
    """Parallel streets from before ``low`` to beyond ``high``; one in three or four is a main street."""
    at = low - rng.uniform(0.2, 1.0) * spacing[0]
    main = int(rng.integers(1, 4))
    streets: list[Street] = []
    while True:
        is_main = len(streets) % 4 == main
        half_width = rng.uniform(5.3, 6.2) if is_main else rng.uniform(2.9, 3.7)
        pavement = rng.uniform(2.4, 3.2) if is_main else rng.uniform(1.6, 2.3)
        streets.append(Street(at, half_width, pavement, cobbled=not is_main and rng.random() < 0.3))
        if at > high + 20:
            return streets
        at += rng.uniform(*spacing)
