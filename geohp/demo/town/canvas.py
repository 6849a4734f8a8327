"""What the scene is painted on: colour, class and height a pixel, and the light that falls on them.

Objects are painted in any order: a pixel belongs to whatever stands highest there, as seen from the air.
Heights also cast the shadows, so that shadow falls on every class in the same direction and length.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

from geohp.demo.town.town_classes import ROAD

Floats: TypeAlias = npt.NDArray[np.float32]
Mask: TypeAlias = npt.NDArray[np.bool_]
Window: TypeAlias = tuple[slice, slice]
Colour: TypeAlias = tuple[float, float, float]

PIXEL_M = 0.2
GAMMA = 2.2
SKY: Colour = (0.20, 0.235, 0.30)
SUN: Colour = (0.80, 0.765, 0.70)


class Canvas:
    """A scene of ``height`` x ``width`` pixels of 20 cm; x runs right and y down, in metres.

    Attributes:
        colour: reflectance as it would look in full sun, (H, W, 3), sRGB-like in [0, 1].
        truth: class a pixel, uint8.
        height_m: height of the topmost surface above ground.
        slope_x, slope_y: tilt of that surface, metres up per metre right and down.
        grain, fine, patch, broad: noise of unit variance with features of about 1, 3, 10 and 60 pixels.
    """

    def __init__(self, height: int, width: int, rng: np.random.Generator):
        self.shape = (height, width)
        self.x = ((np.arange(width) + 0.5) * PIXEL_M).astype(np.float32)
        self.y = ((np.arange(height) + 0.5) * PIXEL_M).astype(np.float32)
        self.colour = np.zeros((height, width, 3), np.float32)
        self.truth = np.full((height, width), ROAD, np.uint8)
        self.height_m = np.zeros((height, width), np.float32)
        self.slope_x = np.zeros((height, width), np.float32)
        self.slope_y = np.zeros((height, width), np.float32)
        self.grain = rng.standard_normal((height, width), dtype=np.float32)
        self.fine = smooth_noise(self.shape, 2.5, rng)
        self.patch = smooth_noise(self.shape, 9.0, rng)
        self.broad = smooth_noise(self.shape, 55.0, rng)

    @property
    def extent_m(self) -> tuple[float, float]:
        """Width and height in metres."""
        return self.shape[1] * PIXEL_M, self.shape[0] * PIXEL_M

    @property
    def everything(self) -> Window:
        """The window that covers the whole canvas."""
        return slice(0, self.shape[0]), slice(0, self.shape[1])

    def window(self, x: float, y: float, radius: float) -> Window | None:
        """Pixels within ``radius`` metres of (x, y) in both directions; ``None`` when none is on the canvas."""
        return self.window_of(x - radius, x + radius, y - radius, y + radius)

    def window_of(self, x0: float, x1: float, y0: float, y1: float) -> Window | None:
        """Pixels of the box from (x0, y0) to (x1, y1), in metres; ``None`` when none is on the canvas."""
        rows = slice(max(0, math.floor(y0 / PIXEL_M)), min(self.shape[0], math.ceil(y1 / PIXEL_M)))
        cols = slice(max(0, math.floor(x0 / PIXEL_M)), min(self.shape[1], math.ceil(x1 / PIXEL_M)))
        return (rows, cols) if rows.start < rows.stop and cols.start < cols.stop else None

    def local(self, window: Window, x: float, y: float, angle: float) -> tuple[Floats, Floats]:
        """Coordinates of a window's pixels along and across the direction ``angle``, from (x, y), in metres."""
        dx = self.x[window[1]][None, :] - np.float32(x)
        dy = self.y[window[0]][:, None] - np.float32(y)
        cos, sin = np.float32(math.cos(angle)), np.float32(math.sin(angle))
        return dx * cos + dy * sin, dy * cos - dx * sin

    def paint(
        self,
        window: Window,
        mask: Mask,
        colour: Floats | Colour,
        label: int | None,
        height_m: Floats | float = 0.0,
        slope: tuple[Floats | float, Floats | float] | None = (0.0, 0.0),
    ) -> Mask:
        """Paint the pixels of ``mask`` that nothing higher covers.

        Args:
            window: where ``mask`` lies.
            mask: pixels of the object, of the window's shape.
            colour: one colour, or one a pixel.
            label: class, or ``None`` to keep the class below.
            height_m: height of the object's surface.
            slope: tilt of the surface along x and y, or ``None`` to keep the tilt below.

        Returns:
            The pixels painted.
        """
        seen: Mask = mask & (height_m >= self.height_m[window])
        self.colour[window][seen] = np.broadcast_to(np.asarray(colour, np.float32), (*seen.shape, 3))[seen]
        self.height_m[window][seen] = np.broadcast_to(np.asarray(height_m, np.float32), seen.shape)[seen]
        if label is not None:
            self.truth[window][seen] = label
        if slope is not None:
            self.slope_x[window][seen] = np.broadcast_to(np.asarray(slope[0], np.float32), seen.shape)[seen]
            self.slope_y[window][seen] = np.broadcast_to(np.asarray(slope[1], np.float32), seen.shape)[seen]
        return seen

    def top_at(self, x: float, y: float) -> tuple[int, float] | None:
        """Class and height at (x, y); ``None`` off the canvas."""
        row, col = math.floor(y / PIXEL_M), math.floor(x / PIXEL_M)
        if not (0 <= row < self.shape[0] and 0 <= col < self.shape[1]):
            return None
        return int(self.truth[row, col]), float(self.height_m[row, col])

    def expose(self, azimuth: float, elevation: float) -> Floats:
        """Light the scene by sun and sky: radiance (H, W, 3), linear, 1 = white in full sun.

        Args:
            azimuth: where the sun stands, radians clockwise from north.
            elevation: how high it stands, radians.
        """
        towards_x, towards_y = math.sin(azimuth), -math.cos(azimuth)
        facing = np.tan(elevation) - self.slope_x * towards_x - self.slope_y * towards_y
        facing = np.maximum(facing, 0) / np.sqrt(1 + self.slope_x**2 + self.slope_y**2) / math.tan(elevation)
        lit = 1 - ndimage.gaussian_filter(self._shadow(towards_x, towards_y, elevation), 0.7)
        # Low ground beside high walls and crowns sees less of the sky.
        open_sky = 1 - 0.035 * np.clip(ndimage.uniform_filter(self.height_m, 25) - self.height_m, 0, 8)
        direct = (facing * lit)[..., None] * np.asarray(SUN, np.float32)
        light = direct + open_sky[..., None].astype(np.float32) * np.asarray(SKY, np.float32)
        radiance: Floats = np.clip(self.colour, 0.01, 1) ** np.float32(GAMMA) * light
        return radiance

    def _shadow(self, towards_x: float, towards_y: float, elevation: float) -> Floats:
        """1 where something towards the sun stands above the ray to it, else 0."""
        rows, cols = self.shape
        ceiling = np.zeros(self.shape, np.float32)
        drop = PIXEL_M * math.tan(elevation)
        for step in range(1, math.ceil(float(self.height_m.max()) / drop)):
            dr, dc = round(step * towards_y), round(step * towards_x)
            if abs(dr) >= rows or abs(dc) >= cols:
                break
            ground = slice(max(0, -dr), rows - max(0, dr)), slice(max(0, -dc), cols - max(0, dc))
            towards = slice(max(0, dr), rows - max(0, -dr)), slice(max(0, dc), cols - max(0, -dc))
            np.maximum(ceiling[ground], self.height_m[towards] - np.float32(step * drop), out=ceiling[ground])
        return (ceiling > self.height_m + 0.25).astype(np.float32)


def smooth_noise(shape: tuple[int, int], feature_px: float, rng: np.random.Generator) -> Floats:
    """Gaussian noise of zero mean and unit variance whose features measure about ``feature_px`` pixels."""
    rows, cols = (math.ceil(n / feature_px) + 3 for n in shape)
    coarse = Image.fromarray(rng.standard_normal((rows, cols), dtype=np.float32))
    offset = rng.uniform(0.5, 1.5, 2)
    box = (offset[0], offset[1], offset[0] + shape[1] / feature_px, offset[1] + shape[0] / feature_px)
    noise = np.asarray(coarse.resize((shape[1], shape[0]), Image.Resampling.BICUBIC, box=box), np.float32)
    return noise / np.float32(0.72)  # what bicubic interpolation leaves of the standard deviation
