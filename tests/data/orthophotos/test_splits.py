"""What is tested on is never trained on: no ground of a test pixel lies in a patch to train on."""

import numpy as np
import pytest
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS

from geohp.config.data import OrthophotosConfig
from geohp.data.orthophotos import splits
from geohp.data.orthophotos.footprints import Footprint, common_plane, outline, overlapping, pixel_to_plane
from geohp.data.orthophotos.label_files import LabelCoverage
from geohp.data.orthophotos.patch_regions import area_on
from geohp.data.orthophotos.splits import make_split
from geohp.errors import DataError
from geohp.raster.area_of_interest import AreaOfInterest
from geohp.raster.block import Block
from geohp.raster.grid import Grid
from geohp.raster.read.patches import grid_origins

UTM33, UTM32 = CRS.from_epsg(32633), CRS.from_epsg(32632)


def image(name, x=0.0, y=0.0, size=(100, 120), res=0.5, crs=UTM33, angle=0.0):
    transform = Affine.translation(380000 + x, 5800000 + y) * Affine.rotation(angle) * Affine.scale(res, -res)
    return Footprint(f"/d/{name}", name, Grid(size[1], size[0], transform, crs))


def plain(name, size=(100, 120)):
    return Footprint(f"/d/{name}", name, Grid(size[1], size[0], Affine.identity()))


def config(**keys):
    return OrthophotosConfig(images=["x"], **{"patch_px": 16, **keys})


def names(parts):
    return [p.footprint.key for p in parts]


def split_or_none(found, asked):
    try:
        return make_split(found, asked)
    except DataError:
        return None  # one block, or one group of images that overlap


images = st.builds(
    image,
    st.just("a"),
    x=st.floats(-80, 80),
    y=st.floats(-80, 80),
    size=st.tuples(st.integers(20, 120), st.integers(20, 120)),
    res=st.sampled_from([0.5, 0.7]),
    angle=st.sampled_from([0.0, 0.0, 30.0]),
)


def ground(parts, plane, side):
    """Patches as polygons in the plane, and the middles of counted pixels."""
    patches, pixels = [], []
    for part in parts:
        height, width = part.footprint.grid.shape
        frame = pixel_to_plane(part.footprint, plane)
        origins = np.array(grid_origins(height, width, side, 5))
        if side > min(height, width):
            origins = origins[:0]
        rows, cols = origins.reshape(-1, 2).T
        if part.region is not None and len(rows):
            allowed = part.region.contains(rows, cols, side)
            rows, cols = rows[allowed], cols[allowed]
        corners = [frame.points(cols + dx, rows + dy) for dx, dy in ((0, 0), (side, 0), (side, side), (0, side))]
        patches += list(shapely.polygons(np.moveaxis(np.array(corners), 2, 0))) if len(rows) else []
        here = np.ones((height, width), bool)
        if part.region is not None:
            here = part.region.pixels(Block(0, 0, height, width))
        row, col = np.nonzero(here)
        pixels.append(np.column_stack(frame.points(col + 0.5, row + 0.5)))
    return patches, np.concatenate(pixels)


@given(st.lists(images, min_size=1, max_size=4), st.integers(0, 99), st.floats(15, 60), st.sampled_from([0.0, 6.0]))
@settings(deadline=None, max_examples=40)
def test_no_test_pixel_lies_in_a_training_patch_with_blocks(found, seed, block, gap):
    found = [Footprint(f"/d/{i}", str(i), f.grid) for i, f in enumerate(found)]
    split = split_or_none(found, config(split="block", block_m=block, split_seed=seed, gap_m=gap))
    if split is None:
        return
    plane = common_plane(found)
    patches, _ = ground(split.train, plane, 16)
    _, pixels = ground(split.test, plane, 16)
    assert len(pixels)
    tree = shapely.STRtree(shapely.points(pixels))
    for patch in patches:
        # A hair smaller: pixels on other grids lie on the very border.
        assert not len(tree.query(patch.buffer(max(gap - 0.01, -1e-6)), predicate="contains"))


@given(st.lists(images, min_size=2, max_size=5), st.integers(0, 99))
@settings(deadline=None, max_examples=40)
def test_no_test_pixel_lies_in_a_training_image_with_tiles(found, seed):
    found = [Footprint(f"/d/{i}", str(i), f.grid) for i, f in enumerate(found)]
    split = split_or_none(found, config(split="tile", split_seed=seed))
    if split is None:
        return
    assert sorted(names(split.train) + names(split.test)) == sorted(f.key for f in found)
    assert split.train
    assert split.test
    plane = common_plane(found)
    patches, _ = ground(split.train, plane, 16)
    _, pixels = ground(split.test, plane, 16)
    tree = shapely.STRtree(shapely.points(pixels))
    for patch in patches:
        assert not len(tree.query(patch.buffer(-0.36), predicate="contains"))


def test_the_split_follows_the_seed_and_neither_order_nor_place():
    found = [image(f"t{i}/{j}.tif", x=100 * i, y=100 * j) for i in range(4) for j in range(3)]
    first = make_split(found, config(split="tile", split_seed=3))
    again = make_split(found[::-1], config(split="tile", split_seed=3))
    moved = make_split(
        [Footprint("/elsewhere/" + f.key, f.key, f.grid) for f in found], config(split="tile", split_seed=3)
    )
    assert names(first.test) == names(again.test) == names(moved.test)
    assert len(first.test) == 3
    assert {tuple(names(make_split(found, config(split="tile", split_seed=s)).test)) for s in range(6)} != {
        tuple(names(first.test))
    }


def test_the_share_to_test_on_is_one_of_ground_not_of_images():
    found = [image("large", size=(400, 400)), *(image(f"{i}", x=1000 * (i + 1), size=(100, 100)) for i in range(8))]
    for seed in range(5):
        tests = names(make_split(found, config(split="tile", split_seed=seed)).test)
        assert (len(tests), "large" in tests) == (6, False)  # of 24 parts the large one has 16
        assert len(make_split(found[1:], config(split="tile", split_seed=seed, test_share=0.5)).test) == 4


def test_something_is_left_to_train_on_however_large_the_share():
    most = {"test_share": 0.9}
    tiles = make_split([image("a"), image("b", x=500), image("c", x=1000)], config(split="tile", **most))
    assert (len(tiles.train), len(tiles.test)) == (1, 2)
    blocks = make_split([plain("a", (64, 64))], config(split="block", block_m=32, **most))
    assert "1 of them to train on, 3 to test on" in blocks.text


def test_a_block_is_as_large_as_the_image_that_shows_most_of_it(monkeypatch):
    seen, draw = [], splits._draw
    monkeypatch.setattr(splits, "_draw", lambda sizes, *rest, **more: seen.append(sizes) or draw(sizes, *rest, **more))
    whole, part = image("a", size=(128, 256)), image("b", size=(128, 32))  # 128 and 16 m across, one block down
    for found in ([whole, part], [part, whole]):
        make_split(found, config(split="block", block_m=64))
    assert seen[0] == pytest.approx(seen[1])
    assert sum(seen[0].values()) == pytest.approx(128 * 64)


def test_by_default_blocks_have_eight_patches_along_their_sides_in_each_images_own_units():
    split = make_split([image("a", size=(400, 400)), plain("b", (400, 400))], config(split="block"))
    assert "by blocks of 128 px and 64.0" in split.text  # metres on the ground, which UTM shows a little smaller


def test_folders_go_to_one_side_as_a_whole_and_only_labelled_ones_to_the_test():
    found = [plain(f"tile{i}/part{j}.jpg") for i in range(6) for j in range(3)]
    for seed in range(5):
        labelled = LabelCoverage(frozenset(f.key for f in found if f.folder in ("tile1", "tile2", "tile3", "tile5")))
        split = make_split(found, config(split="folder", split_seed=seed), labelled=labelled)
        tests = {name.split("/")[0] for name in names(split.test)}
        assert len(tests) == 1
        assert tests <= {"tile1", "tile2", "tile3", "tile5"}
        assert tests.isdisjoint(name.split("/")[0] for name in names(split.train))
        assert "15 image(s) to train on, 3 to test on (5 and 1 groups)" in split.text


def test_images_of_the_same_ground_stay_together_and_mere_neighbours_do_not():
    # 60 x 50 m each
    found = [image("a"), image("b", x=60), image("c", x=119), image("d", x=500), image("e", x=0, y=50)]
    plane = common_plane(found)
    assert overlapping(found, plane) == [(1, 2)]
    chain = [image(str(i), x=50 * i) for i in range(4)]
    with pytest.raises(DataError, match="use split: block"):
        make_split(chain, config(split="tile"))


def test_images_with_nothing_but_a_crs_do_not_all_lie_in_one_place():
    found = [Footprint(f"/d/{i}", str(i), Grid(120, 100, Affine.identity(), UTM33)) for i in range(4)]
    split = make_split(found, config(split="tile"))
    assert (len(split.train), len(split.test)) == (3, 1)


def test_overlaps_are_found_across_coordinate_reference_systems():
    from rasterio.warp import transform

    (x,), (y,) = transform(UTM33, UTM32, [380010], [5799990])
    other = Footprint("/d/o", "o", Grid(50, 50, Affine(0.5, 0, x, 0, -0.5, y), UTM32))
    found = [image("a"), other, image("far", x=5000)]
    plane = common_plane(found)
    assert plane.to_epsg() is None  # neither of the two, but one around their middle
    assert overlapping(found, plane) == [(0, 1)]
    assert common_plane([image("a")]).to_epsg() == 32633
    assert common_plane([plain("a")]) is None


def test_test_images_as_named_take_what_overlaps_them_out_of_training():
    found = [image("a"), image("b", x=30), image("c", x=500)]
    split = make_split(found, config(test_images=["a"]), test_paths=["/d/a"])
    assert names(split.test) == ["a"]
    assert names(split.train) == ["c"]
    with pytest.raises(DataError, match="none is left to train on"):
        make_split(found[:2], config(test_images=["a"]), test_paths=["/d/a"])


def test_the_plane_of_neighbours_across_the_antimeridian_is_in_metres():
    """One in degrees beyond 180, one in those on the other side: it lies around both, not around Greenwich."""
    degrees = CRS.from_epsg(4326)
    east, west = (
        Footprint(f"/d/{name}", name, Grid(100, 100, Affine(1e-5, 0, x, 0, -1e-5, -17), degrees))
        for name, x in (("east", 179.9995), ("west", -180.0004))
    )
    plane = common_plane([east, west])
    assert overlapping([east, west], plane) == [(0, 1)]
    for one in (east, west):
        left, bottom, right, top = outline(one, plane).bounds
        assert (right - left, top - bottom) == pytest.approx((106.5, 110.6), rel=0.01)


def test_blocks_of_images_without_a_place_are_in_their_own_pixels():
    found = [plain("a", (64, 64)), plain("b", (64, 64))]
    for seed in range(5):
        seeded = make_split(found, config(split="block", block_m=32, test_share=0.25, split_seed=seed))
        assert sum(p.region.pixels(Block(0, 0, 64, 64)).mean() for p in seeded.test) == pytest.approx(0.5)
    split = make_split(found, config(split="block", block_m=32, test_share=0.25))
    share = [p.region.pixels(Block(0, 0, 64, 64)).mean() for p in split.test]
    assert sum(share) == pytest.approx(0.5)  # two of eight blocks
    for part in split.train:
        own = next((p for p in split.test if p.footprint.key == part.footprint.key), None)
        if own is not None:
            both = own.region.pixels(Block(0, 0, 64, 64)) ^ part.region.pixels(Block(0, 0, 64, 64))
            assert both.all()
    assert "6 of them to train on, 2 to test on" in split.text


def test_blocks_keep_to_labelled_ground():
    wide = image("a", size=(100, 800))
    west = shapely.box(380000, 5799900, 380100, 5800000)
    split = make_split([wide], config(split="block", block_m=25), labelled=LabelCoverage(frozenset(), (west,)))
    inside = split.test[0].region.pixels(Block(0, 0, 100, 800))
    assert inside.any()
    assert not inside[:, 260:].any()


def test_blocks_that_cannot_be_are_refused():
    with pytest.raises(DataError, match="one block holds everything"):
        make_split([plain("a")], config(split="block", block_m=1e6))
    with pytest.raises(DataError, match="give larger ones"):
        make_split([image("a", size=(5000, 5000))], config(split="block", block_m=0.5))


def test_an_area_of_interest_is_met_by_whole_patches():
    here = image("a")
    from rasterio.warp import transform_bounds

    box = transform_bounds(UTM33, "EPSG:4326", 380010, 5799970, 380030, 5799990)
    area = area_on(AreaOfInterest.of(box), here)
    assert area is not None
    pixels = area.pixels(Block(0, 0, 100, 120))
    rows, cols = np.nonzero(pixels)
    assert abs(rows.min() - 20) <= 2
    assert abs(cols.max() - 60) <= 2
    allowed = area.contains(np.array([25, 0, 25]), np.array([25, 25, 58]), 10)
    np.testing.assert_array_equal(allowed, [True, False, False])
    assert area_on(AreaOfInterest.of([0.0, 0.0, 1.0, 1.0]), here) is None
    with pytest.raises(DataError, match="no coordinate reference system"):
        area_on(AreaOfInterest.of(box), plain("a"))
