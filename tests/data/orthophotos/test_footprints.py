"""Where images lie, and areas of interest."""

import numpy as np
import pytest

from geohp.data.orthophotos.footprints import read_footprints


@pytest.fixture
def tiles(write_scene, tmp_path):
    from rasterio.transform import from_origin

    (tmp_path / "tiles").mkdir()
    data = np.full((3, 20, 20), 90, np.uint8)
    return [
        write_scene(data, f"tiles/{n}.tif", transform=from_origin(380000 + 10 * n, 5800000, 0.5, 0.5)) for n in range(3)
    ]


def test_keys_are_seen_from_the_folder_all_images_share(tiles):
    assert [f.key for f in read_footprints([str(t) for t in tiles])] == ["0.tif", "1.tif", "2.tif"]
    assert read_footprints([str(tiles[0])])[0].key == "0.tif"
    assert read_footprints([str(tiles[0])])[0].pixel_size_m == pytest.approx(0.5, rel=1e-2)
