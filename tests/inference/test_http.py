"""Scenes read over HTTP: by ranges, no more of them than the work needs."""

import json
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine

import geohp
from geohp.inference.engine.pipeline import label_blocks
from geohp.inference.engine.settings import engine_settings
from geohp.inference.map_options import ModelOptions
from geohp.inference.segment import resolve_segmenter
from geohp.options import WindowOptions
from geohp.raster.read.scene import open_scene


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """1800 x 1400 px of noise, which hardly packs: about seven megabytes in tiles, and overviews."""
    rng = np.random.default_rng(0)
    fields = rng.integers(0, 150, (3, 18, 14)).repeat(100, 1).repeat(100, 2)
    data = (fields + rng.integers(0, 100, (3, 1800, 1400))).astype(np.uint8)
    path = tmp_path_factory.mktemp("http") / "scene.tif"
    place = {"crs": "EPSG:32633", "transform": Affine(0.5, 0, 3e5, 0, -0.5, 5e6)}
    with rasterio.open(
        path, "w", driver="COG", width=1400, height=1800, count=3, dtype="uint8", compress="deflate", **place
    ) as out:
        out.write(data)
    return path


class Server:
    """A server of one file in a process of its own: GDAL may wait for it with Python's lock in its hands."""

    def __init__(self, path):
        script = Path(__file__).with_name("range_server.py")
        self.process = subprocess.Popen([sys.executable, str(script), str(path)], stdout=subprocess.PIPE, text=True)
        self.url = f"http://127.0.0.1:{int(self.process.stdout.readline())}"
        self.size = path.stat().st_size

    @property
    def asked(self):
        with urllib.request.urlopen(f"{self.url}/asked", timeout=10) as answer:
            return json.load(answer)

    @property
    def sent(self):
        return sum(sent for *_, sent in self.asked)


@pytest.fixture
def server(local):
    server = Server(local)
    yield server
    server.process.terminate()
    server.process.wait(10)
    server.process.stdout.close()


@pytest.fixture(scope="module")
def segmenter(local):
    return resolve_segmenter(local, ModelOptions(classes=4))


def address(server):
    return f"/vsicurl/{server.url}/scene.tif"


def check(server):
    """Pixels came by ranges, and nobody looked around."""
    asked = server.asked
    for command, path, bounds, _ in asked:
        assert path.startswith("/scene.")  # never the folder
        assert bounds or command == "HEAD" or path != "/scene.tif"
    assert sum(path != "/scene.tif" for _, path, *_ in asked) <= 8


def test_the_same_map_as_of_the_file(server, local, segmenter):
    expected = geohp.segment(local, segmenter)
    found = geohp.segment(address(server), segmenter)
    np.testing.assert_array_equal(found.values, expected.values)
    assert found.rio.transform() == expected.rio.transform()
    check(server)
    assert server.size > 5e6
    assert server.sent < 1.3 * server.size  # nothing twice, or hardly


def test_part_of_a_map_takes_part_of_the_file(server, local, segmenter):
    with open_scene(address(server)) as scene, open_scene(local) as here:
        chosen = engine_settings(segmenter.model, here, WindowOptions())
        grid = chosen.grid(here.height, here.width)
        todo = chosen.blocks(grid, segmenter.model.clusters)[-1:]
        (found,) = label_blocks(scene, segmenter.model, chosen, blocks=todo)
        (expected,) = label_blocks(here, segmenter.model, chosen, blocks=todo)
    np.testing.assert_array_equal(found.layers["labels"], expected.layers["labels"])
    check(server)
    rows, cols = 1800 - todo[0].row + 448, 1400 - todo[0].col + 448
    share = rows * cols / (1800 * 1400)
    assert server.sent < (share + 0.25) * server.size < 0.95 * server.size


def test_a_look_at_a_scene_takes_its_overviews(server):
    with open_scene(address(server)) as scene:
        data, _ = scene.thumbnail(256)
    assert data.shape[1] == 256
    check(server)
    assert server.sent < 0.25 * server.size
