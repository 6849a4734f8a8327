"""A TorchGeo data set as patches of one size: cut by place or by number, scaled, and with classes of one's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from rasterio.features import rasterize
from rasterio.transform import from_bounds
from torch import Tensor
from torchgeo.datasets import GeoDataset, NonGeoDataset
from torchgeo.samplers import GridGeoSampler, RandomGeoSampler

from geohp.classes import NODATA_LABEL
from geohp.data.base import ImageSet, Item
from geohp.data.class_table import ClassTable
from geohp.data.resize import resized, resized_mask
from geohp.errors import DataError
from geohp.progress import Progress, no_progress
from geohp.raster.block import Block
from geohp.raster.read.patches import complete_patch, grid_origins
from geohp.raster.read.scaling import Scaling, StoredType, parse_rule, resolve_scaling
from geohp.raster.read.validity import ValidityPlan

TorchGeoDataset = GeoDataset | NonGeoDataset

_SAMPLED = 16
"""Patches that values are measured on, where a scaling needs it."""


@dataclass(frozen=True)
class Cut:
    """Where a patch is cut.

    Attributes:
        key: what the data set is asked for: a number, or slices of x, y and time.
        row, col: of its first pixel in what the data set answers; ``None`` is a random one.
        skip_rows, skip_cols: how many of the first rows and columns another patch has shown already.
    """

    key: Any
    row: int | None = 0
    col: int | None = 0
    skip_rows: int = 0
    skip_cols: int = 0


class TorchGeoImages(ImageSet):
    """Patches of a TorchGeo data set.

    Items are ``{"image": (bands, input_px, input_px)}`` and, where a table of classes is given, ``"mask": (input_px,
    input_px)``, 255 where unknown or beyond the data.

    Args:
        dataset: gives samples with an ``image`` (bands, H, W).
        patch_px: side of a patch in the data set's pixels.
        input_px: side it is resized to.
        patches: how many at random places; ``None`` covers all there is with a grid.
        bands: numbers from 1; all by default.
        scaling: a rule of :func:`geohp.raster.read.scaling.parse_rule`, or a resolved one.
        table: what labels mean; ``None`` gives no masks.
        seed: of the places.
        progress: called where all images are looked at.

    Raises:
        DataError: no patch fits, or samples that are no images.
    """

    kind = "geohp.data.torchgeo_images.TorchGeoImages"

    def __init__(
        self,
        dataset: TorchGeoDataset,
        *,
        patch_px: int,
        input_px: int | None = None,
        patches: int | None = None,
        bands: Sequence[int] | None = None,
        scaling: str | Scaling = "auto",
        table: ClassTable | None = None,
        seed: int = 0,
        progress: Progress = no_progress,
    ) -> None:
        self.dataset, self.patch_px, self.input_px = dataset, patch_px, input_px or patch_px
        self.bands, self.table, self.seed = bands, table, seed
        self.labelled = table is not None
        self._title = type(dataset).__name__
        if not len(cast(Any, dataset)):
            raise DataError(f"{self._title}: the data set is empty", "check its options")
        if isinstance(dataset, GeoDataset):
            self.cuts = _geo_cuts(dataset, patch_px, patches, seed)
        elif patches is not None:
            self.cuts = _random_cuts(dataset, patch_px, patches, seed)
        else:
            self.cuts = _grid_cuts(dataset, patch_px, progress)
        if not self.cuts:
            raise DataError(
                f"{self._title}: none of its {len(cast(Any, dataset))} images is as large as a patch of {patch_px} px",
                "set data.patch_px lower",
            )
        self.scaling = scaling if isinstance(scaling, Scaling) else self._resolve_scaling(scaling)
        self.channels = len(self.scaling.low)

    def __len__(self) -> int:
        return len(self.cuts)

    def __getitem__(self, index: int) -> Item:
        image, mask = self._read(index)
        valid = ValidityPlan.undeclared(len(image)).of_values(image)
        cut = self.cuts[index]
        if isinstance(self.dataset, GeoDataset):
            valid &= _covered(self.dataset, cut.key, image.shape[1:])
        shape = (self.patch_px, self.patch_px)
        data, complete = complete_patch(self.scaling.apply(image), valid, shape)
        item: Item = {"image": resized(torch.from_numpy(data), self.input_px)}
        if self.table is not None:
            if mask is None:
                raise DataError(f"{self.name(index)}: has no mask", "leave labels out, or choose a data set with masks")
            codes = mask if str(NODATA_LABEL) in self.table.numbers else np.where(mask == NODATA_LABEL, -1, mask)
            classes = np.full(shape, NODATA_LABEL, np.int64)
            classes[: mask.shape[0], : mask.shape[1]] = self.table.translate(codes, lambda v: (str(v),), self._title)
            classes[~complete] = NODATA_LABEL
            classes[: cut.skip_rows], classes[:, : cut.skip_cols] = NODATA_LABEL, NODATA_LABEL
            item["mask"] = resized_mask(torch.from_numpy(classes), self.input_px)
        return item

    def name(self, index: int) -> str:
        """Number or place of the image, and of the patch on it."""
        cut = self.cuts[index]
        if isinstance(self.dataset, GeoDataset):
            x, y = cut.key[:2]
            return f"{self._title} {index} x {x.start:.10g} y {y.start:.10g}"
        place = f"patch {index}" if cut.row is None else f"row {cut.row} column {cut.col}"
        return f"{self._title} {cut.key} {place}"

    def values(self, progress: Progress = no_progress) -> set[int]:
        """All labels that occur; every patch is read."""
        values: set[int] = set()
        for index in range(len(self)):
            _, mask = self._read(index)
            values |= set() if mask is None else set(np.unique(mask).tolist())
            progress("reading labels", index + 1, len(self))
        return values

    def _read(self, index: int) -> tuple[NDArray[Any], NDArray[np.int64] | None]:
        """Chosen bands as stored, and labels, of a patch or as much of it as there is."""
        cut = self.cuts[index]
        image, mask = _image_and_mask(self.dataset, cut.key)
        if self.bands is not None:
            if max(self.bands) > len(image) or min(self.bands) < 1:
                raise DataError(f"data.bands = {list(self.bands)}: {self._title} has bands 1 to {len(image)}")
            image = image[[band - 1 for band in self.bands]]
        row, col = cut.row, cut.col
        if row is None or col is None:
            rng = np.random.default_rng((self.seed, index))
            row, col = (int(rng.integers(max(1, length - self.patch_px + 1))) for length in image.shape[1:])
        here = Block(row, col, self.patch_px, self.patch_px).slices
        return image[:, *here], None if mask is None else mask[here]

    def _resolve_scaling(self, rule: str) -> Scaling:
        first, _ = self._read(0)

        def sample() -> NDArray[Any]:
            chosen = sorted({round(i) for i in np.linspace(0, len(self) - 1, _SAMPLED)})
            values = np.concatenate([self._read(i)[0].reshape(len(first), -1) for i in chosen], axis=1)
            return values[:, ValidityPlan.undeclared(len(values)).of_values(values)]

        if rule == "auto" and first.dtype.kind == "f":
            # TorchGeo hands out most images as floats, whatever they are stored as.
            values = sample()
            lowest, highest = float(values.min(initial=0)), float(values.max(initial=0))
            # Below 0 there are no colours but measurements, such as decibels of radar.
            rule = "percentiles" if lowest < 0 or highest > 255 else "0,1" if highest <= 1 else "0,255"
        stored = [StoredType(first.dtype)] * len(first)
        return resolve_scaling(parse_rule(rule), stored, sample, self._title)


def _image_and_mask(dataset: Any, key: Any) -> tuple[NDArray[Any], NDArray[np.int64] | None]:
    sample = dataset[key]
    image = sample.get("image")
    if not isinstance(image, Tensor) or image.ndim != 3:
        what = "no image" if image is None else f"images of shape {tuple(getattr(image, 'shape', ()))}"
        raise DataError(
            f"{type(dataset).__name__}: gives {what}, where (bands, rows, columns) are needed", "choose others"
        )
    mask = sample.get("mask")
    if not isinstance(mask, Tensor):
        return image.numpy(), None
    mask = mask[0] if mask.ndim == 3 and len(mask) == 1 else mask
    if mask.shape != image.shape[1:]:
        raise DataError(
            f"{type(dataset).__name__}: gives masks of shape {tuple(mask.shape)} for images of "
            f"{tuple(image.shape)}, where (rows, columns) are needed",
            "choose another data set",
        )
    return image.numpy(), mask.numpy().astype(np.int64)


def _random_cuts(dataset: Any, side: int, patches: int, seed: int) -> list[Cut]:
    """Images in random order, as often as it takes; images no larger than a patch once."""
    image, _ = _image_and_mask(dataset, 0)
    once = max(image.shape[1:]) <= side
    rng = np.random.default_rng(seed)
    rounds = 1 if once else -(-patches // len(dataset))
    order = np.concatenate([rng.permutation(len(dataset)) for _ in range(rounds)])[:patches]
    return [Cut(int(i), None, None) for i in order]


def _grid_cuts(dataset: Any, side: int, progress: Progress) -> list[Cut]:
    """A grid over every image; each is read once, for nothing else tells its size."""
    cuts = []
    for i in range(len(dataset)):
        _, height, width = _image_and_mask(dataset, i)[0].shape
        cuts += [Cut(i, r, c, -r % side, -c % side) for r, c in grid_origins(height, width, side, side)]
        progress("surveying labelled images", i + 1, len(dataset))
    return cuts


def _geo_cuts(dataset: GeoDataset, side: int, patches: int | None, seed: int) -> list[Cut]:
    if patches is None:
        return [Cut(key) for key in GridGeoSampler(dataset, side, side)]
    generator = torch.Generator().manual_seed(seed)
    sampler = RandomGeoSampler(dataset, side, patches, generator=generator)
    if not sampler.bounds:
        return []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # the sampler chooses images with the global generator
        return [Cut(key) for key in sampler]


def _covered(dataset: Any, key: Any, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Which pixels of a patch lie on an image: beyond, TorchGeo fills with values that look like any other."""
    x, y = key[:2]
    shapes = dataset.index.cx[x.start : x.stop, y.start : y.stop].geometry
    inside = np.zeros(shape, np.uint8)
    if len(shapes):
        transform = from_bounds(x.start, y.start, x.stop, y.stop, shape[1], shape[0])
        rasterize(list(shapes), out=inside, transform=transform)
    return inside > 0
