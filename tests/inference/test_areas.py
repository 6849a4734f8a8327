"""Areas by class, counted while a map is written, are those of the map that is then there."""

from dataclasses import replace

import numpy as np
import pytest
import rasterio
from rasterio.crs import CRS

import geohp
from geohp.classes import LandCoverClass
from geohp.inference import rasters as writing
from geohp.inference.areas import ClassArea, class_areas, pixel_areas, tally, total_areas
from geohp.raster.grid import Grid


def expected(path, confidence):
    """Pixels and mean confidence by label, of the files."""
    with rasterio.open(path) as labels, rasterio.open(confidence) as shares:
        values, steps = labels.read(1), shares.read(1) / 254
    return {
        int(label): (int((values == label).sum()), float(steps[values == label].mean()))
        for label in np.unique(values[values != 255])
    }


def check(result, confidence):
    counted = expected(result.files[0], confidence)
    assert [area.id for area in result.areas] == [entry.id for entry in result.classes]
    for area in result.areas:
        pixels, mean = counted.get(area.id, (0, None))
        assert area.pixels == pixels
        assert area.mean_confidence == (None if mean is None else pytest.approx(mean))
    assert sum(area.share for area in result.areas) == pytest.approx(1)
    return counted


def test_areas_are_counted_with_the_map(write_scene, three_fields, tmp_path):
    three_fields = three_fields.copy()
    three_fields[:, :20] = 0
    scene = write_scene(three_fields, nodata=0)
    result = geohp.segment_file(scene, tmp_path / "a.tif", classes=3, confidence=tmp_path / "c.tif")
    check(result, tmp_path / "c.tif")
    with rasterio.open(scene) as dataset:
        pixel_ha = abs(dataset.transform.a * dataset.transform.e) / 1e4
    for area in result.areas:
        assert area.area_ha == pytest.approx(area.pixels * pixel_ha)
    same = geohp.segment_file(scene, tmp_path / "b.tif", classes=3)
    assert same.areas == result.areas, "whether confidence is written or not"


def test_degrees_give_true_areas(write_scene, three_fields, tmp_path):
    scene = write_scene(three_fields, crs="EPSG:4326", transform=rasterio.Affine(1e-5, 0, 13, 0, -1e-5, 60))
    polygons = tmp_path / "a.gpkg"
    result = geohp.segment_file(scene, tmp_path / "a.tif", classes=3, polygons=polygons)
    import geopandas

    by_class = geopandas.read_file(polygons).groupby("class_id")["area_m2"].sum()
    for area in result.areas:
        assert area.area_ha == pytest.approx(by_class.get(area.id, 0) / 1e4, rel=1e-6)


def test_shares_are_of_the_ground_and_not_of_pixels():
    grid = Grid(10, 2, rasterio.Affine(1, 0, 0, 0, -30, 60), CRS.from_epsg(4326))  # 60 to 30 and 30 to 0 degrees north
    labels = np.array([[4], [7]], np.uint8).repeat(10, 1)
    classes = [LandCoverClass(number, str(number), "#000000") for number in (4, 7)]
    north, south = class_areas([tally(grid.block, {"labels": labels}, pixel_areas(grid))], classes, grid)
    assert north.pixels == south.pixels
    assert south.share == pytest.approx(south.area_ha / (north.area_ha + south.area_ha))
    assert south.share == pytest.approx(np.sin(np.pi / 6) / np.sin(np.pi / 3), rel=0.01)


def test_maps_together_weigh_by_their_size_and_where_one_lies_nowhere_by_pixels():
    small = [ClassArea(0, "a", 10, 0.5, 1.0, 0.5), ClassArea(1, "b", 10, 0.5, 1.0, 0.0)]
    large = [ClassArea(0, "a", 30, 0.25, 6.0, 0.9), ClassArea(1, "b", 90, 0.75, 8.0, 0.4)]
    together = total_areas([small, large])
    assert [(area.pixels, area.area_ha, area.share) for area in together] == [(40, 7.0, 7 / 16), (100, 9.0, 9 / 16)]
    assert [area.mean_confidence for area in together] == [pytest.approx(0.8), pytest.approx(0.36)]
    nowhere = [replace(area, area_ha=None) for area in large]
    for maps in ([small, nowhere], [nowhere, small]):
        assert [(area.area_ha, area.share) for area in total_areas(maps)] == [(None, 40 / 140), (None, 100 / 140)]


def test_without_a_place_on_earth_there_are_pixels_only(write_scene, three_fields, tmp_path):
    scene = write_scene(three_fields, crs=None)
    result = geohp.segment_file(scene, tmp_path / "a.tif", classes=3, confidence=tmp_path / "c.tif")
    check(result, tmp_path / "c.tif")
    assert {area.area_ha for area in result.areas} == {None}


def test_blocks_of_an_interrupted_run_count_too(tall_scene, tall_model, tmp_path, monkeypatch):
    plain = writing.label_blocks

    def stopping(*arguments, **keywords):
        for number, block in enumerate(plain(*arguments, **keywords)):
            if number == 1:
                raise KeyboardInterrupt
            yield block

    monkeypatch.setattr(writing, "label_blocks", stopping)
    options = {"model": tall_model, "confidence": tmp_path / "c.tif"}
    with pytest.raises(KeyboardInterrupt):
        geohp.segment_file(tall_scene, tmp_path / "a.tif", **options)
    monkeypatch.setattr(writing, "label_blocks", plain)
    result = geohp.segment_file(tall_scene, tmp_path / "a.tif", **options)
    check(result, tmp_path / "c.tif")


def test_many_maps_add_up_and_are_remembered(write_scene, three_fields, tmp_path):
    first = write_scene(three_fields)
    second = first.with_name("second.tif")
    second.write_bytes(first.read_bytes())
    batch = geohp.segment_files([first, second], tmp_path / "maps", classes=3)
    one, other = (result.areas for result in batch.maps)
    assert [area.pixels for area in batch.areas] == [2 * area.pixels for area in one]
    assert [area.share for area in batch.areas] == pytest.approx([area.share for area in other])
    assert [area.area_ha for area in batch.areas] == pytest.approx([2 * area.area_ha for area in one])
    again = geohp.segment_files([first, second], tmp_path / "maps", classes=3)
    assert all(result.made_earlier for result in again.maps)
    assert again.areas == batch.areas
