"""What is shown of rasters and maps."""

import time

import numpy as np
import pytest
from rasterio.transform import Affine

from geohp.errors import SceneError, VectorError
from geohp.inspection.rasters import raster_info
from geohp.raster.read.labels import open_labels
from geohp.vector.polygonize import polygonize


def test_a_scene_tells_of_its_bands_and_place(write_scene):
    info = raster_info(write_scene(np.ones((4, 20, 30), np.uint16), nodata=0))
    assert (info.driver, info.width, info.height) == ("GTiff", 30, 20)
    assert [(band.number, band.dtype, band.nodata) for band in info.bands] == [(n, "uint16", 0) for n in (1, 2, 3, 4)]
    assert (info.crs, info.crs_name) == ("EPSG:32633", "WGS 84 / UTM zone 33N")
    assert info.pixel_size == (0.5, 0.5)
    assert info.pixel_size_m == pytest.approx(0.5, rel=1e-3)
    assert info.bounds == (380000, 5799990, 380015, 5800000)
    assert not info.is_map
    assert info.classes == info.areas == ()


def test_a_raster_that_lies_nowhere_says_so(write_scene):
    info = raster_info(
        write_scene(np.ones((1, 20, 30), np.float32), crs=None, transform=Affine.identity(), nodata=np.nan)
    )
    assert not info.georeferenced
    assert info.crs is info.pixel_size is info.pixel_size_m is info.bounds is None
    assert info.bands[0].nodata == "nan"


def test_a_map_tells_its_classes_its_model_and_the_areas_of_its_polygons(tall_scene, tall_model, tmp_path):
    from geohp import segment_file
    from geohp.model.digest import model_file_sha256

    out = tmp_path / "labels.tif"
    result = segment_file(tall_scene, out, model=tall_model)
    info = raster_info(out)
    assert info.is_map
    assert info.classes == tuple(result.classes)
    assert info.model_sha256 == model_file_sha256(tall_model)
    assert [area.pixels for area in info.areas] == [area.pixels for area in result.areas]
    polygons = polygonize(out).groupby("class_id")["area_m2"].sum() / 1e4
    assert {a.id: a.area_ha for a in info.areas if a.pixels} == pytest.approx(polygons.to_dict())
    assert {area.mean_confidence for area in info.areas} == {None}
    assert raster_info(out, counted_px=1000).areas == ()


def test_what_is_no_raster_is_refused(tmp_path):
    (tmp_path / "a.tif").write_bytes(b"nothing")
    with pytest.raises(SceneError, match=r"a\.tif is not a raster"):
        raster_info(tmp_path / "a.tif")


def test_a_nodata_value_that_is_no_finite_number_is_a_word(write_scene):
    info = raster_info(write_scene(np.ones((1, 20, 30), np.float32), nodata=-np.inf))
    assert info.bands[0].nodata == "-inf"


def test_thousands_of_bands_take_no_longer_than_one_each(tmp_path):
    path = tmp_path / "a.vrt"
    bands = "".join(f"<VRTRasterBand dataType='Byte' band='{number}'/>" for number in range(1, 20_001))
    path.write_text(f"<VRTDataset rasterXSize='4' rasterYSize='3'>{bands}</VRTDataset>")
    start = time.perf_counter()
    assert len(raster_info(path).bands) == 20_000
    with pytest.raises(VectorError, match="has 20000 bands"), open_labels(path):
        pass
    assert time.perf_counter() - start < 8  # half a second; a minute where every band looks at all of them
