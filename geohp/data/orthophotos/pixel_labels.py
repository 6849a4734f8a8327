"""Labels on the pixels of an image: from rasters on any grid, colour-coded images, polygons and points."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import Resampling

from geohp.classes import NODATA_LABEL
from geohp.data.class_table import MOST_CLASSES, ClassTable
from geohp.data.orthophotos.label_files import LabelFiles
from geohp.errors import DataError, SceneError
from geohp.legend.references import open_reference
from geohp.raster.block import Block, BlockGrid
from geohp.raster.gdal import FAILURES, gdal_env, gdal_message
from geohp.raster.grid import Grid
from geohp.raster.read.labels import LabelRaster, warped_to
from geohp.raster.read.opened import open_dataset
from geohp.raster.read.validity import ValidityPlan, alpha_bands

Int64 = NDArray[np.int64]


class Labels(Protocol):
    """Labels on an image's pixels.

    Attributes:
        name: for messages.
        colours: of what is labelled, by its text.
    """

    name: str
    colours: dict[str, str]

    def read(self, block: Block) -> Int64:
        """(rows, cols) codes, -1 where nothing is known."""

    def texts(self, code: int) -> tuple[str, ...]:
        """What a code is called, the most telling last: its value, maybe a name."""

    def codes(self) -> Sequence[int] | None:
        """All codes there are, where that is known without reading."""
        return None


class _Values(Labels):
    """A raster of integers, of which one may be unknown."""

    def __init__(self, raster: LabelRaster, name: str, declared: LabelRaster, unknown: int | None) -> None:
        self.name, self._raster, self._unknown = name, raster, unknown
        self._listed = declared.labels
        self._names = {c.id: c.name for c in declared.classes} if declared.labels is not None else {}
        self.colours = {self.texts(c.id)[-1]: c.colour for c in declared.classes}

    def read(self, block: Block) -> Int64:
        with gdal_env():
            values, valid = self._raster.read(block)
        if self._unknown is not None:
            valid &= values != self._unknown
        return np.where(valid, values.astype(np.int64), -1)

    def texts(self, code: int) -> tuple[str, ...]:
        return (str(code), self._names[code]) if code in self._names else (str(code),)

    def codes(self) -> Sequence[int] | None:
        return None if self._listed is None else [v for v in self._listed if v != self._unknown]


_RGB = [1, 2, 3]


class _Colours(Labels):
    """A picture in which colours stand for classes."""

    def __init__(self, dataset: Any, name: str) -> None:
        self.name, self._dataset = name, dataset
        self._validity = ValidityPlan.of(dataset, _RGB)
        self.colours = dict[str, str]()

    def read(self, block: Block) -> Int64:
        try:
            with gdal_env():
                planes = self._dataset.read(_RGB, window=block.window)
                valid = self._validity.of_block(self._dataset, block, planes)
        except FAILURES as error:
            raise SceneError(
                f"{self.name} cannot be read ({gdal_message(error)})", "the file may be damaged"
            ) from error
        red, green, blue = planes.astype(np.int64)
        return np.where(valid, red << 16 | green << 8 | blue, -1)

    def texts(self, code: int) -> tuple[str, ...]:
        return (f"#{code:06x}",)


class _Shapes(Labels):
    """Polygons or points, by the texts of a field."""

    def __init__(self, reference: Any, name: str) -> None:
        self.name, self._reference = name, reference
        self.colours = dict(reference.colours)

    def read(self, block: Block) -> Int64:
        codes = np.full(block.shape, -1, np.int64)
        if (known := self._reference.sample(block)) is not None:
            codes[known[0]] = known[1]
        return codes

    def texts(self, code: int) -> tuple[str, ...]:
        return (self._reference.class_name(code),)


@dataclass(frozen=True)
class LabelReading:
    """Where labels are, and how those of polygons are read.

    Attributes:
        files: labels and their images.
        field, layer: of polygons.
        unknown: value of rasters that stands for no label; ``None`` where all stand for one.
    """

    files: LabelFiles
    field: str | None = None
    layer: str | None = None
    unknown: int | None = NODATA_LABEL

    @contextmanager
    def open(self, image: str, grid: Grid) -> Iterator[list[Labels]]:
        """All labels that may lie on the pixels of an image, those of its own first.

        Raises:
            DataError, SceneError: labels of another size without a place on Earth, or that cannot be used.
        """
        files = self.files
        with ExitStack() as stack:
            labels: list[Labels] = []
            if image in files.of_image:
                labels.append(stack.enter_context(self._open_raster(files.of_image[image], image, grid)))
            labels += [stack.enter_context(self._open_raster(r, image, grid, files.images > 1)) for r in files.rasters]
            labels += [stack.enter_context(self._open_vectors(path, image, grid)) for path in files.vectors]
            yield labels

    @contextmanager
    def _open_raster(self, path: str, image: str, grid: Grid, over_many: bool = False) -> Iterator[Labels]:
        """A label raster on the pixels of an image; ``over_many`` where it is not named after this one."""
        # Labels stay open beside others, so no environment of GDAL's may stay entered: they end in order only.
        with open_dataset(path) as dataset, ExitStack() as stack:
            own = Grid.of(dataset)
            if over_many and not own.is_georeferenced:
                raise DataError(
                    f"{path} neither says where on Earth it lies nor is called like an image",
                    "georeference it, or name labels by a pattern such as data.labels = {stem}_labels.png",
                )
            warp = _needs_warp(own, path, grid, image)
            alphas = alpha_bands(dataset)
            if dataset.count - len(alphas) != 3:
                raster = LabelRaster(dataset, path, default_nodata=self.unknown)
                on_grid = stack.enter_context(raster.warped(grid)) if warp else raster
                yield _Values(on_grid, path, raster, self.unknown)
                return
            if warp:
                source: dict[str, Any] = {} if own.gcps else {"src_transform": own.transform}
                if own.crs is None or grid.crs is None:
                    source["src_crs"] = grid.crs or own.crs
                warped = warped_to(grid, dataset, path, resampling=Resampling.nearest, add_alpha=not alphas, **source)
                dataset = stack.enter_context(warped)
            yield _Colours(dataset, path)

    @contextmanager
    def _open_vectors(self, path: str, image: str, grid: Grid) -> Iterator[Labels]:
        pixels = cast(LabelRaster, SimpleNamespace(grid=grid, name=image))  # all that a reference asks of a map
        with ExitStack() as stack:
            try:
                reference = stack.enter_context(open_reference(path, pixels, field=self.field, layer=self.layer))
            except DataError as error:
                raise DataError(error.render(lambda option, _: f"data.label_{option}")) from error
            yield _Shapes(reference, path)


def _needs_warp(own: Grid, name: str, grid: Grid, image: str) -> bool:
    """Whether labels are to be brought to an image's grid; else they have its pixels."""
    if own.coincides_with(grid):
        return False
    if own.is_georeferenced and grid.is_georeferenced:
        if grid.gcps:
            raise DataError(
                f"{image} is placed by ground control points and {name} on another grid",
                "warp one to the other first (gdalwarp)",
            )
        return True
    if own.shape != grid.shape:
        raise DataError(
            f"{name} has {own.height} x {own.width} px but {image} {grid.height} x {grid.width}, and they do not both "
            "say where on Earth they lie",
            "give labels of the image's size, or georeference both",
        )
    return False


class ClassReader:
    """Classes on the pixels of an image.

    Args:
        labels: those that may lie on it; later ones count where earlier ones know nothing.
        table: the classes.
    """

    def __init__(self, labels: Sequence[Labels], table: ClassTable) -> None:
        self._labels, self._table = labels, table

    def read(self, block: Block) -> Int64:
        """(rows, cols) classes, 255 where unknown."""
        classes = np.full(block.shape, NODATA_LABEL, np.int64)
        for labels in self._labels:
            missing = classes == NODATA_LABEL
            if not missing.any():
                break
            classes[missing] = self._table.translate(labels.read(block), labels.texts, labels.name)[missing]
        return classes


def texts_in(labels: Labels, shape: tuple[int, int]) -> set[str]:
    """What labels on an image are called: as declared, or else as found by reading them all.

    Raises:
        DataError: far more values than classes can be.
    """
    declared = labels.codes()
    codes: set[int] = set() if declared is None else set(declared)
    if declared is None:
        for block in BlockGrid(*shape).blocks:
            codes |= set(np.unique(labels.read(block)).tolist()) - {-1}
            if len(codes) > MOST_CLASSES:
                raise DataError(
                    f"{labels.name}: holds {len(codes)} or more different values, too many to be classes",
                    "name those that are with data.label_classes",
                )
    return {labels.texts(code)[-1] for code in codes}
