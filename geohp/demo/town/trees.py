"""Tree crowns and hedges."""

from __future__ import annotations

import math

import numpy as np
from scipy import ndimage

from geohp.demo.town.canvas import PIXEL_M, Canvas, Colour, Floats
from geohp.demo.town.town_classes import LOW_VEGETATION, TREE

SPECIES: tuple[tuple[Colour, float], ...] = (
    ((0.29, 0.35, 0.22), 0.34),
    ((0.35, 0.405, 0.25), 0.28),
    ((0.40, 0.43, 0.23), 0.14),
    ((0.21, 0.29, 0.19), 0.16),
    ((0.38, 0.28, 0.22), 0.03),
    ((0.34, 0.39, 0.27), 0.05),
)
"""Crown colours and how often they occur; the fifth is a copper beech."""


def draw_species(rng: np.random.Generator) -> Colour:
    """A crown colour; trees of one row usually share one."""
    return SPECIES[rng.choice(len(SPECIES), p=[share for _, share in SPECIES])][0]


def paint_tree(canvas: Canvas, x: float, y: float, radius: float, colour: Colour, rng: np.random.Generator) -> None:
    """Paint a crown of ``radius`` metres: overlapping domes with a rough, self-shading surface."""
    window = canvas.window(x, y, radius * 1.25 + 1)
    if window is None:
        return
    dx, dy = canvas.local(window, x, y, 0.0)
    crown = _dome(np.hypot(dx, dy), radius * 0.74)
    for angle in np.arange(rng.integers(7, 12)) * 2.399963 + rng.uniform(0, 6):  # golden angle: even spread
        reach = radius * rng.uniform(0.35, 0.72)
        size = radius * rng.uniform(0.28, 0.44)
        lump = _dome(np.hypot(dx - reach * math.cos(angle), dy - reach * math.sin(angle)), size)
        crown = np.maximum(crown, lump * rng.uniform(0.62, 0.95))
    rough = crown + 0.10 * canvas.fine[window] + 0.06 * canvas.patch[window] + 0.03 * canvas.grain[window]
    leaves = (crown > 0) & (rough > 0.16)
    tall = rng.uniform(1.0, 1.5) * radius + 2.0
    height = (0.35 * tall + 0.65 * tall * np.clip(rough, 0, 1.3)).astype(np.float32)
    surface = np.where(leaves, height, np.float32(0.3 * tall))
    slope_y, slope_x = np.gradient(ndimage.gaussian_filter(surface, 0.6), PIXEL_M) if min(surface.shape) > 1 else (0, 0)
    tint = np.asarray(colour) * rng.uniform(0.88, 1.12) + rng.normal(0, 0.012, 3)
    shade = 0.92 + 0.25 * (rough - 0.6) + 0.06 * canvas.grain[window]
    painted = (tint * shade[..., None]).astype(np.float32)
    tilt = (np.clip(slope_x, -1.3, 1.3).astype(np.float32), np.clip(slope_y, -1.3, 1.3).astype(np.float32))
    canvas.paint(window, leaves, painted, TREE, height, tilt)


def paint_hedge(canvas: Canvas, place: tuple[float, float, float], length: float, rng: np.random.Generator) -> None:
    """Paint a clipped hedge around ``place`` (x, y, direction): low vegetation, as ISPRS counts shrubs."""
    window = canvas.window(place[0], place[1], length / 2 + 1)
    if window is None:
        return
    a, b = canvas.local(window, *place)
    inside = (np.abs(a) < length / 2) & (np.abs(b) < 0.55 + 0.15 * canvas.fine[window])
    shade = 1 + 0.15 * canvas.fine[window] + 0.07 * canvas.grain[window]
    colour = (np.array([0.27, 0.35, 0.20]) * shade[..., None]).astype(np.float32)
    canvas.paint(window, inside, colour, LOW_VEGETATION, 1.4 * float(rng.uniform(0.8, 1.2)))


def _dome(distance: Floats, radius: float) -> Floats:
    """Height of a half-ellipsoid of unit height above its base, 0 outside."""
    height: Floats = np.sqrt(np.maximum(0, 1 - (distance / np.float32(radius)) ** 2))
    return height
