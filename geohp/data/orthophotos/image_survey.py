"""One look at each image: what patches of it need, where they can be cut, and whether pixel sizes agree."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geohp.classes import NODATA_LABEL
from geohp.config.data import OrthophotosConfig
from geohp.data.orthophotos.footprints import Footprint
from geohp.data.orthophotos.patch_regions import Region, intersect
from geohp.data.orthophotos.patch_sets import LabelSetting, PatchImage, PatchPlace, strips
from geohp.data.orthophotos.pixel_labels import ClassReader
from geohp.data.orthophotos.splits import SplitItem
from geohp.errors import DataError
from geohp.raster.read.patches import THUMBNAIL_PX, grid_origins, sample_origins, valid_share
from geohp.raster.read.scene import Scene, open_scene
from geohp.raster.read.unchanged import UnchangedFiles

logger = logging.getLogger(__name__)

_MIXED = 1.5
"""Pixel sizes further apart than this, as a ratio, are worth a word."""
_ENLARGED = 2.0
_ENOUGH, _TOO_OFTEN = 4, 8
"""So often random patches show the same ground, and so often they show it more than it is worth."""


@dataclass(frozen=True)
class ImageSurvey:
    """What one look at an image tells.

    Attributes:
        image: what patches of it need.
        channels: bands of a patch.
        pixel_size_m: of the image.
        valid_px: how much of it is valid, in its pixels.
        places: where patches can be cut.
    """

    image: PatchImage
    channels: int
    pixel_size_m: float | None
    valid_px: float
    places: Sequence[PatchPlace]


def survey_for_training(
    item: SplitItem, config: OrthophotosConfig, seed: tuple[int, int], area: Region | None
) -> ImageSurvey:
    """Look at an image or a part of it, and choose where in the area patches may be cut (``seed`` draws them)."""
    path, own_m, region = item.footprint.path, item.footprint.pixel_size_m, intersect(item.region, area)
    side = config.source_px(config.patch_px, own_m)
    with open_scene(path, bands=config.bands, scaling=config.scaling) as scene:
        _, valid = scene.thumbnail(THUMBNAIL_PX)
        if config.layout == "random":
            allowed = None if region is None else (lambda rows, cols: region.contains(rows, cols, side))
            rng = np.random.default_rng(seed)
            origins = sample_origins(scene, side, config.patches, rng, config.min_valid, valid, allowed)
        else:
            stride = config.source_px(config.stride_px or config.patch_px, own_m)
            origins = _grid_within(scene, valid, side, stride, config.min_valid, region)
        places = [PatchPlace(path, row, col) for row, col in origins]
        return _survey(scene, _patch_image(item, scene, side, None), own_m, valid, places)


def survey_for_evaluation(
    item: SplitItem, config: OrthophotosConfig, patch_px: float, area: Region | None, labels: LabelSetting
) -> ImageSurvey:
    """Look at an image or a part of it, and find the patches of a grid in the area that show a labelled pixel.

    ``patch_px`` is the side of a patch, as training counts pixels.
    """
    path, own_m, region = item.footprint.path, item.footprint.pixel_size_m, intersect(item.region, area)
    side = config.source_px(patch_px, own_m)
    with ExitStack() as stack:
        scene = stack.enter_context(open_scene(path, bands=config.bands, scaling=config.scaling))
        _, valid = scene.thumbnail(THUMBNAIL_PX)
        image = _patch_image(item, scene, side, region)
        places = _labelled_places(scene, image, valid, labels.open(path, scene, stack))
        return _survey(scene, image, own_m, valid, places)


def _patch_image(item: SplitItem, scene: Scene, side_px: int, region: Region | None) -> PatchImage:
    """What patches of an image need, its files as they were when it was first looked at."""
    path = item.footprint.path
    unchanged = UnchangedFiles.joined(path, (item.footprint.unchanged, scene.unchanged))
    return PatchImage(path, scene.scaling, side_px, region, unchanged)


def _survey(
    scene: Scene, image: PatchImage, own_m: float | None, valid: NDArray[np.bool_], places: Sequence[PatchPlace]
) -> ImageSurvey:
    valid_px = float(valid.mean()) * scene.height * scene.width
    return ImageSurvey(image, len(scene.bands), own_m, valid_px, places)


def _grid_within(
    scene: Scene, valid: NDArray[np.bool_], side: int, stride: int, min_valid: float, region: Region | None
) -> list[tuple[int, int]]:
    """Origins of a grid at which patches are valid enough, and in the region."""
    origins = grid_origins(scene.height, scene.width, side, stride)
    usable = valid_share(valid, origins, side, (scene.height, scene.width)) >= min_valid - 1e-6
    if region is not None:
        rows, cols = np.array(origins).T
        usable &= region.contains(rows, cols, side)
    return [origin for origin, is_usable in zip(origins, usable, strict=True) if is_usable]


def _labelled_places(
    scene: Scene, image: PatchImage, valid: NDArray[np.bool_], classes: ClassReader
) -> list[PatchPlace]:
    """Patches of a grid over a scene that show a labelled pixel which is to be counted."""
    side = image.side_px
    origins = grid_origins(scene.height, scene.width, side, side)
    shares = valid_share(valid, origins, side, (scene.height, scene.width))
    places = []
    for (row, col), share in zip(origins, shares, strict=True):
        # The last row and column of the grid overlap those before: what these have shown is not counted again.
        place = PatchPlace(image.path, row, col, -row % side, -col % side)
        if share <= 0 and valid.any():
            continue
        counted = (
            place.counted_classes(strip, np.ones(strip.shape, bool), classes, image.region)
            for strip in strips(place.block(scene, side))
        )
        if any((classes_of_strip != NODATA_LABEL).any() for classes_of_strip in counted):
            places.append(place)
    return places


def agreed_channels(surveys: Sequence[ImageSurvey]) -> int:
    """The number of bands that all images give."""
    first = surveys[0]
    odd = next((s for s in surveys if s.channels != first.channels), None)
    if odd is not None:
        raise DataError(
            f"{odd.image.path}: gives {odd.channels} band(s) where {first.image.path} gives {first.channels}",
            "name the bands with data.bands",
        )
    return first.channels


def allot_patches(surveys: Sequence[ImageSurvey], config: OrthophotosConfig) -> list[PatchPlace]:
    """Share the patches out by valid area: largest remainders, at least one an image as far as they suffice."""
    usable = [s for s in surveys if s.places]
    if not usable:
        return []
    area = np.array([max(config.area_px(s.valid_px, s.pixel_size_m), 1.0) for s in usable])
    _note_repetition(float(area.sum()), len(usable), config)
    quota = area / area.sum() * config.patches
    counts = np.maximum(np.floor(quota), 1).astype(int)
    order = np.argsort(np.floor(quota) - quota, kind="stable")
    counts[order[: max(0, config.patches - counts.sum())]] += 1
    places = [place for s, count in zip(usable, counts, strict=True) for place in s.places[:count]]
    return places[: config.patches] if len(usable) <= config.patches else places


def _note_repetition(area_px: float, images: int, config: OrthophotosConfig) -> None:
    """Log that so many patches show the same ground over and over, which takes time and teaches little."""
    times = config.patches * config.patch_px**2 / area_px
    enough = math.ceil(_ENOUGH * config.patches / times)
    if times > _TOO_OFTEN:
        logger.info(
            "data.patches = %d shows the ground of %d image(s) %.0f times over: data.patches=%d shows it %d times, "
            "in %.0f %% of the time for features",
            *(config.patches, images, times, enough, _ENOUGH, 100 * enough / config.patches),
        )


def check_pixel_sizes(footprints: Sequence[Footprint], config: OrthophotosConfig) -> None:
    """Log what images of several pixel sizes, or one size for all, mean for patches.

    Raises:
        DataError: an image whose pixel size is not known is to be brought to another.
    """
    sizes = [(f.pixel_size_m, f.path) for f in footprints]
    known = sorted((size, path) for size, path in sizes if size is not None)
    target = config.pixel_size_m
    if target is None:
        _warn_of_scales(known)
        return
    unknown = next((path for size, path in sizes if size is None), None)
    if unknown is not None:
        raise DataError(
            f"{unknown}: its pixel size is not known without a place on Earth, so it cannot be brought to "
            f"data.pixel_size_m = {target:g}",
            "georeference it, or leave data.pixel_size_m out",
        )
    blurred = [path for size, path in known if size > _ENLARGED * target]
    if blurred:
        logger.warning(
            "data.pixel_size_m = %g enlarges %d of %d image(s) more than %g times (%s has pixels of %.3g m) and shows "
            "nothing that they do not; give a larger one, or leave them out",
            *(target, len(blurred), len(known), _ENLARGED, known[-1][1], known[-1][0]),
        )
    small = [f.path for f in footprints if min(f.grid.shape) < config.source_px(config.patch_px, f.pixel_size_m)]
    if small:
        logger.warning(
            "%d of %d image(s) are smaller than a patch of %d px of %g m and mirrored beyond their edges (%s); give a "
            "smaller data.patch_px or data.pixel_size_m",
            *(len(small), len(known), config.patch_px, target, small[0]),
        )


def _warn_of_scales(known: Sequence[tuple[float, str]]) -> None:
    """Log that images at their own pixel sizes, given in order, differ much."""
    if known and known[-1][0] > _MIXED * known[0][0]:
        (fine, finest), (coarse, coarsest) = known[0], known[-1]
        logger.warning(
            "pixels are of %.3g m (%s) to %.3g m (%s), so that patches show the same things at different scales; "
            "data.pixel_size_m=%.3g brings all images to the coarsest",
            *(fine, finest, coarse, coarsest, coarse),
        )
