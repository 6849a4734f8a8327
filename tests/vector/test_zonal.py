"""What other rasters say of the pixels of polygons."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import rasterio.warp
import rioxarray
import xarray as xr
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from rasterio.control import GroundControlPoint

from geohp.errors import GeohpError, SceneError, VectorError
from geohp.vector.polygonize import polygonize
from geohp.vector.regions import find_regions
from geohp.vector.value_counts import from_keys, to_keys
from geohp.vector.zonal import Statistics

TRANSFORM = Affine(2, 0, 5e5, 0, -2, 5538000)
ALL = ("count", "sum", "mean", "std", "min", "max", "median", "p0", "p12.5", "p90", "p100")


def raster(values, transform=TRANSFORM, crs="EPSG:25832", nodata=None, name=None):
    array = xr.DataArray(values, dims=("y", "x"), name=name).rio.write_transform(transform)
    array = array if crs is None else array.rio.write_crs(crs)
    return array if nodata is None else array.rio.write_nodata(nodata)


label_arrays = array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12).flatmap(
    lambda shape: arrays(np.uint8, shape, elements=st.sampled_from([0, 1, 255]))
)
numbers = st.one_of(st.floats(-1e6, 1e6), st.sampled_from([0.0, -0.0, 1e-30, 1e30, 7.0]))


def test_nodata_and_alpha_both_count(write_scene):
    heights = np.array([[1, 2, 4], [8, 16, -9999]], np.float32)
    opaque = np.array([[1, 1, 1], [1, 0, 1]], np.float32)
    options = {"transform": TRANSFORM, "crs": "EPSG:25832", "nodata": -9999}
    path = write_scene(np.stack([heights, opaque]), "dsm.tif", alpha="yes", **options)
    found = polygonize(raster(np.zeros((2, 3), np.uint8), nodata=255), stats=[Statistics(path, ("count", "sum"))])
    assert found[["dsm_count", "dsm_sum"]].to_numpy().tolist() == [[4, 15]]


@pytest.mark.parametrize("pixel", [1.0, 4.0])
def test_a_mask_counts_beside_a_nodata_value_on_other_grids_too(tmp_path, pixel):
    side = round(16 / pixel)
    heights = np.full((1, side, side), 3, np.float32)
    heights[0, : side // 2, : side // 2] = -9999
    opaque = np.full((side, side), 255, np.uint8)
    opaque[side // 2 :, side // 2 :] = 0
    layout = {"driver": "GTiff", "count": 1, "height": side, "width": side, "dtype": "float32", "crs": "EPSG:25832"}
    transform = Affine(pixel, 0, 5e5, 0, -pixel, 5538000)
    with rasterio.open(tmp_path / "dsm.tif", "w", nodata=-9999, transform=transform, **layout) as dataset:
        dataset.write(heights)
        dataset.write_mask(opaque)
    wanted = Statistics(tmp_path / "dsm.tif", ("count", "sum"))
    found = polygonize(raster(np.zeros((8, 8), np.uint8), nodata=255), stats=[wanted])
    assert found[["dsm_count", "dsm_sum"]].to_numpy().tolist() == [[32, 96]]


@given(values=label_arrays, side=st.integers(1, 8), data=st.data())
@settings(max_examples=150, deadline=None)
def test_statistics_are_numpys(values, side, data):
    heights = data.draw(arrays(np.float64, values.shape, elements=st.one_of(st.just(np.nan), numbers)))
    wanted = Statistics(raster(heights, name="dsm"), ALL)
    found = polygonize(raster(values, nodata=255), stats=[wanted], block_px=side)
    regions = find_regions(values, values != 255)
    for region in range(regions.count):
        known = heights[(regions.ids == region + 1) & np.isfinite(heights)]
        row = found.iloc[region]
        assert row["dsm_count"] == len(known)
        if not len(known):
            assert row[[f"dsm_{one}" for one in ALL if one != "count"]].isna().all()
            continue
        size = np.abs(known).max()
        np.testing.assert_allclose(row["dsm_sum"], known.sum(), rtol=1e-9, atol=1e-9 * size)
        np.testing.assert_allclose(row["dsm_mean"], known.mean(), rtol=1e-9, atol=1e-9 * size)
        np.testing.assert_allclose(row["dsm_std"], known.std(), rtol=1e-6, atol=1e-6 * size)
        assert (row["dsm_min"], row["dsm_max"]) == (known.min(), known.max())
        for name, rank in (("median", 50), ("p0", 0), ("p12.5", 12.5), ("p90", 90), ("p100", 100)):
            np.testing.assert_allclose(
                row[f"dsm_{name}"], np.percentile(known, rank), rtol=3e-5, atol=max(3e-5 * size, 1e-300)
            )


@given(values=arrays(np.float64, st.integers(1, 50), elements=st.floats(-1e300, 1e300)))
def test_values_are_ranked_as_they_are(values):
    keys = to_keys(values)
    np.testing.assert_allclose(from_keys(keys), values, rtol=2**-16, atol=1e-300)
    order = np.argsort(values, kind="stable")
    assert (np.diff(keys[order].astype(np.int64)) >= 0).all()


def test_whole_numbers_are_exact():
    values = np.arange(-30000, 30000, dtype=np.float64)
    np.testing.assert_array_equal(from_keys(to_keys(values)), values)


def test_in_many_blocks_many_values(tmp_path):
    rng = np.random.default_rng(0)
    labels = np.zeros((200, 200), np.uint8)
    labels[50:90, 50:90] = 1
    heights = rng.normal(400, 5, labels.shape).astype(np.float32)
    path = tmp_path / "digital surface.model.tif"
    raster(heights).rio.to_raster(path)
    found = polygonize(raster(labels), stats=[f"{path}: median, p99"], block_px=16)
    for row, label in ((0, 0), (1, 1)):
        expected = np.percentile(heights[labels == label], [50, 99])
        columns = ["digital_surface_model_median", "digital_surface_model_p99"]
        np.testing.assert_allclose(found.loc[row, columns].astype(float), expected, rtol=2e-5)


def test_what_large_values_differ_by_is_theirs():
    """Seconds since 1970: of their squares no digit would be left for the deviation."""
    labels = np.zeros((60, 60), np.uint8)
    labels[20:40, 20:40] = 1
    times = 1.7e9 + np.random.default_rng(0).normal(0, 5, labels.shape)
    wanted = Statistics(raster(times, name="t"), ("mean", "std", "min", "max", "p0", "median", "p100"))
    for side in (7, 100):
        found = polygonize(raster(labels), stats=[wanted], block_px=side)
        for label in (0, 1):
            np.testing.assert_allclose(found["t_std"][label], times[labels == label].std(), rtol=1e-6)
            row = found.loc[label]
            assert row["t_min"] <= row["t_p0"] <= row["t_median"] <= row["t_p100"] <= row["t_max"]


def test_columns_do_not_tell_what_gives_access():
    assert Statistics.parse("https://host/data/dsm.tif?token=head.body.signature:mean").names == ["dsm_mean"]


def test_scale_offset_and_nodata(tmp_path):
    with rasterio.open(
        tmp_path / "t.tif", "w", driver="GTiff", width=2, height=2, count=1, dtype="int16", nodata=-1,
        crs="EPSG:25832", transform=TRANSFORM,
    ) as dataset:  # fmt: skip
        dataset.write(np.array([[[10, 20], [30, -1]]], np.int16))
        dataset.scales, dataset.offsets = (0.1,), (5.0,)
    found = polygonize(raster(np.zeros((2, 2), np.uint8)), stats=[f"{tmp_path / 't.tif'}:mean,count"])
    assert found[["t_mean", "t_count"]].to_numpy().tolist() == [[7.0, 3.0]]


@pytest.mark.filterwarnings("ignore:Scales differ across bands")
def test_arrays_have_the_scale_of_their_file(tmp_path):
    labels = raster(np.zeros((2, 3), np.uint8), nodata=255)
    path = tmp_path / "dsm.tif"
    layout = {"driver": "GTiff", "count": 2, "height": 2, "width": 3, "dtype": "int16", "crs": "EPSG:25832"}
    for scales in ((0.5, 0.5), (0.5, 2)):
        with rasterio.open(path, "w", transform=TRANSFORM, nodata=-9, **layout) as dataset:
            dataset.write(np.stack([np.full((2, 3), 10, np.int16), np.full((2, 3), 20, np.int16)]))
            dataset.scales, dataset.offsets = scales, (100, 100)
        opened = rioxarray.open_rasterio(path)
        for array, mean in (
            (opened, 105),
            (opened.sel(band=[2, 1]), 100 + 20 * scales[1]),
            (opened[1], 100 + 20 * scales[1]),
            (rioxarray.open_rasterio(path, masked=True)[0], 105),
            (rioxarray.open_rasterio(path, mask_and_scale=True), 105),
        ):
            assert polygonize(labels, stats=[Statistics(array, columns=["mean"])])["mean"].tolist() == [mean]
    computed = (opened[0] * 0.5).assign_attrs(scale_factor=0.5)
    with pytest.raises(VectorError, match="does not say whether its values were multiplied"):
        polygonize(labels, stats=[Statistics(computed)])
    assert polygonize(labels, stats=[Statistics(computed.drop_attrs(), columns=["mean"])])["mean"].tolist() == [5]
    with pytest.raises(SceneError, match="no finite number"):
        polygonize(labels, stats=[Statistics(opened[0].drop_attrs().assign_attrs(scale_factor="ten"))])


def test_an_array_of_confidence_of_another_map_is_refused():
    labels = raster(np.zeros((2, 3), np.uint8), nodata=255).assign_attrs(GEOHP_WINDOW_PX="448")
    confidence = raster(np.full((2, 3), 7, np.uint8), nodata=255)
    polygonize(labels, confidence=confidence.assign_attrs(GEOHP_WINDOW_PX=448))
    with pytest.raises(VectorError, match="of another map"):
        polygonize(labels, confidence=confidence.assign_attrs(GEOHP_WINDOW_PX=224))


@pytest.mark.parametrize(("pixel", "expected"), [(1.0, 1.5), (4.0, 1.5), (2.0, 1.5)])
def test_other_pixel_sizes(pixel, expected):
    """Finer pixels are averaged, coarser ones taken as they are."""
    count = int(8 / pixel)
    columns = np.repeat([1.0, 2.0], count // 2)[None].repeat(count, 0)
    other = raster(columns, Affine(pixel, 0, 5e5, 0, -pixel, 5538000), name="other")
    found = polygonize(raster(np.zeros((4, 4), np.uint8)), stats=[Statistics(other, ("mean", "min", "max"))])
    assert found[["other_mean", "other_min", "other_max"]].to_numpy().tolist() == [[expected, 1.0, 2.0]]


ALONE = """
import sys
import geohp
print(geohp.polygonize(sys.argv[1], stats=[f"{sys.argv[2]}:mean"])["fine_mean"].tolist())
"""


def test_a_raster_on_another_grid_needs_nothing_that_others_import(tmp_path):
    """In a process of its own: here other tests have imported all of rasterio."""
    paths = tmp_path / "labels.tif", tmp_path / "fine.tif"
    raster(np.zeros((4, 4), np.uint8)).rio.to_raster(paths[0])
    raster(np.full((8, 8), 7, np.uint8), Affine(1, 0, 5e5, 0, -1, 5538000)).rio.to_raster(paths[1])
    done = subprocess.run([sys.executable, "-c", ALONE, *paths], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[7.0]", done.stderr


@pytest.mark.parametrize("dtype", ["uint8", "int16"])
def test_means_of_finer_integers_keep_their_fractions(dtype):
    """Of a mask whose pixels are finer: a quarter, not the nothing that is nearest."""
    mask = np.tile(np.array([[1, 0], [0, 0]], dtype), (4, 4))
    finer = raster(mask, Affine(1, 0, 5e5, 0, -1, 5538000), name="mask")
    found = polygonize(raster(np.zeros((4, 4), np.uint8)), stats=[Statistics(finer, ("mean", "count", "max"))])
    assert found[["mask_mean", "mask_count", "mask_max"]].to_numpy().tolist() == [[0.25, 16, 0.25]]


def test_other_crs_and_beyond_the_other_raster():
    labels = np.zeros((40, 40), np.uint8)
    labels[:, 20:] = 1
    values = np.full((30, 30), 3.0, np.float32)
    west = raster(values, Affine(1e-5, 0, 8.99999, 0, -1e-5, 49.99), "EPSG:4326", name="west")
    array = raster(labels)
    x, y = rasterio.warp.transform("EPSG:4326", "EPSG:25832", [9.0], [49.9899])
    array = raster(labels, Affine(1, 0, x[0] - 20, 0, -1, y[0] + 20))
    found = polygonize(array, stats=[Statistics(west, ("mean", "count"))])
    assert found["west_mean"].tolist() == [3.0, 3.0]
    assert 0 < found["west_count"].sum() < 1600
    far = raster(values, Affine(1e-5, 0, 12, 0, -1e-5, 49.99), "EPSG:4326", name="far")
    found = polygonize(array, stats=[Statistics(far, ("mean", "count"))])
    assert found["far_mean"].isna().all()
    assert found["far_count"].tolist() == [0, 0]


@pytest.mark.parametrize("west", [-180, 0, -180.25])
@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        ("EPSG:32719", Affine(1000, 0, 300000, 0, -1000, 7000000)),
        ("EPSG:32760", Affine(3000, 0, 740000, 0, -3000, 8100000)),
        ("EPSG:4326", Affine(0.01, 0, -70, 0, -0.01, -20)),
        ("EPSG:4326", Affine(0.099, 0, 177.99, 0, -0.099, -10)),
        ("EPSG:4326", Affine(0.099, 0, -182.03, 0, -0.099, -10)),
    ],
)
def test_a_raster_around_the_earth_is_met_wherever_its_degrees_begin(west, crs, transform):
    """Also from 0 to 360, and by half a cell beyond 180; the map may go on across the antimeridian."""
    east_of_greenwich = west + 0.25 + 0.5 * np.arange(720)
    values = np.abs((east_of_greenwich + 180) % 360 - 180).astype(np.float32)[None].repeat(360, 0)
    there = raster(values, Affine(0.5, 0, west, 0, -0.5, 90), "EPSG:4326", name="lon")
    found = polygonize(
        raster(np.zeros((40, 60), np.uint8), transform, crs), stats=[Statistics(there, ("mean", "count"))]
    )
    x, y = transform * np.meshgrid(np.arange(60) + 0.5, np.arange(40) + 0.5)
    lon = np.array(rasterio.warp.transform(crs, "EPSG:4326", x.ravel(), y.ravel())[0])
    assert found["lon_count"].tolist() == [2400]
    assert found["lon_mean"].tolist() == pytest.approx([np.abs((lon + 180) % 360 - 180).mean()], abs=0.1)


@pytest.mark.parametrize("crs", ["EPSG:3857", "EPSG:3832", "EPSG:4087"])
@pytest.mark.parametrize("turns", [0, -1])
@pytest.mark.parametrize("left", [-179.7, 179.4, 179.8])
def test_a_mercator_map_beyond_the_antimeridian_is_met_on_both_sides(crs, turns, left):
    """Also one whose middle is elsewhere: EPSG:3832 is Mercator around 150 degrees east, and goes on in its own way."""
    to_map = rasterio.warp.transform
    (x0, x1), _ = to_map("EPSG:4326", crs, [149.0, 150.0], [0.0, 0.0])
    degree, (seam,), _ = x1 - x0, *to_map("EPSG:4326", crs, [150.0], [0.0])
    seam += degree * (30 + 360 * turns)
    _, (top,) = to_map("EPSG:4326", crs, [150.0], [-16.0])
    xs = seam + degree * 0.01 * (np.arange(200) - 99.5)
    values = (np.abs(xs - seam) / degree).astype(np.float32)[None].repeat(400, 0)
    place = Affine(degree / 100, 0, xs[0] - degree / 200, 0, -degree / 100, top)
    there = raster(values, place, crs, name="there")
    columns = raster(np.arange(40, dtype=np.uint8)[None], Affine(0.01, 0, left, 0, -0.01, -17), "EPSG:4326")
    found = polygonize(columns, stats=[Statistics(there, ("mean",))])["there_mean"]
    lon = left + 0.01 * (np.arange(40) + 0.5)
    np.testing.assert_allclose(found, np.abs((lon % 360) - 180), atol=0.011)


@pytest.mark.parametrize("west", [-180.25, -0.25, -180])
@pytest.mark.parametrize("left", [-0.3, 179.7, 359.7])
def test_what_lies_on_the_seam_of_a_raster_around_the_earth_is_met(west, left):
    values = np.arange(720.0)[None].repeat(4, 0)
    there = raster(values, Affine(0.5, 0, west, 0, -0.5, 1), "EPSG:4326", name="there")
    array = raster(np.arange(8, dtype=np.uint8)[None], Affine(0.1, 0, left, 0, -0.1, 0.1), "EPSG:4326")
    found = polygonize(array, stats=[Statistics(there, ("mean",))])["there_mean"]
    middles = np.round(left + 0.1 * (np.arange(8) + 0.5) - west, 6)
    assert found.tolist() == np.floor(middles % 360 / 0.5).tolist()


@pytest.mark.parametrize(
    ("west", "crs", "transform"),
    [
        (-180, "EPSG:32760", Affine(3000, 0, 740000, 0, -3000, 8100000)),
        (0, "EPSG:4326", Affine(0.1, 0, -3, 0, -0.1, -18)),
        (-179.99, "EPSG:4326", Affine(0.1, 0, 177, 0, -0.1, -18)),
    ],
)
def test_no_pixel_on_the_seam_has_the_mean_of_all_around_the_earth(west, crs, transform):
    """The raster's pixels are smaller than the map's, each column of which is a region."""
    values = np.cos(np.radians(west + 0.01 + 0.02 * np.arange(18000))).astype(np.float32)[None].repeat(100, 0)
    there = raster(values, Affine(0.02, 0, west, 0, -0.02, -17), "EPSG:4326", name="there")
    columns = raster(np.arange(60, dtype=np.uint8)[None].repeat(4, 0), transform, crs)
    found = polygonize(columns, stats=[Statistics(there, ("mean", "min", "max"))])
    assert found[["there_mean", "there_min", "there_max"]].abs().to_numpy().min() > 0.99


def test_the_same_numbers_in_another_zone_are_another_place(tmp_path):
    labels, values = np.zeros((6, 8), np.uint8), np.full((6, 8), 0.5, np.float32)
    there = raster(values, crs="EPSG:25833", name="dsm")
    found = polygonize(raster(labels), stats=[Statistics(there, ("count",))])
    assert found["dsm_count"].tolist() == [0]
    with pytest.raises(VectorError, match="does not lie on the label map's pixel grid"):
        polygonize(raster(labels), confidence=there)
    for alike in ("EPSG:32632", "EPSG:25832+7837"):  # the same but for what nobody measures, and for heights
        here = raster(values, crs=alike, name="dsm")
        assert polygonize(raster(labels), confidence=here)["mean_confidence"].tolist() == [0.5]


def test_rotated_maps_and_control_points():
    labels = np.zeros((10, 10), np.uint8)
    turned = Affine.translation(5e5, 5538000) @ Affine.rotation(30) @ Affine.scale(2, -2)
    values = np.arange(100.0).reshape(10, 10)
    found = polygonize(raster(labels, turned), stats=[Statistics(raster(values, turned, name="a"), ("mean",))])
    assert found["a_mean"].tolist() == [49.5]
    plain = raster(np.full((60, 60), 4.0), Affine(2, 0, 499950, 0, -2, 5538050), name="b")
    assert polygonize(raster(labels, turned), stats=[Statistics(plain, ("mean",))])["b_mean"].tolist() == [4.0]
    points = [GroundControlPoint(r, c, 5e5 + 2 * c, 5538000 - 2 * r) for r in (0, 10) for c in (0, 10)]
    placed = xr.DataArray(values, dims=("y", "x"), name="c").rio.write_gcps(points, "EPSG:25832")
    same = xr.DataArray(labels, dims=("y", "x")).rio.write_nodata(255).rio.write_gcps(points, "EPSG:25832")
    assert polygonize(same, confidence=placed)["mean_confidence"].tolist() == [49.5]
    with pytest.raises(VectorError, match="ground control points; warp it"):
        polygonize(raster(labels), stats=[Statistics(placed, ("count",))])


@pytest.mark.parametrize(
    ("stats", "message"),
    [
        (["dsm.tif:mode"], r"'mode' is no statistic; choose from count.*as in dsm\.tif:mean,p90"),
        (["dsm.tif:p101"], "'p101' is no statistic"),
        (["dsm.tif:"], "name the statistics to compute"),
        (["dsm.tif"], r"'dsm\.tif': name a raster and its statistics"),
        (["https://example.org/dsm.tif"], "name a raster and its statistics"),
        (["nowhere.tif:mean"], r"nowhere\.tif does not exist"),
    ],
)
def test_mistakes_are_one_sentence(stats, message):
    with pytest.raises(GeohpError, match=message):
        polygonize(raster(np.zeros((2, 2), np.uint8)), stats=stats)


def test_each_statistic_has_a_column():
    with pytest.raises(VectorError, match="1 columns are named for 2 statistics; name one for each"):
        Statistics("dsm.tif", ("mean", "min"), ("height",))


def test_rasters_that_do_not_fit():
    labels = raster(np.zeros((2, 2), np.uint8))
    lost = raster(np.zeros((3, 3)), crs=None, name="lost")
    with pytest.raises(VectorError, match="coordinate reference system"):
        polygonize(labels, stats=[Statistics(lost)])
    same = raster(np.ones((2, 2)), name="same")
    with pytest.raises(VectorError, match="two columns would be called 'same_mean'"):
        polygonize(labels, stats=[Statistics(same), Statistics(same)])
    with pytest.raises(VectorError, match="two columns would be called 'same_mean'"):  # to a GeoPackage
        polygonize(labels, stats=[Statistics(same), Statistics(same.rename("SAME"))])


def test_rasters_that_nothing_leads_between_are_refused(write_scene):
    there = {"crs": "EPSG:4326", "transform": Affine(1e-5, 0, 15, 0, -1e-5, 9)}
    other = write_scene(np.ones((1, 6, 6), np.float32), "other.tif", **there)
    site = {"crs": 'LOCAL_CS["site",UNIT["metre",1]]', "transform": Affine(1, 0, 0, 0, -1, 0)}
    labels = write_scene(np.ones((1, 6, 6), np.uint8), "labels.tif", **site)
    with pytest.raises(VectorError, match="cannot be brought to the label map's pixel grid"):
        polygonize(labels, stats=[f"{other}:mean"])


@pytest.mark.parametrize("pixel", [1.0, 4.0])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
@pytest.mark.parametrize("nodata", [None, 7])
def test_beyond_a_raster_there_is_nothing_whether_it_has_a_nodata_value_or_not(tmp_path, pixel, dtype, nodata):
    """West of a map's middle lies a raster of another grid, whose pixels are all 0 or 3."""
    side = int(8 / pixel)
    values = np.full((side, side // 2), 3, dtype)
    values[: side // 2] = 0
    path = tmp_path / "west.tif"
    raster(values, Affine(pixel, 0, 5e5, 0, -pixel, 5538000), nodata=nodata).rio.to_raster(path)
    found = polygonize(raster(np.zeros((4, 4), np.uint8)), stats=[f"{path}:count,mean,min"])
    assert found[["west_count", "west_mean", "west_min"]].to_numpy().tolist() == [[8, 1.5, 0]]
