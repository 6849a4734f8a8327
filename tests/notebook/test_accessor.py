"""The accessor of arrays and datasets gives what geohp's functions give, and its own pictures and figures are right."""

import json

import matplotlib
import numpy as np
import pytest
import rasterio
import rioxarray
import xarray as xr
from affine import Affine
from rasterio.enums import Resampling
from rio_cogeo import cog_validate

import geohp
from geohp.classes import LandCoverClass, classes_to_json
from geohp.errors import OutputError, SceneError, VectorError
from geohp.notebook.accessor import ArrayAccessor
from geohp.notebook.explore import _projected
from geohp.raster.read.label_array import open_label_array

matplotlib.use("Agg")

HOSTILE = "<script>alert(1)</script> {{ 7 * 7 }} {% raw %}"
CLASSES = (LandCoverClass(0, "meadow", "#33aa33"), LandCoverClass(2, HOSTILE, "#3333aa"))
METRES = Affine(0.5, 0, 380000, 0, -0.5, 5800000)


def label_map(crs="EPSG:32633", transform=METRES, classes=CLASSES):
    """(40, 60) labels: 0 at the left, 2 at the right, no data in a corner."""
    labels = np.where(np.arange(60) < 20, 0, 2).astype(np.uint8)[None].repeat(40, 0)
    labels[:10, :10] = 255
    attributes = {"GEOHP_MODEL": "model runs/a/model.safetensors", "GEOHP_MODEL_SHA256": "ab" * 32}
    if classes:
        attributes["classes"] = classes_to_json(classes)
    array = xr.DataArray(labels, dims=("y", "x"), name="landcover", attrs=attributes).rio.write_nodata(255)
    array = array.rio.write_transform(transform)
    x, y = (transform * (np.arange(60) + 0.5, 0.5))[0], (transform * (0.5, np.arange(40) + 0.5))[1]
    array = array.assign_coords(x=x, y=y)
    return array if crs is None else array.rio.write_crs(crs)


@pytest.fixture
def image(three_fields):
    array = xr.DataArray(three_fields, dims=("band", "y", "x"), name="scene")
    return array.rio.write_crs("EPSG:32633").rio.write_transform(METRES)


def test_images_are_segmented_as_by_the_function(image):
    stages = set()
    labels = image.geohp.segment(classes=3, progress=lambda stage, *_, **__: stages.add(stage))
    assert {"finding classes", "segmenting"} <= stages
    xr.testing.assert_identical(labels, geohp.segment(image, classes=3))
    assert labels.geohp.origin == "k-means on the scene's own rcf features"
    assert [entry.name for entry in labels.geohp.classes] == ["vegetation", "class 1", "class 2"]
    colours = xr.Dataset({name: image[number] for number, name in enumerate(("red", "green", "blue"))})
    xr.testing.assert_equal(colours.geohp.segment(classes=3), labels)
    xr.testing.assert_equal(image.to_dataset().geohp.segment(classes=3), labels)


def test_an_image_is_mapped_as_its_file_however_it_is_opened(three_fields, write_scene):
    three_fields[:, :30] = 0
    path = write_scene(three_fields, nodata=0)
    expected = geohp.segment(path, classes=3)
    for opened in (
        rioxarray.open_rasterio(path),
        rioxarray.open_rasterio(path, masked=True),
        rioxarray.open_rasterio(path, masked=True, chunks={"x": 90}),
        xr.open_dataset(path, engine="rasterio"),
        xr.open_dataset(path, engine="rasterio", band_as_variable=True),
    ):
        xr.testing.assert_equal(geohp.segment(opened, classes=3).compute(), expected)
        xr.testing.assert_equal(opened.geohp.segment(classes=3).compute(), expected)


def test_a_dataset_is_placed_by_the_variable_that_holds_its_crs(image):
    planes = {name: image[number].rio.write_grid_mapping("crs") for number, name in enumerate("rgb")}
    dataset = xr.Dataset(planes).rename(spatial_ref="crs").reset_coords("crs")
    for variables in (dataset, dataset[["r", "crs"]]):
        labels = variables.geohp.segment(classes=2)
        assert (labels.rio.crs, labels.rio.transform()) == ("EPSG:32633", METRES)


def test_a_missing_value_that_all_variables_share_stays_one(image):
    image = image.copy()
    image[:, :30] = 0
    bands = xr.Dataset({name: image[number].rio.write_nodata(0) for number, name in enumerate("rgb")})
    labels = bands.geohp.segment(classes=2)
    assert (labels[:30] == 255).all()
    assert (labels[30:] != 255).all()


def test_polygons_are_those_of_the_function():
    labels = label_map()
    expected = geohp.polygonize(labels, min_area_m2=1)
    for having in (labels, labels.to_dataset(), xr.Dataset({"landcover": labels, "height": labels * 1.5})):
        assert having.geohp.polygonize(min_area_m2=1).equals(expected)
    assert expected["area_m2"].tolist() == [175.0, 400.0]


@pytest.mark.parametrize(
    ("method", "arguments", "options"),
    [
        ("plot", ("axes",), {"legend": False, "figsize": (3, 2)}),
        ("explore", (), {"opacity": 0.2, "tiles": None}),
        ("to_raster", ("a.tif",), {"overwrite": True, "progress": print}),
    ],
)
def test_what_is_asked_of_a_dataset_is_asked_of_its_label_map(method, arguments, options, monkeypatch):
    asked = []
    monkeypatch.setattr(ArrayAccessor, method, lambda self, *args, **named: asked.append((self.origin, args, named)))
    labels = label_map()
    getattr(labels.to_dataset().geohp, method)(*arguments, **options)
    assert asked == [(labels.geohp.origin, arguments, options)]


def test_an_image_shows_itself_as_no_label_map(image):
    for having in (image, image.to_dataset()):
        assert repr(having.geohp).startswith("<geohp: no label map (")
    assert repr(label_map().geohp).startswith("<geohp: model runs/a/model.safetensors; classes: meadow")
    assert repr(xr.Dataset({"a": image[0], "b": image[1]}).geohp) == "<geohp: an image of 2 variables>"


def test_classes_are_named_by_a_mapping():
    named = label_map().geohp.polygonize(legend={0: "grass", 2: "grass"})
    assert named["class_name"].tolist() == ["grass"]


def test_a_dataset_of_several_maps_asks_which():
    labels = label_map()
    with pytest.raises(VectorError, match=r"2 variables that may be label maps: old, new; choose one"):
        xr.Dataset({"old": labels, "new": labels}).geohp.areas()


@pytest.mark.parametrize("chunks", [None, {"y": 7, "x": 33}])
def test_areas_are_those_of_the_pixels(chunks):
    labels = label_map() if chunks is None else label_map().chunk(chunks)
    areas = labels.geohp.areas()
    assert areas.index.tolist() == ["meadow", HOSTILE]
    assert areas["class_id"].tolist() == [0, 2]
    assert areas["pixels"].tolist() == [700, 1600]
    assert areas["share"].tolist() == pytest.approx([700 / 2300, 1600 / 2300])
    assert areas["area_ha"].tolist() == pytest.approx([0.0175, 0.04])


def test_areas_of_degrees_undeclared_labels_and_of_no_place():
    degrees = label_map("EPSG:4326", Affine(1e-5, 0, 13, 0, -1e-5, 60), classes=())
    areas = degrees.geohp.areas()
    assert areas.index.tolist() == ["class 0", "class 2"]
    by_class = degrees.geohp.polygonize().groupby("class_name")["area_m2"].sum() / 1e4
    assert areas["area_ha"].to_dict() == pytest.approx(by_class.to_dict())
    assert label_map(None, Affine.identity()).geohp.areas()["area_ha"].isna().all()


@pytest.mark.parametrize("chunks", [None, {"y": 7, "x": 33}])
def test_a_raster_has_colours_names_overviews_and_the_model(chunks, tmp_path):
    labels = label_map() if chunks is None else label_map().chunk(chunks)
    path = labels.geohp.to_raster(tmp_path / "labels.tif")
    assert cog_validate(path, quiet=True)[0]
    with rasterio.open(path) as dataset:
        np.testing.assert_array_equal(dataset.read(1), label_map())
        assert (dataset.transform, dataset.crs, dataset.nodata) == (METRES, labels.rio.crs, 255)
        assert dataset.colormap(1)[2] == (0x33, 0x33, 0xAA, 255)
        assert json.loads(dataset.tags(1)["classes"])[1]["name"] == HOSTILE
        assert dataset.tags()["GEOHP_MODEL"] == "model runs/a/model.safetensors"
        assert dataset.tags()["GEOHP_MODEL_SHA256"] == "ab" * 32
    with pytest.raises(OutputError, match="exists"):
        labels.geohp.to_raster(path)
    assert labels.geohp.to_raster(path, overwrite=True) == path
    assert [entry.name for entry in tmp_path.iterdir()] == ["labels.tif"]


def test_what_is_no_label_map_is_refused(tmp_path):
    labels = label_map().astype(np.int32).rio.write_nodata(-1)
    with pytest.raises(VectorError, match="has label 255; number the labels from 0 to 254"):
        labels.geohp.to_raster(tmp_path / "a.tif")
    for use in (lambda: (labels * 0.5).geohp.plot(), lambda: (labels * 0.5).geohp.areas()):
        with pytest.raises(VectorError, match="holds float64 values"):
            use()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("chunks", [None, {"y": 7, "x": 33}])
def test_parts_of_a_label_map_may_be_masked(chunks, tmp_path):
    labels = label_map() if chunks is None else label_map().chunk(chunks)
    water, expected = labels.where(labels == 2), labels.where(labels == 2, 255)
    assert water.dtype.kind == "f"
    assert water.geohp.areas().equals(expected.geohp.areas())
    assert water.geohp.polygonize().equals(expected.geohp.polygonize())
    np.testing.assert_array_equal(rasterio.open(water.geohp.to_raster(tmp_path / "a.tif")).read(1), expected)
    without = labels.astype(float).rio.write_nodata(0)
    assert without.geohp.areas()["pixels"].tolist() == [0, 1600]


def test_truth_values_are_no_longer_the_classes_that_they_were_made_of(tmp_path):
    with xr.set_options(keep_attrs=True):  # newer ones do it unasked
        water = label_map().assign_attrs(scale_factor=0.5) == 2
    assert "classes" in water.attrs
    assert water.geohp.areas()["pixels"].to_dict() == {"class 0": 800, "class 1": 1600}
    assert geohp.polygonize(water)["class_name"].tolist() == ["class 0", "class 1"]
    with rasterio.open(water.geohp.to_raster(tmp_path / "water.tif")) as dataset:
        assert "GEOHP_MODEL_SHA256" not in dataset.tags()


def test_a_plot_shows_colours_where_they_lie_and_the_names_that_occur():
    rare = LandCoverClass(5, "nowhere", "#000000")
    axes = label_map(classes=(*CLASSES, rare)).geohp.plot()
    picture = axes.images[0]
    assert picture.get_extent() == [380000, 380030, 5799980, 5800000]
    assert picture.get_array()[20, 5].tolist() == [0x33, 0xAA, 0x33]
    assert picture.get_array()[0, 0].tolist() == [255, 255, 255]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["meadow", HOSTILE]
    assert axes.get_xlabel() == "x [metre]"
    axes.figure.canvas.draw()
    matplotlib.pyplot.close(axes.figure)


def test_large_maps_are_thinned_out_for_a_plot(monkeypatch):
    monkeypatch.setattr("geohp.notebook.accessor._PLOT_PX", 30)
    figure = matplotlib.figure.Figure()
    axes = label_map().geohp.plot(figure.subplots(), legend=False)
    assert axes.images[0].get_array().shape == (20, 30, 3)
    assert axes.images[0].get_extent() == [380000, 380030, 5799980, 5800000]
    assert axes.get_legend() is None


@pytest.mark.parametrize("place", [{}, {"crs": None, "transform": Affine.identity()}])
def test_a_web_map_shows_the_picture_and_runs_nothing_that_a_name_holds(place):
    pytest.importorskip("folium", reason="folium (extra notebook) is not installed")
    shown = label_map(**place).geohp.explore(tiles=None)
    page = shown.get_root().render()
    assert "data:image/png;base64" in page
    assert "meadow" in page
    assert "<script>alert(1)" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &#123;&#123; 7 * 7 }}" in page
    (south, west), (north, east) = shown.get_bounds()
    if place:
        assert (south, west, north, east) == (-40, 0, 0, 60)
    else:
        lon, lat = rasterio.warp.transform("EPSG:32633", "EPSG:4326", [380000, 380030], [5799980, 5800000])
        assert (south, west, north, east) == pytest.approx((lat[0], lon[0], lat[1], lon[1]), abs=2e-5)


def test_a_web_map_beyond_the_antimeridian_is_as_wide_as_it_is():
    pytest.importorskip("folium", reason="folium (extra notebook) is not installed")
    edge = np.pi * 6378137
    shown = label_map(crs="EPSG:3857", transform=Affine(0.5, 0, edge - 15, 0, -0.5, 0)).geohp.explore(tiles=None)
    (_, west), (_, east) = shown.get_bounds()
    assert (west, east) == pytest.approx((180 - 15 * 180 / edge, 180 + 15 * 180 / edge), abs=1e-6)


@pytest.mark.parametrize(
    ("crs", "transform", "ends"),
    [
        ("EPSG:4326", Affine(0.1, 0, 177, 0, -0.1, 5), (177, 183)),
        ("EPSG:4326", Affine(0.1, 0, -183, 0, -0.1, 5), (-183, -177)),
        ("EPSG:4326", Affine(6, 0, 0, 0, -4, 80), (0, 360)),
        ("EPSG:32760", Affine(10000, 0, 500000, 0, -10000, 8100000), (177, 182.7)),
    ],
)
def test_a_web_map_across_the_antimeridian_shows_both_sides(crs, transform, ends):
    pytest.importorskip("folium", reason="folium (extra notebook) is not installed")
    labels = label_map(crs, transform)
    (_, west), (_, east) = labels.geohp.explore(tiles=None).get_bounds()
    assert ((west - ends[0] + 180) % 360 - 180, east - west) == pytest.approx((0, ends[1] - ends[0]), abs=0.6)
    with open_label_array(labels) as opened:
        picture, _ = _projected(labels, opened.grid, 300, "labels")
    shares = [(picture == label).mean() for label in (0, 2)]
    assert shares == pytest.approx([0.29, 0.67], abs=0.04)


@pytest.mark.parametrize("decode", [True, "all"])
@pytest.mark.parametrize("engine", ["netcdf", "zarr"])
def test_what_was_written_is_still_a_label_map(engine, decode, tmp_path):
    labels, path = label_map(), tmp_path / "map"
    if engine == "netcdf":
        labels.to_netcdf(path)
        again = xr.open_dataset(path, decode_coords=decode)
    else:
        labels.to_zarr(path)
        again = xr.open_zarr(path, decode_coords=decode)
    assert again["landcover"].dtype.kind == "f", "as xarray reads what has a missing value"
    assert again.geohp.classes == CLASSES
    assert again.geohp.origin == labels.geohp.origin
    assert again.geohp.areas().equals(labels.geohp.areas())
    assert again.geohp.polygonize().equals(labels.geohp.polygonize())
    np.testing.assert_array_equal(rasterio.open(again.geohp.to_raster(tmp_path / "a.tif")).read(1), labels)


def test_labels_with_fractions_are_rounded_as_integers_are(tmp_path):
    labels = np.random.default_rng(0).integers(0, 12, (6, 6), np.uint8).repeat(10, 0).repeat(10, 1)
    labels[:10, :10] = 255
    array = xr.DataArray(labels, dims=("y", "x")).rio.write_nodata(255).rio.write_crs("EPSG:32633")
    array.rio.write_transform(METRES).rio.to_raster(tmp_path / "a.tif")
    whole, masked = (rioxarray.open_rasterio(tmp_path / "a.tif", masked=each) for each in (False, True))
    expected, found = (
        each.rio.reproject("EPSG:4326", resampling=Resampling.average).geohp.areas() for each in (whole, masked)
    )
    assert found.equals(expected)


def test_transparent_labels_of_a_file_are_none(tmp_path):
    labels, opacity = np.zeros((20, 30), np.uint8), np.full((20, 30), 255, np.uint8)
    opacity[:, :12] = 0
    profile = {"driver": "GTiff", "height": 20, "width": 30, "crs": "EPSG:32633", "transform": METRES}
    with rasterio.open(tmp_path / "a.tif", "w", count=2, dtype="uint8", alpha="YES", **profile) as file:
        file.write(np.stack([labels, opacity]))
    array = rioxarray.open_rasterio(tmp_path / "a.tif")
    assert array.geohp.areas()["pixels"].tolist() == [20 * 18]
    assert geohp.polygonize(array).total_bounds.tolist() == [380006, 5799990, 380015, 5800000]


def test_a_part_of_a_map_lies_where_it_lies():
    labels = label_map()
    part = labels[10:30, 30:50]
    assert geohp.polygonize(part).total_bounds.tolist() == [380015, 5799985, 380025, 5799995]
    assert part.geohp.plot().images[0].get_extent() == [380015, 380025, 5799985, 5799995]
    assert labels[::2, ::2].geohp.areas()["area_ha"].sum() == pytest.approx(labels.geohp.areas()["area_ha"].sum())


@pytest.mark.filterwarnings("error::UserWarning")
def test_a_rotated_map_is_measured_where_it_lies():
    turned = METRES * Affine.rotation(30)
    labels = label_map().drop_vars(["x", "y"]).rio.write_transform(turned)
    assert labels.geohp.areas()["area_ha"].tolist() == pytest.approx([0.0175, 0.04])
    assert labels.geohp.plot().get_xlabel() == "column"
    assert geohp.polygonize(labels)["area_m2"].tolist() == pytest.approx([175, 400])


@pytest.mark.filterwarnings("error::UserWarning")
@pytest.mark.parametrize(
    ("crs", "turned"),
    [
        ("EPSG:32633", Affine(0, 0.5, 380000, 0.5, 0, 5800000)),
        ("EPSG:4326", Affine(5e-6, 5e-6, 10, 5e-6, -5e-6, 50)),
    ],
)
def test_quarter_turns_and_small_turned_pixels_have_no_coordinates_along_rows_and_columns(image, crs, turned):
    labels = geohp.segment(image.rio.write_crs(crs).rio.write_transform(turned), classes=2)
    assert not {"x", "y"} & set(labels.coords)
    assert labels.geohp.plot().get_xlabel() == "column"
    rows, cols = np.array([0, 0, 150, 150]), np.array([0, 200, 0, 200])
    x, y = turned * (cols, rows)
    bounds = geohp.polygonize(labels).total_bounds.tolist()
    assert bounds == pytest.approx([x.min(), y.min(), x.max(), y.max()], rel=1e-12)


def test_a_part_of_an_image_is_mapped_where_it_lies(image):
    x, y = (METRES * (np.arange(200) + 0.5, 0.5))[0], (METRES * (0.5, np.arange(150) + 0.5))[1]
    part = image.assign_coords(x=x, y=y)[:, 40:140, 100:]
    assert geohp.segment(part, classes=2).rio.transform() == METRES * Affine.translation(100, 40)


@pytest.mark.parametrize(
    ("values", "fills", "refused"),
    [
        ("int16", (-1, -9999), True),
        ("int16", (None, -9999), True),
        ("uint8", (0, 255), True),
        ("uint8", (None, 0), False),
        ("uint8", (7, 7), False),
    ],
)
def test_variables_with_nodata_values_of_their_own(image, values, fills, refused):
    """What one of them says is no data must not pass for ground."""
    plane = image[0].drop_vars("band", errors="ignore").astype(values)
    variables = {str(n): plane if fill is None else plane.rio.write_nodata(fill) for n, fill in enumerate(fills)}
    dataset = xr.Dataset(variables)
    if refused:
        with pytest.raises(SceneError, match="different nodata values"):
            dataset.geohp.segment(classes=2)
    else:
        assert dataset.geohp.segment(classes=2).shape == plane.shape
