"""Buildings: rectangles with gabled, hipped or flat roofs of several materials and what stands on them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from geohp.demo.town.canvas import Canvas, Colour, Floats, Mask, Window
from geohp.demo.town.town_classes import BUILDING

PITCHED = (("tiles", 0.52), ("brown tiles", 0.16), ("slate", 0.24), ("metal", 0.08))
FLAT = (("bitumen", 0.46), ("gravel", 0.34), ("metal", 0.14), ("sedum", 0.06))
"""Roof materials and how often they occur."""

_BASE: dict[str, tuple[Colour, float]] = {
    "tiles": ((0.63, 0.42, 0.345), 0.035),
    "brown tiles": ((0.46, 0.375, 0.335), 0.03),
    "slate": ((0.43, 0.43, 0.45), 0.025),
    "metal": ((0.62, 0.65, 0.66), 0.04),
    "bitumen": ((0.36, 0.36, 0.365), 0.03),
    "gravel": ((0.66, 0.645, 0.61), 0.03),
    "sedum": ((0.44, 0.41, 0.30), 0.02),
}


@dataclass(frozen=True)
class Building:
    """A building of ``length`` (along ``angle``) by ``width`` metres around (x, y).

    Attributes:
        eave: height of the eaves (of a flat roof: of the roof), metres.
        roof: "gable", "hip" or "flat".
        material: a name of :data:`PITCHED` or :data:`FLAT`.
        pitch: metres up per metre towards the ridge; 0 for flat roofs.
    """

    x: float
    y: float
    angle: float
    length: float
    width: float
    eave: float
    roof: str
    material: str
    pitch: float = 0.0


def draw_building(
    x: float, y: float, angle: float, length: float, width: float, eave: float, flat: float, rng: np.random.Generator
) -> Building:
    """A building of the given place and size with a roof drawn at random: flat with probability ``flat``."""
    if rng.random() < flat:
        return Building(x, y, angle, length, width, eave, "flat", _choose(FLAT, rng))
    if width > length:
        angle, length, width = angle + math.pi / 2, width, length
    pitch = math.tan(rng.uniform(0.45, 0.75)) if width < 14 else math.tan(rng.uniform(0.3, 0.45))
    roof = "hip" if rng.random() < 0.35 else "gable"
    return Building(x, y, angle, length, width, eave, roof, _choose(PITCHED, rng), pitch)


def paint_building(canvas: Canvas, building: Building, rng: np.random.Generator) -> None:
    """Paint a building's roof, then chimneys, windows, solar panels or plant on it."""
    window = canvas.window(building.x, building.y, math.hypot(building.length, building.width) / 2 + 1)
    if window is None:
        return
    a, b = canvas.local(window, building.x, building.y, building.angle)
    inside = (np.abs(a) < building.length / 2) & (np.abs(b) < building.width / 2)
    rise_b = building.width / 2 - np.abs(b)
    rise_a = building.length / 2 - np.abs(a)
    hipped = (rise_a < rise_b) if building.roof == "hip" else np.zeros(a.shape, bool)
    height = building.eave + building.pitch * np.where(hipped, rise_a, rise_b)
    cos, sin = math.cos(building.angle), math.sin(building.angle)
    up_a = np.where(hipped, -np.sign(a), 0) * building.pitch
    up_b = np.where(hipped, 0, -np.sign(b)) * building.pitch
    slope = ((up_a * cos - up_b * sin).astype(np.float32), (up_a * sin + up_b * cos).astype(np.float32))
    along, down = np.where(hipped, b, a), np.where(hipped, a, b)
    colour = _roof_colour(canvas, window, building.material, along, down, rng)
    if building.roof == "flat":
        rim = np.minimum(rise_a, rise_b) < 0.45
        colour = np.where(rim[..., None], np.float32(rng.uniform(0.55, 0.75)), colour)
        height = height + 0.4 * rim
    else:
        ridge = (rise_b > building.width / 2 - 0.22) & ~hipped
        colour = colour * np.where(ridge, 0.86, 1.0)[..., None].astype(np.float32)
    canvas.paint(window, inside, colour.astype(np.float32), BUILDING, height.astype(np.float32), slope)
    (_furnish_flat if building.roof == "flat" else _furnish_pitched)(canvas, building, rng)


def paint_box(
    canvas: Canvas,
    place: tuple[float, float, float],
    size: tuple[float, float],
    height_m: float,
    colour: Colour,
    label: int | None,
    *,
    flat: bool = True,
) -> None:
    """Paint a box of length and width at a place (x, y, direction), ``height_m`` above what it stands on (metres).

    No label keeps the class below. A box that is not ``flat`` has the tilt of the surface below, not a level top.
    """
    window = canvas.window(place[0], place[1], math.hypot(*size) / 2 + 0.5)
    if window is None:
        return
    a, b = canvas.local(window, *place)
    inside: Mask = (np.abs(a) < size[0] / 2) & (np.abs(b) < size[1] / 2)
    shade = 1 + 0.04 * canvas.grain[window] + 0.03 * canvas.fine[window]
    painted = (np.asarray(colour, np.float32) * shade[..., None]).astype(np.float32)
    top = canvas.height_m[window] + np.float32(height_m)
    canvas.paint(window, inside, painted, label, top, (0.0, 0.0) if flat else None)


def _roof_colour(
    canvas: Canvas, window: Window, material: str, along: Floats, down: Floats, rng: np.random.Generator
) -> Floats:
    """Texture of a roof; ``along`` runs along the ridge, ``down`` down the slope, in metres."""
    base, spread = _BASE[material]
    tint = np.asarray(base) * (1 + rng.normal(0, spread * 2)) + rng.normal(0, spread / 3, 3)
    grain, fine, patch = canvas.grain[window], canvas.fine[window], canvas.patch[window]
    if material in ("tiles", "brown tiles"):
        shade = 1 + _courses(along, down, 0.85, 0.8, 0.075, rng) + 0.05 * patch + 0.03 * grain
    elif material == "slate":
        shade = 1 + _courses(along, down, 0.6, 0.6, 0.055, rng) + 0.025 * patch + 0.03 * grain
    elif material == "metal":
        shade = 1 - 0.13 * (np.mod(along, 1.0) < 0.2) + 0.02 * patch + 0.012 * grain
    elif material == "bitumen":
        sheet = np.floor((along + 400) / 1.2).astype(int)
        seams = -0.14 * (np.mod(along, 1.2) < 0.17) + rng.normal(0, 0.035, 1200)[sheet]
        shade = 1 + seams + 0.09 * np.maximum(patch, -0.5) + 0.03 * grain
    elif material == "gravel":
        shade = 1 + 0.085 * grain + 0.05 * fine - 0.07 * np.maximum(patch, 0)
    else:  # sedum
        shade = 1 + 0.12 * patch + 0.08 * fine + 0.05 * grain
        tint = tint + np.clip(fine + patch, -1, 1)[..., None] * np.array([0.04, -0.01, -0.01])
    return np.asarray(tint * shade[..., None], np.float32)


def _courses(
    along: Floats, down: Floats, course_m: float, tile_m: float, strength: float, rng: np.random.Generator
) -> Floats:
    """Brightness of rows of tiles: each row darker at its lower edge, rows and tiles varying."""
    row = np.floor(np.abs(down) / course_m).astype(int)
    tile = np.floor((along + 300) / tile_m + 0.5 * (row % 2)).astype(int)
    profile = 0.5 - np.mod(np.abs(down) / course_m, 1.0)
    rows = rng.normal(0, 0.35, 256)[row % 256]
    tiles = rng.normal(0, 0.45, 4096)[(row * 613 + tile) % 4096]
    return np.asarray(strength * (1.3 * profile + rows + tiles), np.float32)


def _furnish_pitched(canvas: Canvas, house: Building, rng: np.random.Generator) -> None:
    for _ in range(rng.integers(1, 2 + int(house.length / 9))):
        brick = (0.50, 0.36, 0.31) if rng.random() < 0.6 else (0.42, 0.42, 0.42)
        spot = _spot(house, rng.uniform(-0.42, 0.42), rng.choice([-1, 1]) * rng.uniform(0.04, 0.16))
        paint_box(canvas, spot, (rng.uniform(0.8, 1.6), 0.8), 1.3, brick, BUILDING)
    for side in (-1, 1):
        style = rng.random()
        if style < 0.40:  # a row of roof windows
            glass = (0.30, 0.34, 0.40) if rng.random() < 0.7 else (0.75, 0.80, 0.85)
            for step in np.arange(-house.length / 2 + 2, house.length / 2 - 1.5, rng.uniform(2.2, 4.5)):
                if rng.random() < 0.8:
                    spot = _spot(house, step / house.length, side * 0.27)
                    paint_box(canvas, spot, (0.9, 1.3), 0.05, glass, BUILDING, flat=False)
        elif style < 0.62 and house.width > 9:  # dormers
            for step in np.arange(-house.length / 2 + 2.5, house.length / 2 - 2, rng.uniform(3.5, 5.5)):
                spot = _spot(house, step / house.length, side * 0.30)
                paint_box(canvas, spot, (1.8, 2.2), 0.8, (0.52, 0.47, 0.45), BUILDING)
        elif style < 0.72:  # solar panels
            spot, size = _spot(house, rng.uniform(-0.1, 0.1), side * 0.25), (0.3 * house.length, 0.3 * house.width)
            paint_box(canvas, spot, size, 0.1, (0.19, 0.22, 0.31), BUILDING, flat=False)


def _furnish_flat(canvas: Canvas, house: Building, rng: np.random.Generator) -> None:
    area = house.length * house.width
    for _ in range(rng.integers(1, 3 + int(area / 110))):
        spot = _spot(house, rng.uniform(-0.4, 0.4), rng.uniform(-0.36, 0.36))
        grey = rng.uniform(0.45, 0.8)
        paint_box(canvas, spot, tuple(rng.uniform(0.9, 2.8, 2)), rng.uniform(0.6, 2.2), (grey, grey, grey), BUILDING)
    if rng.random() < 0.5:  # rows of skylights
        for step in np.arange(-house.length / 2 + 3, house.length / 2 - 2, 4.0):
            for across in np.arange(-house.width / 2 + 3, house.width / 2 - 2, 6.0):
                spot = _spot(house, step / house.length, across / house.width)
                paint_box(canvas, spot, (1.2, 1.2), 0.4, (0.80, 0.83, 0.86), BUILDING)


def _spot(house: Building, along: float, across: float) -> tuple[float, float, float]:
    """A place on the roof: ``along`` and ``across`` as fractions of length and width from its middle."""
    a, b = along * house.length, across * house.width
    cos, sin = math.cos(house.angle), math.sin(house.angle)
    return house.x + a * cos - b * sin, house.y + a * sin + b * cos, house.angle


def _choose(options: tuple[tuple[str, float], ...], rng: np.random.Generator) -> str:
    names, weights = zip(*options, strict=True)
    return str(names[rng.choice(len(names), p=np.asarray(weights) / sum(weights))])
