"""The engine against a plain whole-array computation of the same map."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from geohp.backbones.base import Backbone, PatchFeatures
from geohp.classes import default_classes
from geohp.inference.engine.blending import ScoreCache
from geohp.inference.engine.pipeline import label_blocks
from geohp.inference.engine.settings import EngineSettings, engine_settings
from geohp.inference.engine.windows import WindowGrid
from geohp.methods.kmeans.method import Standardise
from geohp.methods.probes import ClusterProbe
from geohp.model.card import BackboneCard, ModelCard
from geohp.model.network import LandCoverModel
from geohp.options import QUANTITIES, WindowOptions
from geohp.raster.read.patches import complete_patch

PATCH, CLUSTERS = 4, 3


class PatchMeans(Backbone):
    """Mean and deviation of each patch: a backbone that is nothing but itself."""

    def __init__(self):
        super().__init__()
        self.name, self.block, self.patch_size, self.channels, self.in_channels = "means", -1, PATCH, 6, 3
        self.mean, self.std = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
        self.calls = 0

    def forward(self, images, affinities=True):
        self.calls += 1
        mean = F.avg_pool2d(images, PATCH)
        spread = F.avg_pool2d((images - F.interpolate(mean, scale_factor=PATCH)).abs(), PATCH)
        return PatchFeatures(torch.cat([mean, spread], 1))

    def options(self):
        return {}


class ArrayScene:
    """A scene held in memory."""

    def __init__(self, data, valid):
        self.data, self.valid = data, valid
        self.height, self.width = valid.shape

    def read(self, row, col, height, width):
        part = np.s_[row : row + height, col : col + width]
        return np.where(self.valid[part], self.data[:, *part], 0).astype(np.float32), self.valid[part].copy()

    def thumbnail(self, max_px):
        return self.data, self.valid


def make_model():
    generator = torch.Generator().manual_seed(3)
    probe = ClusterProbe(6, CLUSTERS)
    probe.clusters.data = torch.randn(CLUSTERS, 6, generator=generator)
    card = ModelCard("kmeans", BackboneCard("tiny", 0), 6, 6, default_classes(CLUSTERS), patch_px=32, input_px=32)
    return LandCoverModel(PatchMeans(), Standardise(6), probe, card)


def make_scene(height, width, seed, holes=True):
    rng = np.random.default_rng(seed)
    data = rng.random((3, height, width)).astype(np.float32)
    valid = np.ones((height, width), dtype=bool)
    if holes:
        valid[: height // 3, : width // 2] = False
        valid &= rng.random((height, width)) > 0.05
    return ArrayScene(data, valid)


def whole_array_map(scene, model, window, overlap):
    """The same map, written down as directly as can be: every window blended into one full array."""
    grid = EngineSettings(window, overlap, patch_px=PATCH).grid(scene.height, scene.width)
    tall, wide = grid.shape
    total = np.zeros((CLUSTERS, max(scene.height, tall), max(scene.width, wide)))
    weights = grid.weights
    for row in grid.rows:
        for col in grid.cols:
            part = scene.read(row, col, min(tall, scene.height - row), min(wide, scene.width - col))
            data, valid = complete_patch(*part, grid.shape)
            if valid.any():
                scores = model(torch.from_numpy(data)[None])[:, :CLUSTERS]
                fine = F.interpolate(scores, size=grid.shape, mode="bilinear")[0].numpy()
                total[:, row : row + tall, col : col + wide] += fine * weights
    labels = total[:, : scene.height, : scene.width].argmax(0).astype(np.uint8)
    labels[~scene.valid] = 255
    return labels


def engine_layers(scene, model, engine_settings, wanted=frozenset(QUANTITIES)):
    """Every layer of the map, put together from its blocks."""
    shape = (scene.height, scene.width)
    layers = {name: np.full(shape, 77, np.uint8) for name in ("labels", *(wanted - {"probabilities"}))}
    if "probabilities" in wanted:
        layers["probabilities"] = np.full((CLUSTERS, *shape), 77, np.uint8)
    covered = np.zeros(shape, dtype=int)
    for found in label_blocks(scene, model, engine_settings, quantities=wanted):
        row, col, height, width = found.block
        covered[row : row + height, col : col + width] += 1
        assert set(found.layers) == set(layers)
        for name, values in found.layers.items():
            assert values.dtype == np.uint8
            layers[name][..., row : row + height, col : col + width] = values
    assert (covered == 1).all()
    return layers


def engine_map(scene, model, engine_settings):
    layers = engine_layers(scene, model, engine_settings)
    missing = layers["labels"] == 255
    for name in QUANTITIES:
        assert ((layers[name] == 255) == missing).all()
    shares = layers["probabilities"][:, ~missing].astype(int)
    assert (np.abs(shares.sum(0) - 254) <= CLUSTERS).all()
    assert (shares.max(0) == layers["confidence"][~missing]).all()
    winner = np.take_along_axis(shares, layers["labels"][~missing][None].astype(int), 0)
    assert (winner == shares.max(0)).all()
    return layers["labels"]


@given(
    height=st.integers(1, 110),
    width=st.integers(1, 110),
    patches=st.integers(1, 8),
    share=st.floats(0, 0.9),
    block=st.integers(5, 120),
    batch=st.integers(1, 7),
    seed=st.integers(0, 100),
)
@settings(deadline=None, max_examples=40)
def test_any_cut_gives_the_whole_array_map(height, width, patches, share, block, batch, seed):
    scene, model = make_scene(height, width, seed), make_model()
    window = patches * PATCH
    overlap = min(int(window * share), window - 1)
    expected = whole_array_map(scene, model, window, overlap)
    got = engine_map(scene, model, EngineSettings(window, overlap, batch, block, patch_px=PATCH))
    np.testing.assert_array_equal(got == 255, ~scene.valid)
    # Sums are taken in another order; only ties to the last bit may fall otherwise.
    assert (got != expected).mean() < 0.002


def test_labels_do_not_depend_on_how_the_scene_is_cut_into_blocks():
    scene, model = make_scene(300, 260, 1), make_model()
    maps = [engine_layers(scene, model, EngineSettings(64, 16, 4, block)) for block in (17, 64, 100, 1000)]
    for other in maps[1:]:
        for name, values in maps[0].items():
            np.testing.assert_array_equal(values, other[name])


def test_windows_without_data_cost_no_forward_pass():
    scene, model = make_scene(256, 256, 2, holes=False), make_model()
    scene.valid[:, 64:] = False
    engine_map(scene, model, EngineSettings(64, 0, 1, 128))
    assert model.backbone.calls == 4
    scene.valid[:] = False
    model.backbone.calls = 0
    assert (engine_map(scene, model, EngineSettings(64, 0, 1, 128)) == 255).all()
    assert model.backbone.calls == 0


def test_held_windows_are_forgotten_when_no_block_needs_them(monkeypatch):
    scene, model = make_scene(2000, 64, 4, holes=False), make_model()
    most = 0
    put = ScoreCache.put

    def counted(self, origin, window):
        nonlocal most
        put(self, origin, window)
        most = max(most, len(self))

    monkeypatch.setattr(ScoreCache, "put", counted)
    engine_map(scene, model, EngineSettings(32, 8, 1, 64))
    assert len(WindowGrid(2000, 64, 32, 8)) > 200
    assert most < 20


def test_progress_counts_every_window_once():
    scene, model = make_scene(100, 90, 5), make_model()
    told = []
    list(label_blocks(scene, model, EngineSettings(32, 8, 3, 50), lambda _, *step: told.append(step)))
    total = len(WindowGrid(100, 90, 32, 8))
    assert told == [(i, total) for i in range(1, total + 1)]


def test_a_model_trained_on_resized_patches_sees_resized_windows():
    model = make_model()
    model.card = replace(model.card, patch_px=200, input_px=224)
    scene = make_scene(430, 410, 6)
    chosen = engine_settings(model, scene, WindowOptions())
    assert chosen.input_px == 448
    assert chosen.window_px == 400
    assert ((engine_map(scene, model, chosen) == 255) == ~scene.valid).all()


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 0.99])
def test_default_windows_are_whole_patches(share):
    chosen = engine_settings(make_model(), make_scene(9, 9, 6), WindowOptions(overlap=share, window_px=50))
    assert chosen.window_px % PATCH == 0
    assert 0 <= chosen.overlap_px < chosen.window_px


def test_upsampled_scores_choose_the_class_of_upsampled_codes():
    """The argmax of a normalised linear probe commutes with interpolation: codes need not be upsampled."""
    generator = torch.Generator().manual_seed(0)
    codes = torch.randn(2, 16, 9, 11, generator=generator, dtype=torch.float64)
    probe = ClusterProbe(16, 5).double()
    fine_scores = F.interpolate(probe.scores(codes), scale_factor=7, mode="bilinear")
    fine_codes = F.interpolate(codes, scale_factor=7, mode="bilinear")
    cosines = F.normalize(fine_codes, dim=1).transpose(1, 3) @ F.normalize(probe.clusters, dim=1).T
    np.testing.assert_array_equal(fine_scores.argmax(1).numpy(), cosines.transpose(1, 3).argmax(1).numpy())
