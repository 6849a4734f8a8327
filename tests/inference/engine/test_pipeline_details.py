"""What the engine does beside the ordinary: models of pixels, spilling, parts of the work, damage, symmetry, memory."""

import tempfile

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from geohp.errors import ModelError, OutputError, SceneError
from geohp.inference.engine import blending
from geohp.inference.engine.forward import Runner
from geohp.inference.engine.pipeline import label_blocks
from geohp.inference.engine.reading import NodataOnErrorScene
from geohp.inference.engine.settings import EngineSettings


class Scene:
    """A scene held in memory; reading cells named as damaged fails."""

    def __init__(self, height, width, seed=0, damaged=()):
        rng = np.random.default_rng(seed)
        self.data = rng.random((3, height, width)).astype(np.float32)
        self.valid = np.ones((height, width), dtype=bool)
        self.height, self.width, self.damaged = height, width, damaged
        self.reads = 0

    def read(self, row, col, height, width):
        self.reads += 1
        for top, left, bottom, right in self.damaged:
            if row < bottom and row + height > top and col < right and col + width > left:
                raise SceneError("scene cannot be read there")
        part = np.s_[row : row + height, col : col + width]
        return self.data[:, *part].copy(), self.valid[part].copy()

    def thumbnail(self, max_px):
        return self.data, self.valid


class Model:
    """Random colours' likeness, of patches of a side; the last channel is the scores' scale."""

    def __init__(self, patch=1, clusters=4):
        generator = torch.Generator().manual_seed(1)
        self.patch, self.clusters, self.device = patch, clusters, torch.device("cpu")
        self.colours = torch.randn(clusters, 3, generator=generator)
        self.batches = []

    def __call__(self, images):
        self.batches.append(len(images))
        patches = F.avg_pool2d(images, self.patch) - 0.5
        scores = torch.einsum("bchw,kc->bkhw", patches, self.colours)
        return torch.cat([scores, patches.norm(dim=1, keepdim=True)], 1)


def assemble(scene, blocks, wanted=("labels",), clusters=4):
    layers = {name: np.full((scene.height, scene.width), 77, np.uint8) for name in wanted}
    for found in blocks:
        row, col, height, width = found.block
        for name in wanted:
            layers[name][row : row + height, col : col + width] = found.layers[name]
    return layers


@given(
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    window=st.integers(1, 40),
    share=st.floats(0, 0.95),
    block=st.integers(1, 100),
    limit=st.sampled_from([0, 5000, 10**9]),
)
@settings(deadline=None, max_examples=60)
def test_a_model_of_pixels_gives_its_own_classes_however_little_is_held(height, width, window, share, block, limit):
    """Blending changes nothing where a pixel's scores are the same in every window: an exact answer to compare with."""
    scene, model = Scene(height, width), Model()
    chosen = EngineSettings(window, min(int(window * share), window - 1), 3, block)
    before, blending.CACHE_BYTES = blending.CACHE_BYTES, limit
    try:
        got = assemble(scene, label_blocks(scene, model, chosen))["labels"]
    finally:
        blending.CACHE_BYTES = before
    scores = model(torch.from_numpy(scene.data)[None])[0, :4]
    first, second = scores.topk(2, 0).values
    clear = (first - second > 1e-5).numpy()
    np.testing.assert_array_equal(got[clear], scores.argmax(0).numpy()[clear])


def test_no_room_for_the_rest_is_one_sentence(monkeypatch):
    monkeypatch.setattr(blending, "CACHE_BYTES", 0)
    monkeypatch.setattr(blending.os, "pwrite", lambda *_: 3)  # bytes of many, as on a disk that has just become full
    with pytest.raises(OutputError, match=r"No space left on device.*set TMPDIR"):
        assemble(Scene(90, 90), label_blocks(Scene(90, 90), Model(), EngineSettings(16, 8, 3, 16)))


def test_no_place_for_temporary_files_is_one_sentence(monkeypatch):
    monkeypatch.setattr(blending, "CACHE_BYTES", 0)
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/nowhere"])
    with pytest.raises(OutputError, match=r"No usable temporary directory.*set TMPDIR"):
        assemble(Scene(90, 90), label_blocks(Scene(90, 90), Model(), EngineSettings(16, 8, 3, 16)))


def test_little_is_held_and_the_rest_waits_in_a_file(monkeypatch):
    scene = Scene(120, 400)
    most, spilled = 0, 0
    put, spill = blending.ScoreCache.put, blending.ScoreCache._spill

    def watched_put(self, origin, window):
        nonlocal most
        put(self, origin, window)
        most = max(most, self._bytes)

    def watched_spill(self, scores):
        nonlocal spilled
        spilled += 1
        return spill(self, scores)

    monkeypatch.setattr(blending.ScoreCache, "put", watched_put)
    monkeypatch.setattr(blending.ScoreCache, "_spill", watched_spill)
    chosen = EngineSettings(32, 8, 2, 24)
    plenty = assemble(scene, label_blocks(scene, Model(), chosen))["labels"]
    held_with_plenty = most
    assert spilled == 0
    most = 0
    monkeypatch.setattr(blending, "CACHE_BYTES", 20_000)
    little = assemble(scene, label_blocks(scene, Model(), chosen))["labels"]
    assert spilled > 20
    assert most < held_with_plenty / 2
    np.testing.assert_array_equal(little, plenty)


@given(data=st.data(), patch=st.sampled_from([1, 4]), block=st.integers(8, 70))
@settings(deadline=None, max_examples=40)
def test_any_part_of_the_work_gives_that_part_of_the_map(data, patch, block):
    """What an interrupted run has left, or a worker is given: bytes as of one run over all."""
    scene = Scene(100, 130)
    chosen = EngineSettings(24, 8, 3, block, patch_px=patch)
    layout = chosen.grid(100, 130).blocks(block)
    wanted = ("labels", "confidence", "entropy")
    whole = assemble(scene, label_blocks(scene, Model(patch), chosen, quantities=frozenset(wanted[1:])), wanted)
    todo = [b for b in layout if data.draw(st.booleans())]
    for found in label_blocks(scene, Model(patch), chosen, quantities=frozenset(wanted[1:]), blocks=todo):
        row, col, height, width = found.block
        for name in wanted:
            np.testing.assert_array_equal(found.layers[name], whole[name][row : row + height, col : col + width])


@pytest.mark.parametrize(("height", "width"), [(96, 160), (8, 8), (40, 200), (37, 90)])
def test_a_scene_smaller_than_a_window_is_seen_as_it_is(height, width):
    """No padding beyond whole patches: the map is what the model makes of the image itself."""
    patch = 8
    scene, model = Scene(height, width), Model(patch)
    chosen = EngineSettings(448, 112, patch_px=patch)
    got = assemble(scene, label_blocks(scene, model, chosen))["labels"]
    tall, wide = -(-height // patch) * patch, -(-width // patch) * patch
    image = np.pad(scene.data, ((0, 0), (0, tall - height), (0, wide - width)), mode="symmetric")
    scores = model(torch.from_numpy(image)[None])[:, :4]
    fine = F.interpolate(scores, size=(tall, wide), mode="bilinear", align_corners=False)
    np.testing.assert_array_equal(got, fine[0].argmax(0).numpy()[:height, :width])


def test_damaged_parts_stop_the_work_or_count_as_no_data():
    damaged = ((300, 520, 301, 521), (10, 10, 20, 20))
    scene = Scene(600, 700, damaged=damaged)
    with pytest.raises(SceneError):
        list(label_blocks(scene, Model(), EngineSettings(64, 16)))
    whole = assemble(scene, label_blocks(Scene(600, 700), Model(), EngineSettings(64, 16)))["labels"]
    maps = []
    for block in (100, 300, 1000):
        lenient = NodataOnErrorScene(scene)
        maps.append(assemble(scene, label_blocks(lenient, Model(), EngineSettings(64, 16, block_px=block)))["labels"])
        assert set(lenient.skipped) == {(0, 0, 256, 256), (256, 512, 256, 188)}
        np.testing.assert_array_equal(maps[0], maps[-1])
    missing = np.zeros((600, 700), dtype=bool)
    missing[:256, :256] = missing[256:512, 512:] = True
    np.testing.assert_array_equal(maps[0] == 255, missing)
    np.testing.assert_array_equal(maps[0][~missing], whole[~missing])


def test_a_scene_damaged_everywhere_has_no_data():
    lenient = NodataOnErrorScene(Scene(300, 90, damaged=[(0, 0, 300, 90)]))
    layers = assemble(lenient, label_blocks(lenient, Model(), EngineSettings(64, 16)))
    assert (layers["labels"] == 255).all()
    assert len(lenient.skipped) == 2


class Crooked(Model):
    """Looks one patch to the right: what flips and turns average away."""

    def __call__(self, images):
        return super().__call__(images).roll(1, 3)


def test_augmentation_averages_over_the_symmetries_of_the_square():
    images = torch.rand(2, 3, 24, 32, generator=torch.Generator().manual_seed(0))
    model = Model(8)
    plain = Runner(model, 2, 2, (24, 32), 5)(images)
    torch.testing.assert_close(Runner(model, 2, 2, (24, 32), 5, tta=True)(images), plain)
    # A shift to the right becomes the mean of shifts in all four directions.
    crooked = Runner(Crooked(8), 2, 2, (24, 32), 5, tta=True)(images)
    wanted = sum(plain.roll(step, axis) for step in (1, -1) for axis in (2, 3)) / 4
    torch.testing.assert_close(crooked, wanted)
    turned = Runner(Crooked(8), 2, 2, (32, 24), 5, tta=True)(torch.rot90(images, 1, (2, 3)))
    torch.testing.assert_close(turned, torch.rot90(crooked, 1, (2, 3)))


class Cramped(Model):
    """Runs out of memory with more than so many windows."""

    def __init__(self, most):
        super().__init__()
        self.most = most

    def __call__(self, images):
        if len(images) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().__call__(images)


def test_where_memory_runs_out_the_batch_is_halved_and_the_work_goes_on(caplog):
    scene = Scene(200, 300)
    chosen = EngineSettings(32, 0, 13, 64)
    whole = assemble(scene, label_blocks(scene, Model(), chosen))["labels"]
    cramped = Cramped(3)
    np.testing.assert_array_equal(assemble(scene, label_blocks(scene, cramped, chosen))["labels"], whole)
    assert set(cramped.batches) == {3}
    assert "going on with 3 windows" in caplog.text
    with pytest.raises(ModelError, match="not enough memory for a single window"):
        list(label_blocks(scene, Cramped(0), chosen))


def test_batches_are_all_of_one_size_and_filled_across_blocks():
    scene, model = Scene(200, 300), Model()
    scene.valid[100:, :] = False
    list(label_blocks(scene, model, EngineSettings(20, 0, 8, 20)))
    assert set(model.batches) == {8}
    assert len(model.batches) == -(-5 * 15 // 8)


def test_large_windows_go_through_a_cpu_one_at_a_time():
    model = Model(8)
    assert Runner(model, 8, 100, (512, 512), 4).at_once == 1
    assert Runner(model, 8, 100, (256, 256), 4).at_once == 4
    assert Runner(model, 8, 5, (256, 256), 4).at_once == 3  # five in two batches


def test_each_region_is_read_once():
    scene = Scene(400, 400)
    chosen = EngineSettings(64, 16, 4, 192)
    list(label_blocks(scene, Model(), chosen))
    assert scene.reads == len(chosen.grid(400, 400).blocks(192))


def test_a_broken_reader_or_an_abandoned_run_leaves_no_thread():
    import threading

    before = threading.active_count()
    run = label_blocks(Scene(400, 400), Model(), EngineSettings(64, 16, 4, 64))
    next(run)
    run.close()
    del run
    assert threading.active_count() == before
