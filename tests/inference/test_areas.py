"""Areas by class, counted while a map is written, are those of the map that is then there."""

import numpy as np
import pytest
import rasterio

import geohp
from geohp.inference import rasters as writing


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
