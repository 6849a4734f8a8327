"""Cars, vans and buses: parked along kerbs and in lots, and driving."""

from __future__ import annotations

import numpy as np

from geohp.demo.town.canvas import Canvas, Colour
from geohp.demo.town.town_classes import CAR

PAINTS: tuple[tuple[Colour, float], ...] = (
    ((0.88, 0.88, 0.88), 0.20),
    ((0.16, 0.16, 0.17), 0.22),
    ((0.66, 0.67, 0.68), 0.20),
    ((0.42, 0.43, 0.45), 0.14),
    ((0.20, 0.28, 0.46), 0.09),
    ((0.62, 0.16, 0.14), 0.08),
    ((0.76, 0.70, 0.56), 0.03),
    ((0.24, 0.36, 0.27), 0.02),
    ((0.86, 0.70, 0.16), 0.02),
)
"""Paints and how often they occur."""


def paint_car(canvas: Canvas, x: float, y: float, angle: float, rng: np.random.Generator) -> bool:
    """Paint a car of about 4.5 x 1.9 m, now and then a van, unless something taller stands at (x, y).

    Its middle is given in metres and its direction in radians; it points either way. Returns whether it was painted.
    """
    top = canvas.top_at(x, y)
    if top is not None and 0.5 < top[1] < 3:
        return False
    angle += rng.normal(0, 0.02) + (np.pi if rng.random() < 0.5 else 0)
    if rng.random() < 0.08:
        _paint_van(canvas, x, y, angle, rng)
        return True
    half_length, half_width = rng.uniform(2.0, 2.4), rng.uniform(0.88, 0.98)
    window = canvas.window(x, y, half_length + 0.6)
    if window is None:
        return False
    a, b = canvas.local(window, x, y, angle)
    body = (np.abs(a) / half_length) ** 5 + (np.abs(b) / half_width) ** 4 < 1
    colour = np.broadcast_to(np.asarray(_draw_paint(rng), np.float32), (*a.shape, 3)).copy()
    estate = rng.random() < 0.45
    cabin = (a < 0.75) & (a > (-half_length + 0.35 if estate else -1.45))
    glass = cabin & ((a > 0.25) | (a < (-half_length + 0.75 if estate else -1.0)) | (np.abs(b) > half_width - 0.2))
    colour[cabin] *= 1.06
    colour[glass] = (0.13, 0.15, 0.18)
    height = np.where(cabin, 1.5, 0.95).astype(np.float32)
    across = (-b / half_width * 0.12).astype(np.float32)
    tilt = (-np.sin(np.float32(angle)) * across, np.cos(np.float32(angle)) * across)
    return bool(canvas.paint(window, body, colour, CAR, height, tilt).any())


def _paint_van(canvas: Canvas, x: float, y: float, angle: float, rng: np.random.Generator) -> None:
    half_length = rng.uniform(2.6, 3.4)
    window = canvas.window(x, y, half_length + 0.6)
    if window is None:
        return
    a, b = canvas.local(window, x, y, angle)
    body = (np.abs(a) / half_length) ** 8 + (np.abs(b) / 1.05) ** 8 < 1
    paint = (0.84, 0.84, 0.83) if rng.random() < 0.7 else _draw_paint(rng)
    colour = np.broadcast_to(np.asarray(paint, np.float32), (*a.shape, 3))
    screen = (a > half_length - 1.1) & (a < half_length - 0.5)
    painted = np.where(screen[..., None], np.float32(0.15), colour)
    canvas.paint(window, body, painted, CAR, np.where(a > half_length - 1.0, 1.4, 2.3).astype(np.float32))


def _draw_paint(rng: np.random.Generator) -> Colour:
    return PAINTS[rng.choice(len(PAINTS), p=[share for _, share in PAINTS])][0]
