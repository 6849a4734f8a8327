"""Several scenes seen alike, or each by itself."""

import numpy as np

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
