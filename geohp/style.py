"""The look of a land-cover layer in QGIS: one colour a class, as QML."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from geohp.classes import LandCoverClass
from geohp.files import check_output, write_text

_VECTORS = (".geojson", ".json", ".fgb", ".parquet", ".shp")


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
    return _document(root)


def paletted_qml(classes: Sequence[LandCoverClass], band: int = 1) -> str:
    """A QGIS style (QML) that shows a label raster's ``band`` with the names and colours of the classes."""
    root = ElementTree.Element("qgis", version="3.28.0", styleCategories="Symbology")
    pipe = ElementTree.SubElement(root, "pipe")
    renderer = ElementTree.SubElement(
        pipe, "rasterrenderer", type="paletted", band=str(band), opacity="1", alphaBand="-1", nodataColor=""
    )  # fmt: skip
    palette = ElementTree.SubElement(renderer, "colorPalette")
    for one in classes:
        ElementTree.SubElement(
            palette, "paletteEntry", value=str(one.id), color=one.colour, alpha="255", label=one.name
        )  # fmt: skip
    return _document(root)


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


def _document(root: ElementTree.Element) -> str:
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
