"""Stored blocks as one virtual raster: what it says of them, so that GDAL need not open each."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import rasterio
from affine import Affine
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS

from geohp.raster.block import Block
from geohp.raster.grid import Grid
from geohp.raster.write.assemble import PlacedBlock, virtual_raster, write_mosaic
from geohp.raster.write.layer import Layer
from geohp.raster.write.stored_blocks import write_block

GRID = Grid(5, 4, Affine(2, 0, 5e5, 0, -2, 5538000), CRS.from_epsg(25832))


def test_blocks_lie_where_they_belong_and_the_rest_is_nodata(tmp_path: Path) -> None:
    layer = Layer(bands=2, nodata=9)
    values = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    stored = write_block(tmp_path, 1, layer, 2, 1, values)
    assert stored is not None
    write_mosaic(tmp_path / "a.vrt", layer, GRID, [PlacedBlock(Block(2, 1, 2, 3), stored)])
    with rasterio.open(tmp_path / "a.vrt") as dataset:
        expected = np.full((2, 4, 5), 9, np.uint8)
        expected[:, 2:4, 1:4] = values
        np.testing.assert_array_equal(dataset.read(), expected)
        assert (dataset.transform, dataset.crs, dataset.nodata) == (GRID.transform, GRID.crs, 9)
    sources = ET.parse(tmp_path / "a.vrt").getroot().findall("VRTRasterBand/SimpleSource")
    assert [source.findtext("SourceBand") for source in sources] == ["1", "2"]
    for source in sources:
        name, properties = source.find("SourceFilename"), source.find("SourceProperties")
        assert name is not None
        assert properties is not None
        assert (name.text, name.attrib) == ("1-2-1.tif", {"relativeToVRT": "1"})
        assert properties.attrib == {
            "RasterXSize": "3", "RasterYSize": "2", "DataType": "Byte", "BlockXSize": "128", "BlockYSize": "128",
        }  # fmt: skip
        assert source.find("SrcRect").attrib == {"xOff": "0", "yOff": "0", "xSize": "3", "ySize": "2"}  # type: ignore[union-attr]
        assert source.find("DstRect").attrib == {"xOff": "1", "yOff": "2", "xSize": "3", "ySize": "2"}  # type: ignore[union-attr]


def test_overviews_are_named_for_every_band(tmp_path: Path) -> None:
    write_mosaic(tmp_path / "a.vrt", Layer(bands=2), GRID, [], [tmp_path / "half.tif", tmp_path / "quarter.tif"])
    bands = ET.parse(tmp_path / "a.vrt").getroot().findall("VRTRasterBand")
    for number, band in enumerate(bands, 1):
        assert [element.findtext("SourceFilename") for element in band.findall("Overview")] == [
            "half.tif",
            "quarter.tif",
        ]
        assert {element.findtext("SourceBand") for element in band.findall("Overview")} == {str(number)}
        assert all(name.attrib == {"relativeToVRT": "1"} for name in band.findall("Overview/SourceFilename"))


def test_what_a_raster_carries_beside_pixels() -> None:
    layer = Layer(
        "int16", -1, tags={"a": "b<c>"}, band_tags={"d": "e"}, band_descriptions=("heights",), scale=0.5,
        overviews="average",
    )  # fmt: skip
    root, (band,) = virtual_raster(layer, GRID)
    assert root.attrib == {"rasterXSize": "5", "rasterYSize": "4"}
    assert band.attrib == {"dataType": "Int16", "band": "1"}
    assert [band.findtext(name) for name in ("Description", "NoDataValue", "Scale", "ColorInterp")] == [
        "heights", "-1.0", "0.5", "Gray",
    ]  # fmt: skip
    assert [(entry.attrib, entry.text) for entry in root.findall("Metadata/MDI")] == [({"key": "a"}, "b<c>")]
    assert [(entry.attrib, entry.text) for entry in band.findall("Metadata/MDI")] == [({"key": "d"}, "e")]
    root, bands = virtual_raster(Layer(nodata=None, bands=2), Grid(5, 4, Affine.identity(), None))
    assert [child.tag for child in root] == ["VRTRasterBand"] * 2
    assert [[child.tag for child in band] for band in bands] == [["ColorInterp"]] * 2
    assert [band.findtext("ColorInterp") for band in bands] == ["Gray", "Undefined"]


def test_a_colour_table_has_an_entry_for_every_value_up_to_its_last() -> None:
    _, (band,) = virtual_raster(Layer(colormap={0: (1, 2, 3), 2: (4, 5, 6, 7)}), GRID)
    assert band.findtext("ColorInterp") == "Palette"
    assert [tuple(entry.attrib.values()) for entry in band.findall("ColorTable/Entry")] == [
        ("1", "2", "3", "255"), ("0", "0", "0", "255"), ("4", "5", "6", "7"),
    ]  # fmt: skip
    assert [*band.findall("ColorTable/Entry")[0].attrib] == ["c1", "c2", "c3", "c4"]
    _, (band,) = virtual_raster(Layer(colormap={}), GRID)
    assert band.find("ColorTable/Entry") is None


def test_control_points_keep_their_names_and_heights() -> None:
    points = (GroundControlPoint(1, 2, 9.5, 50.5, 7.0, "p", "here"), GroundControlPoint(0, 4, 9.25, 50.75))
    root, _ = virtual_raster(Layer(), Grid(5, 4, Affine.identity(), CRS.from_epsg(4326), points))
    (listed,) = root.findall("GCPList")
    assert listed.attrib["dataAxisToSRSAxisMapping"] == "1,2"
    assert "WGS 84" in listed.attrib["Projection"]
    first, second = (entry.attrib for entry in listed.findall("GCP"))
    assert first == {"Id": "p", "Info": "here", "Pixel": "2.0", "Line": "1.0", "X": "9.5", "Y": "50.5", "Z": "7.0"}
    assert [second[key] for key in ("Info", "Pixel", "Line", "X", "Y", "Z")] == [
        "",
        "4.0",
        "0.0",
        "9.25",
        "50.75",
        "0.0",
    ]
    assert root.find("GeoTransform") is None
    assert root.find("SRS") is None
