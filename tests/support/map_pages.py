"""A small map with its scene and confidence, and pages read as a browser would."""

from __future__ import annotations

import json
import re
import zlib
from base64 import b64decode
from io import BytesIO

import numpy as np
import rasterio
from affine import Affine
from PIL import Image

from geohp.classes import LandCoverClass, classes_to_json

SHAPE = (150, 200)
TRANSFORM = Affine(0.5, 0, 380000, 0, -0.5, 5800000)
COLOURS = ("#2255aa", "#227733", "#ccbb55", "#884422")
MODEL = "5" * 64


def write_raster(path, values, *, classes=None, tags=None, scale=None, **profile):
    """Write (bands, rows, cols) as a GeoTIFF of 50 cm pixels in EPSG:32633."""
    count, height, width = values.shape
    ours = {"driver": "GTiff", "count": count, "height": height, "width": width, "dtype": values.dtype}
    place = {"crs": "EPSG:32633", "transform": TRANSFORM}
    with rasterio.open(path, "w", **ours | place | profile) as dataset:
        dataset.write(values)
        dataset.update_tags(**tags or {})
        if scale is not None:
            dataset.scales = (scale,)
        if classes is not None:
            dataset.update_tags(1, classes=classes_to_json(classes))
    return path


def label_values(shape=SHAPE):
    """(1, rows, cols) four upright stripes, labels 0 to 3, and no data in the upper left corner."""
    height, width = shape
    values = np.repeat(np.arange(width)[None] * 4 // width, height, axis=0).astype(np.uint8)
    values[:20, :30] = 255
    return values[None]


def scene_values(labels):
    """(3, rows, cols) the colours of the labels with some noise, black where there is no data."""
    table = np.zeros((256, 3), np.uint8)
    table[:4] = [[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in COLOURS]
    noise = np.random.default_rng(3).integers(0, 12, (3, *labels.shape), np.uint8)
    return np.where(labels == 255, np.uint8(0), np.moveaxis(table[labels], -1, 0) + noise + 1).astype(np.uint8)


def write_map(folder, names=("class 0", "class 1", "class 2", "class 3"), *, stem="labels", scene="scene.tif"):
    """A label map, its scene and its confidence, 0.9 but for 0.5 in the lower half; gives the paths of the two."""
    labels = label_values()
    classes = [LandCoverClass(i, name, COLOURS[i]) for i, name in enumerate(names)]
    tags = {"GEOHP_MODEL_SHA256": MODEL}
    path = write_raster(folder / f"{stem}.tif", labels, classes=classes, tags=tags, nodata=255)
    steps = np.where(np.arange(SHAPE[0]) < SHAPE[0] // 2, 229, 127).astype(np.uint8)[None, :, None]
    steps = np.where(labels == 255, np.uint8(255), np.broadcast_to(steps, labels.shape))
    write_raster(folder / f"{stem}_confidence.tif", steps, tags=tags, nodata=255, scale=1 / 254)
    return path, write_raster(folder / scene, scene_values(labels[0]), nodata=0)


class Page:
    """What a page holds, read as a browser would."""

    def __init__(self, path):
        self.text = path.read_text(encoding="utf-8")
        pattern = r'<script type="application/json" id="([^"]*)">(.*?)</script>'
        self.parts = {name: json.loads(body) for name, body in re.findall(pattern, self.text, re.DOTALL)}
        self.document = self.parts["page"]

    def size(self, level):
        factor = self.document["levels"][level]["factor"]
        return tuple(-(-self.document[side] // factor) for side in ("height", "width"))

    def labels(self, level=0):
        return self._joined(level, "labels", lambda text, shape: inflated(text).reshape(shape), (255,))[..., 0]

    def colours(self, level=0):
        return self._joined(level, "images", lambda text, _: pixels(text), (0, 0, 0, 0))

    def confidence(self):
        """Of a page of one tile."""
        rows, cols = (-(-side // 2) for side in self.size(0))
        return inflated(self.parts["level-0"]["confidence"][0]).reshape(rows, cols)

    def _joined(self, level, kind, decode, empty):
        layout, side, (height, width) = self.document["levels"][level], self.document["tile"], self.size(level)
        whole = np.full((height, width, len(empty)), empty, np.uint8)
        for number, text in enumerate(self.parts[f"level-{level}"][kind]):
            row, col = (side * place for place in divmod(number, layout["columns"]))
            tile = whole[row : row + side, col : col + side]
            if text:
                tile[...] = decode(text, tile.shape[:2]).reshape(tile.shape)
        return whole


def inflated(text):
    return np.frombuffer(zlib.decompress(b64decode(text)), np.uint8)


def pixels(text):
    return np.asarray(Image.open(BytesIO(b64decode(text))).convert("RGBA"))
