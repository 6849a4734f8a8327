"""Stored blocks as one raster: a virtual raster in GDAL's VRT format, with everything the output shall carry."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree as ET

from affine import Affine

from geohp.raster.block import Block
from geohp.raster.grid import Grid
from geohp.raster.write.layer import GDAL_TYPES, Layer
from geohp.raster.write.stored_blocks import BLOCK_TILE_PX, StoredBlock, block_path


class PlacedBlock(NamedTuple):
    """A stored block of one layer, and where it belongs."""

    block: Block
    stored: StoredBlock


def write_mosaic(
    path: Path, layer: Layer, grid: Grid, stored: Iterable[PlacedBlock], overviews: Sequence[Path] = ()
) -> None:
    """Write a virtual raster over the stored blocks that lie beside it.

    Args:
        path: the ``.vrt`` to write.
        layer: type, nodata, names and colours.
        grid: size and georeference, kept exactly.
        stored: blocks of this layer only; they must not overlap. Where there is none, the raster holds nodata.
        overviews: rasters beside the ``.vrt``, each half the size of the one before.
    """
    root, bands = virtual_raster(layer, grid)
    stored = list(stored)
    for band, element in enumerate(bands, 1):
        for block, part in stored:
            name = block_path(path.parent, part.layer, *block.origin).name
            add_source(element, "SimpleSource", name, layer, band, block, BLOCK_TILE_PX)
        for overview in overviews:
            element_of = ET.SubElement(element, "Overview")
            ET.SubElement(element_of, "SourceFilename", relativeToVRT="1").text = overview.name
            ET.SubElement(element_of, "SourceBand").text = str(band)
    path.write_bytes(ET.tostring(root, encoding="utf-8"))


def virtual_raster(layer: Layer, grid: Grid) -> tuple[ET.Element, list[ET.Element]]:
    """A virtual raster that carries all but pixels, and its bands, to which sources can be added."""
    root = ET.Element("VRTDataset", rasterXSize=str(grid.width), rasterYSize=str(grid.height))
    _georeference(root, grid)
    _metadata(root, layer.tags)
    bands = []
    for band in range(1, layer.bands + 1):
        element = ET.SubElement(root, "VRTRasterBand", dataType=GDAL_TYPES[layer.dtype], band=str(band))
        _metadata(element, layer.band_tags)
        if layer.band_descriptions:
            ET.SubElement(element, "Description").text = layer.band_descriptions[band - 1]
        if layer.nodata is not None:
            ET.SubElement(element, "NoDataValue").text = repr(float(layer.nodata))
        if layer.scale is not None:
            ET.SubElement(element, "Scale").text = repr(float(layer.scale))
        _colours(element, layer, band)
        bands.append(element)
    return root, bands


def _georeference(root: ET.Element, grid: Grid) -> None:
    wkt = "" if grid.crs is None else grid.crs.to_wkt()
    if grid.gcps:
        # Coordinates are (x, y) whatever order the authority gives its axes.
        points = ET.SubElement(root, "GCPList", Projection=wkt, dataAxisToSRSAxisMapping="1,2")
        for number, point in enumerate(grid.gcps, 1):
            ET.SubElement(
                points, "GCP", Id=str(point.id or number), Info=point.info or "",
                Pixel=repr(float(point.col)), Line=repr(float(point.row)),
                X=repr(float(point.x)), Y=repr(float(point.y)), Z=repr(float(point.z or 0)),
            )  # fmt: skip
        return
    if wkt:
        ET.SubElement(root, "SRS", dataAxisToSRSAxisMapping="1,2").text = wkt
    if grid.transform != Affine.identity():  # which stands for none
        ET.SubElement(root, "GeoTransform").text = ", ".join(repr(float(value)) for value in grid.transform.to_gdal())


def _metadata(parent: ET.Element, tags: Mapping[str, str]) -> None:
    if tags:
        metadata = ET.SubElement(parent, "Metadata")
        for key, value in tags.items():
            ET.SubElement(metadata, "MDI", key=key).text = value


def _colours(band_element: ET.Element, layer: Layer, band: int) -> None:
    if layer.colormap is None:
        ET.SubElement(band_element, "ColorInterp").text = "Gray" if band == 1 else "Undefined"
        return
    ET.SubElement(band_element, "ColorInterp").text = "Palette"
    table = ET.SubElement(band_element, "ColorTable")
    for value in range(max(layer.colormap, default=-1) + 1):
        red, green, blue, alpha = (*layer.colormap.get(value, (0, 0, 0)), 255)[:4]
        ET.SubElement(table, "Entry", c1=str(red), c2=str(green), c3=str(blue), c4=str(alpha))


def add_source(
    band_element: ET.Element, kind: str, name: str, layer: Layer, band: int, block: Block, tile_px: int
) -> ET.Element:
    """Have a band of a virtual raster show a file beside it, in the block that the file covers."""
    rows, cols = str(block.height), str(block.width)
    source = ET.SubElement(band_element, kind)
    ET.SubElement(source, "SourceFilename", relativeToVRT="1").text = name
    ET.SubElement(source, "SourceBand").text = str(band)
    # Without these GDAL would open thousands of files to learn what is known here.
    ET.SubElement(
        source, "SourceProperties", RasterXSize=cols, RasterYSize=rows, DataType=GDAL_TYPES[layer.dtype],
        BlockXSize=str(tile_px), BlockYSize=str(tile_px),
    )  # fmt: skip
    ET.SubElement(source, "SrcRect", xOff="0", yOff="0", xSize=cols, ySize=rows)
    ET.SubElement(source, "DstRect", xOff=str(block.col), yOff=str(block.row), xSize=cols, ySize=rows)
    return source
