"""Draw a whole scene: streets, blocks, traffic and trees, then light, optics and sensor."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from geohp.classes import NODATA_LABEL
from geohp.demo.town.canvas import GAMMA, Canvas, Floats, Mask
from geohp.demo.town.cars import paint_car
from geohp.demo.town.city_blocks import BlockPainter
from geohp.demo.town.ground import paint_streets
from geohp.demo.town.streets import Street, StreetPlan
from geohp.demo.town.town_classes import BUILDING
from geohp.demo.town.trees import draw_species, paint_tree


@dataclass(frozen=True)
class SyntheticScene:
    """A drawn orthophoto and its truth.

    Attributes:
        image: (3, H, W) uint8, red, green, blue; 0 where not valid and nowhere else.
        truth: (H, W) uint8 classes of :data:`~geohp.demo.town.town_classes.SIX_CLASSES`; 255 where not valid.
        valid: (H, W) bool; false in the corner beyond the edge of the flight.
    """

    image: npt.NDArray[np.uint8]
    truth: npt.NDArray[np.uint8]
    valid: Mask


def draw_orthophoto(height: int = 1200, width: int = 1200, *, seed: int = 0) -> SyntheticScene:
    """Draw a town as an orthophoto of 20 cm pixels shows it, with the class of every pixel.

    The scene is made so that colour alone misleads, as in real imagery: roofs of one class have many
    colours, slate and bitumen look like asphalt, crowns like lawns, and shadow falls on every class.

    Args:
        height, width: size in pixels, at least 16.
        seed: equal seeds draw equal scenes.

    Raises:
        ValueError: when a side has fewer than 16 pixels.
    """
    if min(height, width) < 16:
        raise ValueError(f"a scene needs at least 16 x 16 pixels, not {height} x {width}")
    rng = np.random.default_rng(seed)
    canvas = Canvas(height, width, rng)
    plan = StreetPlan(canvas.extent_m, rng)
    u, v = plan.to_uv(canvas.x[None, :], canvas.y[:, None])
    paint_streets(canvas, plan, u, v, rng)
    BlockPainter(canvas, plan, u, v, rng).paint_all()
    for streets, along_v in ((plan.u_streets, True), (plan.v_streets, False)):
        crossings = plan.v_streets if along_v else plan.u_streets
        for street in streets:
            _line_street(canvas, plan, street, crossings, along_v, rng)
    radiance = canvas.expose(np.deg2rad(rng.uniform(135, 215)), np.deg2rad(rng.uniform(40, 54)))
    valid = ~_beyond_flight(height, width, rng)
    image = _sense(radiance, rng)
    image[:, ~valid] = 0
    truth = np.where(valid, canvas.truth, np.uint8(NODATA_LABEL))
    return SyntheticScene(image, truth, valid)


def _line_street(
    canvas: Canvas, plan: StreetPlan, street: Street, crossings: list[Street], along_v: bool, rng: np.random.Generator
) -> None:
    """Park and drive cars in a street and plant its pavements."""
    for before, after in itertools.pairwise(crossings):
        first, last = before.at + before.half_width + 6, after.at - after.half_width - 6
        for side in (-1, 1):
            kerb = street.at + side * (street.half_width - 1.15)
            occupied = rng.uniform(0.05, 0.5)
            for at in np.arange(first + rng.uniform(0, 5), last - 2.5, 5.7):
                if rng.random() < occupied:
                    place = plan.place(*_uv(at + rng.uniform(-0.4, 0.4), kerb, along_v), along_v=along_v)
                    paint_car(canvas, *place, rng)
            lane = street.at + side * (street.half_width / 4 if street.is_main else 0.3)
            for at in rng.uniform(first, last, rng.poisson(1.5 if street.is_main else 0.25)):
                paint_car(canvas, *plan.place(*_uv(at, lane, along_v), along_v=along_v), rng)
            if rng.random() < 0.6:
                species, step, radius = draw_species(rng), rng.uniform(8, 13), rng.uniform(2.2, 4.2)
                bed = street.at + side * (street.half_width + 0.8)
                for at in np.arange(first + 2, last - 1, step):
                    x, y = plan.to_xy(*_uv(at, bed, along_v))
                    below = canvas.top_at(x, y)
                    if rng.random() < 0.75 and (below is None or below[0] != BUILDING):
                        paint_tree(canvas, x, y, radius * rng.uniform(0.7, 1.15), species, rng)


def _uv(along: float, across: float, along_v: bool) -> tuple[float, float]:
    return (across, along) if along_v else (along, across)


def _beyond_flight(height: int, width: int, rng: np.random.Generator) -> Mask:
    """A corner cut off by the slanting edge of the flight, 1 to 3 % of the scene."""
    legs = rng.uniform(0.12, 0.2), rng.uniform(0.16, 0.28)
    rows = (np.arange(height) + 0.5)[:, None] / (legs[0] * height)
    cols = (np.arange(width) + 0.5)[None, :] / (legs[1] * width)
    corner: Mask = rows + cols < 1
    turned: Mask = corner[:: rng.choice([-1, 1]), :: rng.choice([-1, 1])]
    return np.ascontiguousarray(turned)


def _sense(radiance: Floats, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Blur by the optics, haze, noise and tone curve: linear radiance (H, W, 3) to uint8 (3, H, W), at least 1."""
    bands = []
    haze = 0.006 * np.array([0.8, 1.0, 1.5]) * rng.uniform(0.7, 1.5)
    gain = rng.uniform(0.95, 1.1) * (1 + rng.normal(0, 0.015, 3))
    for band in range(3):
        blurred = ndimage.gaussian_filter(radiance[..., band], 0.62)
        signal = np.clip(blurred * gain[band] + haze[band], 0, None)
        noise = rng.standard_normal(signal.shape, dtype=np.float32)
        signal = signal + noise * np.sqrt(signal * np.float32(1.2e-4) + np.float32(4e-6))
        toned = 255 * np.clip(signal, 0, 1) ** (1 / GAMMA)
        bands.append(np.clip(np.rint(toned), 1, 255).astype(np.uint8))
    return np.stack(bands)
