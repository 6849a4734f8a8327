"""Styles that QGIS takes up from beside a layer."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from geohp.classes import LandCoverClass, unprintable
from geohp.errors import OutputError
from geohp.style import RAMPS, paletted_qml, write_ramp, write_styles

CLASSES = [LandCoverClass(0, "wet & <wild>", "#0077bb"), LandCoverClass(7, "forêt", "#117733")]


def entries(qml):
    root = ElementTree.fromstring(qml.split("\n", 1)[1])
    return root, [dict(one.attrib) for one in root.iterfind("pipe/rasterrenderer/colorPalette/paletteEntry")]


@pytest.mark.parametrize("character", ["\ufdd0", "\ufffd", "\U0001ffff", "\u202e", "\u00a0", "\U0010ffff"])
def test_whatever_a_name_may_hold_is_xml(character):
    assert not unprintable(character)
    _, found = entries(paletted_qml([LandCoverClass(0, f"a{character}b", "#0077bb")]))
    assert found[0]["label"] == f"a{character}b"


def test_a_raster_has_an_entry_for_each_class():
    root, found = entries(paletted_qml(CLASSES))
    renderer = root.find("pipe/rasterrenderer")
    assert renderer.attrib["type"] == "paletted"
    assert renderer.attrib["band"] == "1"
    assert found == [
        {"value": "0", "color": "#0077bb", "alpha": "255", "label": "wet & <wild>"},
        {"value": "7", "color": "#117733", "alpha": "255", "label": "forêt"},
    ]


def test_a_quantity_has_a_ramp_from_0_to_1(tmp_path):
    path = write_ramp(tmp_path / "confidence.tif", "confidence")
    assert path == tmp_path / "confidence.qml"
    root = ElementTree.fromstring(path.read_text(encoding="utf-8").split("\n", 1)[1])
    renderer = root.find("pipe/rasterrenderer")
    assert renderer.attrib["type"] == "singlebandpseudocolor"
    shader = renderer.find("rastershader/colorrampshader")
    assert shader.attrib["colorRampType"] == "INTERPOLATED"
    items = [(float(item.attrib["value"]), item.attrib["color"]) for item in shader.iterfind("item")]
    assert items == list(zip((0, 0.25, 0.5, 0.75, 1), RAMPS["confidence"], strict=True))
    with pytest.raises(OutputError, match="exists already"):
        write_ramp(tmp_path / "confidence.tif", "confidence")


@pytest.mark.parametrize("suffix", [".geojson", ".json", ".fgb", ".parquet", ".shp", ".FGB"])
def test_polygons_are_filled_with_the_colour_of_their_class(tmp_path, suffix):
    text = write_styles(tmp_path / f"map{suffix}", CLASSES).read_text(encoding="utf-8")
    renderer = ElementTree.fromstring(text.split("\n", 1)[1]).find("renderer-v2")
    assert renderer.attrib["attr"] == "class_id"
    fills = {
        symbol.attrib["name"]: symbol.find("layer/Option/Option[@name='color']").attrib["value"]
        for symbol in renderer.iterfind("symbols/symbol")
    }
    categories = [category.attrib for category in renderer.iterfind("categories/category")]
    assert {int(each["value"]): fills[each["symbol"]] for each in categories} == {
        0: "0,119,187,255",
        7: "17,119,51,255",
    }


def test_styles_lie_beside_the_layer(tmp_path):
    assert write_styles(tmp_path / "map.tif", CLASSES) == tmp_path / "map.qml"
    assert len(entries((tmp_path / "map.qml").read_text(encoding="utf-8"))[1]) == 2
    with pytest.raises(OutputError, match="exists already"):
        write_styles(tmp_path / "map.fgb", CLASSES)
    write_styles(tmp_path / "map.fgb", CLASSES, overwrite=True)
    root = ElementTree.fromstring((tmp_path / "map.qml").read_text(encoding="utf-8").split("\n", 1)[1])
    assert [one.attrib["label"] for one in root.iterfind("renderer-v2/categories/category")] == [
        "wet & <wild>",
        "forêt",
    ]
    assert write_styles(tmp_path / "other.gpkg", CLASSES) is None
    assert [one.name for one in tmp_path.iterdir()] == ["map.qml"]
