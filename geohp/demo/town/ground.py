"""Ground: carriageways, pavements, lawns, soil, gravel and paved yards."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from geohp.demo.town.canvas import Canvas, Colour, Floats, Mask, Window
from geohp.demo.town.streets import KERB_RADIUS_M, Street, StreetPlan
from geohp.demo.town.town_classes import CLUTTER, LOW_VEGETATION, ROAD


def paint_streets(canvas: Canvas, plan: StreetPlan, u: Floats, v: Floats, rng: np.random.Generator) -> None:
    """Paint carriageways with their markings, and pavements, over a canvas of the plan coordinates ``u`` and ``v``.

    Whatever is no street gets a plain lawn.
    """
    everything = canvas.everything
    canvas.paint(everything, np.ones(canvas.shape, bool), lawn(canvas, everything, u, v, rng), LOW_VEGETATION)
    gap_u, nearest_u = _nearest(plan.u_streets, u)
    gap_v, nearest_v = _nearest(plan.v_streets, v)
    # Distance to the carriageway, kerbs rounded where two streets meet.
    corner = (gap_u < KERB_RADIUS_M) & (gap_v < KERB_RADIUS_M)
    rounded = KERB_RADIUS_M - np.hypot(KERB_RADIUS_M - gap_u, KERB_RADIUS_M - gap_v)
    kerb = np.where(corner, np.minimum(rounded, np.minimum(gap_u, gap_v)), np.minimum(gap_u, gap_v))
    pavement_u = np.array([s.pavement for s in plan.u_streets], np.float32)[nearest_u]
    pavement_v = np.array([s.pavement for s in plan.v_streets], np.float32)[nearest_v]
    pavement = kerb < np.where(gap_u < gap_v, pavement_u, pavement_v)
    canvas.paint(everything, pavement, slabs(canvas, everything, u, v, rng), ROAD)
    canvas.paint(everything, kerb < 0.15, (0.66, 0.65, 0.63), ROAD)
    canvas.paint(
        everything, kerb < 0, _carriageway(canvas, plan, u, v, (gap_u, nearest_u), (gap_v, nearest_v), rng), ROAD
    )
    for streets, along, across, other in ((plan.u_streets, v, u, gap_v), (plan.v_streets, u, v, gap_u)):
        for street in streets:
            _mark(canvas, street, along, across - np.float32(street.at), other, rng)


def lawn(canvas: Canvas, window: Window, u: Floats, v: Floats, rng: np.random.Generator) -> Floats:
    """Grass with mown stripes, dry and bare spots."""
    dry = _between(canvas.patch[window] * 0.45 + canvas.broad[window] * 0.8, rng.uniform(0.2, 1.1), 1.6)
    lush = _tint((0.36, 0.42, 0.25), 0.07, 0.015, rng)
    straw = _tint((0.55, 0.52, 0.38), 0.05, 0.01, rng)
    colour = lush + dry[..., None] * (straw - lush)
    stripe = rng.uniform(1.4, 2.6)
    mown = np.tanh(3 * np.sin(np.pi / stripe * (u if rng.random() < 0.5 else v))) * rng.choice([0.0, 0.02, 0.045])
    shade = 1 + mown + 0.07 * canvas.fine[window] + 0.045 * canvas.grain[window] + 0.05 * canvas.patch[window]
    return _as_colour(colour * shade[..., None])


def meadow(canvas: Canvas, window: Window, u: Floats, v: Floats, rng: np.random.Generator) -> Floats:
    """Unmown grass and herbs: rougher and duller than a lawn."""
    weeds = _between(canvas.patch[window] + 0.5 * canvas.fine[window], -0.5, 1.5)[..., None]
    colour = np.array([0.40, 0.43, 0.26]) * (1 - weeds) + np.array([0.28, 0.36, 0.19]) * weeds
    shade = 1 + 0.11 * canvas.fine[window] + 0.06 * canvas.grain[window] + 0.06 * canvas.broad[window]
    return _as_colour((colour + rng.normal(0, 0.015, 3)) * shade[..., None])


def soil(canvas: Canvas, window: Window, u: Floats, v: Floats, rng: np.random.Generator) -> Floats:
    """Bare soil: brownish, with wheel tracks and damp spots."""
    base = _tint((0.55, 0.48, 0.39), 0.07, 0.01, rng)
    tracks = 0.04 * np.sin(2 * np.pi * u / rng.uniform(1.7, 2.4) + 2 * canvas.broad[window])
    shade = 1 + 0.10 * canvas.patch[window] + 0.05 * canvas.fine[window] + 0.04 * canvas.grain[window] + tracks
    return _as_colour(base * shade[..., None])


def gravel(canvas: Canvas, window: Window, u: Floats, v: Floats, rng: np.random.Generator) -> Floats:
    """A gravel yard: light grey to beige, coarse grain."""
    base = _tint((0.61, 0.585, 0.54), 0.07, 0.008, rng)
    shade = 1 + 0.09 * canvas.grain[window] + 0.05 * canvas.fine[window] + 0.05 * canvas.patch[window]
    return _as_colour(base * shade[..., None])


def slabs(canvas: Canvas, window: Window, u: Floats, v: Floats, rng: np.random.Generator) -> Floats:
    """Concrete slabs or paving: light to middle grey with joints."""
    base = _tint((0.575, 0.56, 0.54), 0.07, 0.005, rng)
    joints = (np.mod(u, 1.2) < 0.2) | (np.mod(v, 1.2) < 0.2)
    shade = 1 - 0.06 * joints + 0.035 * canvas.grain[window] + 0.03 * canvas.fine[window] + 0.05 * canvas.broad[window]
    return _as_colour(base * shade[..., None])


def asphalt(canvas: Canvas, window: Window, u: Floats, v: Floats, rng: np.random.Generator) -> Floats:
    """Asphalt with grain and stains."""
    base = _tint((0.445, 0.443, 0.442), 0.09, 0.004, rng)
    shade = 1 + 0.035 * canvas.grain[window] + 0.02 * canvas.fine[window] + 0.04 * canvas.broad[window]
    return _as_colour(base * shade[..., None])


GROUNDS: dict[str, tuple[Callable[..., Floats], int]] = {
    "lawn": (lawn, LOW_VEGETATION),
    "meadow": (meadow, LOW_VEGETATION),
    "soil": (soil, CLUTTER),
    "gravel": (gravel, CLUTTER),
    "slabs": (slabs, ROAD),
    "asphalt": (asphalt, ROAD),
}
"""The grounds of a block by name: how they look and what they are."""


def _nearest(streets: list[Street], at: Floats) -> tuple[Floats, np.ndarray[tuple[int, ...], np.dtype[np.intp]]]:
    """Signed distance to the nearest carriageway of parallel streets (negative on it), and which it is."""
    gaps = np.stack([np.abs(at - np.float32(s.at)) - np.float32(s.half_width) for s in streets])
    which = gaps.argmin(0)
    return np.take_along_axis(gaps, which[None], 0)[0], which


def _carriageway(
    canvas: Canvas,
    plan: StreetPlan,
    u: Floats,
    v: Floats,
    by_u: tuple[Floats, np.ndarray[tuple[int, ...], np.dtype[np.intp]]],
    by_v: tuple[Floats, np.ndarray[tuple[int, ...], np.dtype[np.intp]]],
    rng: np.random.Generator,
) -> Floats:
    """Colour of the carriageways, each street with its own age, wheel tracks and repairs."""
    everything = canvas.everything
    runs_along_v = by_u[0] < by_v[0]
    colour = np.empty((*canvas.shape, 3), np.float32)
    for streets, (_, nearest), along, across, here in (
        (plan.u_streets, by_u, v, u, runs_along_v),
        (plan.v_streets, by_v, u, v, ~runs_along_v),
    ):
        for k, street in enumerate(streets):
            mine = here & (nearest == k)
            if mine.any():
                surface = _cobbles if street.cobbled else _worn_asphalt
                colour[mine] = surface(canvas, everything, along, across - np.float32(street.at), street, rng)[mine]
    return colour


def _worn_asphalt(
    canvas: Canvas, window: Window, along: Floats, across: Floats, street: Street, rng: np.random.Generator
) -> Floats:
    lane = 2 * np.pi / (street.half_width / 2)
    wheels = 0.022 * np.cos(across * np.float32(lane) + canvas.broad[window] * 0.3)
    lengths = rng.uniform(6, 40, 60).cumsum() - 200
    section = np.searchsorted(lengths, along + 0.001 * across) * 2 + (across > rng.uniform(-1, 1))
    repair = rng.normal(0, 0.035, 130)[section] * (rng.random(130) < 0.45)[section]
    seams = -0.12 * (np.abs(across - street.half_width * 0.02) < 0.12)
    shade = 1 + wheels + repair + seams * (canvas.patch[window] > 0)
    return _as_colour(asphalt(canvas, window, along, across, rng) * shade[..., None])


def _cobbles(
    canvas: Canvas, window: Window, along: Floats, across: Floats, street: Street, rng: np.random.Generator
) -> Floats:
    base = _tint((0.50, 0.48, 0.455), 0.06, 0.006, rng)
    rows = 0.05 * np.sin(along * np.float32(2 * np.pi / 0.9) + 1.5 * np.abs(across))
    shade = 1 + rows + 0.075 * canvas.grain[window] + 0.04 * canvas.patch[window]
    return _as_colour(base * shade[..., None])


def _mark(
    canvas: Canvas, street: Street, along: Floats, across: Floats, other: Floats, rng: np.random.Generator
) -> None:
    """Lane lines, stop lines and zebra crossings; ``other`` is the distance to the crossing carriageways."""
    if street.cobbled:
        return
    free, on_road = other > 5.0, np.abs(across) < street.half_width
    lines = np.zeros(canvas.shape, bool)
    if street.is_main:
        dashed = np.mod(along, 9.0) < 4.0
        lines |= (np.abs(np.abs(across) - street.half_width / 2) < 0.11) & dashed & free
        lines |= (np.abs(across) < 0.12) & free
    elif rng.random() < 0.6:
        lines |= (np.abs(across) < 0.10) & (np.mod(along, 6.0) < 3.0) & free
    if rng.random() < (0.7 if street.is_main else 0.2):
        zebra = (other > 1.2) & (other < 4.2) & on_road
        lines |= zebra & (np.mod(across, 1.0) < 0.5)
        lines |= (other > 4.9) & (other < 5.3) & (across > 0) & on_road
    worn: Mask = lines & (canvas.patch + canvas.fine * 0.6 > -1.5)
    canvas.paint(canvas.everything, worn, (0.80, 0.80, 0.78), None)


def _tint(
    base: Colour, light: float, hue: float, rng: np.random.Generator
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """``base`` lighter or darker by a deviation of ``light`` (relative), its channels by ``hue`` each."""
    return np.asarray(base) * (1 + rng.normal(0, light)) + rng.normal(0, hue, 3)


def _between(values: Floats, low: float, high: float) -> Floats:
    """0 below ``low``, 1 above ``high``, linear between."""
    share: Floats = np.clip((values - np.float32(low)) / np.float32(high - low), 0, 1)
    return share


def _as_colour(values: np.ndarray[tuple[int, ...], np.dtype[np.floating]]) -> Floats:
    return values.astype(np.float32, copy=False)
