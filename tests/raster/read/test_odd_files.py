"""Real files that break careless readers; skipped where they are not present."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio

from geohp.errors import SceneError
from geohp.raster.read.scene import open_scene
from geohp.raster.write.layer import Layer
from geohp.raster.write.resumable import ResumableRasterWriter

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")

DATA = Path(__file__).parents[4] / "shared" / "data"

# Name, bands chosen, scaling rule, share of valid pixels.
FILES = [
    ("odd/201404_13SED190110_201404_0x1500m_CL_1_mask.tif", (1, 2, 3), "type", 0.96917),
    ("odd/RGBA.uint16.tif", (3, 2, 1), "percentiles:2,98", 0.48860),
    ("odd/all-nodata.tif", (3, 2, 1), "percentiles:2,98", 0.0),
    ("odd/cog_gcps.tif", (1, 1, 1), "percentiles:2,98", 1.0),
    ("odd/cogeo.tif", (1, 2, 3), "type", 1.0),
    ("odd/float_nan.tif", (1, 1, 1), "percentiles:2,98", 5 / 6),
    ("odd/image_51px.tif", (1, 2, 3), "type", 1.0),
    ("odd/pix4d_alpha_nodata.tif", (1, 2, 3), "type", 0.87565),
    ("odd/rotated.tif", (1, 1, 1), "type", 1.0),
    ("scenes/urban_0.25m_rdnew.tif", (1, 2, 3), "type", 1.0),
    ("scenes/river_city_0.1m_black_border.tif", (1, 2, 3), "type", 1.0),
    ("scenes/forest_0.1m_utm17.tif", (1, 2, 3), "type", 0.99712),
    ("scenes/naip_4band_5m.tif", (1, 2, 3), "type", 1.0),
    ("scenes/naip_4band_5m_2017.tif", (1, 2, 3), "type", 1.0),
]


def present(name: str) -> Path:
    path = DATA / name
    if not path.exists():
        pytest.skip(f"{name} not present")
    return path


@pytest.mark.parametrize(("name", "bands", "rule", "share"), FILES, ids=[name for name, *_ in FILES])
def test_bands_scaling_and_validity(name: str, bands: tuple[int, ...], rule: str, share: float) -> None:
    path = present(name)
    with open_scene(path) as scene:
        data, valid = scene.read(0, 0, scene.height, scene.width)
        small, small_valid = scene.thumbnail(64)
    assert scene.bands == bands
    assert scene.scaling.rule == rule
    assert valid.mean() == pytest.approx(share, abs=1e-5)
    assert np.isfinite(data).all()
    assert 0 <= data.min() <= data.max() <= 1
    assert not data[:, ~valid].any()
    assert small.shape == (3, *small_valid.shape)
    assert small_valid.mean() == pytest.approx(share, abs=0.05)  # a pixel counts if part of it is valid
    with rasterio.open(path) as dataset:  # each of these files declares one kind of mask, which GDAL finds alone
        np.testing.assert_array_equal(valid, dataset.dataset_mask() > 0)


@pytest.mark.parametrize("name", [name for name, *_ in FILES])
def test_written_labels_lie_exactly_where_the_scene_lies(name: str, tmp_path: Path) -> None:
    with open_scene(present(name)) as scene:
        _, valid = scene.read(0, 0, scene.height, scene.width)
        values = np.where(valid, np.uint8(1), np.uint8(255))
        with ResumableRasterWriter.open({tmp_path / "labels.tif": Layer()}, scene.grid, {}) as work:
            work.put(0, 0, {tmp_path / "labels.tif": values})
            work.publish()
    with rasterio.open(tmp_path / "labels.tif") as written, rasterio.open(present(name)) as source:
        np.testing.assert_array_equal(written.read(1), values)
        assert written.transform == source.transform
        assert written.crs == source.crs
        assert len(written.gcps[0]) == len(source.gcps[0])
        assert [point.asdict() | {"id": 0} for point in written.gcps[0]] == [
            point.asdict() | {"id": 0} for point in source.gcps[0]
        ]
        assert written.gcps[1] == source.gcps[1]


def test_corrupt_block_is_named_and_its_neighbours_are_read() -> None:
    with open_scene(present("odd/corrupt.tif")) as scene:
        assert scene.read(0, 0, 512, 512)[1].all()
        with pytest.raises(SceneError, match=r"corrupt.tif cannot be read at row 512, column 512 \(512 x 512 px\)"):
            scene.read(512, 512, 512, 512)
