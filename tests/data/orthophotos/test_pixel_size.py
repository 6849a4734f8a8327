"""Images of several pixel sizes, cut so that a patch shows as much ground in each of them."""

import logging
import os

import numpy as np
import pytest
import rasterio
import shapely
import torch
from affine import Affine
from rasterio.crs import CRS
from rasterio.transform import from_origin

import geohp
from geohp.config.loading import parse_config
from geohp.data.factory import open_data
from geohp.data.orthophotos import patch_sets
from geohp.data.orthophotos.footprints import common_plane, pixel_to_plane, read_footprints
from geohp.errors import ConfigError, DataError
from geohp.inference.engine.settings import engine_settings
from geohp.inference.segmenter import Segmenter
from geohp.options import WindowOptions
from geohp.raster.block import Block
from geohp.raster.read.patches import read_patch
from geohp.raster.read.scene import open_scene

WEST, NORTH = 380000.0, 5800000.0
UTM33 = CRS.from_epsg(32633)


def own(*images, seed=0, **keys):
    keys = {"patch_px": 32, "patches": 12, **keys}
    return open_data(parse_config({"data": {"images": [str(i) for i in images], **keys}}).data, seed)


def ground(shape, pixel, x=0.0, y=0.0):
    """Colours (3, rows, cols) of the same made-up ground, waves of several metres on three fields."""
    rows, cols = np.mgrid[: shape[0], : shape[1]]
    east, south = x + (cols + 0.5) * pixel, y + (rows + 0.5) * pixel
    fields = np.array([[60, 140, 50], [128, 128, 128], [170, 110, 60]])[(east // 40).astype(int) % 3].transpose(2, 0, 1)
    waves = 25 * np.sin(east / 2.5) * np.cos(south / 3.5) + 10 * np.sin((east + south) / 1.7)
    return np.clip(fields + waves, 1, 255).astype(np.uint8)


def labels_of(shape, pixel, x=0.0):
    cols = np.arange(shape[1])
    return np.broadcast_to(((x + cols * pixel) // 8).astype(np.uint8) % 3, shape)[None].copy()


@pytest.fixture
def write(write_scene, tmp_path):
    """An image of a pixel size and (on demand) its labels, at a place in metres east and south of a corner."""

    def one(name, shape, pixel, x=0.0, y=0.0, labelled=True, **profile):
        (tmp_path / "images").mkdir(exist_ok=True)
        place = {"transform": from_origin(WEST + x, NORTH - y, pixel, pixel), **profile}
        path = write_scene(ground(shape, pixel, x, y), f"images/{name}.tif", **place)
        if labelled:
            write_scene(labels_of(shape, pixel, x), f"images/{name}_labels.tif", nodata=255, **place)
        return path

    return one


@pytest.fixture
def two(write):
    """The same ground of 120 x 96 m, of 0.25 m and 0.5 m a pixel."""
    return write("fine", (384, 480), 0.25), write("coarse", (192, 240), 0.5)


def test_patches_show_the_same_ground_whatever_the_images_pixels(two):
    data = own(*two, layout="grid", pixel_size_m=0.5)
    images = data.training()
    assert data.pixel_size_m == 0.5
    assert [images.images[str(path)].side_px for path in two] == [64, 32]
    places = {path: [(p.row, p.col) for p in images.places if p.path == str(path)] for path in two}
    assert places[two[0]] == [(2 * row, 2 * col) for row, col in places[two[1]]]
    closer = own(*two, layout="grid", pixel_size_m=0.5, stride_px=20).training().places
    fine, coarse = ([(p.row, p.col) for p in closer if p.path == str(path)] for path in two)
    assert fine == [(2 * row, 2 * col) for row, col in coarse]
    assert (0, 20) in coarse
    number = len(places[two[0]])
    first = 0 if images.places[0].path == str(two[0]) else number
    for i in range(number):
        fine, coarse = images[first + i]["image"], images[(number - first) + i]["image"]
        assert fine.shape == coarse.shape == (3, 32, 32)
        assert (fine - coarse).abs().mean() < 0.01
    assert {images.name(first).rsplit(" ", 2)[1]} == {"(64"}


def test_without_the_key_and_at_the_images_own_size_nothing_is_resampled(two):
    plain, same = own(two[1]).training(), own(two[1], pixel_size_m=own_size(two[1])).training()
    assert plain.places == same.places
    with open_scene(two[1]) as scene:
        for i, place in enumerate(plain.places):
            data, _ = read_patch(scene, place.row, place.col, 32)
            assert torch.equal(plain[i]["image"], torch.from_numpy(data))
            assert torch.equal(plain[i]["image"], same[i]["image"])


def own_size(path):
    return read_footprints([str(path)])[0].pixel_size_m


@pytest.mark.parametrize(("wanted", "of_fine", "of_coarse"), [(0.5, 1 / 4, 1), (0.25, 1, 4)])
def test_every_labelled_pixel_is_judged_once(two, wanted, of_fine, of_coarse):
    """Shrunk by two, one pixel of four stands for all; enlarged by two, each counts four times."""
    found = own(*two, labels="{stem}_labels.tif", patch_px=40, pixel_size_m=wanted).evaluation()
    for path, share in zip(two, (of_fine, of_coarse), strict=True):
        with rasterio.open(path.with_name(f"{path.stem}_labels.tif")) as dataset:
            there = np.bincount(dataset.read(1).ravel())
        masks = torch.cat([found[i]["mask"].ravel() for i, p in enumerate(found.places) if p.path == str(path)])
        np.testing.assert_array_equal(np.bincount(masks[masks != 255], minlength=3), there * share)
    assert found.patch_px == 40


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("wanted", "layout"), [(0.3, "random"), (0.5, "grid"), (0.9, "random")])
def test_no_test_pixel_lies_in_a_patch_to_train_on_and_each_is_judged_once(write, wanted, layout, seed):
    paths = [
        write("a", (256, 300), 0.25),
        write("b", (130, 150), 0.5, x=20, y=10),
        write("c", (90, 110), 0.8, x=30, y=40, transform=placed(30, 40, 0.8, 20)),
        write("d", (80, 80), 0.4, x=400),
    ]
    keys = {"labels": "{stem}_labels.tif", "split": "block", "block_m": 24, "gap_m": 2.0, "split_seed": seed}
    data = own(*paths, patch_px=16, patches=60, pixel_size_m=wanted, layout=layout, **keys)
    train, test = data.training(), data.evaluation()
    footprints = {f.path: f for f in read_footprints([str(p) for p in paths])}
    plane = common_plane(list(footprints.values()))
    judged = []
    for path, footprint in footprints.items():
        image = test.images.get(path)
        frame, side = pixel_to_plane(footprint, plane), 0 if image is None else image.side_px
        times = np.zeros(footprint.grid.shape, int)
        for place in (p for p in test.places if p.path == path):
            rows, cols = (
                slice(a + skip, a + side) for a, skip in ((place.row, place.skip_rows), (place.col, place.skip_cols))
            )
            times[rows, cols] += 1
        if image is not None and image.region is not None:
            assert side == round(16 * wanted / footprint.pixel_size_m)
            there = image.region.pixels(Block(0, 0, *footprint.grid.shape))
            assert (times[there] == 1).all()
            rows, cols = np.nonzero(there)
            judged.append(np.column_stack(frame.points(cols + 0.5, rows + 0.5)))
        else:
            assert not times.any()
    tree = shapely.STRtree(shapely.points(np.concatenate(judged)))
    assert len(train) > 5
    for place in train.places:
        side, frame = train.images[place.path].side_px, pixel_to_plane(footprints[place.path], plane)
        dx, dy = np.array([0, side, side, 0]), np.array([0, 0, side, side])
        patch = shapely.Polygon(np.column_stack(frame.points(place.col + dx, place.row + dy)))
        assert patch.area == pytest.approx((16 * wanted) ** 2, rel=0.2)
        assert not len(tree.query(patch.buffer(2.0 - 0.01), predicate="contains"))


def placed(x, y, pixel, angle):
    return Affine.translation(WEST + x, NORTH - y) * Affine.rotation(angle) * Affine.scale(pixel, -pixel)


def test_areas_and_blocks_are_measured_alike_in_all_images(write, two):
    far = [write("far_fine", (400, 400), 0.25, x=500), write("far_coarse", (200, 200), 0.5, x=900)]
    images = own(*far, patches=20, pixel_size_m=0.5).training()
    assert [sum(p.path == str(path) for p in images.places) for path in far] == [10, 10]
    blocks = own(*two, patch_px=8, pixel_size_m=1.0, split="block", labels="{stem}_labels.tif")
    blocks.training()
    assert "blocks of 64 m" in blocks.protocol.text
    # Of four images of 100 x 100 m a quarter is one, whichever is drawn.
    for seed in range(4):
        named = [*far, write("e", (250, 250), 0.4, x=1300), write("f", (100, 100), 1.0, x=1700)]
        data = own(*named, pixel_size_m=0.5, split="tile", split_seed=seed, labels="{stem}_labels.tif")
        assert len({p.path for p in data.evaluation().places}) == 1


def test_degrees_and_pixels_that_are_no_squares(write):
    """Half a metre from north to south and a quarter from west to east, as pixels of the same area."""
    tall, wide = 0.5 / 111_300, 0.25 / 68_700  # degrees, at 52 degrees north
    path = write("degrees", (200, 400), 0.35, crs=CRS.from_epsg(4326), transform=from_origin(13.0, 52.0, wide, tall))
    images = own(path, pixel_size_m=0.7071).training()
    assert images.images[str(path)].side_px == 64
    assert images[0]["image"].shape == (3, 32, 32)


def test_large_windows_are_read_in_strips(two, monkeypatch, write_scene):
    holes = ground((384, 480), 0.25)
    holes[:, 100:180, 60:300] = 0
    path = write_scene(holes, "images/holes.tif", nodata=0, transform=from_origin(WEST + 300, NORTH, 0.25, 0.25))
    place = {"transform": from_origin(WEST + 300, NORTH, 0.25, 0.25)}
    write_scene(labels_of((384, 480), 0.25), "images/holes_labels.tif", nodata=255, **place)
    # The largest patches reach beyond the images; the last is not resized, so that every column of them is taken.
    for side, size_m in ((32, 0.7), (50, 0.7), (140, 0.7), (500, 0.25)):
        keys = {"labels": "{stem}_labels.tif", "patch_px": side, "pixel_size_m": size_m, "min_valid": 0.0}
        whole = own(two[0], path, **keys).evaluation()
        items = [whole[i] for i in range(len(whole))]
        monkeypatch.setattr(patch_sets, "_AT_ONCE_PX", 1000)
        cut = own(two[0], path, **keys).evaluation()
        assert cut.places == whole.places
        for i, item in enumerate(items):
            torch.testing.assert_close(cut[i]["image"], item["image"], atol=2e-6, rtol=0)
            assert torch.equal(cut[i]["mask"], item["mask"])
        monkeypatch.undo()


def test_an_image_without_a_place_cannot_be_brought_to_a_pixel_size(write, two):
    plain = write("plain", (96, 96), 0.5, labelled=False, crs=None, transform=Affine.identity())
    with pytest.raises(DataError, match=r"plain\.tif: its pixel size is not known .* or leave data\.pixel_size_m out"):
        own(*two, plain, pixel_size_m=0.5).training()
    assert len(own(*two, plain).training())


@pytest.mark.parametrize("size", [0, -1.0, "common", float("inf")])
def test_sizes_that_are_none_are_refused(two, size):
    with pytest.raises(ConfigError, match="pixel_size_m"):
        own(*two, pixel_size_m=size)


def test_mixed_pixel_sizes_are_announced_with_the_remedy(two, write, caplog):
    with caplog.at_level(logging.WARNING):
        own(*two).training()
    assert [r.levelname for r in caplog.records] == ["WARNING"]
    assert "0.25 m (" in caplog.text
    assert "data.pixel_size_m=0.5 brings all images to the coarsest" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        own(*two, pixel_size_m=0.5).training()
        own(two[0]).training()
        own(two[0], write("nearly", (100, 100), 0.3, x=900)).training()
    assert not caplog.records


def test_enlarged_and_mirrored_images_are_announced(two, caplog):
    with caplog.at_level(logging.WARNING):
        own(*two, pixel_size_m=0.2, patch_px=64).training()
    assert "enlarges 1 of 2 image(s) more than 2 times" in caplog.text
    assert "coarse.tif has pixels of 0.5 m" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        own(*two, pixel_size_m=4.0).training()
    assert "2 of 2 image(s) are smaller than a patch of 32 px of 4 m" in caplog.text


def test_files_and_what_tells_sets_apart(two, write_scene):
    keys = {"labels": "{stem}_labels.tif", "split": "block", "block_m": 24, "patch_px": 16}
    images = own(*two, **keys).training()
    labels = [path.with_name(f"{path.stem}_labels.tif") for path in two]
    assert images.files() == sorted(map(str, [*two, *labels]))
    assert own(*two, patch_px=16).training().files() == sorted(map(str, two))
    first = images.identity()
    assert own(*two, **keys).training().identity() == first
    others = [
        own(*two, **keys, pixel_size_m=0.5).training(),
        own(*two, **keys, input_px=24).training(),
        own(*two, **keys, label_classes={0: "a", 1: "b", 2: "a"}).training(),
        own(*two, **keys, scaling="0,200").training(),
        own(*two, **keys, bands=[3, 2, 1]).training(),
        own(*two, **keys, seed=1).training(),
        own(*two, **keys).evaluation(),
    ]
    assert len({first, *(one.identity() for one in others)}) == len(others) + 1
    for file in (two[1], labels[0]):
        before = images.identity()
        state = file.stat()
        os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns + 10**9))
        assert images.identity() != before
        os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
        assert images.identity() == before


def test_files_that_images_and_labels_consist_of(two, tmp_path):
    import geopandas as gpd
    from rasterio.shutil import copy

    copy(two[1], tmp_path / "view.vrt", driver="VRT")
    copy(two[1].with_name("coarse_labels.tif"), tmp_path / "truth.vrt", driver="VRT")
    shape = shapely.box(WEST, NORTH - 50, WEST + 50, NORTH)
    gpd.GeoDataFrame({"kind": ["7"]}, geometry=[shape], crs=UTM33).to_file(tmp_path / "truth.shp")
    labels = [str(tmp_path / "truth.vrt"), str(tmp_path / "truth.shp")]
    found = own(tmp_path / "view.vrt", labels=labels).evaluation()
    names = ["images/coarse.tif", "images/coarse_labels.tif", "truth.dbf", "truth.shp", "truth.vrt", "view.vrt"]
    assert found.files() == [str(tmp_path / name) for name in names]


def test_a_model_sees_every_image_at_the_pixel_size_it_was_trained_at(two, tmp_path):
    small = ["data.patches=24", "data.patch_px=32", "train.epochs=4", "train.batch_size=4", "train.device=cpu"]
    hp = ["method.pool_size=16", "method.code_channels=16", "method.warmup_steps=4", "classes.count=3"]
    done = geohp.train(
        "orthophotos-hp",
        [f"data.images={tmp_path / 'images'}", "data.pixel_size_m=0.5", "backbone.name=rcf", *small, *hp],
        out=tmp_path / "run",
    )
    segmenter = Segmenter.load(done.folder, device="cpu")
    card = segmenter.model.card
    assert (card.patch_px, card.input_px, card.pixel_size_m) == (32, 32, 0.5)
    with open_scene(two[0]) as fine, open_scene(two[1]) as coarse:
        assert engine_settings(segmenter.model, fine, WindowOptions()).input_scale == pytest.approx(0.5)
        assert engine_settings(segmenter.model, coarse, WindowOptions()).input_scale == pytest.approx(1.0)
    images = own(*two, layout="grid", pixel_size_m=0.5).training()
    sides = [
        torch.stack([images[i]["image"] for i, p in enumerate(images.places) if p.path == str(path)]) for path in two
    ]
    with torch.inference_mode():
        codes = [segmenter.model.codes(side) for side in sides]
    assert torch.nn.functional.cosine_similarity(*codes, dim=1).mean() > 0.97
    maps = [geohp.segment(path, model=done.folder).values for path in two]
    assert maps[0].shape == (384, 480)
    assert len(np.unique(maps[1])) == 3
    assert (maps[0][::2, ::2] == maps[1]).mean() > 0.95
    # At the fine image's own pixels the model would see it otherwise.
    other = geohp.segment(two[0], model=done.folder, pixel_size_m=0).values
    assert (other[::2, ::2] == maps[1]).mean() < (maps[0][::2, ::2] == maps[1]).mean()
