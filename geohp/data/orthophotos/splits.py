"""What is learnt from and what is judged: whole images, folders or blocks of ground, never both of one place."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from pyproj import CRS

from geohp.config.data import OrthophotosConfig
from geohp.data.orthophotos.footprints import Footprint, common_plane, outline, overlapping, pixel_to_plane
from geohp.data.orthophotos.regions import Blocks, Region
from geohp.errors import DataError

logger = logging.getLogger(__name__)

_BLOCK_PATCHES = 8  # so that about three patches in four that are drawn touch one block alone


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
    labelled: Sequence[Any] | None = None,
) -> Split:
    """Share images out between training and testing.

    The same images are shared out in the same way for one ``split_seed``, in whichever order and folder they are.
    Images that show the same ground go to one side. Where labels are known, only what they cover goes to the test.

    Args:
        footprints: all images, those of ``test_paths`` too.
        config: how to split.
        test_paths: images to test on, where they are named.
        labelled: the geometries that labels cover in the common plane, or keys of images they cover wholly; ``None``
            where all is labelled, or nothing.

    Raises:
        DataError: nothing can be split off.
    """
    chosen = set(test_paths)
    if config.split == "none" and not chosen:
        whole = tuple(SplitItem(f) for f in footprints)
        return Split(whole, whole, "Not split")
    plane = common_plane(footprints)
    if config.split == "block":
        return _by_blocks(footprints, config, plane, labelled)
    groups = _groups(footprints, plane, config.split)
    if chosen:
        test = {n for n, group in groups.items() if any(footprints[i].path in chosen for i in group)}
        for n in test:
            for i in groups[n]:
                if footprints[i].path not in chosen:
                    logger.warning("%s shows ground of the test images and is not trained on", footprints[i].path)
        return _of_groups(footprints, groups, test, "Test images as named", chosen)
    sizes = {n: sum(_area(footprints[i], config) for i in group) for n, group in groups.items()}
    keys = {n: min(footprints[i].key for i in group) for n, group in groups.items()}
    fit = _labelled_images(footprints, plane, labelled)
    candidates = [n for n, group in groups.items() if any(fit[i] for i in group)]
    what = "folders" if config.split == "folder" else "images"
    if len(groups) < 2:
        raise DataError(
            f"data.split = {config.split}: all {what} overlap or are one, so there is nothing to tell apart; "
            "use split: block, or name data.test_images"
        )
    test = _draw({n: sizes[n] for n in candidates}, keys, config, whole=len(groups) == len(candidates))
    return _of_groups(footprints, groups, test, f"Split by {config.split}, overlapping images kept together")


def _of_groups(
    footprints: Sequence[Footprint], groups: Mapping[int, Sequence[int]], test: set[int], how: str, only: Any = None
) -> Split:
    sides: tuple[list[SplitItem], list[SplitItem]] = ([], [])
    for n, group in groups.items():
        for i in group:
            if n not in test or not only or footprints[i].path in only:
                sides[n in test].append(SplitItem(footprints[i]))
    train, test_parts = (tuple(sorted(side, key=lambda p: p.footprint.key)) for side in sides)
    if not train:
        raise DataError(
            "data.test_images: every other image shows the same ground as one of them, so none is left to train on; "
            "use data.split = block instead"
        )
    grouped = f" ({len(groups) - len(test)} and {len(test)} groups)" if len(groups) < len(footprints) else ""
    return Split(train, test_parts, f"{how}: {len(train)} image(s) to train on, {len(test_parts)} to test on{grouped}")


def _groups(footprints: Sequence[Footprint], plane: CRS | None, split: str) -> dict[int, list[int]]:
    """Numbers of images that go together, by the smallest number of each group."""
    parent = list(range(len(footprints)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    def join(a: int, b: int) -> None:
        a, b = sorted((root(a), root(b)))
        parent[b] = a

    if split == "folder":
        first: dict[str, int] = {}
        for i, footprint in enumerate(footprints):
            join(i, first.setdefault(footprint.folder, i))
    for a, b in overlapping(footprints, plane):
        join(a, b)
    groups: dict[int, list[int]] = {}
    for i in range(len(footprints)):
        groups.setdefault(root(i), []).append(i)
    return groups


def _draw(
    sizes: Mapping[Any, float], keys: Mapping[Any, Hashable], config: OrthophotosConfig, *, whole: bool
) -> set[Any]:
    """Those to test on: in an order that only the seed decides, each that brings their share nearer to the wanted."""
    if not sizes:
        raise DataError("data.labels: no image is labelled, so there is nothing to test on; check the patterns")
    order = sorted(sizes, key=lambda n: hashlib.sha256(f"{config.split_seed}|{keys[n]}".encode()).hexdigest())
    wanted, taken = config.test_share * sum(sizes.values()), 0.0
    test: set[Any] = set()
    for n in order:
        if abs(taken + sizes[n] - wanted) < abs(taken - wanted) and len(test) < len(order) - whole:
            test.add(n)
            taken += sizes[n]
    return test or {min(order, key=lambda n: sizes[n])}


def _labelled_images(footprints: Sequence[Footprint], plane: CRS | None, labelled: Sequence[Any] | None) -> list[bool]:
    if labelled is None:
        return [True] * len(footprints)
    keys = {one for one in labelled if isinstance(one, str)}
    shapes = [one for one in labelled if not isinstance(one, str)]
    tree = shapely.STRtree(shapes)
    return [
        f.key in keys or (len(shapes) > 0 and f.placed and len(tree.query(outline(f, plane), "intersects")) > 0)
        for f in footprints
    ]


def _by_blocks(
    footprints: Sequence[Footprint], config: OrthophotosConfig, plane: CRS | None, labelled: Sequence[Any] | None
) -> Split:
    """Blocks of a lattice in the plane; images that are not georeferenced have lattices of their own."""
    default, pixel = _BLOCK_PATCHES * config.patch_px, config.pixel_size_m or _pixel(footprints)
    sides = [config.block_m or default * (pixel if f.placed else 1) for f in footprints]
    covered = {i: _blocks_of(f, plane, sides[i]) for i, f in enumerate(footprints)}
    fit = _labelled_images(footprints, plane, labelled)
    shapes = [] if labelled is None else [one for one in labelled if not isinstance(one, str)]
    tree = shapely.STRtree(shapes)
    direct = {one for one in labelled or () if isinstance(one, str)}
    sizes: dict[Any, float] = {}
    everything: set[Any] = set()
    for i, footprint in enumerate(footprints):
        own = None if footprint.placed else footprint.key
        everything |= {(own, *block) for block in covered[i]}
        if not fit[i]:
            continue
        side = sides[i]
        for block, area in covered[i].items():
            box = shapely.box(block[0] * side, block[1] * side, (block[0] + 1) * side, (block[1] + 1) * side)
            if labelled is None or footprint.key in direct or len(tree.query(box, "intersects")):
                sizes[(own, *block)] = max(sizes.get((own, *block), 0.0), area)
    if len(everything) < 2:
        raise DataError(
            f"data.block_m = {sides[0]:g}: one block holds everything; give smaller ones, of several patches each"
        )
    test = _draw(sizes, {n: n for n in sizes}, config, whole=len(sizes) == len(everything))
    parts: dict[str, list[SplitItem]] = {"train": [], "test": []}
    for i, footprint in enumerate(footprints):
        own = None if footprint.placed else footprint.key
        mine = {(a, b) for key, a, b in test if key == own}
        here = mine & covered[i].keys()
        for keep, there in (("train", len(here) < len(covered[i])), ("test", len(here) > 0)):
            if there:
                frame = pixel_to_plane(footprint, plane)
                region = Blocks(frame, sides[i], mine, keep, config.gap_m, footprint.grid.shape)
                parts[keep].append(SplitItem(footprint, region))
    lengths = sorted({f"{side:g} {'m' if f.placed else 'px'}" for f, side in zip(footprints, sides, strict=True)})
    text = (
        f"Split by blocks of {' and '.join(lengths)}: {len(everything) - len(test)} of them to train on, {len(test)} "
        f"to test on, in {len(footprints)} image(s); patches that touch a test block are not trained on"
    )
    return Split(tuple(parts["train"]), tuple(parts["test"]), text)


def _area(footprint: Footprint, config: OrthophotosConfig) -> float:
    """Of an image, in pixels; where all are brought to one pixel size, in pixels of that."""
    height, width = footprint.grid.shape
    return height * width if config.pixel_size_m is None else config.area_px(height * width, footprint.pixel_size_m)


def _pixel(footprints: Sequence[Footprint]) -> float:
    sizes = [f.pixel_size_m for f in footprints if f.pixel_size_m is not None]
    return float(np.median(sizes)) if sizes else 1.0


def _blocks_of(footprint: Footprint, plane: CRS | None, side: float) -> dict[tuple[int, int], float]:
    """The blocks an image covers some of, and how much."""
    shape = outline(footprint, plane)
    first, last = (np.floor(np.array(corner) / side).astype(int) for corner in (shape.bounds[:2], shape.bounds[2:]))
    if np.prod(last - first + 1) > 1_000_000:
        raise DataError(f"data.block_m = {side:g}: makes far too many blocks of {footprint.path}; give larger ones")
    i, j = (axis.ravel() for axis in np.mgrid[first[0] : last[0] + 1, first[1] : last[1] + 1])
    shared = shapely.intersection(shape, shapely.box(i * side, j * side, (i + 1) * side, (j + 1) * side))
    # Slivers along an edge hold no pixel: where a disc of this radius fits in, there is the centre of one.
    height, width = footprint.grid.shape
    radius = np.sqrt(shape.area / (2 * height * width))
    holds = ~shapely.is_empty(shapely.buffer(shared, -1.001 * radius))
    areas = shapely.area(shared)
    return {(int(a), int(b)): float(area) for a, b, area, some in zip(i, j, areas, holds, strict=True) if some}
