"""Several scenes seen alike, or each by itself."""

import numpy as np
import pytest
import rasterio

from geohp.raster.read.collection import SceneCollection


def test_a_measured_scaling_is_common_unless_scenes_are_measured_apart(write_scene):
    dark = np.random.default_rng(0).integers(100, 300, (3, 40, 40)).astype(np.uint16)
    paths = [str(write_scene(dark, "dark.tif")), str(write_scene(dark * 4, "bright.tif"))]
    together = SceneCollection(paths, scaling="percentiles:0,100")
    apart = SceneCollection(paths, scaling="percentiles:0,100", apart=True)
    for path, low, high in zip(paths, (100, 400), (299, 1196), strict=True):
        with together.open(path) as alike, apart.open(path) as own:
            assert (alike.scaling.low[0], alike.scaling.high[0]) == (100, 1196)
            assert (own.scaling.low[0], own.scaling.high[0]) == (low, high)
            np.testing.assert_allclose(own.read(0, 0, 40, 40)[0], (dark - 100) / 199, atol=1e-6)


@pytest.mark.parametrize("first", [0, 1])
def test_scenes_of_fewer_bits_have_a_range_of_their_own(tmp_path, first):
    paths = [tmp_path / "few.tif", tmp_path / "all.tif"]
    profile = {"driver": "GTiff", "width": 40, "height": 40, "count": 3, "dtype": "uint8", "crs": "EPSG:32633"}
    place = rasterio.transform.from_origin(5e5, 5e6, 1, 1)
    for path, bits in zip(paths, (4, 8), strict=True):
        with rasterio.open(path, "w", **profile, transform=place, **({"nbits": 4} if bits == 4 else {})) as dataset:
            dataset.write(np.full((3, 40, 40), 2**bits - 1, np.uint8))
    scenes = SceneCollection([paths[first], paths[1 - first]])
    for path, highest in zip(paths, (15, 255), strict=True):
        with scenes.open(path) as scene:
            assert scene.scaling.high == (highest,) * 3
            assert scene.read(0, 0, 40, 40)[0].min() == 1
