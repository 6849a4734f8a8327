"""Write a drawn scene as the GeoTIFFs a surveyor would deliver."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from geohp.classes import NODATA_LABEL, classes_to_json
from geohp.demo.town.canvas import PIXEL_M
from geohp.demo.town.drawing import SyntheticScene
from geohp.demo.town.town_classes import SIX_CLASSES
from geohp.files.atomic import atomic_write

if TYPE_CHECKING:
    from rasterio.io import DatasetWriter

EPSG = 25833
"""ETRS89 / UTM zone 33N, as Brandenburg's survey uses it."""

UPPER_LEFT = (368_000.0, 5_807_000.0)
"""East and north of the scene's upper left corner, metres: in Potsdam."""


def write_orthophoto(scene: SyntheticScene, image_path: str | Path, truth_path: str | Path) -> None:
    """Write image and truth as tiled GeoTIFFs with 20 cm pixels in EPSG:25833.

    The image declares its empty corner by an internal mask (as orthophotos do whose black pixels are
    data), the truth by nodata 255; the truth carries a colour table and the names of its classes.

    Args:
        scene: what :func:`~geohp.demo.town.drawing.draw_orthophoto` drew.
        image_path, truth_path: files to write; existing ones are replaced once the new ones are complete.

    Raises:
        OutputError: when a file cannot be written; each file appears whole or not at all.
    """
    from rasterio.enums import ColorInterp

    with _new_geotiff(Path(image_path), scene.truth.shape, count=3, photometric="RGB") as dataset:
        dataset.colorinterp = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
        dataset.write(scene.image)
        dataset.write_mask(scene.valid)
    with _new_geotiff(Path(truth_path), scene.truth.shape, count=1, nodata=NODATA_LABEL) as dataset:
        dataset.write_colormap(1, {c.id: (*c.rgb, 255) for c in SIX_CLASSES})
        dataset.set_band_description(1, "land cover")
        dataset.update_tags(1, classes=classes_to_json(SIX_CLASSES))
        dataset.write(scene.truth, 1)


@contextmanager
def _new_geotiff(path: Path, shape: tuple[int, ...], **profile: str | int) -> Iterator[DatasetWriter]:
    import rasterio
    from rasterio.errors import RasterioError
    from rasterio.transform import from_origin

    profile |= {"driver": "GTiff", "dtype": "uint8", "height": shape[0], "width": shape[1]}
    layout = {"tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "deflate"}
    where = {"crs": f"EPSG:{EPSG}", "transform": from_origin(*UPPER_LEFT, PIXEL_M, PIXEL_M)}
    with (
        atomic_write(path, failures=(OSError, RasterioError)) as draft,
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(draft, "w", **profile, **layout, **where) as dataset,
    ):
        yield dataset
