"""Where pixels lie, also where a file says nonsense of it."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS

from geohp.errors import VectorError
from geohp.raster.grid import Grid, transformer

PLACE = {"crs": "EPSG:32633", "transform": Affine(1, 0, 5e5, 0, -1, 5e6)}


def grid_of(path: Path, transform: Affine | None, gcps: list[GroundControlPoint] | None = None) -> Grid:
    profile = {"driver": "GTiff", "width": 4, "height": 3, "count": 1, "dtype": "uint8", "crs": "EPSG:32633"}
    with rasterio.open(path, "w", **profile, **({} if transform is None else {"transform": transform})) as dataset:
        dataset.write(np.ones((1, 3, 4), np.uint8))
        if gcps:
            dataset.gcps = gcps, CRS.from_epsg(32633)
    with rasterio.open(path) as dataset:
        return Grid.of(dataset)


@pytest.mark.parametrize(
    "factor", [Affine.scale(0, 1), Affine(1, 1, 0, 1, 1, 0), Affine.scale(float("nan")), Affine.scale(float("inf"))]
)
def test_a_transform_that_places_nothing_counts_as_none(
    tmp_path: Path, factor: Affine, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        grid = grid_of(tmp_path / "a.tif", PLACE["transform"] * factor)
    assert not grid.is_georeferenced
    assert grid.affine == Affine.scale(1, -1)
    assert "places nothing" in caplog.text


@pytest.mark.parametrize("places", [[(0, 0)], [(0, 0), (1, 1), (2, 2), (3, 3)]])
def test_control_points_that_no_transform_fits_count_as_none(tmp_path: Path, places: list[tuple[int, int]]) -> None:
    points = [GroundControlPoint(row, col, 5e5 + col, 5e6 - row, 0) for row, col in places]
    grid = grid_of(tmp_path / "a.tif", None, points)
    assert not grid.is_georeferenced
    assert grid.gcps == ()


def test_sound_control_points_are_kept(tmp_path: Path) -> None:
    points = [GroundControlPoint(row, col, 5e5 + col, 5e6 - row, 0) for row, col in ((0, 0), (0, 4), (3, 0))]
    assert len(grid_of(tmp_path / "a.tif", None, points).gcps) == 3


@pytest.mark.parametrize(("scale", "placed"), [(1.0, True), (0.0, False)])
def test_beside_a_transform_control_points_do_not_count(tmp_path: Path, scale: float, placed: bool) -> None:
    points = "".join(
        f'<GCP Id="{n}" Pixel="{x}" Line="{y}" X="{x}" Y="{-y}"/>' for n, (x, y) in enumerate([(0, 0), (4, 0), (0, 3)])
    )
    (tmp_path / "a.vrt").write_text(
        f'<VRTDataset rasterXSize="4" rasterYSize="3"><SRS>EPSG:32633</SRS>'
        f"<GeoTransform>500000, {scale}, 0, 5000000, 0, -1</GeoTransform>"
        f'<GCPList Projection="EPSG:4326">{points}</GCPList><VRTRasterBand dataType="Byte" band="1"/></VRTDataset>'
    )
    with rasterio.open(tmp_path / "a.vrt") as dataset:
        grid = Grid.of(dataset)
    assert (grid.gcps == ()) == placed
    assert grid.affine.c == (500000 if placed else 0)
    assert grid.crs == CRS.from_epsg(32633 if placed else 4326)


def test_grids_of_the_same_control_points_are_equal(tmp_path: Path) -> None:
    points = [GroundControlPoint(row, col, 5e5 + col, 5e6 - row, 0) for row, col in ((0, 0), (0, 4), (3, 0))]
    grid = grid_of(tmp_path / "a.tif", None, points)
    assert grid == grid_of(tmp_path / "b.tif", None, points) == grid.crop(grid.block)
    assert len({grid, grid.crop(grid.block)}) == 1
    points[0].x += 1
    assert grid != grid_of(tmp_path / "c.tif", None, points)


@pytest.mark.parametrize("size", [1e-6, 1.0])
@pytest.mark.parametrize(("off_px", "coincide"), [(0.001, True), (0.1, False)])
def test_grids_coincide_by_their_pixels_whatever_these_measure(size: float, off_px: float, coincide: bool) -> None:
    """Moved by a part of a pixel, or of pixels that are larger by so little that the last one is moved so far."""
    place = Affine(size, 0, 9, 0, -size, 50)
    grid = Grid(10_000, 10, place, CRS.from_epsg(4326))
    for other in (place * Affine.translation(off_px, 0), place * Affine.scale(1 + off_px / 10_000, 1)):
        assert grid.coincides_with(Grid(10_000, 10, other, CRS.from_epsg(4326))) == coincide
    corners = [(0, 0), (0, 10_000), (10, 0)]
    points, moved = (
        tuple(GroundControlPoint(r, c, 9 + size * (c + by), 50 - size * r) for r, c in corners) for by in (0, off_px)
    )
    placed, other = (Grid(10_000, 10, Affine.identity(), CRS.from_epsg(4326), gcps) for gcps in (points, moved))
    assert placed.coincides_with(other) == coincide


def test_the_size_of_pixels_whose_corners_coincide_is_unknown() -> None:
    assert Grid(4, 3, PLACE["transform"] * Affine.scale(1e-12), CRS.from_epsg(32633)).pixel_size_m is None
    assert Grid(4, 3, PLACE["transform"], CRS.from_epsg(32633)).pixel_size_m == pytest.approx(1, rel=1e-3)


def test_a_crs_alone_says_neither_where_pixels_lie_nor_how_large_they_are() -> None:
    assert Grid(4, 3, Affine.identity(), CRS.from_epsg(32633)).pixel_size_m is None


def test_nothing_leads_from_a_building_site_to_the_earth() -> None:
    with pytest.raises(VectorError, match=r"nothing leads from .* 'site' to 'WGS 84"):
        transformer('LOCAL_CS["site",UNIT["metre",1]]', "EPSG:32633")
    x, y = transformer("EPSG:4326", "EPSG:32633").transform(15, 0)
    assert (round(x), round(y)) == (500000, 0)
