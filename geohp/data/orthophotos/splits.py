"""What is learnt from and what is judged: whole images, folders or blocks of ground, never both of one place."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
import shapely
from pyproj import CRS
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from geohp.config.data import OrthophotosConfig
from geohp.data.orthophotos.footprints import Footprint, common_plane, outline, overlapping, pixel_to_plane
from geohp.data.orthophotos.label_files import LabelCoverage
from geohp.data.orthophotos.patch_regions import Blocks, Region
from geohp.errors import DataError

logger = logging.getLogger(__name__)

_BLOCK_PATCHES = 8  # so that about three patches in four that are drawn touch one block alone
_MOST_BLOCKS = 1_000_000

Groups = Mapping[int, Sequence[int]]
"""Numbers of images that go together, by the smallest number of each group."""
BlockKey = tuple[str | None, int, int]
"""A block by column and row of its lattice: the plane's, or that of an image that is not georeferenced."""
Key = TypeVar("Key", int, BlockKey)


@dataclass(frozen=True)
class SplitItem:
    """An image, or a part of it.

    Attributes:
        footprint: the image.
        region: ``None`` is all of it.
    """

    footprint: Footprint
    region: Region | None = None


@dataclass(frozen=True)
class Split:
    """The two sides.

    Attributes:
        train, test: what belongs to each; an image cut into blocks is part of both.
        text: how it was split and what went where, in a sentence.
    """

    train: tuple[SplitItem, ...]
    test: tuple[SplitItem, ...]
    text: str


def make_split(
    footprints: Sequence[Footprint],
    config: OrthophotosConfig,
    *,
    test_paths: Iterable[str] = (),
    labelled: LabelCoverage | None = None,
) -> Split:
    """Share images out between training and testing.

    The same images are shared out in the same way for one ``split_seed``, in whichever order and folder they are.
    Images that show the same ground go to one side. Where labels are known, only what they cover goes to the test.

    Args:
        footprints: all images, those of ``test_paths`` too.
        config: how to split.
        test_paths: images to test on, where they are named.
        labelled: what labels cover in the common plane; ``None`` where all is labelled, or nothing.

    Raises:
        DataError: nothing can be split off.
    """
    named = set(test_paths)
    if config.split == "none" and not named:
        whole = tuple(SplitItem(f) for f in footprints)
        return Split(whole, whole, "Not split")
    plane = common_plane(footprints)
    if config.split == "block":
        return _by_blocks(footprints, config, plane, labelled)
    groups = _groups(footprints, plane, config.split)
    if named:
        return _as_named(footprints, groups, named)
    what = "folders" if config.split == "folder" else "images"
    if len(groups) < 2:
        raise DataError(
            f"data.split = {config.split}: all {what} overlap or are one, so there is nothing to tell apart",
            "use split: block, or name data.test_images",
        )
    usable = [labelled is None or labelled.covers(f, plane) for f in footprints]
    candidates = [n for n, group in groups.items() if any(usable[i] for i in group)]
    sizes = {n: sum(_area(footprints[i], config) for i in groups[n]) for n in candidates}
    names = {n: min(footprints[i].key for i in groups[n]) for n in candidates}
    test = _draw(sizes, names, config, leave_one=len(groups) == len(candidates))
    return _of_groups(footprints, groups, test, f"Split by {config.split}, overlapping images kept together")


def _as_named(footprints: Sequence[Footprint], groups: Groups, named: set[str]) -> Split:
    """Images named to test on, and those to train on that show none of their ground."""
    test = {n for n, group in groups.items() if any(footprints[i].path in named for i in group)}
    for n in test:
        for i in groups[n]:
            if footprints[i].path not in named:
                logger.warning("%s shows ground of the test images and is not trained on", footprints[i].path)
    return _of_groups(footprints, groups, test, "Test images as named", named)


def _of_groups(
    footprints: Sequence[Footprint], groups: Groups, test: set[int], how: str, named: Collection[str] = ()
) -> Split:
    sides: tuple[list[SplitItem], list[SplitItem]] = ([], [])
    for n, group in groups.items():
        for footprint in (footprints[i] for i in group):
            if n not in test or not named or footprint.path in named:
                sides[n in test].append(SplitItem(footprint))
    train, test_items = (tuple(sorted(side, key=lambda item: item.footprint.key)) for side in sides)
    if not train:
        raise DataError(
            "data.test_images: every other image shows the same ground as one of them, so none is left to train on",
            "use data.split = block instead",
        )
    grouped = f" ({len(groups) - len(test)} and {len(test)} groups)" if len(groups) < len(footprints) else ""
    return Split(train, test_items, f"{how}: {len(train)} image(s) to train on, {len(test_items)} to test on{grouped}")


def _groups(footprints: Sequence[Footprint], plane: CRS | None, split: str) -> Groups:
    first_of_folder: dict[str, int] = {}
    links = overlapping(footprints, plane)
    if split == "folder":
        links += [(i, first_of_folder.setdefault(f.folder, i)) for i, f in enumerate(footprints)]
    count = len(footprints)
    rows, cols = np.array(links, np.int64).reshape(-1, 2).T
    _, components = connected_components(coo_array((np.ones(len(rows)), (rows, cols)), (count, count)), directed=False)
    groups: dict[int, list[int]] = {}
    for i, component in enumerate(components.tolist()):
        groups.setdefault(component, []).append(i)
    return {group[0]: group for group in groups.values()}


def _draw(
    sizes: Mapping[Key, float], names: Mapping[Key, object], config: OrthophotosConfig, *, leave_one: bool
) -> set[Key]:
    """Those to test on: in an order that only the seed decides, each that brings their share nearer to the target."""
    if not sizes:
        raise DataError("data.labels: no image is labelled, so there is nothing to test on", "check the patterns")
    order = sorted(sizes, key=lambda key: hashlib.sha256(f"{config.split_seed}|{names[key]}".encode()).hexdigest())
    target, drawn = config.test_share * sum(sizes.values()), 0.0
    test: set[Key] = set()
    for key in order:
        if abs(drawn + sizes[key] - target) < abs(drawn - target) and len(test) < len(order) - leave_one:
            test.add(key)
            drawn += sizes[key]
    return test or {min(order, key=lambda key: sizes[key])}


def _by_blocks(
    footprints: Sequence[Footprint], config: OrthophotosConfig, plane: CRS | None, labelled: LabelCoverage | None
) -> Split:
    """Blocks of a lattice in the plane; images that are not georeferenced have lattices of their own."""
    sides = _block_sides(footprints, config)
    areas = [_blocks_of(f, plane, side) for f, side in zip(footprints, sides, strict=True)]
    sizes: dict[BlockKey, float] = {}
    for footprint, side, own in zip(footprints, sides, areas, strict=True):
        if labelled is None or labelled.covers(footprint, plane):
            for key, area in own.items():
                if labelled is None or labelled.covers_box(footprint, _box(key[1], key[2], side)):
                    sizes[key] = max(sizes.get(key, 0.0), area)
    blocks = set().union(*areas)
    if len(blocks) < 2:
        raise DataError(
            f"data.block_m = {sides[0]:g}: one block holds everything", "give smaller ones, of several patches each"
        )
    test = _draw(sizes, {key: key for key in sizes}, config, leave_one=len(sizes) == len(blocks))
    train_items, test_items = [], []
    for footprint, side, own in zip(footprints, sides, areas, strict=True):
        to_plane = pixel_to_plane(footprint, plane)
        test_blocks = {(i, j) for lattice, i, j in test if lattice == _lattice(footprint)}
        region = partial(Blocks, to_plane, side, test_blocks, gap=config.gap_m, shape=footprint.grid.shape)
        if not own.keys() <= test:
            train_items.append(SplitItem(footprint, region("train")))
        if own.keys() & test:
            test_items.append(SplitItem(footprint, region("test")))
    lengths = sorted({f"{side:g} {'m' if f.placed else 'px'}" for f, side in zip(footprints, sides, strict=True)})
    text = (
        f"Split by blocks of {' and '.join(lengths)}: {len(blocks) - len(test)} of them to train on, {len(test)} "
        f"to test on, in {len(footprints)} image(s); patches that touch a test block are not trained on"
    )
    return Split(tuple(train_items), tuple(test_items), text)


def _block_sides(footprints: Sequence[Footprint], config: OrthophotosConfig) -> list[float]:
    """Side of the blocks of each image, in units of its lattice."""
    sizes = [f.pixel_size_m for f in footprints if f.pixel_size_m is not None]
    pixel_m = config.pixel_size_m or (float(np.median(sizes)) if sizes else 1.0)
    return [config.block_m or _BLOCK_PATCHES * config.patch_px * (pixel_m if f.placed else 1) for f in footprints]


def _lattice(footprint: Footprint) -> str | None:
    return None if footprint.placed else footprint.key


def _box(i: Any, j: Any, side: float) -> Any:
    return shapely.box(i * side, j * side, (i + 1) * side, (j + 1) * side)


def _area(footprint: Footprint, config: OrthophotosConfig) -> float:
    """Of an image, in pixels; where all are brought to one pixel size, in pixels of that."""
    height, width = footprint.grid.shape
    return config.area_px(height * width, footprint.pixel_size_m)


def _blocks_of(footprint: Footprint, plane: CRS | None, side: float) -> dict[BlockKey, float]:
    """The blocks an image covers some of, and how much."""
    shape = outline(footprint, plane)
    first, last = (np.floor(np.array(corner) / side).astype(int) for corner in (shape.bounds[:2], shape.bounds[2:]))
    if np.prod(last - first + 1) > _MOST_BLOCKS:
        raise DataError(f"data.block_m = {side:g}: makes far too many blocks of {footprint.path}", "give larger ones")
    i, j = (axis.ravel() for axis in np.mgrid[first[0] : last[0] + 1, first[1] : last[1] + 1])
    shared = shapely.intersection(shape, _box(i, j, side))
    # Slivers along an edge hold no pixel: where a disc of this radius fits in, there is the centre of one.
    height, width = footprint.grid.shape
    radius = np.sqrt(shape.area / (2 * height * width))
    holds = ~shapely.is_empty(shapely.buffer(shared, -1.001 * radius))
    areas, lattice = shapely.area(shared), _lattice(footprint)
    return {(lattice, int(a), int(b)): float(area) for a, b, area, some in zip(i, j, areas, holds, strict=True) if some}
