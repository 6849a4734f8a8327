"""From a scene to a land-cover map and polygons in a few lines of Python.

    python examples/segment_and_polygonize.py [scene.tif]

Without a scene it draws one. Writes labels.tif, landcover.gpkg and a table of areas into the working folder.
"""

from __future__ import annotations

import sys
from pathlib import Path

import geohp


def main() -> None:
    scene = Path(sys.argv[1]) if len(sys.argv) > 1 else draw_scene()
    # Classes found on the scene itself; give model="runs/..." to use a trained one.
    labels = geohp.segment(scene, classes=6)
    labels.geohp.to_raster("labels.tif", overwrite=True)
    polygons = geohp.polygonize(labels, min_area_m2=10, simplify_m=0.5)
    geohp.write_polygons(polygons, "landcover.gpkg", overwrite=True)
    hectares = polygons.groupby("class_name")["area_m2"].sum() / 10_000
    print(hectares.rename("hectares").round(2).to_string())


def draw_scene() -> Path:
    """A town of 160 m by 160 m with a real CRS."""
    from geohp.demo.town.drawing import draw_orthophoto
    from geohp.demo.town.geotiff import write_orthophoto

    path = Path("scene.tif")
    write_orthophoto(draw_orthophoto(800, 800, seed=3), path, path.with_name("truth.tif"))
    return path


if __name__ == "__main__":
    main()
