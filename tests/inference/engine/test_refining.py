"""Maps refined by the dense CRF: the same however they are cut, and what the core gives window by window."""

import json

import numpy as np
import pytest
import rasterio
import torch
import torch.nn.functional as F
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import geohp
from geohp.backbones.base import Backbone, PatchFeatures
from geohp.classes import default_classes
from geohp.cli.app import app
from geohp.crf.mean_field import dense_crf
from geohp.errors import ConfigError, OutputError
from geohp.inference.engine import pipeline as engine
from geohp.inference.engine.blending import ScoreCache
from geohp.inference.engine.pipeline import label_blocks
from geohp.inference.engine.settings import CrfWindows, EngineSettings, engine_settings
from geohp.inference.extent import Extent
from geohp.inference.identity import run_identity
from geohp.inference.map_options import ModelOptions, RasterOptions
from geohp.inference.products import Products
from geohp.inference.rasters import write_rasters
from geohp.inference.segment import resolve_segmenter
from geohp.inference.segmenter import Segmenter
from geohp.methods.kmeans.method import Standardise
from geohp.methods.probes import ClusterProbe
from geohp.model.card import BackboneCard, ModelCard
from geohp.model.network import LandCoverModel
from geohp.options import QUANTITIES, WindowOptions
from geohp.raster.block import Block
from geohp.raster.read.patches import complete_patch
from geohp.raster.read.scene import open_scene

PATCH, CLUSTERS = 4, 4
SMALL = CrfWindows(40, 12)


class PatchMeans(Backbone):
    """Mean and deviation of each patch."""

    def __init__(self):
        super().__init__()
        self.name, self.block, self.patch_size, self.channels, self.in_channels = "means", -1, PATCH, 6, 3
        self.mean, self.std = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)

    def forward(self, images, affinities=True):
        mean = F.avg_pool2d(images, PATCH)
        spread = F.avg_pool2d((images - F.interpolate(mean, scale_factor=PATCH)).abs(), PATCH)
        return PatchFeatures(torch.cat([mean, spread], 1))

    def options(self):
        return {}


class ArrayScene:
    """Patches of colour with a little noise, held in memory; no data in a corner and here and there."""

    def __init__(self, height, width, seed=0, holes=True):
        rng = np.random.default_rng(seed)
        fields = rng.random((3, height // 9 + 1, width // 9 + 1)).repeat(9, 1).repeat(9, 2)[:, :height, :width]
        self.data = (0.93 * fields + 0.07 * rng.random((3, height, width))).astype(np.float32)
        self.valid = np.ones((height, width), dtype=bool)
        if holes:
            self.valid[: height // 3, : width // 2] = False
            self.valid &= rng.random((height, width)) > 0.05
        self.height, self.width = height, width

    def read(self, row, col, height, width):
        part = np.s_[row : row + height, col : col + width]
        return np.where(self.valid[part], self.data[:, *part], 0).astype(np.float32), self.valid[part].copy()

    def thumbnail(self, max_px):
        return self.data, self.valid


@pytest.fixture(scope="module")
def model():
    generator = torch.Generator().manual_seed(3)
    probe = ClusterProbe(6, CLUSTERS)
    probe.clusters.data = torch.randn(CLUSTERS, 6, generator=generator)
    card = ModelCard("kmeans", BackboneCard("tiny", 0), 6, 6, default_classes(CLUSTERS), patch_px=32, input_px=32)
    return LandCoverModel(PatchMeans(), Standardise(6), probe, card)


def cut(block=64, refine=SMALL, **others):
    return EngineSettings(32, 8, 3, block, patch_px=PATCH, refine=refine, **others)


def layers_of(scene, model, chosen, classes=CLUSTERS):
    """Every layer of the map, put together from its blocks."""
    shape = (scene.height, scene.width)
    layers = {name: np.full(shape, 77, np.uint8) for name in ("labels", "confidence", "entropy")}
    layers["probabilities"] = np.full((classes, *shape), 77, np.uint8)
    for found in label_blocks(scene, model, chosen, quantities=frozenset(QUANTITIES)):
        row, col, height, width = found.block
        for name, values in found.layers.items():
            layers[name][..., row : row + height, col : col + width] = values
    return layers


def plain_shares(scene, model, chosen, cluster_to_class=None):
    """Each class's share over the whole scene, written down as directly as can be."""
    grid = chosen.grid(scene.height, scene.width)
    tall, wide = grid.shape
    total = torch.zeros(CLUSTERS + 1, max(scene.height, tall), max(scene.width, wide))
    weights = torch.from_numpy(grid.weights)
    for row in grid.rows:
        for col in grid.cols:
            part = scene.read(row, col, min(tall, scene.height - row), min(wide, scene.width - col))
            data, valid = complete_patch(*part, grid.shape)
            if valid.any():
                with torch.no_grad():
                    fine = F.interpolate(model(torch.from_numpy(data)[None]), size=grid.shape, mode="bilinear")[0]
                total[:, row : row + tall, col : col + wide] += fine * weights
    total = total[:, : scene.height, : scene.width]
    shares = (total[:-1] / total[-1].clamp_min(1e-30) / 0.1).softmax(0)
    if cluster_to_class is None:
        return shares
    return torch.stack(
        [sum(shares[k] for k, m in enumerate(cluster_to_class) if m == one) for one in sorted(set(cluster_to_class))]
    )


def plain_marginals(scene, shares, chosen):
    """Marginals of every window of the refinement, blended into one array."""
    grid = chosen.refine.grid(scene.height, scene.width)
    weights = torch.from_numpy(grid.weights)
    total = torch.zeros_like(shares)
    image = (torch.from_numpy(scene.data) * 255).round().to(torch.uint8)
    valid = torch.from_numpy(scene.valid)
    for row in grid.rows:
        for col in grid.cols:
            part = np.s_[row : row + grid.shape[0], col : col + grid.shape[1]]
            total[:, *part] += weights * dense_crf(image[:, *part], shares[:, *part].log(), mask=valid[part])
    return total / total.sum(0)


@pytest.mark.parametrize("refine", [SMALL, CrfWindows()])
@pytest.mark.parametrize("shape", [(90, 110), (7, 100), (1, 1)])
def test_it_is_the_core_window_by_window(model, shape, refine):
    scene, chosen = ArrayScene(*shape, holes=shape != (1, 1)), cut(refine=refine)
    found = layers_of(scene, model, chosen)
    marginals = plain_marginals(scene, plain_shares(scene, model, chosen), chosen).numpy()
    valid = scene.valid
    assert (found["labels"] != marginals.argmax(0))[valid].mean() < 0.002
    close = np.abs(found["probabilities"][:, valid] - 254.0 * marginals[:, valid]) < 1
    assert close.mean() > 0.998
    assert (found["probabilities"].max(0) == found["confidence"])[valid].all()
    entropy = -(marginals * np.log(marginals + 1e-30)).sum(0) / np.log(CLUSTERS)
    assert (np.abs(found["entropy"] - 254 * entropy) < 1.5)[valid].mean() > 0.998
    for layer in found.values():
        assert (layer[..., ~valid] == 255).all()
        assert (layer[..., valid] != 255).all()


@settings(deadline=None, max_examples=12)
@given(
    height=st.integers(1, 120),
    width=st.integers(1, 120),
    window=st.integers(3, 70),
    share=st.floats(0, 0.9),
    block=st.integers(5, 150),
    seed=st.integers(0, 50),
)
def test_any_blocks_give_the_same_map(model, height, width, window, share, block, seed):
    scene = ArrayScene(height, width, seed)
    refine = CrfWindows(window, min(int(share * window), window - 1))
    one, other = (layers_of(scene, model, cut(size, refine)) for size in (block, 1000))
    for name, values in one.items():
        np.testing.assert_array_equal(values, other[name])


def test_any_share_of_the_blocks_gives_the_same_pixels(model):
    """What workers, chunks of dask and runs that go on where they were ask for."""
    scene, chosen = ArrayScene(130, 140), cut(30)
    whole = layers_of(scene, model, chosen)["labels"]
    blocks = chosen.blocks(chosen.grid(130, 140), CLUSTERS)
    assert len(blocks) > 9
    for todo in (blocks[5:6], blocks[::3], [Block(33, 41, 20, 50), Block(70, 3, 1, 1)]):
        for found in label_blocks(scene, model, chosen, blocks=todo):
            row, col, height, width = found.block
            np.testing.assert_array_equal(found.layers["labels"], whole[row : row + height, col : col + width])


def test_it_changes_the_map_and_evens_it_out(model):
    scene = ArrayScene(120, 120, holes=False)
    plain, finer = (layers_of(scene, model, cut(refine=refine)) for refine in (None, SMALL))
    assert 0.01 < (plain["labels"] != finer["labels"]).mean() < 0.6
    assert finer["entropy"].mean() < plain["entropy"].mean()


def test_classes_of_a_legend(model):
    scene, cluster_to_class = ArrayScene(60, 70), (2, 0, 2, 5)
    chosen = cut(cluster_to_class=cluster_to_class)
    found = layers_of(scene, model, chosen, classes=3)
    marginals = plain_marginals(scene, plain_shares(scene, model, chosen, cluster_to_class), chosen).numpy()
    wanted = np.array([0, 2, 5])[marginals.argmax(0)]
    assert (found["labels"] != wanted)[scene.valid].mean() < 0.002


def test_windows_are_forgotten(model, monkeypatch):
    most, put = 0, ScoreCache.put

    def counted(self, origin, window):
        nonlocal most
        put(self, origin, window)
        most = max(most, len(self))

    monkeypatch.setattr(ScoreCache, "put", counted)
    layers_of(ArrayScene(1500, 40, holes=False), model, cut(20))
    assert most < 20


def test_windows_without_data_are_not_refined(model, monkeypatch):
    scene = ArrayScene(120, 120)
    scene.valid[:] = False
    monkeypatch.setattr("geohp.inference.engine.refining.dense_crf", None)
    assert (layers_of(scene, model, cut())["labels"] == 255).all()


def test_progress_counts_every_window_once(model):
    told = []
    list(label_blocks(ArrayScene(100, 90), model, cut(50), lambda stage, done, total: told.append((done, total))))
    total = len(cut().grid(100, 90))
    assert told == [(number, total) for number in range(1, total + 1)]


def test_names(model):
    scene = ArrayScene(9, 9)
    assert engine_settings(model, scene, WindowOptions()).refine is None
    assert engine_settings(model, scene, WindowOptions(refine="crf")).refine == CrfWindows()
    with pytest.raises(ConfigError, match=r"'median'.*crf"):
        engine_settings(model, scene, WindowOptions(refine="median"))


@pytest.fixture(scope="module")
def scene_file(tmp_path_factory):
    scene = ArrayScene(150, 170)
    data = np.where(scene.valid, 1 + scene.data * 254, 0).astype(np.uint8)
    path = tmp_path_factory.mktemp("scene") / "scene.tif"
    options = {"driver": "GTiff", "height": 150, "width": 170, "count": 3, "dtype": "uint8", "nodata": 0}
    with rasterio.open(path, "w", **options, crs="EPSG:32633", transform=Affine(1, 0, 3e5, 0, -1, 5e6)) as out:
        out.write(data)
    return path


@pytest.fixture(scope="module")
def segmenter(scene_file):
    """Small blocks and small windows of the refinement, so that a small scene has many."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("geohp.inference.engine.settings.BLOCK_PX", 70)
        patch.setattr("geohp.inference.engine.settings.CrfWindows", lambda: SMALL)
        yield Segmenter(resolve_segmenter(scene_file, ModelOptions(classes=4)).model, origin="a model for tests")


def test_in_memory_of_dask_chunks_and_as_a_file(scene_file, segmenter, tmp_path):
    rioxarray = pytest.importorskip("rioxarray")
    whole = geohp.segment(scene_file, segmenter, refine="crf").values
    plain = geohp.segment(scene_file, segmenter).values
    assert ((whole == 255) == (plain == 255)).all()
    assert (whole != plain).any()
    lazily = geohp.segment(rioxarray.open_rasterio(scene_file, chunks={"x": 60, "y": 50}), segmenter, refine="crf")
    assert len(lazily.data.chunks[0]) > 1
    np.testing.assert_array_equal(lazily.values, whole)
    np.testing.assert_array_equal(lazily[80:90, 100:120].values, whole[80:90, 100:120])
    geohp.segment_file(scene_file, tmp_path / "map.tif", segmenter, refine="crf")
    with rasterio.open(tmp_path / "map.tif") as written:
        np.testing.assert_array_equal(written.read(1), whole)
        assert "dense CRF" in written.tags()["GEOHP_REFINEMENT"]


def test_unfinished_work_goes_on_with_the_same_refinement_only(scene_file, segmenter, tmp_path, monkeypatch):
    out = tmp_path / "map.tif"
    geohp.segment_file(scene_file, tmp_path / "wanted.tif", segmenter, refine="crf")
    blocks = engine.FinishedBlock

    class StoppedError(Exception):
        pass

    count = 0

    def failing(*arguments):
        nonlocal count
        count += 1
        if count > 3:
            raise StoppedError
        return blocks(*arguments)

    monkeypatch.setattr(engine, "FinishedBlock", failing)
    with pytest.raises(StoppedError):
        geohp.segment_file(scene_file, out, segmenter, refine="crf")
    monkeypatch.undo()
    with pytest.raises(OutputError, match="refine"):
        geohp.segment_file(scene_file, out, segmenter)
    geohp.segment_file(scene_file, out, segmenter, refine="crf")
    assert out.read_bytes() == (tmp_path / "wanted.tif").read_bytes()


def test_identity(scene_file, segmenter):
    with open_scene(scene_file) as scene:
        told = [
            run_identity(
                scene,
                segmenter.model,
                engine_settings(segmenter.model, scene, WindowOptions(refine=refine)),
                "stop",
                Extent(scene.grid.block),
            )
            for refine in (None, "crf")
        ]
    assert told[0] != told[1]
    assert json.loads(json.dumps(told[1]))["settings"]["refine"] == {"window_px": 40, "overlap_px": 12}


def test_command_line(scene_file, tmp_path):
    runner = CliRunner()
    out = tmp_path / "map.tif"
    done = runner.invoke(app, ["segment", str(scene_file), "--classes", "3", "--out", str(out), "--refine", "crf"])
    assert done.exit_code == 0, done.output
    with rasterio.open(out) as written:
        assert "dense CRF" in written.tags()["GEOHP_REFINEMENT"]
    assert runner.invoke(app, ["segment", str(scene_file), "--out", str(out), "--refine", "mode"]).exit_code == 2


@pytest.mark.slow
@pytest.mark.cheap
def test_on_workers(scene_file, segmenter, tmp_path):
    pytest.importorskip("distributed")
    from geohp.inference.cluster.connection import connect

    with connect(workers=1) as client, open_scene(scene_file) as scene:
        threads, before = client.run(torch.get_num_threads).popitem()[1], torch.get_num_threads()
        write_rasters(scene, segmenter, Products(tmp_path / "there.tif"), RasterOptions(client=client, refine="crf"))
        torch.set_num_threads(threads)
        try:
            write_rasters(scene, segmenter, Products(tmp_path / "here.tif"), RasterOptions(refine="crf"))
        finally:
            torch.set_num_threads(before)
    assert (tmp_path / "there.tif").read_bytes() == (tmp_path / "here.tif").read_bytes()
