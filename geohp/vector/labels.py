"""Reading a label map: its values, where it holds data, where it lies, and what its labels mean."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import ColorInterp

from geohp.classes import NODATA_LABEL, LandCoverClass, classes_from_json, default_classes
from geohp.errors import SceneError, VectorError
from geohp.raster._gdal import FAILURES, open_quietly, quiet, reason
from geohp.raster.arrays import to_memory_file
from geohp.raster.grid import Grid

if TYPE_CHECKING:
    from xarray import DataArray


@dataclass(frozen=True)
class LabelMap:
    """A label raster in memory.

    Attributes:
        name: the raster in messages.
        values: (rows, cols) integer labels.
        valid: (rows, cols) False where there is no data.
        grid: where the pixels lie.
        classes: what the raster says about its labels; empty where it says nothing.
    """

    name: str
    values: NDArray[Any]
    valid: NDArray[np.bool_]
    grid: Grid
    classes: tuple[LandCoverClass, ...]


def read_labels(labels: str | Path | DataArray) -> LabelMap:
    """Read a label raster with one band of integers (beside it, an alpha band).

    No data is what the raster declares: its nodata value, mask or alpha band; 255 where it declares no value.

    Raises:
        SceneError: a raster that cannot be opened or read.
        VectorError: a raster of floats, or with several bands: no labels.
    """
    with _opened(labels) as (dataset, name):
        bands, alphas = _band_kinds(dataset)
        if len(bands) != 1:
            raise VectorError(
                f"{name} has {len(bands)} bands, but a label map has one: extract the band that holds the labels first."
            )
        dtype = np.dtype(dataset.dtypes[bands[0] - 1])
        if dtype.kind not in "iu":
            raise VectorError(
                f"{name} holds {dtype} values, but labels are integers: convert the raster to an integer type first "
                "(with rioxarray, open it with masked=False)."
            )
        try:
            values, valid = _read(dataset, bands[0], alphas)
            classes = _declared_classes(dataset, bands[0], name)
        except FAILURES as error:
            raise SceneError(f"{name} cannot be read ({reason(error)}): the file may be damaged.") from error
        if not classes and not isinstance(labels, str | Path):
            classes = _parse(labels.attrs.get("classes"), name)
        return LabelMap(name, values, valid, Grid.of(dataset), classes)


def read_classes(labels: str | Path | DataArray) -> tuple[LandCoverClass, ...]:
    """The classes that a label raster declares in its band tag ``classes``, or else in its colour table.

    Returns:
        the classes; empty where the raster declares none.

    Raises:
        SceneError: a raster that cannot be opened.
        VectorError: a band tag that is no list of classes.
    """
    if not isinstance(labels, str | Path):
        return _parse(labels.attrs.get("classes"), "the label array")
    with _opened(labels) as (dataset, name):
        bands, _ = _band_kinds(dataset)
        return _declared_classes(dataset, bands[0], name)


def read_confidence(confidence: str | Path | DataArray, grid: Grid) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Read a confidence raster that lies on a label map's grid.

    Returns:
        values (rows, cols) after the band's scale and offset, and where they are valid.

    Raises:
        SceneError: a raster that cannot be opened or read.
        VectorError: another size or another place than the label map's.
    """
    with _opened(confidence) as (dataset, name):
        found = Grid.of(dataset)
        if found.shape != grid.shape or not found.transform.almost_equals(grid.transform, 1e-9):
            raise VectorError(
                f"{name} does not lie on the label map's pixel grid ({found.height} x {found.width} pixels instead of "
                f"{grid.height} x {grid.width}, or elsewhere): give the confidence written with these labels."
            )
        try:
            stored = dataset.read(1)
            valid = dataset.read_masks(1) > 0
        except FAILURES as error:
            raise SceneError(f"{name} cannot be read ({reason(error)}): the file may be damaged.") from error
        values = stored * dataset.scales[0] + dataset.offsets[0]
        return values, valid & np.isfinite(values)


def complete_classes(
    known: tuple[LandCoverClass, ...] | list[LandCoverClass], ids: NDArray[Any]
) -> tuple[LandCoverClass, ...]:
    """The known classes, and a default name and colour for every label that occurs without being known.

    Raises:
        VectorError: two classes with the same number, or a colour that is none.
    """
    for one in known:
        if not re.fullmatch("#[0-9a-fA-F]{6}", one.colour):
            raise VectorError(f"class {one.id} ({one.name}) has the colour {one.colour!r}: write it as #rrggbb.")
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


@contextmanager
def _opened(source: str | Path | DataArray) -> Iterator[tuple[Any, str]]:
    with quiet():
        if isinstance(source, str | Path):
            name = str(source)
            try:
                dataset = open_quietly(source)
            except FAILURES as error:
                remedy = "" if Path(source).exists() or "://" in name else ": no such file; check the path"
                raise SceneError(f"{name} cannot be opened as a raster ({reason(error)}){remedy}.") from error
            with dataset:
                yield dataset, name
        else:
            name = f"the array {source.name!r}" if getattr(source, "name", None) else "the label array"
            with to_memory_file(source, name) as memory, open_quietly(memory.name) as dataset:
                yield dataset, name


def _band_kinds(dataset: Any) -> tuple[list[int], list[int]]:
    """Numbers of the bands of values and of the alpha bands."""
    kinds = dict(enumerate(dataset.colorinterp, start=1))
    alphas = [band for band, kind in kinds.items() if kind == ColorInterp.alpha]
    return [band for band in kinds if band not in alphas] or [1], alphas


def _read(dataset: Any, band: int, alphas: list[int]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    values = dataset.read(band)
    # GDAL's mask shows one kind of validity only, so the nodata value and alpha are looked at beside it.
    valid = dataset.read_masks(band) > 0
    nodata = dataset.nodatavals[band - 1]
    valid &= values != (NODATA_LABEL if nodata is None else nodata)
    for alpha in alphas:
        valid &= dataset.read(alpha) > 0
    return values, valid


def _declared_classes(dataset: Any, band: int, name: str) -> tuple[LandCoverClass, ...]:
    if tagged := _parse(dataset.tags(band).get("classes"), name):
        return tagged
    if dataset.colorinterp[band - 1] != ColorInterp.palette:
        return ()
    table = dataset.colormap(band)
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
