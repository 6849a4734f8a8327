"""What people hold in place of a path is taken, or refused with what to do."""

import numpy as np
import pytest
import rasterio
import rioxarray
import torch
import xarray as xr
from rasterio.vrt import WarpedVRT

import geohp
from geohp.errors import SceneError
from geohp.raster.read.inputs import scene_input


@pytest.fixture
def scene(write_scene, three_fields):
    return write_scene(three_fields)


def test_an_open_dataset_is_mapped_where_it_lies_and_stays_open(scene):
    expected = geohp.segment(scene, classes=3)
    with rasterio.open(scene) as dataset:
        labels = geohp.segment(dataset, classes=3)
        assert not dataset.closed
    assert labels.identical(expected)


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy, lambda a: {"image": torch.from_numpy(a), "crs": None}])
def test_arrays_tensors_and_samples_are_images(scene, three_fields, kind):
    labels = geohp.segment(kind(three_fields), classes=3)
    assert labels.rio.crs is None
    assert np.array_equal(labels.to_numpy(), geohp.segment(scene, classes=3).to_numpy())


def test_a_single_band_is_an_image(three_fields):
    assert scene_input(three_fields[0]).dims == ("y", "x")


def test_variables_that_rioxarray_has_made_of_bands_have_the_opacity_of_their_file(write_scene, three_fields):
    opacity = np.full((1, *three_fields.shape[1:]), 255, np.uint8)
    opacity[:, :40] = 0
    path = write_scene(np.concatenate([three_fields, opacity]), photometric="RGB", alpha="YES")
    dataset = rioxarray.open_rasterio(path, band_as_variable=True)
    labels = geohp.segment(path, classes=3)
    assert (labels[:40] == 255).all()
    for same in (dataset, dataset.chunk({"y": 64}), dataset[["band_4", "band_1", "band_2", "band_3"]]):
        np.testing.assert_array_equal(geohp.segment(same, classes=3), labels)
    chosen = geohp.segment(path, classes=3, bands=[3, 1])
    np.testing.assert_array_equal(geohp.segment(dataset, classes=3, bands=["band_3", "band_1"]), chosen)
    # Of other files' bands together nobody knows.
    assert (geohp.segment(dataset.rename(band_4="other"), classes=3) != 255).all()


@pytest.mark.parametrize(
    ("shape", "remedy"),
    [
        ((150, 200, 3), "transpose"),
        ((150, 200, 4), "transpose"),
        ((2, 3, 150, 200), "one image of a batch"),
        ((9,), "expected"),
    ],
)
def test_other_shapes_are_refused_with_the_remedy(shape, remedy):
    with pytest.raises(SceneError, match=remedy):
        geohp.segment(np.zeros(shape, np.uint8), classes=3)


def test_what_shows_no_image_says_so(scene):
    with pytest.raises(SceneError, match="has no image"):
        geohp.segment({"mask": 1}, classes=3)
    with (
        rasterio.open(scene) as dataset,
        WarpedVRT(dataset, crs="EPSG:4326") as warped,
        pytest.raises(SceneError, match="write it to a file"),
    ):
        geohp.segment(warped, classes=3)
    with pytest.raises(SceneError, match=r"no xarray\.DataArray"):
        geohp.segment(7, classes=3)


def test_what_is_in_memory_alone_is_no_file(scene, three_fields, tmp_path):
    array, target = xr.DataArray(three_fields, dims=("band", "y", "x")), tmp_path / "labels.tif"
    mistake = pytest.raises(SceneError, match="is no file; save it first")
    for call in (
        lambda: geohp.segment_file(array, target, classes=3),
        lambda: geohp.segment_files([array, array.to_dataset(name="a")], tmp_path / "maps", classes=3),
        lambda: geohp.change(array[0], array[1], target),
        lambda: geohp.recode_file(array[0], target, {0: "water"}),
    ):
        with mistake:
            call()
    with rasterio.open(scene) as dataset:
        assert geohp.segment_file(dataset, target, classes=3).files == (target,)
    for several in ([scene, scene], None):
        with pytest.raises(SceneError, match=r"no xarray\.DataArray but a (list|NoneType)"):
            geohp.segment(several, classes=3)
