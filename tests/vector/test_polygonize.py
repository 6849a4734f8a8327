"""Polygons against the pixels they came from."""

from __future__ import annotations

import json

import numpy as np
import pytest
import rasterio
import rasterio.features
import rasterio.warp
import rioxarray
import shapely
import torch
import xarray as xr
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from rasterio.control import GroundControlPoint
from rasterio.errors import NotGeoreferencedWarning

from geohp.classes import LandCoverClass, classes_to_json, default_classes
from geohp.errors import GeohpError, OutputError, SceneError, VectorError
from geohp.legend.file import Legend
from geohp.legend.naming import name_classes
from geohp.legend.recode_raster import recode_file
from geohp.progress import no_progress
from geohp.raster.read.labels import open_labels
from geohp.vector.measures import areas_m2
from geohp.vector.polygonize import polygonize
from geohp.vector.writing import polygonize_file

UTM = "EPSG:25832"
NORTH_UP = Affine(0.2, 0, 500000, 0, -0.2, 5500000)
TRANSFORMS = {
    "north up": NORTH_UP,
    "south up": Affine(0.2, 0, 500000, 0, 0.2, 5500000),
    "mirrored": Affine(-3.0, 0, 1000, 0, -2.0, 2000),
    "rotated": Affine.translation(5e5, 5.5e6) @ Affine.rotation(33) @ Affine.scale(0.5, -0.5),
    "sheared": Affine.translation(5e5, 5.5e6) @ Affine.shear(20, 5) @ Affine.scale(0.5, -0.25),
}
COLUMNS = ["class_id", "class_name", "area_m2", "perimeter_m", "n_pixels", "geometry"]

label_arrays = array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9).flatmap(
    lambda shape: arrays(np.uint8, shape, elements=st.sampled_from([0, 1, 2, 255]))
)


def classes_of(path):
    with open_labels(path) as raster:
        return raster.classes


def raster(values, transform=NORTH_UP, crs=UTM, nodata=255):
    array = xr.DataArray(values, dims=("y", "x")).rio.write_transform(transform)
    array = array if crs is None else array.rio.write_crs(crs)
    return array if nodata is None else array.rio.write_nodata(nodata)


def burn(polygons, shape, transform, fill=255):
    if polygons.empty:
        return np.full(shape, fill, np.int32)
    shapes = zip(polygons.geometry, polygons["class_id"], strict=True)
    return rasterio.features.rasterize(shapes, shape, fill=fill, transform=transform, dtype="int32")


def connected_pieces(values, valid):
    """An independent flood fill: the 4-connected pieces as sets of pixels."""
    left = {(int(r), int(c)) for r, c in np.argwhere(valid)}
    pieces = []
    while left:
        seed = min(left)
        stack, piece = [seed], set()
        left.discard(seed)
        while stack:
            r, c = stack.pop()
            piece.add((r, c))
            for near in ((r - 1, c), (r + 1, c), (r, c - 1), (r, c + 1)):
                if near in left and values[near] == values[r, c]:
                    left.discard(near)
                    stack.append(near)
        pieces.append(piece)
    return pieces


@given(values=label_arrays, kind=st.sampled_from(sorted(TRANSFORMS)))
@settings(max_examples=150, deadline=None)
def test_polygons_are_the_pixels(values, kind):
    transform = TRANSFORMS[kind]
    polygons = polygonize(raster(values, transform))

    valid = values != 255
    pixel = abs(transform.determinant)
    np.testing.assert_array_equal(burn(polygons, values.shape, transform), values)
    assert shapely.is_valid(polygons.geometry.array).all()
    assert shapely.coverage_is_valid(polygons.geometry.array)
    assert (shapely.orient_polygons(polygons.geometry.array) == polygons.geometry.array).all()
    assert polygons["area_m2"].sum() == pytest.approx(valid.sum() * pixel, rel=1e-9)
    np.testing.assert_allclose(polygons["area_m2"], polygons["n_pixels"] * pixel, rtol=1e-9)
    np.testing.assert_allclose(polygons["area_m2"], polygons.area, rtol=1e-6)
    pieces = connected_pieces(values, valid)
    assert polygons["n_pixels"].tolist() == [len(piece) for piece in pieces]
    assert polygons["class_id"].tolist() == [values[min(piece)] for piece in pieces]


@given(values=label_arrays)
@settings(max_examples=100, deadline=None)
def test_areas_and_perimeters_in_pixels_are_exact(values):
    polygons = polygonize(raster(values, Affine.identity(), crs=None))
    valid = values != 255
    assert (polygons["area_px"] == polygons["n_pixels"]).all()
    assert polygons["area_px"].sum() == valid.sum()
    padded = np.pad(values.astype(int), 1, constant_values=255)
    sides = 0
    for step in ((0, 1), (0, -1), (1, 0), (-1, 0)):
        sides += int(((padded != np.roll(padded, step, (0, 1))) & (padded != 255)).sum())
    assert polygons["perimeter_px"].sum() == sides
    if valid.any():
        union = shapely.union_all(polygons.geometry.array)
        boxes = shapely.union_all([shapely.box(c, -r - 1, c + 1, -r) for r, c in np.argwhere(valid)])
        assert union.equals(boxes)


def test_pixels_that_touch_at_corners():
    ring = np.array([[1, 1, 1, 0], [1, 0, 1, 1], [1, 1, 0, 1], [0, 1, 1, 1]], np.uint8)
    polygons = polygonize(raster(ring, Affine.identity(), crs=None))
    assert polygons.geometry.is_valid.all()
    big = polygons[polygons["class_id"] == 1]
    assert big["n_pixels"].tolist() == [12]
    assert [len(polygon.interiors) for polygon in big.geometry] == [2]  # two holes that touch in a point
    assert (polygons["class_id"] == 0).sum() == 4

    around = np.array([[1, 1, 0], [1, 0, 1], [1, 1, 1]], np.uint8)  # the shell would touch itself
    polygons = polygonize(raster(around, Affine.identity(), crs=None))
    assert polygons.geometry.is_valid.all()
    assert polygons["n_pixels"].tolist() == [7, 1, 1]


def test_a_junction_is_a_vertex_of_all_who_meet_there():
    polygons = polygonize(raster(np.array([[0, 0], [1, 2]], np.uint8), Affine.identity(), crs=None))
    assert (1, -1) in polygons.geometry[0].exterior.coords


@pytest.mark.parametrize("shape", [(1, 1), (1, 17), (17, 1)])
def test_one_pixel_lines(shape):
    values = np.zeros(shape, np.uint8)
    polygons = polygonize(raster(values))
    assert len(polygons) == 1
    assert polygons.geometry.is_valid.all()
    assert len(polygons.geometry[0].exterior.coords) == 5  # no needless vertices
    np.testing.assert_array_equal(burn(polygons, shape, NORTH_UP), values)


def test_nested_islands():
    values = np.zeros((11, 11), np.uint8)
    for inset in range(1, 6):
        values[inset:-inset, inset:-inset] = inset % 2
    polygons = polygonize(raster(values, Affine.identity(), crs=None))
    assert [len(polygon.interiors) for polygon in polygons.geometry] == [1] * 5 + [0]
    assert polygons["n_pixels"].sum() == 121


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "int32"])
def test_label_types(tmp_path, dtype):
    values = np.array([[0, 7], [100, 100]], dtype)
    nodata = 100 if dtype == "uint8" else 300 if dtype == "uint16" else -1
    values[1, 0] = nodata
    path = tmp_path / "labels.tif"
    with rasterio.open(path, "w", "GTiff", 2, 2, 1, crs=UTM, transform=NORTH_UP, dtype=dtype, nodata=nodata) as dataset:
        dataset.write(values, 1)
    polygons = polygonize(path)
    assert polygons["class_id"].tolist() == ([0, 7] if dtype == "uint8" else [0, 7, 100])
    assert polygons["class_id"].dtype == np.int64


def test_large_label_values_stay_exact(tmp_path):
    values = np.array([[2**24, 2**24 + 1]], np.int32)  # equal in 32-bit floats
    assert polygonize(raster(values, nodata=-1))["class_id"].tolist() == [2**24, 2**24 + 1]


def test_255_is_no_data_unless_declared_otherwise():
    values = np.array([[0, 255]], np.uint8)
    assert polygonize(raster(values, nodata=None))["class_id"].tolist() == [0]
    assert polygonize(raster(values, nodata=0))["class_id"].tolist() == [255]


def test_mask_and_alpha_are_no_data(tmp_path):
    for kind in ("mask", "alpha"):
        path = tmp_path / f"{kind}.tif"
        options = {"alpha": "YES"} if kind == "alpha" else {}
        count = 2 if kind == "alpha" else 1
        with (
            rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
            rasterio.open(
                path, "w", "GTiff", 3, 1, count, crs=UTM, transform=NORTH_UP, dtype="uint8", **options
            ) as dataset,
        ):
            dataset.write(np.array([[4, 4, 5]], np.uint8), 1)
            valid = np.array([[255, 0, 255]], np.uint8)
            if kind == "alpha":
                dataset.write(valid, 2)
            else:
                dataset.write_mask(valid)
        assert polygonize(path)["class_id"].tolist() == [4, 5], kind


@pytest.mark.parametrize("crs", [UTM, None])
def test_nothing_but_nodata(crs):
    polygons = polygonize(raster(np.full((4, 5), 255, np.uint8), crs=crs), min_area_m2=5, simplify_m=1)
    assert polygons.empty
    plain = [name.removesuffix("_m2").removesuffix("_m") for name in COLUMNS]
    assert polygons.columns.tolist() == (COLUMNS if crs else plain)
    assert (polygons.crs is None) == (crs is None)
    assert polygons.crs == crs


def test_labels_that_no_polygon_can_carry_are_refused(write_scene):
    path = write_scene(np.array([[[1, 2**64 - 1]]], np.uint64), nodata=None)
    with pytest.raises(VectorError, match="has label 18446744073709551615; number the labels anew"):
        polygonize(path)


def test_floats_and_several_bands_are_no_labels(tmp_path):
    with pytest.raises(VectorError, match="float32"):
        polygonize(raster(np.zeros((2, 2), np.float32), nodata=None))
    path = tmp_path / "rgb.tif"
    with rasterio.open(path, "w", "GTiff", 2, 2, 3, dtype="uint8", crs=UTM, transform=NORTH_UP) as dataset:
        dataset.write(np.zeros((3, 2, 2), np.uint8))
    with pytest.raises(VectorError, match="3 bands"):
        polygonize(path)
    with pytest.raises(SceneError, match="nowhere"):
        polygonize(tmp_path / "nowhere.tif")
    (tmp_path / "text.tif").write_text("no raster")
    with pytest.raises(SceneError, match="text"):
        polygonize(tmp_path / "text.tif")


def test_what_does_not_look_like_labels_is_refused_unless_asked_for(tmp_path):
    shares = raster(np.array([[250, 251, 255]], np.uint8))
    path = tmp_path / "confidence.tif"
    shares.rio.to_raster(path)
    with rasterio.open(path, "r+") as dataset:
        dataset.scales = (1 / 254,)
    opened = rioxarray.open_rasterio(path)
    for quantities in (path, opened, shares.assign_attrs(add_offset=3)):
        with pytest.raises(VectorError, match=r"holds quantities, .*; give a label map, or .* any_values=True"):
            polygonize(quantities)
        assert polygonize(quantities, any_values=True)["class_id"].tolist() == [250, 251]
    for use in (
        lambda: recode_file(path, tmp_path / "b.tif", Legend.named({250: "a"})),
        lambda: name_classes(path, path),
    ):
        with pytest.raises(VectorError, match=r"no labels; give a label map$"):
            use()
    image = np.arange(130, dtype=np.uint8).repeat(4).reshape(20, 26)
    with pytest.raises(VectorError, match=r"more than 100 different values and no class names.*any_values=True"):
        polygonize(raster(image), block_px=8)
    assert len(polygonize(raster(image % 100), block_px=8)) >= 100
    for named in ({"any_values": True}, {"classes": default_classes(3)}, {"legend": Legend.named({0: "a", 1: "b"})}):
        assert polygonize(raster(image), **named)["class_id"].nunique() == 130
    assert len(polygonize(raster(image).assign_attrs(classes=classes_to_json(default_classes(254))))) >= 130


@pytest.mark.parametrize("bad", [-1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["min_area_m2", "simplify_m"])
def test_impossible_figures(name, bad):
    with pytest.raises(GeohpError, match=name):
        polygonize(raster(np.zeros((2, 2), np.uint8)), **{name: bad})


def test_classes_given_declared_or_default(tmp_path):
    values = np.array([[0, 1, 4]], np.uint8)
    declared = (LandCoverClass(0, "Wald", "#00ff00"), LandCoverClass(1, "Straße", "#808080"))
    path = tmp_path / "labels.tif"
    with rasterio.open(path, "w", "GTiff", 3, 1, 1, crs=UTM, transform=NORTH_UP, dtype="uint8", nodata=255) as dataset:
        dataset.write(values, 1)
        dataset.update_tags(1, classes=classes_to_json(declared))
    assert classes_of(path) == declared
    with rioxarray.open_rasterio(path) as array:
        for source in (path, str(path), array):
            assert polygonize(source)["class_name"].tolist() == ["Wald", "Straße", "class 4"]
    carried = json.loads(polygonize(path).attrs["classes"])
    assert carried[2] == {"id": 4, "name": "class 4", "colour": default_classes(5)[4].colour}
    given_here = [LandCoverClass(4, "lake", "#0000ff")]
    assert polygonize(path, classes=given_here)["class_name"].tolist() == ["class 0", "class 1", "lake"]
    with pytest.raises(VectorError, match="same number"):
        polygonize(path, classes=given_here * 2)
    with pytest.raises(VectorError, match="'blue'"):
        polygonize(path, classes=[LandCoverClass(4, "lake", "blue")])
    with rasterio.open(path, "r+") as dataset:
        dataset.update_tags(1, classes="not JSON")
    with pytest.raises(VectorError, match="classes"):
        polygonize(path)


def test_colour_table_gives_colours(tmp_path):
    path = tmp_path / "palette.tif"
    with rasterio.open(path, "w", "GTiff", 2, 1, 1, crs=UTM, transform=NORTH_UP, dtype="uint8", nodata=255) as dataset:
        dataset.write(np.array([[0, 1]], np.uint8), 1)
        dataset.write_colormap(1, {0: (1, 2, 3, 255), 1: (255, 0, 0, 255)})
    assert [c.colour for c in classes_of(path)] == ["#010203", "#ff0000"]


def test_a_band_marked_as_having_a_colour_table_may_have_none(tmp_path):  # as GDAL's copies in Zarr are
    raster(np.array([[3, 3]], np.uint8)).rio.to_raster(tmp_path / "labels.tif")
    path = tmp_path / "marked.vrt"
    path.write_text(
        '<VRTDataset rasterXSize="2" rasterYSize="1"><VRTRasterBand dataType="Byte" band="1">'
        "<ColorInterp>Palette</ColorInterp><SimpleSource><SourceFilename relativeToVRT='1'>labels.tif</SourceFilename>"
        "</SimpleSource></VRTRasterBand></VRTDataset>"
    )
    assert polygonize(path)["n_pixels"].tolist() == [2]


def test_confidence_means(tmp_path):
    labels = raster(np.array([[0, 0, 1, 2]], np.uint8))
    path = tmp_path / "confidence.tif"
    with rasterio.open(path, "w", "GTiff", 4, 1, 1, crs=UTM, transform=NORTH_UP, dtype="uint8", nodata=255) as dataset:
        dataset.write(np.array([[127, 255, 254, 255]], np.uint8), 1)
        dataset.scales = (1 / 254,)
    means = polygonize(labels, confidence=path)["mean_confidence"]
    np.testing.assert_allclose(means, [0.5, 1.0, np.nan])
    with pytest.raises(VectorError, match="pixel grid"):
        polygonize(raster(np.zeros((2, 2), np.uint8)), confidence=path)


def write_with_gcps(path, values, gcps):
    with rasterio.open(
        path, "w", "GTiff", values.shape[1], values.shape[0], 1, dtype="uint8", nodata=255, gcps=gcps, crs=UTM
    ) as dataset:
        dataset.write(values, 1)


def gcps_of(place, shape, n):
    rows, cols = np.linspace(0, shape[0], n), np.linspace(0, shape[1], n)
    return [GroundControlPoint(r, c, *place(c, r)) for r in rows for c in cols]


def test_gcps_of_an_affine_place_like_the_transform(tmp_path):
    values = np.random.default_rng(0).integers(0, 3, (8, 9)).astype(np.uint8)
    transform = TRANSFORMS["rotated"]
    for n in (2, 3):
        write_with_gcps(tmp_path / "gcps.tif", values, gcps_of(lambda c, r: transform * (c, r), values.shape, n))
        polygons = polygonize(tmp_path / "gcps.tif")
        expected = polygonize(raster(values, transform))
        assert polygons.crs == UTM
        assert shapely.equals_exact(polygons.geometry.array, expected.geometry.array, 1e-4).all()
        np.testing.assert_allclose(polygons["area_m2"], expected["area_m2"], rtol=1e-3)


def test_bent_gcps_place_where_gdal_warps_to(tmp_path):
    values = np.kron(np.random.default_rng(1).integers(0, 4, (6, 7)), np.ones((10, 10))).astype(np.uint8)

    def bent(c, r):
        return 5e5 + 2 * c + 0.3 * r + 0.002 * c * r, 5.5e6 - 2 * r + 0.003 * c * c

    path = tmp_path / "bent.tif"
    write_with_gcps(path, values, gcps_of(bent, values.shape, 4))
    polygons = polygonize(path)
    assert shapely.is_valid(polygons.geometry.array).all()
    assert shapely.coverage_is_valid(polygons.geometry.array)
    assert set(polygons["n_pixels"] % 100) == {0}

    west, south, east, north = polygons.total_bounds
    target = Affine(1, 0, west - 3, 0, -1, north + 3)
    shape = int(north - south) + 6, int(east - west) + 6
    warped = np.full(shape, 255, np.uint8)
    with rasterio.open(path) as dataset:
        rasterio.warp.reproject(
            dataset.read(1), warped, gcps=dataset.gcps[0], src_crs=UTM, dst_crs=UTM, dst_transform=target,
            src_nodata=255, dst_nodata=255, tolerance=0,
        )  # fmt: skip
    burnt = burn(polygons, shape, target)
    assert (warped != 255).mean() > 0.3
    assert (burnt == warped).mean() > 0.995
    # Areas: the pixels of the polygons, on a plane.
    np.testing.assert_allclose(polygons["area_m2"], shapely.area(polygons.geometry.array))
    assert polygons["area_m2"].sum() == pytest.approx((burnt != 255).sum(), rel=0.01)


@pytest.mark.parametrize("rotation", [0, 20])
@pytest.mark.parametrize(("crs", "place"), [(4326, (9, 50, 1e-3)), (3857, (1e6, 6446276, 100)), (2263, (1e6, 2e5, 3))])
def test_areas_are_those_of_the_polygons(crs, place, rotation):
    x, y, size = place
    transform = Affine.translation(x, y) @ Affine.rotation(rotation) @ Affine.scale(size, -size)
    values = np.random.default_rng(2).integers(0, 2, (12, 9)).astype(np.uint8)
    polygons = polygonize(raster(values, transform, crs))
    np.testing.assert_allclose(polygons["area_m2"], areas_m2(polygons.geometry.array, crs), rtol=1e-5)


PATTERN = np.array([[0, 0, 0], [0, 1, 1]], np.uint8)


def picture(path, values=PATTERN, **profile):
    """An image that nothing places."""
    driver = "PNG" if path.suffix == ".png" else "GTiff"
    layout = {"count": 1, "height": values.shape[0], "width": values.shape[1], "dtype": "uint8", **profile}
    with pytest.warns(NotGeoreferencedWarning), rasterio.open(path, "w", driver=driver, **layout) as dataset:
        dataset.write(values, 1)
    return path


@pytest.mark.parametrize("name", ["plain.tif", "plain.png"])
def test_an_image_that_nothing_places_lies_where_qgis_shows_it(tmp_path, name, caplog):
    """QGIS takes (0, 1, 0, 0, 0, -1) for a transform where GDAL has none: y from 0 down to minus the height."""
    polygons = polygonize(picture(tmp_path / name))
    assert polygons.crs is None
    assert polygons.columns.tolist() == ["class_id", "class_name", "area_px", "perimeter_px", "n_pixels", "geometry"]
    assert polygons["area_px"].tolist() == [4, 2]
    assert polygons["perimeter_px"].tolist() == [10, 6]
    assert polygons.geometry[1].bounds == (1, -2, 3, -1)
    assert tuple(polygons.total_bounds) == (0, -2, 3, 0)
    assert (burn(polygons, PATTERN.shape, Affine.scale(1, -1)) == PATTERN).all()
    with caplog.at_level("INFO", "geohp"):
        assert len(polygonize(tmp_path / name, min_area_m2=3)) == 1
    assert f"{name} does not say how large a metre is: sizes are taken to be in pixels" in caplog.text
    assert polygonize(raster(PATTERN, Affine.identity(), crs=None)).geometry.geom_equals(polygons.geometry).all()


def test_a_world_file_places_an_image_without_telling_its_unit(tmp_path):
    path = picture(tmp_path / "plain.png")
    (tmp_path / "plain.pgw").write_text("0.5\n0\n0\n-0.5\n100.25\n199.75\n")
    polygons = polygonize(path)
    assert polygons.crs is None
    assert polygons.columns.tolist()[2:4] == ["area", "perimeter"]
    assert polygons["area"].tolist() == [1, 0.5]
    assert polygons.geometry[1].bounds == (100.5, 199, 101.5, 199.5)


def test_a_crs_alone_places_nothing(tmp_path):
    polygons = polygonize(picture(tmp_path / "plain.tif", crs="EPSG:4326"))
    assert polygons.crs is None
    assert polygons["area_px"].tolist() == [4, 2]


def test_statistics_of_an_image_that_nothing_places(tmp_path):
    labels, heights = picture(tmp_path / "a.png"), picture(tmp_path / "b.png", PATTERN + 5)
    assert polygonize(labels, stats=[f"{heights}:mean"])["b_mean"].tolist() == [5, 6]
    assert len(polygonize(labels, confidence=heights)) == 2


@pytest.mark.parametrize("suffix", [".gpkg", ".fgb", ".geojson", ".parquet"])
def test_what_another_process_has_completed_meanwhile_is_not_replaced(write_scene, tmp_path, suffix):
    labels = write_scene(np.zeros((1, 40, 60), np.uint8), "labels.tif", nodata=255)
    out = tmp_path / f"p{suffix}"

    def another(stage, done, total, detail=""):
        if not out.exists():
            polygonize_file(labels, out, progress=no_progress)
            written.append(out.read_bytes())

    written = []
    with pytest.raises(OutputError, match="already"):
        polygonize_file(labels, out, progress=another, qml=True)
    assert [out.read_bytes()] == written
    assert sorted(path.name for path in tmp_path.iterdir()) == ["labels.tif", f"p{suffix}"]


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson", ".parquet"])
def test_rasters_of_statistics_that_change_while_they_are_read_give_no_polygons(write_scene, tmp_path, suffix):
    labels = write_scene(np.zeros((1, 40, 60), np.uint8), "labels.tif", nodata=255)
    heights = write_scene(np.ones((1, 40, 60), np.uint8), "heights.tif")

    def changing(stage, done, total, detail=""):
        heights.write_bytes(heights.read_bytes() + b"more")

    with pytest.raises(SceneError, match=r"heights\.tif has changed while it was read"):
        polygonize_file(labels, tmp_path / f"p{suffix}", stats=[f"{heights}:mean"], block_px=20, progress=changing)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["heights.tif", "labels.tif"]


def test_labels_that_change_while_they_are_read_give_no_polygons(write_scene, tmp_path):
    labels = write_scene(np.zeros((1, 40, 60), np.uint8), "labels.tif", nodata=255)

    def changing(stage, done, total, detail=""):
        labels.write_bytes(labels.read_bytes() + b"more")

    with pytest.raises(SceneError, match="has changed while it was read"):
        polygonize_file(labels, tmp_path / "p.geojson", block_px=20, progress=changing)
    assert not (tmp_path / "p.geojson").exists()


def test_what_is_no_label_map_or_no_class_is_refused_in_a_sentence():
    for nothing in (None, [[1, 2]], xr.Dataset({"a": (("y", "x"), np.zeros((2, 2), np.uint8))})):
        with pytest.raises(SceneError, match=r"no xarray\.DataArray"):
            polygonize(nothing)
    for values in (np.zeros((2, 2), np.uint8), torch.zeros(2, 2, dtype=torch.uint8)):
        with pytest.raises(SceneError, match=r"make one of it: xarray\.DataArray"):
            polygonize(values)
    labels = xr.DataArray(np.zeros((2, 2), np.uint8), dims=("y", "x"))
    with pytest.raises(VectorError, match="LandCoverClass objects"):
        polygonize(labels, classes=["water", "forest"])
