"""A raster gone through in blocks gives what it gives as a whole."""

from __future__ import annotations

import tempfile

import numpy as np
import pytest
import rioxarray  # noqa: F401 (the accessor)
import scipy.ndimage
import shapely
import xarray as xr
from affine import Affine
from geopandas.testing import assert_geodataframe_equal
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from rasterio.control import GroundControlPoint

from geohp.errors import OutputError, VectorError
from geohp.raster.block import BlockGrid
from geohp.vector.polygonize import PolygonizeOptions, open_polygons, polygonize

PLACES = {
    "metres": ("EPSG:25832", Affine(0.5, 0, 5e5, 0, -0.5, 5538000)),
    "degrees": ("EPSG:4326", Affine(1e-3, 0, 9, 0, -1e-3, 60)),
    "rotated degrees": ("EPSG:4326", Affine.translation(9, 60) @ Affine.rotation(30) @ Affine.scale(1e-3)),
    "nowhere": (None, Affine.identity()),
}

label_arrays = array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=14).flatmap(
    lambda shape: arrays(np.uint8, shape, elements=st.sampled_from([0, 1, 2, 255]))
)


def raster(values, place="metres"):
    crs, transform = PLACES[place]
    array = xr.DataArray(values, dims=("y", "x")).rio.write_transform(transform).rio.write_nodata(255)
    return array if crs is None else array.rio.write_crs(crs)


def measured(array, **options):
    """Polygons whose areas and perimeters have the same names everywhere."""
    return polygonize(array, **options).rename(columns={"area_px": "area_m2", "perimeter_px": "perimeter_m"})


def blobs(size=150, seed=0, sigma=4):
    rng = np.random.default_rng(seed)
    fields = [scipy.ndimage.gaussian_filter(rng.standard_normal((size, size)), sigma) for _ in range(4)]
    values = np.argmax(fields, axis=0).astype(np.uint8)
    values[fields[0] > 2.2 * fields[0].std()] = 255
    return values


def assert_same(one, other):
    """The same rows, vertex by vertex; figures that are sums of floats but for rounding."""
    assert_geodataframe_equal(one, other, check_less_precise=False, check_like=False)
    assert (shapely.to_wkb(one.geometry.array) == shapely.to_wkb(other.geometry.array)).all()


@given(values=label_arrays, side=st.integers(1, 9), place=st.sampled_from(sorted(PLACES)))
@settings(max_examples=300, deadline=None)
@example(values=np.array([[1, 0, 1], [0, 1, 0], [1, 0, 1]], np.uint8), side=1, place="metres")
@example(values=np.array([[0, 0, 0], [0, 1, 0], [0, 0, 1]], np.uint8), side=2, place="nowhere")
def test_blocks_do_not_matter(values, side, place):
    array = raster(values, place)
    whole = polygonize(array)
    assert_same(polygonize(array, block_px=side), whole)
    assert whole.index.tolist() == list(range(len(whole)))


@given(values=label_arrays, side=st.integers(1, 9), place=st.sampled_from(sorted(PLACES)), pixels=st.floats(1, 12))
@settings(max_examples=200, deadline=None)
def test_blocks_do_not_matter_to_cleaning(values, side, place, pixels):
    array = raster(values, place)
    minimum = pixels * {"metres": 0.25, "nowhere": 1.0}.get(place, 6200.0)  # pixels of a milli-degree there, about
    assert_same(polygonize(array, block_px=side, min_area_m2=minimum), polygonize(array, min_area_m2=minimum))


@given(values=label_arrays, side=st.integers(1, 9), data=st.data())
@settings(max_examples=60, deadline=None)
def test_blocks_do_not_matter_to_confidence(values, side, data):
    shares = data.draw(arrays(np.float64, values.shape, elements=st.sampled_from([0, 0.25, 0.5, 1, np.nan])))
    array, confidence = raster(values), raster(shares)
    whole = polygonize(array, confidence=confidence)
    assert_same(polygonize(array, confidence=confidence, block_px=side), whole)
    for one, mean, least in zip(whole.geometry, whole["mean_confidence"], whole["min_confidence"], strict=True):
        inside = [
            shares[r, c]
            for r, c in np.ndindex(values.shape)
            if one.contains(shapely.Point(5e5 + 0.5 * (c + 0.5), 5538000 - 0.5 * (r + 0.5)))
        ]
        known = [share for share in inside if not np.isnan(share)]
        expected = (np.mean(known), min(known)) if known else (np.nan, np.nan)
        np.testing.assert_allclose((mean, least), expected)


@pytest.mark.parametrize("side", [7, 32, 50, 149, 150, 1000])
@pytest.mark.parametrize("minimum", [0, 10])
def test_large_regions_through_many_blocks(side, minimum):
    array = raster(blobs())
    whole = polygonize(array, min_area_m2=minimum, block_px=10**6)
    assert len(whole) > 20
    assert_same(polygonize(array, min_area_m2=minimum, block_px=side), whole)


@given(
    values=label_arrays, side=st.integers(1, 9), tolerance=st.floats(0.1, 4), outer=st.booleans(),
    place=st.sampled_from(["metres", "degrees", "nowhere"]),
)  # fmt: skip
@settings(max_examples=200, deadline=None)
def test_simplified_in_blocks_it_is_a_coverage(values, side, tolerance, outer, place):
    array = raster(values, place)
    exact = measured(array)
    tolerance *= {"metres": 0.5, "nowhere": 1}.get(place, 79)
    simple = measured(array, simplify_m=tolerance, simplify_boundary=outer, block_px=side)
    assert simple["class_id"].tolist() == exact["class_id"].tolist()
    assert shapely.is_valid(simple.geometry.array).all()
    assert (simple.geom_type == "Polygon").all()
    assert shapely.coverage_is_valid(simple.geometry.array)
    if not outer:
        assert simple["area_m2"].sum() == pytest.approx(exact["area_m2"].sum(), rel=1e-6)


def test_simplified_in_blocks_outlines_are_as_simple():
    array = raster(blobs(300))
    exact, whole = polygonize(array), polygonize(array, simplify_m=1)
    blocks = polygonize(array, simplify_m=1, block_px=64)
    counts = [shapely.get_num_coordinates(frame.geometry.array).sum() for frame in (exact, whole, blocks)]
    assert counts[1] < counts[0] / 3
    assert counts[2] < 1.25 * counts[1]
    assert shapely.coverage_is_valid(blocks.geometry.array)
    # The sides of the raster stay where they are.
    assert blocks.total_bounds.tolist() == exact.total_bounds.tolist()


@given(
    values=label_arrays, side=st.integers(1, 9), tolerance=st.sampled_from([0, 0.4, 1, 2.5]), outer=st.booleans(),
    rounds=st.integers(1, 3),
)  # fmt: skip
@settings(max_examples=200, deadline=None)
@example(values=np.array([[1, 1, 1], [1, 1, 0]], np.uint8), side=3, tolerance=0, outer=False, rounds=2)
def test_smoothed_it_is_a_coverage(values, side, tolerance, outer, rounds):
    array = raster(values, "nowhere")
    exact = measured(array)
    smooth = measured(array, simplify_m=tolerance, smooth=rounds, simplify_boundary=outer, block_px=side)
    assert smooth["n_pixels"].tolist() == exact["n_pixels"].tolist()
    assert shapely.is_valid(smooth.geometry.array).all()
    assert (smooth.geom_type == "Polygon").all()
    assert shapely.coverage_is_valid(smooth.geometry.array)
    assert (smooth["area_m2"] > 0).all()
    if not outer:
        assert smooth["area_m2"].sum() == pytest.approx(exact["area_m2"].sum(), rel=1e-9)
        assert shapely.union_all(smooth.geometry.array).equals(shapely.union_all(exact.geometry.array))


@pytest.mark.parametrize(("tolerance", "rounds"), [(0, 2), (1, 1), (1, 3), (3, 2)])
def test_smoothed_outlines_of_large_regions(tolerance, rounds):
    array = raster(blobs(200), "nowhere")
    exact = measured(array)
    smooth = measured(array, simplify_m=tolerance, smooth=rounds, block_px=64)
    assert shapely.coverage_is_valid(smooth.geometry.array)
    assert shapely.is_valid(smooth.geometry.array).all()
    assert smooth["area_m2"].sum() == pytest.approx(exact["area_m2"].sum(), rel=0.01)
    # Steps are gone: outlines of the same areas are shorter, and hardly any turn is a right angle.
    assert smooth["perimeter_m"].sum() < 0.93 * exact["perimeter_m"].sum()
    ring = np.asarray(max(smooth.geometry, key=lambda one: one.area).exterior.coords)
    steps = np.diff(ring, axis=0)
    turns = np.abs(np.angle((steps[1:] @ [1, 1j]) / (steps[:-1] @ [1, 1j])))
    assert (turns > 1.5).mean() < 0.1


def test_smoothing_by_hand():
    corner = np.array([[0, 0, 0], [0, 1, 1], [0, 1, 1]], np.uint8)
    smooth = polygonize(raster(corner, "nowhere"), smooth=1)
    expected = shapely.Polygon([(1, -3), (1, -1.5), (1.5, -1), (3, -1), (3, -3)])
    assert smooth.geometry[1].equals(expected)
    assert smooth["area_px"].tolist() == [5.125, 3.875]
    with pytest.raises(VectorError, match=r"6 is no number of rounds; give one from 0 to 5"):
        polygonize(raster(corner), smooth=6)


def test_ground_control_points_in_blocks():
    values = blobs(60)
    points = [
        GroundControlPoint(row, col, 9 + col / 1000 + (row / 60) ** 2 / 500, 60 - row / 1000)
        for row in (0, 30, 60) for col in (0, 30, 60)
    ]  # fmt: skip
    array = xr.DataArray(values, dims=("y", "x")).rio.write_nodata(255).rio.write_gcps(points, "EPSG:4326")
    assert_same(polygonize(array, block_px=13), polygonize(array))
    for shape in ({"simplify_m": 100}, {"smooth": 2}, {"simplify_m": 100, "smooth": 2}):
        assert shapely.coverage_is_valid(polygonize(array, block_px=13, **shape).geometry.array)


def test_a_block_of_noise_comes_a_few_polygons_at_a_time(monkeypatch):
    """A block of noise has millions of polygons: all at once they would fill the memory."""
    labels = raster(np.random.default_rng(0).integers(0, 3, (20, 20), np.uint8))
    whole = polygonize(labels)
    assert len(whole) > 100
    monkeypatch.setattr("geohp.vector.polygonize._MOST_ROWS", 7)
    with open_polygons(labels, PolygonizeOptions(block_px=15)) as polygons:
        sizes = [len(batch) for batch in polygons.batches()]
    assert max(sizes) == 7
    assert sum(sizes) == len(whole)
    assert_same(polygonize(labels, block_px=15), whole)


def test_layout():
    layout = BlockGrid(5, 7, 3)
    covered = np.zeros((5, 7), int)
    for row, col, height, width in layout.blocks:
        covered[row : row + height, col : col + width] += 1
    assert (covered == 1).all()
    assert [layout.neighbour(4, *step) for step in ((-1, 0), (0, 1), (1, 0), (0, -1), (-1, -1))] == [1, 5, None, 3, 0]
    assert layout.neighbour(0, -1, 0) is layout.neighbour(2, 0, 1) is layout.neighbour(3, 0, -1) is None


def test_progress_is_told():
    told = []
    polygonize(raster(blobs(40)), block_px=16, progress=lambda *step: told.append(step))
    assert told == [("polygons", done, 18) for done in range(1, 19)]


def test_a_full_disk_is_one_sentence(monkeypatch):
    class Full:
        def write(self, _):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("geohp.vector.survey.tempfile.TemporaryFile", lambda **_: Full())
    with pytest.raises(OutputError, match=r"No space left on device.*set TMPDIR"):
        polygonize(raster(blobs(20)))


def test_no_place_for_temporary_files_is_one_sentence(monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/nowhere"])
    with pytest.raises(OutputError, match=r"No usable temporary directory.*set TMPDIR"):
        polygonize(raster(blobs(20)))
