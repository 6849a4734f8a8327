"""Colours of classes: near to what they look like, far enough from one another to be told apart on a map.

Distances are taken in CIELAB, as a normal eye sees and as eyes without red or green cones do (Machado, Oliveira and
Fernandes 2009, "A physiologically-based model for simulation of color vision deficiency", severity 1).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]

_FARTHEST, _CROWDING = 26.0, 70.0
"""CIELAB units that two colours lie apart: at most, and for K classes this over the root of K."""

_CLOSER = 0.85
"""By so much they may be closer where there is no room."""

_DICHROMAT = 0.5
"""How far apart they are for an eye of two cones, of what they are for one of three."""

_LIGHTNESS = (30.0, 86.0)
_MOST_CHROMA, _MOST_GAIN = 45.0, 3.0
_LIGHTNESS_WEIGHT = 0.6  # a hue tells more of what something is than how light it is
_ROUNDS = 3

_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
_PROTAN = np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]])
_DEUTAN = np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]])


def spread_colours(looks: Float64, taken: Sequence[str] = (), hues: Sequence[str] = ()) -> list[str]:
    """A colour for each class, near to its own and apart from all others.

    Aerial imagery is dull: lightness and chroma are stretched first, all by the same factors, hues kept. The most
    colourful classes choose first, so that what is green stays green and greys give way in lightness.

    Args:
        looks: (n, 3) mean sRGB colours in [0, 1]; NaN where a class was not seen.
        taken: colours of other classes, ``#rrggbb``.
        hues: colours that the first classes have the hue and chroma of, and only the lightness of their looks.

    Returns:
        n colours, ``#rrggbb``.
    """
    looks = np.array(looks, np.float64).reshape(-1, 3)
    seen = np.isfinite(looks).all(axis=1)
    looks[~seen] = looks[seen].mean(axis=0) if seen.any() else 0.5
    targets = _stretched(to_lab(looks.clip(0, 1)))
    targets[: len(hues), 1:] = to_lab(_parsed_all(hues))[:, 1:]
    palette = _palette()
    fixed = _parsed_all(taken)
    reserved = _distances(palette, fixed).min(axis=1, initial=np.inf)
    apart = min(_FARTHEST, _CROWDING / max(1, len(looks) + len(fixed)) ** 0.5)
    order = np.lexsort((np.arange(len(targets)), -np.hypot(targets[:, 1], targets[:, 2]).round(3), ~seen))
    while (chosen := _choose(targets, order, reserved, apart)) is None:
        apart *= _CLOSER
    return [_spelled(palette[index]) for index in chosen]


def to_lab(colours: Float64) -> Float64:
    """(..., 3) sRGB in [0, 1] as CIELAB, white point D65."""
    return _lab_of_linear(_linear(np.asarray(colours, np.float64)))


def _choose(targets: Float64, order: NDArray[np.intp], reserved: Float64, apart: float) -> list[int] | None:
    """Places in the palette, by class; ``None`` where there is no room.

    Args:
        targets: (n, 3) CIELAB.
        order: in which classes choose.
        reserved: (m,) distances of the palette from colours that nobody may come near to.
        apart: least distance.
    """
    weights = np.array([_LIGHTNESS_WEIGHT, 1, 1])
    costs = (((to_lab(_palette()) - targets[:, None]) * weights) ** 2).sum(axis=-1)
    near = _palette_distances() < apart
    chosen: dict[int, int] = {}
    for _ in range(_ROUNDS):  # later ones may have left room nearer by
        for number in order.tolist():
            others = [place for other, place in chosen.items() if other != number]
            barred = (reserved < apart) | near[:, others].any(axis=1)
            if barred.all():
                return None
            chosen[number] = int(np.where(barred, np.inf, costs[number]).argmin())
    return [chosen[number] for number in range(len(targets))]


@cache
def _palette_distances() -> Float64:
    """(m, m) distances between the colours of the palette."""
    return _distances(_palette(), _palette())


def _distances(colours: Float64, others: Float64) -> Float64:
    """(n, k) distances of (n, 3) from (k, 3) sRGB, for the eye that tells them apart worst."""
    distances = [
        np.linalg.norm(seen[:, None] - other, axis=-1)
        for seen, other in zip(_views(colours), _views(others), strict=True)
    ]
    least: Float64 = np.minimum(distances[0], np.minimum(distances[1], distances[2]) / _DICHROMAT)
    return least


def _stretched(lab: Float64) -> Float64:
    """Colours over more of the range of lightness and chroma, their order and hues kept."""
    stretched = lab.copy()
    low, high = _LIGHTNESS
    least, most = lab[:, 0].min(initial=100), lab[:, 0].max(initial=0)
    gain = np.clip((high - low) / max(most - least, 1e-6), 1, _MOST_GAIN)
    middle = np.clip((least + most) / 2, low + gain * (most - least) / 2, high - gain * (most - least) / 2)
    stretched[:, 0] = (middle + gain * (lab[:, 0] - (least + most) / 2)).clip(low, high)
    chroma = np.hypot(lab[:, 1], lab[:, 2]).max(initial=0)
    stretched[:, 1:] *= np.clip(_MOST_CHROMA / max(chroma, 1e-6), 1, _MOST_GAIN)
    return stretched


@cache
def _palette() -> Float64:
    """(m, 3) sRGB colours to choose from, neither nearly black nor nearly white."""
    steps = np.linspace(0, 1, 11)
    grid = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 3)
    lightness = to_lab(grid)[:, 0]
    return grid[(lightness > 20) & (lightness < 95)]


def _views(colours: Float64) -> Float64:
    """(3, n, 3) CIELAB of (n, 3) sRGB as seen with all cones, without the red and without the green ones."""
    linear = _linear(colours)
    views = [linear, *((linear @ matrix.T).clip(0, 1) for matrix in (_PROTAN, _DEUTAN))]
    return np.stack([_lab_of_linear(view) for view in views])


def _linear(colours: Float64) -> Float64:
    return np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)


def _lab_of_linear(colours: Float64) -> Float64:
    xyz = colours @ _TO_XYZ.T / _TO_XYZ.sum(axis=1)
    roots = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = np.moveaxis(roots, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def _parsed_all(colours: Sequence[str]) -> Float64:
    return np.array([_parsed(colour) for colour in colours], np.float64).reshape(-1, 3)


def _parsed(colour: str) -> tuple[float, float, float]:
    value = int(colour.lstrip("#"), 16)
    return (value >> 16) / 255, (value >> 8 & 255) / 255, (value & 255) / 255


def _spelled(colour: Float64) -> str:
    red, green, blue = np.rint(colour * 255).astype(int)
    return f"#{red:02x}{green:02x}{blue:02x}"
