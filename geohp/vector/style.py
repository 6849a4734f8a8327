"""The look of a land-cover layer in QGIS: one fill colour a class, as QML."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree

from geohp.classes import LandCoverClass


def categorised_qml(classes: Sequence[LandCoverClass], attribute: str = "class_id") -> str:
    """A QGIS style (QML) that fills polygons by ``attribute`` with the colours of the classes.

    Outlines have the colour of the fill and are hair-thin: without them neighbours let the background shine through
    where antialiasing blends their common border.
    """
    root = ElementTree.Element("qgis", version="3.28.0", styleCategories="Symbology")
    renderer = ElementTree.SubElement(
        root, "renderer-v2", type="categorizedSymbol", attr=attribute, symbollevels="0", enableorderby="0",
        forceraster="0",
    )  # fmt: skip
    categories = ElementTree.SubElement(renderer, "categories")
    symbols = ElementTree.SubElement(renderer, "symbols")
    for index, one in enumerate(classes):
        ElementTree.SubElement(
            categories, "category", symbol=str(index), value=str(one.id), type="long", label=one.name, render="true"
        )  # fmt: skip
        _symbol(symbols, str(index), one)
    ElementTree.SubElement(renderer, "rotation")
    ElementTree.SubElement(renderer, "sizescale")
    ElementTree.SubElement(root, "layerGeometryType").text = "2"
    return "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n" + ElementTree.tostring(
        root, encoding="unicode"
    )


def _symbol(parent: ElementTree.Element, name: str, one: LandCoverClass) -> None:
    symbol = ElementTree.SubElement(parent, "symbol", type="fill", name=name, alpha="1", clip_to_extent="1")
    layer = ElementTree.SubElement(symbol, "layer", {"class": "SimpleFill", "pass": "0", "locked": "0", "enabled": "1"})
    colour = ",".join(str(part) for part in (*one.rgb, 255))
    values = {
        "color": colour,
        "style": "solid",
        "outline_color": colour,
        "outline_style": "solid",
        "outline_width": "0.05",
        "outline_width_unit": "MM",
        "joinstyle": "bevel",
        "offset": "0,0",
        "offset_unit": "MM",
    }
    options = ElementTree.SubElement(layer, "Option", type="Map")
    for key, value in values.items():
        ElementTree.SubElement(options, "Option", type="QString", name=key, value=value)
        # Releases before 3.18 read <prop> instead of <Option>.
        ElementTree.SubElement(layer, "prop", k=key, v=value)
