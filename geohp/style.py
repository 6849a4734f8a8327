"""The look of a land-cover layer in QGIS, as QML: one colour a class, or a ramp of colours for a quantity."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from xml.etree.ElementTree import Element, SubElement, tostring

from geohp.classes import LandCoverClass
from geohp.files.atomic import write_text
from geohp.files.checks import check_output

RAMPS = {
    "confidence": ("#440154", "#3b528b", "#21918c", "#5ec962", "#fde725"),
    "entropy": ("#000004", "#57106e", "#bc3754", "#f98e09", "#fcffa4"),
}
"""Colours of quantities from 0 to 1 in even steps, perceptually uniform: matplotlib's viridis and inferno."""

_VECTORS = (".geojson", ".json", ".fgb", ".parquet", ".shp")
_OUTLINE = (
    ("outline_style", "solid"),
    ("outline_width", "0.05"),
    ("outline_width_unit", "MM"),
    ("joinstyle", "bevel"),
    ("offset", "0,0"),
    ("offset_unit", "MM"),
)


def categorised_qml(classes: Sequence[LandCoverClass]) -> str:
    """A QGIS style (QML) that fills polygons by ``class_id`` with the colours of the classes.

    Outlines have the colour of the fill and are hair-thin: without them neighbours let the background shine through
    where antialiasing blends their common border.
    """
    root = Element("qgis", version="3.28.0", styleCategories="Symbology")
    renderer = SubElement(
        root, "renderer-v2", type="categorizedSymbol", attr="class_id", symbollevels="0", enableorderby="0",
        forceraster="0",
    )  # fmt: skip
    categories, symbols = SubElement(renderer, "categories"), SubElement(renderer, "symbols")
    for symbol, entry in enumerate(classes):
        fields = {"symbol": str(symbol), "value": str(entry.id), "type": "long", "label": entry.name, "render": "true"}
        SubElement(categories, "category", fields)
        _add_symbol(symbols, str(symbol), entry)
    SubElement(renderer, "rotation")
    SubElement(renderer, "sizescale")
    SubElement(root, "layerGeometryType").text = "2"
    return _document(root)


def paletted_qml(classes: Sequence[LandCoverClass]) -> str:
    """A QGIS style (QML) that shows a label raster with the names and colours of the classes."""
    root = Element("qgis", version="3.28.0", styleCategories="Symbology")
    fields = {"type": "paletted", "band": "1", "opacity": "1", "alphaBand": "-1", "nodataColor": ""}
    palette = SubElement(SubElement(SubElement(root, "pipe"), "rasterrenderer", fields), "colorPalette")
    for entry in classes:
        SubElement(palette, "paletteEntry", value=str(entry.id), color=entry.colour, alpha="255", label=entry.name)
    return _document(root)


def ramp_qml(colours: Sequence[str]) -> str:
    """A QGIS style (QML) that shows a quantity from 0 to 1, its scale applied, in a continuous ramp of colours."""
    root = Element("qgis", version="3.28.0", styleCategories="Symbology")
    extent = {"classificationMin": "0", "classificationMax": "1"}
    fields = {"type": "singlebandpseudocolor", "band": "1", "opacity": "1", "alphaBand": "-1", "nodataColor": ""}
    renderer = SubElement(SubElement(root, "pipe"), "rasterrenderer", {**fields, **extent})
    steps = {"colorRampType": "INTERPOLATED", "classificationMode": "2", "clip": "0"}
    shader = SubElement(
        SubElement(renderer, "rastershader"), "colorrampshader", {**steps, "minimumValue": "0", "maximumValue": "1"}
    )
    for place, colour in enumerate(colours):
        value = f"{place / (len(colours) - 1):g}"
        SubElement(shader, "item", value=value, label=value, color=colour, alpha="255")
    return _document(root)


def write_ramp(path: str | Path, quantity: str, *, overwrite: bool = False) -> Path:
    """Write the style of a raster of a quantity out of :data:`RAMPS` beside it, under its name with ``.qml``.

    Returns:
        the style's path.

    Raises:
        OutputError: there is a style already, or it cannot be written.
    """
    target = check_output(Path(path).with_suffix(".qml"), overwrite=overwrite)
    return write_text(target, ramp_qml(RAMPS[quantity]))


def write_styles(path: str | Path, classes: Sequence[LandCoverClass], *, overwrite: bool = False) -> Path | None:
    """Write the style of a label raster or a file of polygons beside it, under its name with ``.qml``.

    QGIS then shows the layer with the classes' names and colours as soon as it is added.

    Args:
        path: the raster, or the polygons (told by the suffix).
        classes: its classes.
        overwrite: replace a style that is there.

    Returns:
        the style's path; ``None`` for a GeoPackage, which carries its own.

    Raises:
        OutputError: there is a style already, or it cannot be written.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix == ".gpkg":
        return None
    qml = categorised_qml(classes) if suffix in _VECTORS else paletted_qml(classes)
    return write_text(check_output(path.with_suffix(".qml"), overwrite=overwrite), qml)


def _document(root: Element) -> str:
    return "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n" + tostring(root, encoding="unicode")


def _add_symbol(parent: Element, name: str, entry: LandCoverClass) -> None:
    symbol = SubElement(parent, "symbol", type="fill", name=name, alpha="1", clip_to_extent="1")
    layer = SubElement(symbol, "layer", {"class": "SimpleFill", "pass": "0", "locked": "0", "enabled": "1"})
    colour = ",".join(map(str, (*entry.rgb, 255)))
    options = SubElement(layer, "Option", type="Map")
    for key, value in (("color", colour), ("style", "solid"), ("outline_color", colour), *_OUTLINE):
        SubElement(options, "Option", type="QString", name=key, value=value)
        # Releases before 3.18 read <prop> instead of <Option>.
        SubElement(layer, "prop", k=key, v=value)
