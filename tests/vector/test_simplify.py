"""Simplified coverages are still coverages."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio.features
import rioxarray  # noqa: F401 (the accessor)
import scipy.ndimage
import shapely
import xarray as xr
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from geohp.vector.measures import areas_m2
from geohp.vector.polygonize import polygonize

label_arrays = array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=12).flatmap(
    lambda shape: arrays(np.uint8, shape, elements=st.sampled_from([0, 1, 2, 255]))
)


def raster(values, transform, crs):
    array = xr.DataArray(values, dims=("y", "x")).rio.write_transform(transform).rio.write_nodata(255)
    return array if crs is None else array.rio.write_crs(crs)


def blobs(size=150, seed=0):
    rng = np.random.default_rng(seed)
    fields = [scipy.ndimage.gaussian_filter(rng.standard_normal((size, size)), 5) for _ in range(4)]
    return np.argmax(fields, axis=0).astype(np.uint8)


# The same ground sampling distance, about a metre, in metres, feet, degrees and inflated metres at 50 degrees north.
PLACES = {
    "metres": ("EPSG:25832", Affine(1, 0, 5e5, 0, -1, 5538000)),
    "feet": ("EPSG:2263", Affine(1 / 0.3048, 0, 1e6, 0, -1 / 0.3048, 2e5)),
    "degrees": ("EPSG:4326", Affine(1.3946e-5, 0, 9, 0, -0.8991e-5, 50)),
    "Web Mercator": ("EPSG:3857", Affine(1.5527, 0, 1e6, 0, -1.5527, 6446276)),
    "rotated": ("EPSG:25832", Affine.translation(5e5, 5.5e6) @ Affine.rotation(30)),
    "nowhere": (None, Affine.scale(1, -1)),
}


@given(values=label_arrays, tolerance=st.floats(0.1, 4), boundary=st.booleans())
@settings(max_examples=150, deadline=None)
def test_valid_coverage_always(values, tolerance, boundary):
    array = raster(values, Affine(1, 0, 5e5, 0, -1, 5.5e6), "EPSG:25832")
    exact = polygonize(array)
    simple = polygonize(array, simplify_m=tolerance, simplify_boundary=boundary)
    assert simple["class_id"].tolist() == exact["class_id"].tolist()
    assert simple["n_pixels"].tolist() == exact["n_pixels"].tolist()
    assert shapely.is_valid(simple.geometry.array).all()
    assert (simple.geom_type == "Polygon").all()
    assert shapely.coverage_is_valid(simple.geometry.array)
    if not simple.empty:
        overlap = shapely.area(simple.geometry.array).sum() - shapely.union_all(simple.geometry.array).area
        assert abs(overlap) < 1e-6
        if not boundary:
            assert shapely.union_all(simple.geometry.array).equals(shapely.union_all(exact.geometry.array))
    np.testing.assert_allclose(simple["area_m2"], simple.area)
    np.testing.assert_allclose(simple["perimeter_m"], simple.length)


@pytest.mark.parametrize("place", sorted(PLACES))
def test_tolerance_is_metres_everywhere(place):
    values = blobs()
    crs, transform = PLACES[place]
    array = raster(values, transform, crs)
    exact, simple = (
        polygonize(array, simplify_m=tolerance).rename(columns={"area": "area_m2", "perimeter": "perimeter_m"})
        for tolerance in (0, 1.5)
    )
    assert exact["area_m2"].sum() == pytest.approx(values.size, rel=0.005)
    before = shapely.get_num_coordinates(exact.geometry.array).sum()
    after = shapely.get_num_coordinates(simple.geometry.array).sum()
    reference = polygonize(raster(values, *PLACES["metres"][::-1]), simplify_m=1.5)
    assert after == pytest.approx(shapely.get_num_coordinates(reference.geometry.array).sum(), rel=0.03)
    assert after < before / 2
    assert shapely.coverage_is_valid(simple.geometry.array)
    # Vertices are left out, never moved.
    assert set(map(tuple, shapely.get_coordinates(simple.geometry.array))) <= set(
        map(tuple, shapely.get_coordinates(exact.geometry.array))
    )
    # Figures are those of the outlines as they are now.
    np.testing.assert_allclose(simple["area_m2"], areas_m2(simple.geometry.array, crs))
    assert not np.allclose(simple["area_m2"], exact["area_m2"], rtol=1e-6)
    assert simple["perimeter_m"].sum() < exact["perimeter_m"].sum() * 0.95
    # Pixels hardly change hands.
    burnt = rasterio.features.rasterize(
        zip(simple.geometry, simple["class_id"], strict=True), values.shape, fill=255, transform=transform
    )
    assert (burnt == values).mean() > 0.93


def test_fifteen_is_not_degrees():
    array = raster(blobs(), Affine(1e-4, 0, 9, 0, -1e-4, 50), "EPSG:4326")
    simple = polygonize(array, simplify_m=15)
    assert shapely.get_num_coordinates(simple.geometry.array).sum() > 5 * len(simple)


def test_margins_can_stay():
    values = blobs()
    values[40:60, 40:60] = 255
    array = raster(values, Affine(1, 0, 5e5, 0, -1, 5.5e6), "EPSG:25832")
    kept = polygonize(array, simplify_m=20)
    moved = polygonize(array, simplify_m=20, simplify_boundary=True)
    pixels = (values != 255).sum()
    assert kept["area_m2"].sum() == pytest.approx(pixels, rel=1e-9)
    assert moved["area_m2"].sum() != pytest.approx(pixels, rel=1e-6)


def test_tolerance_is_of_lengths_however_large_pixels_are():
    values, corner = blobs(60), np.array([5e5, 5.5e6])
    fine, coarse = (
        polygonize(raster(values, Affine(side, 0, 5e5, 0, -side, 5.5e6), "EPSG:25832"), simplify_m=1.5 * side)
        for side in (1, 4)
    )
    shrunk = shapely.transform(coarse.geometry.array, lambda xy: (xy - corner) / 4 + corner)
    assert shapely.equals_exact(shrunk, fine.geometry.array, 1e-6).all()
