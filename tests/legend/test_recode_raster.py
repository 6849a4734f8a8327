"""A legend applied: to polygons, to a raster, and to both they are the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import rasterio
import rasterio.shutil
import rioxarray
import shapely
import xarray as xr
from affine import Affine
from geopandas.testing import assert_geodataframe_equal
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from rasterio.enums import ColorInterp

from geohp.classes import LandCoverClass, classes_from_json, classes_to_json, default_classes
from geohp.errors import ConfigError, OutputError, VectorError
from geohp.legend import recode_raster
from geohp.legend.file import Legend
from geohp.legend.recode_raster import recode_file
from geohp.legend.recoded_labels import ranked
from geohp.raster.read.labels import open_labels
from geohp.vector.polygonize import polygonize
from geohp.vector.writing import polygonize_file

LEGEND = Legend.named({0: "water", 3: "water", 2: "forest"}, "legend.yaml")

label_arrays = array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12).flatmap(
    lambda shape: arrays(np.uint8, shape, elements=st.sampled_from([0, 1, 2, 3, 5, 255]))
)


def classes_of(path):
    with open_labels(path) as raster:
        return raster.classes


def raster(values, classes=None, nodata=255):
    array = xr.DataArray(values, dims=("y", "x")).rio.write_transform(Affine(0.5, 0, 5e5, 0, -0.5, 5538000))
    array = array.rio.write_crs("EPSG:25832").rio.write_nodata(nodata)
    return array if classes is None else array.assign_attrs(classes=classes_to_json(classes))


def write(path, values, classes=None, **profile):
    ours = {"driver": "GTiff", "count": 1, "height": values.shape[0], "width": values.shape[1], "nodata": 255}
    place = {"crs": "EPSG:25832", "transform": Affine(0.5, 0, 5e5, 0, -0.5, 5538000)}
    with rasterio.open(path, "w", dtype=values.dtype, **ours | place | profile) as dataset:
        dataset.write(values, 1)
        dataset.update_tags(GEOHP_VERSION="0.0", AREA_OR_POINT="Area")
        dataset.set_band_description(1, "clusters")
        if classes:
            dataset.update_tags(1, classes=classes_to_json(classes), STATISTICS_MEAN="7", source="here")
    return path


@given(values=label_arrays, side=st.integers(1, 9), declared=st.booleans(), minimum=st.sampled_from([0, 0.6]))
@settings(max_examples=100, deadline=None)
def test_polygons_are_those_of_the_recoded_map(values, side, declared, minimum):
    known = default_classes(6) if declared else None
    found = polygonize(raster(values, known), legend=LEGEND, block_px=side, min_area_m2=minimum)
    becomes = {0: 0, 3: 0, 2: 1, 1: 2, 5: 5, 255: 255}  # forest has the number 1, so label 1 moves to where 2 was
    by_hand = np.vectorize(becomes.get)(values).astype(np.uint8)
    names = {0: "water", 1: "forest", 2: "class 1", 5: "class 5"}
    classes = [LandCoverClass(i, name, "#000000") for i, name in names.items()]
    expected = polygonize(raster(by_hand), classes=classes, block_px=side, min_area_m2=minimum)
    assert_geodataframe_equal(found, expected)
    named = {one.id: one.name for one in classes_from_json(found.attrs["classes"])}
    assert {i: named[i] for i in found["class_id"]} == {i: names[i] for i in found["class_id"]}


def test_of_two_at_once_the_later_is_refused_before_its_work(tmp_path):
    labels = write(tmp_path / "labels.tif", np.zeros((40, 40), np.uint8))
    out = tmp_path / "named.tif"

    def another(stage, done, total):
        if done == 1 and not out.exists():
            recode_file(labels, out, Legend.named({0: "wood"}, "l"), qml=True)

    with pytest.raises(OutputError, match="exists already"):
        recode_file(labels, out, Legend.named({0: "water"}, "l"), qml=True, progress=another)
    assert classes_of(out)[0].name == "wood"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["labels.tif", "named.qml", "named.tif"]


@given(values=label_arrays, side=st.integers(1, 9), declared=st.booleans())
@settings(max_examples=25, deadline=None)
def test_recoding_then_polygons_is_polygons_with_the_legend(values, side, declared, tmp_path_factory):
    folder = tmp_path_factory.mktemp("recoded")
    labels = write(folder / "labels.tif", values, default_classes(6) if declared else None)
    LEGEND.write(folder / "legend.yaml")
    out = recode_file(labels, folder / "named.tif", folder / "legend.yaml", block_px=16 * side)
    found = polygonize(out)
    expected = polygonize(labels, legend=str(folder / "legend.yaml"), block_px=side)
    assert_geodataframe_equal(found, expected)
    assert sorted(one.name for one in folder.iterdir()) == ["labels.tif", "legend.yaml", "named.tif"]


def test_neighbours_of_one_name_become_one_polygon():
    found = polygonize(raster(np.array([[0, 3], [3, 0]], np.uint8)), legend=LEGEND)
    assert len(found) == 1
    assert shapely.equals(found.geometry[0], shapely.box(5e5, 5537999, 500001, 5538000))


def test_a_file_of_polygons(tmp_path):
    labels = write(tmp_path / "labels.tif", np.array([[0, 3, 2, 1]], np.uint8))
    assert polygonize_file(labels, tmp_path / "out.gpkg", legend=LEGEND) == 3
    import pyogrio

    table = pyogrio.read_dataframe(tmp_path / "out.gpkg", layer="classes")
    assert table["name"].tolist() == ["water", "forest", "class 1"]


def test_the_recoded_raster(tmp_path):
    values = np.array([[0, 1, 2, 3, 4, 255]] * 600, np.uint8).repeat(100, 1)
    known = [*default_classes(4), LandCoverClass(4, "reeds", "#aabbcc"), LandCoverClass(5, "ice", "#ffffff")]
    labels = write(tmp_path / "labels.tif", values, known)
    told = []
    out = recode_file(labels, tmp_path / "named.tif", LEGEND, block_px=256, progress=lambda *step: told.append(step))
    assert told == [("recoding", i, 18) for i in range(1, 19)]
    with rasterio.open(out) as dataset, rasterio.open(labels) as before:
        np.testing.assert_array_equal(dataset.read(1)[0, ::100], [0, 2, 1, 0, 4, 255])
        np.testing.assert_array_equal(dataset.read(1), np.tile(dataset.read(1)[0], (600, 1)))
        assert (dataset.transform, dataset.crs, dataset.nodata) == (before.transform, before.crs, 255)
        assert dataset.dtypes == ("uint8",)
        assert dataset.colorinterp == (ColorInterp.palette,)
        assert dataset.descriptions == ("clusters",)
        assert dataset.tags()["GEOHP_VERSION"] == "0.0"
        assert dataset.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert "STATISTICS_MEAN" not in dataset.tags(1)
        assert dataset.tags(1)["source"] == "here"
        classes = classes_of(out)
        assert [(one.id, one.name) for one in classes] == [
            (0, "water"), (1, "forest"), (2, "class 1"), (4, "reeds"), (5, "ice"),
        ]  # fmt: skip
        assert all(dataset.colormap(1)[one.id] == (*one.rgb, 255) for one in classes)


def test_labels_beyond_a_byte(tmp_path):
    values = np.array([[111, 112, 512, 7, -1]], np.int32)
    labels = write(tmp_path / "labels.tif", values, nodata=-1)
    legend = Legend.named({111: "city", 112: "city", 512: "water"})
    with rasterio.open(recode_file(labels, tmp_path / "named.tif", legend)) as dataset:
        assert dataset.read(1).tolist() == [[0, 0, 1, 7, 255]]
    assert polygonize(labels, legend=legend)["class_name"].tolist() == ["city", "water", "class 7"]
    crowded = Legend.named({label: f"n{label}" for label in range(255)})
    with pytest.raises(VectorError, match="has label 512, which the legend does not name, and none of the numbers"):
        polygonize(raster(np.array([[512]], np.uint16), nodata=65535), legend=crowded)


def test_a_black_class_of_a_colour_table_is_a_label_too(tmp_path):
    labels = write(tmp_path / "labels.tif", np.array([[0, 1]], np.uint8))
    with rasterio.open(labels, "r+") as dataset:
        dataset.write_colormap(1, {0: (0, 0, 0), 1: (9, 9, 9)})
    assert polygonize(labels, legend=Legend.named({0: "water", 1: "land"}))["class_name"].tolist() == ["water", "land"]


def test_refused(tmp_path):
    labels = write(tmp_path / "labels.tif", np.array([[0, 1, 2]], np.uint8), default_classes(3))
    with pytest.raises(ConfigError, match=r"legend.yaml names label 3, but .*labels.tif has labels 0 to 2"):
        polygonize(labels, legend=LEGEND)
    with pytest.raises(ConfigError, match="names label 3"):
        recode_file(labels, tmp_path / "out.tif", LEGEND)
    with pytest.raises(VectorError, match="classes and a legend are both given"):
        polygonize(labels, classes=default_classes(3), legend=LEGEND)
    legend = Legend.named({0: "water"}).write(tmp_path / "legend.yaml")
    for source, sentence in ((labels, "is the input itself"), (legend, "rasters are written to")):
        with pytest.raises(OutputError, match=sentence):
            recode_file(labels, source, legend, overwrite=True)
    out = recode_file(labels, tmp_path / "out.tif", legend)
    with pytest.raises(OutputError, match="exists already"):
        recode_file(labels, out, legend)
    recode_file(labels, out, Legend.named({0: "ice"}), overwrite=True)
    assert classes_of(out)[0].name == "ice"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["labels.tif", "legend.yaml", "out.tif"]


def test_a_map_below_a_mosaic_is_not_replaced_by_it(tmp_path):
    labels = write(tmp_path / "labels.tif", np.array([[0, 1, 2]], np.uint8), default_classes(3))
    rasterio.shutil.copy(labels, tmp_path / "mosaic.vrt", driver="VRT")
    before = labels.read_bytes()
    with pytest.raises(OutputError, match="the input is made of it"):
        recode_file(tmp_path / "mosaic.vrt", labels, Legend.named({0: "water"}), overwrite=True)
    assert labels.read_bytes() == before


def test_a_legend_is_for_the_maps_of_its_model(tmp_path, caplog):
    labels = write(tmp_path / "labels.tif", np.array([[0, 1, 2]], np.uint8), default_classes(3))
    legend = Legend.named({0: "water", 1: "land"})
    ours, theirs = (replace(legend, model_sha256=figure * 64) for figure in "ab")
    polygonize(labels, legend=ours)
    assert "does not say which model made it" in caplog.text
    with rasterio.open(labels, "r+") as dataset:
        dataset.update_tags(GEOHP_MODEL_SHA256="a" * 64)
    caplog.clear()
    for fitting in (legend, ours):
        assert polygonize(labels, legend=fitting)["class_name"].tolist() == ["water", "land", "class 2"]
        assert polygonize(rioxarray.open_rasterio(labels), legend=fitting)["class_name"][0] == "water"
        recode_file(labels, tmp_path / "out.tif", fitting, overwrite=True)
    assert not caplog.text
    for use in (lambda: polygonize(labels, legend=theirs), lambda: recode_file(labels, tmp_path / "b.tif", theirs)):
        with pytest.raises(
            ConfigError, match=r"another model \(bbbbbbbbbbbb...\) than that of .*labels.tif .*; make a"
        ):
            use()
    # Once recoded, its labels are no longer the model's.
    with pytest.raises(ConfigError, match="another model"):
        polygonize(tmp_path / "out.tif", legend=ours)
    with open_labels(tmp_path / "out.tif") as recoded:
        again = replace(legend, model_sha256=recoded.model_sha256)
    assert polygonize(tmp_path / "out.tif", legend=again)["class_name"][0] == "water"


@given(values=st.sampled_from([np.int8, np.uint8, np.int16, np.uint16, np.int64]).flatmap(
    lambda kind: arrays(kind, st.integers(0, 40))))  # fmt: skip
def test_ranks_are_those_of_sorting(values):
    found, ranks = ranked(values)
    assert found.tolist() == sorted(set(values.tolist()))
    assert found[ranks].tolist() == values.tolist()


def test_classes_are_put_together_once_a_block_not_once_a_label(write_scene, tmp_path, monkeypatch):
    calls, all_classes = [], Legend.all_classes
    monkeypatch.setattr(Legend, "all_classes", lambda *given: calls.append(1) or all_classes(*given))
    labels = write_scene(np.arange(250, dtype=np.uint8).reshape(1, 10, 25), "labels.tif", nodata=255)
    recode_file(labels, tmp_path / "out.tif", Legend.named({3: "water"}))
    assert len(calls) <= 2
    with open_labels(tmp_path / "out.tif") as raster:
        assert len(raster.classes) == len({entry.colour for entry in raster.classes}) == 250


def test_a_style_that_exists_is_refused_before_any_work(tmp_path):
    labels = write(tmp_path / "labels.tif", np.array([[0, 1, 2]], np.uint8))
    (tmp_path / "out.qml").write_text("mine")
    legend = Legend.named({0: "ice"})
    with pytest.raises(OutputError, match=r"out\.qml: exists already"):
        recode_file(labels, tmp_path / "out.tif", legend, qml=True, progress=lambda *_: pytest.fail("work"))
    recode_file(labels, tmp_path / "out.tif", legend)
    assert (tmp_path / "out.qml").read_text() == "mine"
    recode_file(labels, tmp_path / "out.tif", legend, qml=True, overwrite=True)
    assert "ice" in (tmp_path / "out.qml").read_text()


def test_work_goes_on_from_wherever_the_raster_is_named_and_only_if_it_is_the_same(tmp_path, monkeypatch):
    labels = write(tmp_path / "labels.tif", np.array([[0, 1, 2]], np.uint8))
    legend, other = Legend.named({0: "ice", 1: "ice"}), Legend.named({0: "ice"})
    identity = recode_raster._identity(labels, [str(labels)], legend, 256)
    monkeypatch.chdir(tmp_path)
    assert recode_raster._identity("labels.tif", ["labels.tif"], legend, 256) == identity
    assert recode_raster._identity(labels, [str(labels)], other, 256) != identity
    assert recode_raster._identity(labels, [str(labels)], legend, 512) != identity
    write(labels, np.array([[0, 1, 2, 3]], np.uint8))
    assert recode_raster._identity(labels, [str(labels)], legend, 256) != identity
    address = recode_raster._identity("https://example.org/labels.tif", ["https://example.org/labels.tif"], legend, 256)
    assert address["input files"] == [["https://example.org/labels.tif"]]


def test_a_band_without_a_description_gets_one(tmp_path):
    values = np.zeros((4, 4), np.uint8)
    labels = write(tmp_path / "labels.tif", values, default_classes(4))
    with rasterio.open(labels, "r+") as dataset:
        dataset.set_band_description(1, "")
    with rasterio.open(recode_file(labels, tmp_path / "named.tif", LEGEND)) as dataset:
        assert dataset.descriptions == ("land cover",)
