"""Patches from one's own imagery: a folder of GeoTIFFs or plain images, no labels needed."""

from __future__ import annotations

import fnmatch
import glob
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from geohp.errors import DataError
from geohp.raster.grid import pixel_size_m
from geohp.raster.listing import IMAGE_SUFFIXES
from geohp.raster.patches import THUMBNAIL_PX, read_patch, sample_origins
from geohp.raster.scaling import Scaling
from geohp.raster.scenes import Scene, open_scene

_OPEN_SCENES = 16


@dataclass(frozen=True)
class PatchPlace:
    """Where a patch is cut: the image, and its first row and column."""

    path: str
    row: int
    col: int


class OrthophotoPatches(Dataset[dict[str, Any]]):
    """Square patches at random places of a set of images, the same ones for the same seed.

    Items are ``{"image": (bands, input_px, input_px) float32 in [0, 1]}``.

    Args:
        paths: the images.
        patches: how many patches in all, spread over the images by their valid area, at least one each as far as
            they suffice.
        patch_px: side of a patch in the images' pixels.
        input_px: side it is resized to, bilinearly.
        bands, scaling: see :func:`geohp.raster.scenes.open_scene`.
        min_valid: share of valid pixels a patch should have.
        seed: of the places.
        progress: called with the images surveyed and their number.

    Raises:
        SceneError: when an image cannot be read.
        DataError: when no image holds a valid pixel, or they differ in their number of bands.
    """

    def __init__(
        self,
        paths: Sequence[str | Path],
        *,
        patches: int,
        patch_px: int,
        input_px: int | None = None,
        bands: Sequence[int | str] | None = None,
        scaling: str = "auto",
        min_valid: float = 0.9,
        seed: int = 0,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self.patch_px, self.input_px = patch_px, input_px or patch_px
        self.bands = bands
        self._open: OrderedDict[str, Scene] = OrderedDict()
        surveyed: list[_Surveyed] = []
        for number, path in enumerate(paths, start=1):
            surveyed.append(_survey(str(path), patches, patch_px, bands, scaling, min_valid, (seed, number)))
            if progress:
                progress(number, len(paths))
        counts = {s.channels for s in surveyed}
        if len(counts) > 1:
            odd = next(s for s in surveyed if s.channels != surveyed[0].channels)
            raise DataError(
                f"{odd.path}: gives {odd.channels} band(s) where {surveyed[0].path} gives {surveyed[0].channels}; "
                "name the bands with data.bands"
            )
        self.scalings = {s.path: s.scaling for s in surveyed}
        self.channels = surveyed[0].channels
        sizes = [s.pixel_size_m for s in surveyed if s.pixel_size_m is not None]
        self.pixel_size_m = float(np.median(sizes)) if sizes else None
        self.places = _allot(surveyed, patches)
        if not self.places:
            raise DataError(f"{paths[0]}: neither it nor the other images hold a valid pixel; check nodata and masks")

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> dict[str, Any]:
        place = self.places[index]
        data, _ = read_patch(self._scene(place.path), place.row, place.col, self.patch_px)
        return {"image": resized(torch.from_numpy(data), self.input_px)}

    def close(self) -> None:
        """Close the images that are open."""
        while self._open:
            self._open.popitem()[1].close()

    def __getstate__(self) -> dict[str, Any]:
        # Reader processes open the images anew: GDAL handles do not travel.
        return {**self.__dict__, "_open": OrderedDict()}

    def _scene(self, path: str) -> Scene:
        if path in self._open:
            self._open.move_to_end(path)
        else:
            if len(self._open) >= _OPEN_SCENES:
                self._open.popitem(last=False)[1].close()
            self._open[path] = open_scene(path, bands=self.bands, scaling=self.scalings[path])
        return self._open[path]


def find_images(patterns: Sequence[str], exclude: Sequence[str] = ()) -> list[Path]:
    """The images that files, folders (searched recursively) and glob patterns mean, sorted, each once.

    Args:
        patterns: paths or patterns such as ``tiles/*.tif``; ``**`` crosses folders.
        exclude: patterns of file names to leave out.

    Raises:
        DataError: when one of the patterns means no image at all.
    """
    found: set[Path] = set()
    for pattern in patterns:
        path = Path(pattern).expanduser()
        if path.is_dir():
            some = {p for p in path.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file()}
        elif path.is_file():
            some = {path}
        else:
            some = {p for p in map(Path, glob.glob(str(path), recursive=True)) if p.is_file()}  # noqa: PTH207
        some = {p for p in some if not any(fnmatch.fnmatch(p.name, e) for e in exclude)}
        if not some:
            raise DataError(
                f"data.images = {pattern}: no images there; give files, folders or patterns such as tiles/*.tif "
                f"(seen from {Path.cwd()})"
            )
        found |= some
    return sorted(found)


def resized(image: Tensor, side: int) -> Tensor:
    """(bands, H, W) to (bands, side, side), bilinear, antialiased where it shrinks."""
    if image.shape[-2:] == (side, side):
        return image
    return F.interpolate(image[None], size=(side, side), mode="bilinear", antialias=True)[0]


@dataclass(frozen=True)
class _Surveyed:
    """What one look at an image tells."""

    path: str
    channels: int
    scaling: Scaling
    pixel_size_m: float | None
    valid_px: float
    origins: list[tuple[int, int]]


def _survey(
    path: str,
    patches: int,
    side: int,
    bands: Sequence[int | str] | None,
    scaling: str,
    min_valid: float,
    seed: tuple[int, int],
) -> _Surveyed:
    with open_scene(path, bands=bands, scaling=scaling) as scene:
        _, valid = scene.thumbnail(THUMBNAIL_PX)
        origins = sample_origins(scene, side, patches, np.random.default_rng(seed), min_valid, valid)
        return _Surveyed(
            path,
            len(scene.bands),
            scene.scaling,
            pixel_size_m(scene.grid),
            float(valid.mean()) * scene.height * scene.width,
            origins,
        )


def _allot(surveyed: Sequence[_Surveyed], patches: int) -> list[PatchPlace]:
    """Share the patches out by valid area: largest remainders, at least one an image as far as they suffice."""
    usable = [s for s in surveyed if s.origins]
    if not usable:
        return []
    area = np.array([max(s.valid_px, 1.0) for s in usable])
    wanted = area / area.sum() * patches
    counts = np.maximum(np.floor(wanted), 1).astype(int)
    order = np.argsort(np.floor(wanted) - wanted, kind="stable")
    for i in order[: max(0, patches - counts.sum())]:
        counts[i] += 1
    places = [PatchPlace(s.path, row, col) for s, n in zip(usable, counts, strict=True) for row, col in s.origins[:n]]
    return places[:patches] if len(usable) <= patches else places
