"""How windows and blocks are chosen: the sizes a model sees, and the memory that blocks may take."""

from types import SimpleNamespace

import pytest

from geohp.errors import ModelError, SceneError
from geohp.inference.engine.settings import CrfWindows, EngineSettings, default_input_px, engine_settings
from geohp.inference.engine.windows import WindowGrid
from geohp.options import WindowOptions
from geohp.raster.block import Block

BUDGET = 48 * 2**20


def model(patch=14, input_px=224, scale=1.0, pixel_size_m=None, tta=False, cluster_to_class=None, scores_along=1):
    card = SimpleNamespace(input_px=input_px, pixel_size_m=pixel_size_m, tta=tta, cluster_to_class=cluster_to_class)
    backbone = SimpleNamespace(patch_size=patch)
    return SimpleNamespace(backbone=backbone, card=card, input_scale=scale, scores_along=scores_along)


def scene(pixel_size_m=None):
    grid = SimpleNamespace(pixel_size_m=pixel_size_m)
    return SimpleNamespace(grid=grid, path="scene.tif", height=1000, width=2000)


@pytest.mark.parametrize(
    ("patch", "input_px", "scale", "asked", "window", "seen"),
    [
        (14, 224, 1.0, None, 448, 448),  # no smaller than about 448 px
        (16, 224, 1.0, None, 448, 448),
        (14, 672, 1.0, None, 672, 672),  # as large as in training
        (14, 224, 2.0, None, 224, 448),
        (14, 224, 1.0, 100, 98, 98),  # to whole patches
        (14, 224, 2.0, 100, 98, 196),
        (14, 224, 0.5, 100, 112, 56),
        (14, 224, 1.0, 3, 14, 14),  # one patch at least
        (8, 224, 16.0, 1, 1, 16),
    ],
)
def test_windows_are_whole_patches_of_what_the_model_sees(patch, input_px, scale, asked, window, seen):
    chosen = engine_settings(model(patch, input_px, scale), scene(), WindowOptions(window_px=asked))
    assert (chosen.window_px, chosen.input_px, chosen.patch_px) == (window, seen, patch)
    assert chosen.input_scale == seen / window


@pytest.mark.parametrize(
    ("trained_m", "own_m", "asked_m", "scale"),
    [
        (None, 0.5, None, 1.0),
        (0.5, 0.25, None, 0.5),
        (0.5, 1.0, None, 2.0),
        (0.5, 0.51, None, 1.0),  # the same sensor in another projection
        (0.5, 0.49, None, 1.0),
        (0.5, 0.53, None, 1.06),
        (0.5, 0.25, 0.25, 1.0),
        (0.5, 0.25, 1.0, 0.25),
        (0.5, 0.25, 0.0, 1.0),  # the scene's own
        (0.5, None, None, 1.0),  # not known where the scene lies: its pixels as they are
    ],
)
def test_the_scene_is_seen_at_the_pixel_size_of_training_or_the_one_asked_for(trained_m, own_m, asked_m, scale):
    options = WindowOptions(pixel_size_m=asked_m, window_px=2800)
    chosen = engine_settings(model(pixel_size_m=trained_m), scene(own_m), options)
    assert chosen.input_scale == pytest.approx(scale, rel=5e-3)


def test_a_pixel_size_is_asked_for_and_the_scenes_own_is_not_known():
    with pytest.raises(SceneError, match=r"scene\.tif: its pixel size is not known"):
        engine_settings(model(), scene(None), WindowOptions(pixel_size_m=0.5))


@pytest.mark.parametrize(("share", "overlap"), [(0, 0), (0.25, 112), (0.2511, 112), (0.2513, 113), (0.9999, 447)])
def test_overlap_is_a_share_of_the_window_and_less_than_it(share, overlap):
    assert engine_settings(model(), scene(), WindowOptions(overlap=share)).overlap_px == overlap
    with pytest.raises(ModelError, match="overlap"):
        engine_settings(model(), scene(), WindowOptions(overlap=1.0))


def test_what_the_model_brings_and_what_is_asked_for():
    plain = engine_settings(model(), scene(), WindowOptions())
    assert (plain.tta, plain.cluster_to_class, plain.refine) == (False, None, None)
    brought = engine_settings(model(tta=True, cluster_to_class=(0, 1, 0)), scene(), WindowOptions())
    assert (brought.tta, brought.cluster_to_class) == (True, (0, 1, 0))
    asked = engine_settings(model(), scene(), WindowOptions(tta=True, refine="crf"))
    assert (asked.tta, asked.refine) == (True, CrfWindows(512, 128))


def test_the_side_nearest_to_a_target():
    assert [default_input_px(14, px) for px in (1, 20, 21.1, 447, 456)] == [14, 14, 28, 448, 462]
    assert default_input_px(16) == 448


def test_small_scenes_get_windows_of_whole_patches():
    # 400 scene pixels are 448 of the backbone's, so that 7 patches of 16 px are exactly 100 scene pixels.
    chosen = EngineSettings(400, 0, input_scale=448 / 400, patch_px=16)
    assert chosen.grid(250, 1000).shape == (300, 400)
    assert EngineSettings(448, 0, patch_px=14).grid(20, 448).shape == (28, 448)
    grid = CrfWindows(64, 16).grid(50, 500)
    assert (grid.shape, grid.window, grid.overlap) == ((50, 64), 64, 16)


def most_bytes(settings, grid, clusters, side):
    """Sums of an inner block of a side, and scores of all windows that touch it, in float32."""
    windows = len(list(grid.touching(Block(grid.window * 4, grid.window * 4, side, side))))
    of_window = grid.window**2 if settings.refine else (settings.input_px // settings.patch_px) ** 2
    return 4 * clusters * (windows * of_window + side**2)


@pytest.mark.parametrize(
    ("settings", "clusters", "strides"),
    [
        (EngineSettings(448, 112, patch_px=14), 6, 3),
        (EngineSettings(448, 0, patch_px=14), 6, 2),
        (EngineSettings(448, 112, patch_px=14), 27, 2),
        (EngineSettings(448, 112, patch_px=14), 254, 1),
        (EngineSettings(64, 16, patch_px=1), 8, None),
        (EngineSettings(64, 48, patch_px=1), 12, None),
        (EngineSettings(100, 33, block_px=700, patch_px=1), 9, None),
        (EngineSettings(448, 112, patch_px=14, refine=CrfWindows(96, 24)), 5, None),
        (EngineSettings(3000, 300, patch_px=14), 2, 1),
    ],
)
def test_blocks_are_as_large_as_asked_for_or_as_the_memory_set_aside_allows(settings, clusters, strides):
    whole = settings.grid(20_000, 20_000)
    blocks = settings.blocks(whole, clusters)
    assert sum(block.height * block.width for block in blocks) == 20_000**2
    grid = settings.refine.grid(20_000, 20_000) if settings.refine else whole
    stride, side = grid.window - grid.overlap, blocks[0].height
    assert side % stride == 0
    assert blocks[0].shape == (side, side)
    if strides is not None:
        assert side == strides * stride
    assert side <= settings.block_px + stride / 2 or side == stride
    assert side == stride or most_bytes(settings, grid, clusters, side) <= BUDGET
    larger = side + stride
    if larger <= settings.block_px:
        assert most_bytes(settings, grid, clusters, larger) > BUDGET


@pytest.mark.parametrize("pixel_size", [1e6, 1e18])
def test_pixel_sizes_far_from_the_scenes_own_are_refused(pixel_size):
    with pytest.raises(SceneError, match="which no memory holds"):
        engine_settings(model(pixel_size_m=0.5), scene(0.5), WindowOptions(pixel_size_m=pixel_size))


def test_pixels_that_would_fill_more_than_a_window_are_refused():
    with pytest.raises(SceneError, match="at 1,000 times its size, larger than a window"):
        engine_settings(model(), scene(0.5), WindowOptions(pixel_size_m=0.0005))
    assert engine_settings(model(), scene(0.5), WindowOptions(pixel_size_m=0.005)).window_px > 1


@pytest.mark.parametrize("window_px", [10**6, 10**19])
def test_a_window_larger_than_the_scene_is_the_scene(window_px):
    settings = engine_settings(model(patch=16), scene(), WindowOptions(window_px=window_px))
    rows, cols = settings.grid(1000, 2000).shape
    assert 1000 <= rows < 1016
    assert 2000 <= cols < 2016


def test_blocks_of_scores_finer_than_patches_fit_the_same_memory():
    grid = WindowGrid(100_000, 100_000, 448, 112, 14)
    of_patches, of_cells = (
        engine_settings(model(scores_along=along), scene(), WindowOptions()).blocks(grid, 10)[0].width
        for along in (1, 4)
    )
    assert of_cells < of_patches
    windows = (of_cells // 336 + 1) ** 2
    assert 4 * 10 * (windows * (32 * 4) ** 2 + of_cells**2) <= BUDGET


def test_nothing_is_done_that_nobody_asks_for():
    plain = EngineSettings(448, 112)
    assert (plain.batch_size, plain.block_px, plain.input_scale) == (8, 1024, 1.0)
    assert (plain.patch_px, plain.scores_along) == (1, 1)
    assert (plain.tta, plain.cluster_to_class, plain.refine) == (False, None, None)
    assert (CrfWindows().window_px, CrfWindows().overlap_px) == (512, 128)
