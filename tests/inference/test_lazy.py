"""Label maps of dask arrays against those of the same arrays in memory."""

import pickle
from dataclasses import replace

import dask
import dask.array as da
import numpy as np
import pytest
import rioxarray
import xarray as xr
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st

import geohp
from geohp.inference import lazy as lazily
from geohp.inference.map_options import ModelOptions
from geohp.inference.segment import resolve_segmenter
from geohp.inference.segmenter import Segmenter
from geohp.raster.read import lazy as lazy_scenes
from geohp.raster.read import scene as scenes
from geohp.raster.read.lazy import LazyScene
from geohp.raster.read.scene import Scene


@pytest.fixture(scope="module", autouse=True)
def small_blocks():
    """Blocks of a few windows, so that a small scene has many."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("geohp.inference.engine.settings.BLOCK_PX", 70)
        yield


def array(height, width, dtype="uint8", nodata=None, seed=0, bands=3):
    """Fields of colour and noise, without data in a corner and at some pixels where there is a nodata value."""
    rng = np.random.default_rng(seed)
    fields = rng.integers(1, 150, (bands, height // 20 + 1, width // 20 + 1)).repeat(20, 1).repeat(20, 2)
    data = (fields[:, :height, :width] + rng.integers(1, 100, (bands, height, width))).astype(dtype)
    if data.dtype.itemsize > 1:
        data = (data * 13.7).astype(dtype)
    if nodata is not None:
        data[:, : height // 3, : width // 4] = nodata
        data[:, rng.random((height, width)) < 0.02] = nodata
    found = xr.DataArray(data, dims=("band", "y", "x"), name="scene", coords={"band": np.arange(1, bands + 1)})
    found = found.rio.write_crs("EPSG:32633").rio.write_transform(Affine(0.5, 0, 3e5, 0, -0.5, 5e6))
    return found if nodata is None else found.rio.write_nodata(nodata)


@pytest.fixture(scope="module")
def segmenter():
    model = resolve_segmenter(array(200, 200), ModelOptions(classes=4)).model
    model.card = replace(model.card, scaling="auto")  # the fit settled it for bytes
    return Segmenter(model)


def look_at(patch, pixels):
    """Have ranges measured on this many pixels."""
    patch.setattr(scenes, "_SAMPLE_PX", pixels)
    for method in (Scene.sample, Scene._lattice):
        patch.setattr(method, "__defaults__", (pixels,))


KINDS = (("uint8", None), ("uint8", 0), ("uint16", 0), ("int16", -9), ("float32", float("nan")), ("float64", None))


@given(
    size=st.tuples(st.integers(1, 230), st.integers(1, 230)),
    chunks=st.tuples(st.integers(1, 3), st.integers(20, 120), st.integers(20, 120)),
    kind=st.sampled_from(KINDS),
    window=st.integers(16, 80),
    overlap=st.sampled_from((0.0, 0.25, 0.6)),
    seed=st.integers(0, 5),
)
@settings(max_examples=40, deadline=None)
def test_the_same_map_as_of_the_array_in_memory(segmenter, size, chunks, kind, window, overlap, seed):
    whole = array(*size, *kind, seed=seed)
    cut = {"window_px": window, "overlap": overlap}
    eager = geohp.segment(whole, segmenter, **cut)
    lazy = geohp.segment(whole.chunk(dict(zip(("band", "y", "x"), chunks, strict=True))), segmenter, **cut)
    assert isinstance(lazy.data, da.Array)
    xr.testing.assert_identical(lazy.compute(), eager)


def test_dimensions_in_any_order_and_bands_by_name(segmenter):
    whole = array(150, 170, "uint16", 0, bands=5)
    whole.attrs["long_name"] = ("nir", "blue", "green", "red", "swir")
    card = segmenter.model.card
    segmenter.model.card = replace(card, bands=("red", "green", "blue"))
    try:
        odd = whole.transpose("x", "band", "y").chunk({"x": 60, "band": 2, "y": 50})
        xr.testing.assert_identical(
            geohp.segment(odd, segmenter, window_px=48).compute(), geohp.segment(whole, segmenter, window_px=48)
        )
    finally:
        segmenter.model.card = card


def counted(whole, chunks, seen):
    """The array in chunks that tell when they are computed."""

    def look(block, block_info=None):
        if block_info:
            seen.append(tuple(block_info[0]["chunk-location"]))
        return block

    data = da.from_array(whole.to_numpy(), chunks=chunks).map_blocks(
        look, dtype=whole.dtype, meta=np.empty((0, 0, 0), whole.dtype)
    )
    return whole.copy(data=data)


def test_nothing_is_computed_but_what_is_asked_for(segmenter):
    seen = []
    whole = array(600, 600, bands=4)
    lazy = geohp.segment(counted(whole, (1, 100, 100), seen), segmenter, window_px=48)
    assert seen == []
    corner = lazy[:90, :90].compute()
    assert set(seen) == {(band, row, col) for band in range(3) for row in range(2) for col in range(2)}
    assert len(seen) == len(set(seen))
    np.testing.assert_array_equal(corner, geohp.segment(whole, segmenter, window_px=48)[:90, :90])
    seen.clear()
    lazy.compute()
    assert len(seen) == 3 * 36  # each once; the fourth band never


def test_chunks_are_the_input_s_joined_where_small():
    assert lazily._joined((100, 100, 50), 80) == (100, 100, 50)
    assert lazily._joined((100, 100, 90), 80) == (100, 100, 90)
    assert lazily._joined((30,) * 7, 80) == (90, 90, 30)
    assert lazily._joined((30,), 80) == (30,)
    assert lazily._joined((5000, 5000), 1000) == (5000, 5000)


def test_the_model_is_in_the_graph_once(segmenter):
    whole = array(600, 600)
    lazy = geohp.segment(whole.chunk({"y": 100, "x": 100}), segmenter, window_px=48)
    assert lazy.data.npartitions >= 25
    (graph,) = dask.optimize(lazy.data)
    model, everything = (len(pickle.dumps(one)) for one in (segmenter.model, graph.__dask_graph__().to_dict()))
    assert everything - whole.nbytes < 1.5 * model


def test_a_graph_may_go_elsewhere(segmenter):
    whole = array(200, 150)
    lazy = geohp.segment(whole.chunk({"y": 80, "x": 80}), segmenter, window_px=48)
    there = pickle.loads(pickle.dumps(lazy))
    xr.testing.assert_identical(there.compute(), geohp.segment(whole, segmenter, window_px=48))


@pytest.mark.parametrize("scheduler", ["threads", "synchronous"])
def test_written_chunk_by_chunk(segmenter, scheduler, tmp_path):
    whole = array(300, 260)
    expected = geohp.segment(whole, segmenter, window_px=48)
    lazy = geohp.segment(whole.chunk({"y": 90, "x": 90}), segmenter, window_px=48)
    with dask.config.set(scheduler=scheduler):
        lazy.drop_attrs().to_zarr(tmp_path / "labels.zarr")
        lazy.rio.to_raster(tmp_path / "labels.tif", tiled=True, lock=True)
    np.testing.assert_array_equal(xr.open_zarr(tmp_path / "labels.zarr")["landcover"], expected)
    with rioxarray.open_rasterio(tmp_path / "labels.tif") as written:
        np.testing.assert_array_equal(written[0], expected)
        assert written.rio.nodata == 255
        assert written.rio.crs == expected.rio.crs
        assert written.rio.transform() == expected.rio.transform()


@given(st.integers(1, 300), st.integers(1, 300), st.sampled_from((50, 400, 3000, 10**6)), st.booleans())
@settings(max_examples=40, deadline=None)
def test_a_range_is_measured_where_the_array_in_memory_is(height, width, sample_px, blank):
    whole = array(height, width, "uint16", 0)
    if blank:
        whole[:] = 0
        whole[:, height // 2, width // 2] = 77
    with pytest.MonkeyPatch.context() as patch:
        look_at(patch, sample_px)
        with Scene.from_dataarray(whole) as eager, LazyScene(whole.chunk({"band": 2, "y": 70, "x": 40})) as lazy:
            assert lazy.scaling == eager.scaling
            assert lazy.grid == eager.grid
            assert lazy.bands == eager.bands


def test_a_fit_computes_what_it_samples(segmenter, monkeypatch):
    whole, seen = array(1500, 1500, "uint16", 0), []
    look_at(monkeypatch, 256)
    monkeypatch.setattr(scenes, "_SAMPLE_PATCHES", 2)
    monkeypatch.setattr(lazy_scenes, "_SMALL_PX", 256)
    monkeypatch.setattr("geohp.inference.scene_sampler.SAMPLED_WINDOWS", 1)
    lazy = geohp.segment(counted(whole, (3, 50, 50), seen), classes=3)
    sampled = set(seen)
    # A patch in each corner, and a window of 448 px.
    assert 10 < len(sampled) <= 4 + 100
    assert {(0, 0, 0), (0, 29, 29)} <= sampled
    found = lazy[:100, :100].compute()
    assert set(np.unique(found)) <= {0, 1, 2, 255}
    np.testing.assert_array_equal(found == 255, (whole[0, :100, :100] == 0))


def test_a_small_array_is_fitted_as_in_memory():
    whole = array(300, 280, "uint16", 0)
    lazy = geohp.segment(whole.chunk({"y": 100, "x": 100}), classes=3)
    xr.testing.assert_identical(lazy.compute(), geohp.segment(whole, classes=3))
