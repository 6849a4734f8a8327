"""One's own imagery: found, shared out between training and testing, and cut into patches."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import geopandas
import numpy as np
from numpy.typing import NDArray

from geohp.classes import NODATA_LABEL
from geohp.config.data import OrthophotosConfig
from geohp.data.base import DataSource, EvaluationProtocol, Progress
from geohp.data.orthophotos.footprints import Footprint, common_plane, read_footprints
from geohp.data.orthophotos.label_files import LabelFiles, match_labels
from geohp.data.orthophotos.labels import ClassReader, ClassTable, natural, open_labels_of, texts_in
from geohp.data.orthophotos.patch_sets import LabelSetting, OrthophotoPatches, PatchPlace, strips
from geohp.data.orthophotos.regions import Region, area_on, intersect, read_area
from geohp.data.orthophotos.splits import Split, SplitItem, make_split
from geohp.errors import DataError
from geohp.raster.block import Block
from geohp.raster.read.patches import THUMBNAIL_PX, grid_origins, sample_origins, valid_share
from geohp.raster.read.scaling import Scaling
from geohp.raster.read.scene import Scene, open_scene
from geohp.raster.sources.paths import is_remote
from geohp.raster.sources.resolve import find_images

logger = logging.getLogger(__name__)

_UNSPLIT = (
    "Evaluated on the images that were trained on, none of whose labels were used; data.split or data.test_images "
    "holds some out, which also allows a linear probe."
)
_MIXED = 1.5
"""Pixel sizes further apart than this, as a ratio, are worth a word."""
_ENLARGED = 2.0


class Orthophotos(DataSource):
    """A set of one's own images.

    With labels and a split, the labels of the training side teach a linear probe, and those of the test side judge.
    With labels and no split, the labels judge the images that were trained on, and teach nothing.

    Args:
        config: which images, and how patches are cut.
        seed: of the places of the patches.
    """

    def __init__(self, config: OrthophotosConfig, seed: int = 0) -> None:
        self.config, self.seed = config, seed

    @property
    def labelled(self) -> bool:
        """Whether there are labels to evaluate against."""
        return bool(self.config.labels)

    def training(self, progress: Progress | None = None) -> OrthophotoPatches:
        """Patches of the training side, at random places or on a grid."""
        config, images = self.config, self._images
        # What judges must not teach: without a split, labels are left alone.
        setting = self._labels if images.held_out and images.teach else None
        surveyed = [
            _survey(part, config, (self.seed, number), images.areas.get(part.footprint.path))
            for number, part in _counted(images.split.train, progress)
        ]
        places = _allot(surveyed, config) if config.layout == "random" else _all_places(surveyed)
        if not places:
            raise DataError(self._no_patch())
        return self._patches(surveyed, places, config.patch_px, config.model_input_px, setting)

    def evaluation(self, progress: Progress | None = None) -> OrthophotoPatches:
        """Labelled patches of the test side on a grid: every labelled pixel is in exactly one of them."""
        config, images, setting = self.config, self._images, self._labels
        if setting is None:
            return super().evaluation(progress)  # type: ignore[return-value] # raises
        wanted = config.evaluation_px * config.patch_px / config.model_input_px
        surveyed, regions, places = [], {}, list[PatchPlace]()
        for _, part in _counted(images.split.test, progress):
            path, own = part.footprint.path, part.footprint.pixel_size_m
            side = config.source_px(wanted, own)
            region = intersect(part.region, images.areas.get(path))
            if region is not None:
                regions[path] = region
            with ExitStack() as stack:
                scene = stack.enter_context(open_scene(path, bands=config.bands, scaling=config.scaling))
                _, valid = scene.thumbnail(THUMBNAIL_PX)
                surveyed.append(_Surveyed.of(scene, path, own, side, float(valid.mean())))
                places += _labelled_places(scene, path, side, valid, setting.reader(path, scene, stack), region)
        if not places:
            raise DataError(
                f"data.labels: no pixel of the {len(images.split.test)} image(s) to test on is labelled; "
                + ("try another data.split_seed or data.test_share, or name" if images.held_out else "check")
                + (" data.test_images" if images.held_out else " whether labels and images lie on the same ground")
            )
        return self._patches(surveyed, places, config.source_px(wanted, None), config.evaluation_px, setting, regions)

    def _patches(
        self,
        surveyed: Sequence[_Surveyed],
        places: Sequence[PatchPlace],
        patch_px: int,
        input_px: int,
        labels: LabelSetting | None,
        regions: dict[str, Region] | None = None,
    ) -> OrthophotoPatches:
        channels = _agreed_channels(surveyed)
        sizes = [s.pixel_size_m for s in surveyed if s.pixel_size_m is not None]
        self.pixel_size_m = self.config.pixel_size_m or (float(np.median(sizes)) if sizes else None)
        return OrthophotoPatches(
            places,
            scalings={s.path: s.scaling for s in surveyed},
            channels=channels,
            patch_px=patch_px,
            windows=None if self.config.pixel_size_m is None else {s.path: s.side for s in surveyed},
            input_px=input_px,
            bands=self.config.bands,
            labels=labels,
            regions=regions,
            files={s.path: s.files for s in surveyed},
        )

    def _no_patch(self) -> str:
        first = self._images.split.train[0].footprint.path
        config = self.config
        if config.split == "block" or config.area is not None:
            size = "" if config.pixel_size_m is None else f" of {config.pixel_size_m:g} m"
            return (
                f"{first}: neither in it nor in the other images does a patch of {config.patch_px} px{size} fit where "
                "patches may be cut; give a larger data.block_m or data.area, or a smaller data.patch_px"
            )
        return f"{first}: neither it nor the other images hold a valid pixel; check nodata and masks"

    @cached_property
    def _images(self) -> _Images:
        """The images, who of them goes where, and their labels; only headers are read."""
        config = self.config
        area = None if config.area is None else read_area(config.area)
        paths = _find(config.images, config, area, "data.images")
        tests: list[str] = []
        if config.test_images:
            tests = _find(config.test_images, config, area, "data.test_images")
            # The same image by two names would be learnt from and judged.
            one_name = {p if is_remote(p) else str(Path(p).resolve()): p for p in (*paths, *tests)}
            paths = sorted(one_name.values(), key=Path)
        files = match_labels(config.labels, paths) if config.labels else LabelFiles({})
        # A folder of images may hold their labels, too.
        paths = [p for p in paths if p not in files.files]
        tests = [p for p in tests if p not in files.files]
        footprints = read_footprints(paths)
        areas: dict[str, Region] = {}
        if area is not None:
            footprints, areas = _within(area, footprints)
        _check_pixel_sizes(footprints, config)
        # Only what is labelled is worth testing on.
        labelled = None
        if config.labels and config.split != "none":
            labelled = files.covered(footprints, common_plane(footprints), config.label_layer)
        split = make_split(footprints, config, test_paths=tests, labelled=labelled)
        images = _Images(split, files, areas, held_out=config.split != "none" or bool(tests))
        if images.held_out:
            logger.info("%s", split.text)
        text = f"Own data. {split.text}." if images.held_out else f"Own data. {_UNSPLIT}"
        if config.pixel_size_m is not None:
            text += f" All images brought to {config.pixel_size_m:g} m a pixel."
        self.protocol = EvaluationProtocol(None, same=False, text=text if config.labels else "Own data without labels.")
        return images

    @cached_property
    def _labels(self) -> LabelSetting | None:
        """How to read classes; where they are not told, all labels are searched for their values once."""
        config, files = self.config, self._images.files
        if not config.labels:
            return None
        colours: dict[str, str] = {}
        texts: set[str] = set()
        parts = {p.footprint.path: p.footprint for p in (*self._images.split.train, *self._images.split.test)}
        for footprint in parts.values():
            opened = open_labels_of(
                footprint.path, footprint.grid, files, field=config.label_field, layer=config.label_layer
            )
            with opened as labels:
                for one in labels:
                    colours.update(one.colours)
                    if not config.label_classes:
                        texts |= texts_in(one, footprint.grid.shape)
        if not texts and not config.label_classes:
            raise DataError(
                f"data.labels: none of the {len(parts)} image(s) has a labelled pixel; check whether labels and "
                "images lie on the same ground"
            )
        told = config.label_classes or {text: text for text in sorted(texts, key=natural)}
        table = ClassTable.of_config(told, colours)
        self.classes = table.classes
        return LabelSetting(files, table, config.label_field, config.label_layer)


@dataclass(frozen=True)
class _Images:
    """What there is: the sides of the split, labels, areas of interest by image, and whether labels are held out."""

    split: Split
    files: LabelFiles
    areas: dict[str, Region]
    held_out: bool

    @property
    def teach(self) -> bool:
        """Whether images to train on may have labels."""
        over_ground = self.files.rasters or self.files.vectors
        return bool(over_ground or any(p.footprint.path in self.files.of_image for p in self.split.train))


def _find(patterns: Sequence[str], config: OrthophotosConfig, area: geopandas.GeoSeries | None, key: str) -> list[str]:
    """The images that patterns mean, in an order that does not depend on theirs."""
    images = find_images(patterns, exclude=config.exclude, area=area, asset=config.asset, key=key)
    return sorted(images, key=Path)


def _within(area: geopandas.GeoSeries, footprints: Sequence[Footprint]) -> tuple[list[Footprint], dict[str, Region]]:
    found = {f.path: region for f in footprints if (region := area_on(area, f)) is not None}
    if not found:
        raise DataError(f"data.area: meets none of the {len(footprints)} image(s); check its coordinates")
    return [f for f in footprints if f.path in found], dict(found)


def _check_pixel_sizes(footprints: Sequence[Footprint], config: OrthophotosConfig) -> None:
    """Announce what images of several pixel sizes, or one size for all, mean for patches.

    Raises:
        DataError: an image whose pixel size is not known is to be brought to another.
    """
    wanted, sizes = config.pixel_size_m, {f.path: f.pixel_size_m for f in footprints}
    known = sorted((size, path) for path, size in sizes.items() if size is not None)
    if wanted is None:
        if known and known[-1][0] > _MIXED * known[0][0]:
            (fine, finest), (coarse, coarsest) = known[0], known[-1]
            logger.warning(
                "pixels are of %.3g m (%s) to %.3g m (%s), so that patches show the same things at different scales; "
                "data.pixel_size_m=%.3g brings all images to the coarsest",
                *(fine, finest, coarse, coarsest, coarse),
            )
        return
    for path, size in sizes.items():
        if size is None:
            raise DataError(
                f"{path}: its pixel size is not known without a place on Earth, so it cannot be brought to "
                f"data.pixel_size_m = {wanted:g}; georeference it, or leave data.pixel_size_m out"
            )
    blurred = [path for size, path in known if size > _ENLARGED * wanted]
    if blurred:
        logger.warning(
            "data.pixel_size_m = %g enlarges %d of %d image(s) more than %g times (%s has pixels of %.3g m) and shows "
            "nothing that they do not; give a larger one, or leave them out",
            *(wanted, len(blurred), len(known), _ENLARGED, known[-1][1], known[-1][0]),
        )
    small = [f.path for f in footprints if min(f.grid.shape) < config.source_px(config.patch_px, f.pixel_size_m)]
    if small:
        logger.warning(
            "%d of %d image(s) are smaller than a patch of %d px of %g m and mirrored beyond their edges (%s); give a "
            "smaller data.patch_px or data.pixel_size_m",
            *(len(small), len(known), config.patch_px, wanted, small[0]),
        )


def _counted(parts: Sequence[SplitItem], progress: Progress | None) -> Iterator[tuple[int, SplitItem]]:
    """Parts with their number from 1, telling how many are done."""
    for number, part in enumerate(parts, start=1):
        yield number, part
        if progress:
            progress(number, len(parts))


@dataclass(frozen=True)
class _Surveyed:
    """What one look at an image tells: among others the side of a patch, and how much of it is valid, in its pixels."""

    path: str
    channels: int
    scaling: Scaling
    files: tuple[str, ...]
    pixel_size_m: float | None
    side: int
    valid_px: float
    origins: Sequence[tuple[int, int]]

    @classmethod
    def of(
        cls,
        scene: Scene,
        path: str,
        pixel_size_m: float | None,
        side: int,
        valid_share: float,
        origins: Sequence[tuple[int, int]] = (),
    ) -> _Surveyed:
        valid_px = valid_share * scene.height * scene.width
        return cls(path, len(scene.bands), scene.scaling, scene.files, pixel_size_m, side, valid_px, origins)


def _survey(part: SplitItem, config: OrthophotosConfig, seed: tuple[int, int], area: Region | None) -> _Surveyed:
    """Look at an image to train on, and choose where patches may be cut."""
    path, own, region = part.footprint.path, part.footprint.pixel_size_m, intersect(part.region, area)
    side = config.source_px(config.patch_px, own)
    with open_scene(path, bands=config.bands, scaling=config.scaling) as scene:
        _, valid = scene.thumbnail(THUMBNAIL_PX)
        if config.layout == "random":
            allowed = None if region is None else (lambda rows, cols: region.contains(rows, cols, side))
            rng = np.random.default_rng(seed)
            origins = sample_origins(scene, side, config.patches, rng, config.min_valid, valid, allowed)
        else:
            stride = config.source_px(config.stride_px or config.patch_px, own)
            origins = grid_origins(scene.height, scene.width, side, stride)
            share = valid_share(valid, origins, side, (scene.height, scene.width))
            keep = share >= config.min_valid - 1e-6
            if region is not None:
                rows, cols = np.array(origins).T
                keep &= region.contains(rows, cols, side)
            origins = [origin for origin, kept in zip(origins, keep, strict=True) if kept]
        return _Surveyed.of(scene, path, own, side, float(valid.mean()), origins)


def _labelled_places(
    scene: Scene, path: str, side: int, valid: NDArray[np.bool_], classes: ClassReader, region: Region | None
) -> list[PatchPlace]:
    """Patches of a grid over a scene that show a labelled pixel which is to be counted."""
    origins = grid_origins(scene.height, scene.width, side, side)
    shares = valid_share(valid, origins, side, (scene.height, scene.width))
    found = []
    for (row, col), share in zip(origins, shares, strict=True):
        # The last row and column of the grid overlap those before: what these have shown is not counted again.
        place = PatchPlace(path, row, col, -row % side, -col % side)
        block = Block(row, col, side, side).clip((scene.height, scene.width))
        if share <= 0 and valid.any():
            continue
        if any(_any_labelled(strip, place, classes, region) for strip in strips(block)):
            found.append(place)
    return found


def _any_labelled(block: Block, place: PatchPlace, classes: ClassReader, region: Region | None) -> bool:
    """Whether a block of a patch has a labelled pixel which is to be counted."""
    counts = np.ones(block.shape, bool) if region is None else region.pixels(block)
    counts[: max(0, place.row + place.skip_rows - block.row)], counts[:, : place.skip_cols] = False, False
    return bool(counts.any() and (classes.read(block)[counts] != NODATA_LABEL).any())


def _agreed_channels(surveyed: Sequence[_Surveyed]) -> int:
    odd = next((s for s in surveyed if s.channels != surveyed[0].channels), None)
    if odd is not None:
        raise DataError(
            f"{odd.path}: gives {odd.channels} band(s) where {surveyed[0].path} gives {surveyed[0].channels}; "
            "name the bands with data.bands"
        )
    return surveyed[0].channels


def _all_places(surveyed: Sequence[_Surveyed]) -> list[PatchPlace]:
    return [PatchPlace(s.path, row, col) for s in surveyed for row, col in s.origins]


def _allot(surveyed: Sequence[_Surveyed], config: OrthophotosConfig) -> list[PatchPlace]:
    """Share the patches out by valid area: largest remainders, at least one an image as far as they suffice."""
    usable = [s for s in surveyed if s.origins]
    if not usable:
        return []
    area = np.array([max(config.area_px(s.valid_px, s.pixel_size_m), 1.0) for s in usable])
    patches = config.patches
    wanted = area / area.sum() * patches
    counts = np.maximum(np.floor(wanted), 1).astype(int)
    order = np.argsort(np.floor(wanted) - wanted, kind="stable")
    for i in order[: max(0, patches - counts.sum())]:
        counts[i] += 1
    places = [PatchPlace(s.path, row, col) for s, n in zip(usable, counts, strict=True) for row, col in s.origins[:n]]
    return places[:patches] if len(usable) <= patches else places
