"""Reading a label map: its values, where it holds data, where it lies, and what its labels mean."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np
import rasterio
import rasterio.shutil
from affine import Affine
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, MaskFlags, Resampling
from rasterio.io import MemoryFile
from rasterio.vrt import WarpedVRT

from geohp.classes import NODATA_LABEL, LandCoverClass, classes_from_json, default_classes, is_colour
from geohp.errors import SceneError, VectorError
from geohp.raster.block import BLOCK_PX, Block, BlockGrid
from geohp.raster.gdal import FAILURES, gdal_env, gdal_message, numpy_dtype, open_env, open_raster
from geohp.raster.grid import Grid
from geohp.raster.read.arrays import array_label, to_memory_file, unmasked
from geohp.raster.read.opened import check_readable, open_dataset, readable
from geohp.raster.read.stored_tiles import StoredTiles, known_tiles
from geohp.raster.read.unchanged import NOTHING_TO_WATCH, UnchangedFiles
from geohp.raster.read.validity import ValidityPlan, alpha_bands
from geohp.raster.turns import SEAM_PX, all_around

if TYPE_CHECKING:
    from xarray import DataArray

MODEL_TAG = "GEOHP_MODEL_SHA256"
"""Tag of a label raster, and attribute of a label array: the digest of the model that its labels are of."""

RECODED_TAG = "GEOHP_RECODED_SHA256"
"""The same where a legend has changed the labels since."""

MOST_UNNAMED = 100
"""Different values that labels without class names may have; images and measurements have more."""

_NOWHERE = 'LOCAL_CS["no coordinate reference system",UNIT["unit",1]]'


class LabelRaster:
    """An open label raster, read block by block; see :func:`open_labels`.

    Attributes:
        name: the raster in messages.
        grid: where the pixels lie.
        classes: what the raster says about its labels; empty where it says nothing.
        band: number of the band of labels, from 1.
        labels: all labels that it says it has; ``None`` where it says nothing, or has a mere colour table.
        scaled: whether its integers stand for other numbers, by a scale or an offset: quantities, no labels.
        model_sha256: tells its labels from those of other models; ``None`` where it does not say.
        making: what it says of how the model made it, by tag.
        unchanged: tells whether its files are still what they were when it was opened.
    """

    making: Mapping[str, str] = MappingProxyType({})
    unchanged = NOTHING_TO_WATCH

    def __init__(
        self,
        dataset: Any,
        name: str,
        attributes: Mapping[str, Any] | None = None,
        default_nodata: int | None = NODATA_LABEL,
    ) -> None:
        """Look at an open rasterio dataset.

        Args:
            dataset: one band of integers; beside it there may be an alpha band.
            name: the raster in messages.
            attributes: of the array that the dataset was made of, which tell what the dataset itself does not.
            default_nodata: what is no data where it declares no value; ``None`` for nothing.
        """
        attributes = attributes or {}
        declared = attributes.get("classes")
        check_readable(dataset, name)
        bands = _value_bands(dataset)
        if len(bands) != 1:
            raise VectorError(
                f"{name} has {len(bands)} bands, but a label map has one: extract the band that holds the labels first."
            )
        dtype = numpy_dtype(dataset.dtypes[bands[0] - 1])
        if dtype.kind not in "iu":
            raise VectorError(
                f"{name} holds {dtype} values, but labels are integers: convert the raster to an integer type first "
                "(with rioxarray, open it with masked=False)."
            )
        self._dataset, self.band = dataset, bands[0]
        self.name, self.grid = name, Grid.of(dataset)
        self.unchanged = UnchangedFiles(name, dataset.files)
        try:
            self.classes = _declared_classes(dataset, bands[0], name) or _parse(declared, name)
            listed = _parse(dataset.tags(bands[0]).get("classes"), name) or _parse(declared, name)
            tags = {**attributes, **dataset.tags()}
        except FAILURES as error:
            raise _unreadable(name, error) from error
        scales = dataset.scales[bands[0] - 1], attributes.get("scale_factor", 1)
        offsets = dataset.offsets[bands[0] - 1], attributes.get("add_offset", 0)
        self.scaled = any(scale != 1 for scale in scales) or any(offset != 0 for offset in offsets)
        self.labels = tuple(sorted(known.id for known in listed)) or None
        self.model_sha256: str | None = tags.get(RECODED_TAG) or tags.get(MODEL_TAG)
        self.making = {key: str(tags[key]) for key in tags if key.startswith("GEOHP_") and key != RECODED_TAG}
        self._default_nodata = default_nodata
        self._validity = ValidityPlan.of(dataset, bands, default_nodata)

    def read(self, block: Block) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Labels and validity, both (rows, cols), of a block."""
        return self.read_reduced(block, block.shape)

    def read_reduced(self, block: Block, shape: tuple[int, int]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Labels and validity of a block in so many rows and columns: of its overviews, or one of several pixels.

        Raises:
            SceneError: it cannot be read.
            VectorError: labels of 2^63 and more.
        """
        if not self.may_hold_data(block):
            dtype = np.dtype(self._dataset.dtypes[self.band - 1])
            return np.zeros(shape, np.int64 if dtype == np.uint64 else dtype), np.zeros(shape, bool)
        try:
            values = self._dataset.read(self.band, window=block.window, out_shape=shape)
            valid = self._validity.of_block(self._dataset, block, values[None])
        except FAILURES as error:
            raise _unreadable(self.name, error, block) from error
        if values.dtype == np.uint64:  # which nothing that labels are written to can hold
            if (largest := int(values.max(where=valid, initial=0))) > np.iinfo(np.int64).max:
                raise VectorError(f"{self.name} has label {largest}", "number the labels anew, from 0 on")
            values = values.astype(np.int64)
        return values, valid

    def made_apart(self, dataset: Any) -> str | None:
        """A tag, with both values, by which an open raster was made in another way; ``None`` as far as both say."""
        theirs = dataset.tags()
        for key in sorted(self.making.keys() & theirs.keys()):
            if self.making[key] != theirs[key]:
                return f"{key}: {theirs[key]}, not {self.making[key]}"
        return None

    def may_hold_data(self, block: Block) -> bool:
        """Whether a block can hold labels, as far as is known without reading it."""
        return self._tiles is None or self._tiles.touch(block)

    @cached_property
    def _tiles(self) -> StoredTiles | None:
        """The tiles that are stored; ``None`` where all are, or where the others hold labels, too."""
        return known_tiles(self._dataset, self._validity, [self.band])

    def read_bytes(self, block: Block) -> NDArray[np.uint8]:
        """A block as maps are stored: labels (rows, cols) uint8, 255 without data.

        Raises:
            VectorError: labels that are none of 0 to 254.
        """
        return self.as_bytes(*self.read(block))

    def as_bytes(self, values: NDArray[Any], valid: NDArray[np.bool_]) -> NDArray[np.uint8]:
        """Labels and validity as one array, see :meth:`read_bytes`."""
        labels = values[valid]
        if labels.size and not (labels.min() >= 0 and labels.max() < NODATA_LABEL):
            beyond = int(labels.max() if labels.max() >= NODATA_LABEL else labels.min())
            raise VectorError(f"{self.name} has label {beyond}", "number the labels from 0 to 254")
        return np.where(valid, values, NODATA_LABEL).astype(np.uint8)

    def refuse_quantities(self, choice: str = "") -> None:
        """Raise VectorError where its integers stand for other numbers.

        Args:
            choice: what the caller may do besides giving another raster.
        """
        if self.scaled:
            problem = f"{self.name} holds quantities, stored as integers times a scale, no labels"
            raise VectorError(problem, f"give a label map{choice}", option="any_values", value=True)

    @contextmanager
    def warped(self, grid: Grid) -> Iterator[LabelRaster]:
        """The labels on another grid: at each pixel that of the nearest one here; no data beyond.

        Args:
            grid: with a transform. Where either raster has no CRS, both are taken to have the same.
        """
        if self.grid.coincides_with(grid):
            yield self
            return
        place: dict[str, Any] = {}
        if self.grid.crs is None or grid.crs is None:
            place["src_crs"] = grid.crs or self.grid.crs or _NOWHERE
        if not self.grid.gcps:
            place["src_transform"] = self.grid.affine
        # Without a nodata value, or an alpha band to say so, what lies beyond would be taken for label 0.
        declared = self._dataset.nodatavals[self.band - 1]
        with warped_to(
            grid,
            self._dataset,
            self.name,
            crs=grid.crs or self.grid.crs or _NOWHERE,
            resampling=Resampling.nearest,
            add_alpha=declared is None and not self._validity.alphas,
            **place,
        ) as warped:
            raster = LabelRaster(warped, self.name, default_nodata=self._default_nodata)
            raster.unchanged = self.unchanged  # GDAL names no files behind a virtual raster that is warped
            yield raster


@contextmanager
def open_labels(labels: str | Path | DataArray, *, any_values: bool | None = None) -> Iterator[LabelRaster]:
    """Open a label raster with one band of integers (beside it, an alpha band).

    No data is what the raster declares: its nodata value, mask or alpha band; 255 where it declares no value.

    Args:
        labels: a file or an array; also one of floats that xarray has made of stored integers, NaN without data.
        any_values: take integers that stand for quantities, too; ``None`` where the caller has no such choice.

    Raises:
        SceneError: a raster that cannot be opened.
        VectorError: a raster of floats, of scaled integers, or with several bands: no labels.
    """
    labels = labels if isinstance(labels, str | Path) else unmasked(labels)
    with opened_raster(labels) as (dataset, name):
        raster = LabelRaster(dataset, name, getattr(labels, "attrs", None))
        if not any_values:
            raster.refuse_quantities(
                "" if any_values is None else ", or take the stored integers for labels with {option}"
            )
        yield raster


def as_label_map(dataset: Any, name: str) -> LabelRaster | None:
    """An open rasterio dataset as a label raster where it says that it is one; ``None`` of any other."""
    if not dataset.count:
        return None
    try:
        labels = LabelRaster(dataset, name)
    except VectorError:  # several bands, or no integers
        return None
    return None if labels.labels is None or labels.scaled else labels


def holds_data(path: str | Path) -> bool:
    """Whether any pixel of a label raster holds data; reads no further than to the first.

    Raises:
        SceneError: a raster that cannot be opened or read.
    """
    with open_labels(path) as raster:
        blocks = BlockGrid(raster.grid.height, raster.grid.width, BLOCK_PX).blocks
        return any(raster.read(block)[1].any() for block in blocks)


def complete_classes(
    known: tuple[LandCoverClass, ...] | list[LandCoverClass], ids: NDArray[Any]
) -> tuple[LandCoverClass, ...]:
    """The known classes, and a default name and colour for every label that occurs without being known.

    Raises:
        VectorError: two classes with the same number, or a colour that is none.
    """
    for cls in known:
        if not is_colour(cls.colour):
            raise VectorError(f"class {cls.id} ({cls.name}) has the colour {cls.colour!r}: write it as #rrggbb.")
    by_id = {c.id: c for c in known}
    if len(by_id) != len(known):
        raise VectorError("two classes have the same number: give every label one name and one colour.")
    missing = sorted({int(i) for i in ids} - set(by_id))
    if missing:
        # Labels are usually small and then keep the colour of their number; others are coloured one by one.
        numbered = missing[0] >= 0 and missing[-1] < 4096
        colours = [c.colour for c in default_classes(missing[-1] + 1 if numbered else len(missing))]
        for rank, label in enumerate(missing):
            by_id[label] = LandCoverClass(label, f"class {label}", colours[label if numbered else rank])
    return tuple(by_id[label] for label in sorted(by_id))


def occurring_classes(known: Sequence[LandCoverClass], labels: NDArray[np.uint8]) -> list[LandCoverClass]:
    """The classes that pixels (rows, cols) have, in the order of labels; 255 is none. See :func:`complete_classes`."""
    occurring = np.setdiff1d(np.unique(labels), [NODATA_LABEL])
    return [entry for entry in complete_classes(tuple(known), occurring) if entry.id in occurring]


@contextmanager
def opened_raster(source: str | Path | DataArray) -> Iterator[tuple[Any, str]]:
    """An open rasterio dataset of a file or an array, and its name in messages.

    Raises:
        SceneError: a raster that cannot be opened, or of which GDAL cannot read what it was opened for.
    """
    with open_env(str(source)) if isinstance(source, str | Path) else gdal_env():
        if isinstance(source, str | Path):
            name = str(source)
            with open_dataset(name) as dataset, readable(name):
                yield dataset, name
        else:
            name = array_label(source)
            with to_memory_file(source, name) as memory, open_raster(memory.name) as dataset:
                yield dataset, name


def _value_bands(dataset: Any) -> list[int]:
    """Numbers of the bands that are no alpha bands."""
    return sorted(set(range(1, dataset.count + 1)) - {*alpha_bands(dataset)}) or [1]


def warped_to(grid: Grid, dataset: Any, name: str, **options: Any) -> Any:
    """An open raster on another grid, read as it is asked for; in degrees, 181 and -179 are the same ground.

    Args:
        grid: with a transform.
        dataset: the raster.
        name: the raster in messages.
        **options: further ones of ``rasterio.vrt.WarpedVRT``.

    Raises:
        SceneError: GDAL cannot bring the raster there.
    """
    if grid.is_bent:
        problem = f"{name} cannot be brought to the other raster's grid, which ground control points bend"
        raise SceneError(problem, "warp that to a map projection first (gdalwarp)")
    options = {"crs": grid.crs, "transform": grid.affine, "width": grid.width, "height": grid.height, **options}
    own, crs = Grid.of(dataset), options.get("src_crs") or dataset.crs
    options["src_crs"] = all_around(crs, own, grid)
    if options["src_crs"] != crs and not own.gcps:
        options["src_transform"] = own.affine * Affine.translation(-SEAM_PX, 0)
    try:
        if _hides_nodata(dataset):
            dataset, options["add_alpha"] = _with_mask_as_alpha(dataset), False
        return _Warped(dataset, **options)
    except (*FAILURES, ValueError) as error:
        raise SceneError(
            f"{name} cannot be brought to the other raster's grid ({gdal_message(error)}): warp it there first."
        ) from error


def _hides_nodata(dataset: Any) -> bool:
    """Whether a raster has a mask beside a nodata value: of these GDAL warps by the value alone."""
    flags = dataset.mask_flag_enums[0]
    return MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags and dataset.nodata is not None


def _with_mask_as_alpha(dataset: Any) -> Any:
    """The same raster with its mask as an alpha band, which GDAL heeds beside the value."""
    with MemoryFile(ext=".vrt") as memory:
        rasterio.shutil.copy(dataset, memory.name, driver="VRT")
        with open_raster(memory.name) as copy:
            root = ElementTree.fromstring(copy.tags(ns="xml:VRT")["xml:VRT"])
    (mask,) = root.findall("MaskBand")
    (band,) = mask
    band.set("band", str(dataset.count + 1))
    ElementTree.SubElement(band, "ColorInterp").text = "Alpha"
    root.remove(mask)
    root.append(band)
    return rasterio.open(ElementTree.tostring(root, encoding="unicode"))


class _Warped(WarpedVRT):  # type: ignore[misc]
    """Holds no data where nothing of the source can be brought; GDAL 3.10 leaves memory there as it was."""

    def read(self, indexes: Any = None, **options: Any) -> NDArray[Any]:
        """As rasterio has it."""
        if options.get("out") is None and not options.get("masked"):
            bands = self.indexes if indexes is None else indexes
            count, first = ((), bands) if isinstance(bands, int) else ((len(bands),), bands[0])
            window, shape = options.get("window"), options.pop("out_shape", None)
            size = self.shape if window is None else (round(window.height), round(window.width))
            dtype = options.pop("out_dtype", None) or self.dtypes[first - 1]
            with np.errstate(invalid="ignore"):  # a nodata value that the type cannot hold
                options["out"] = np.full(shape or (*count, *size), self.nodata or 0, dtype)
        return np.asarray(super().read(indexes, **options))


def _unreadable(name: str, error: BaseException, block: Block | None = None) -> SceneError:
    where = f" at row {block.row}, column {block.col} ({block.height} x {block.width} px)" if block else ""
    return SceneError(f"{name} cannot be read{where} ({gdal_message(error)}): the file may be damaged.")


def _declared_classes(dataset: Any, band: int, name: str) -> tuple[LandCoverClass, ...]:
    if tagged := _parse(dataset.tags(band).get("classes"), name):
        return tagged
    if dataset.colorinterp[band - 1] != ColorInterp.palette:
        return ()
    try:
        table = dataset.colormap(band)
    except ValueError:  # marked as having a colour table, but has none
        return ()
    nodata = dataset.nodatavals[band - 1]
    return tuple(
        LandCoverClass(label, f"class {label}", "#{:02x}{:02x}{:02x}".format(*colour[:3]))
        for label, colour in sorted(table.items())
        if label not in (nodata, NODATA_LABEL) and colour[:3] != (0, 0, 0)  # black fills up GDAL's tables
    )


def _parse(text: Any, name: str) -> tuple[LandCoverClass, ...]:
    if not text:
        return ()
    try:
        return classes_from_json(str(text))
    except ValueError as error:
        raise VectorError(f"{name} has an unreadable tag 'classes' ({error}): mend it, or give the classes.") from error


def too_many_values(name: str, most: int = MOST_UNNAMED) -> str:
    """Says of a raster of more values without class names why it passes for no label map."""
    return f"{name} has more than {most} different values and no class names, as images and measurements have"
