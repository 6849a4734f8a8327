"""Naming counts what a plain count pixel by pixel gives, whatever the reference is and however it lies."""

from __future__ import annotations

import tracemalloc

import geopandas
import numpy as np
import pytest
import rasterio
import rioxarray  # noqa: F401 (the accessor)
import shapely
import xarray as xr
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pyproj import Transformer

from geohp.classes import LandCoverClass, classes_to_json
from geohp.errors import ConfigError, DataError, SceneError, VectorError
from geohp.legend.naming import assign, name_classes

GRIDS = {
    "north up": Affine(0.5, 0, 5e5, 0, -0.5, 5538000),
    "south up": Affine(0.5, 0, 5e5, 0, 0.5, 5537994),
    "rotated": Affine.translation(5e5, 5538000) @ Affine.rotation(-25) @ Affine.scale(0.5, -0.5),
}
UTM = "EPSG:25832"


def raster(values, transform=GRIDS["north up"], crs=UTM, nodata=255, classes=None):
    array = xr.DataArray(values, dims=("y", "x")).rio.write_transform(transform)
    array = array if nodata is None else array.rio.write_nodata(nodata)
    array = array if crs is None else array.rio.write_crs(crs)
    return array if classes is None else array.assign_attrs(classes=classes_to_json(classes))


def centres(shape, transform):
    row, col = np.mgrid[: shape[0], : shape[1]] + 0.5
    return np.stack(transform * (col, row), axis=-1)


def brute_force(labels, known):
    """The confusion of labels (255: none) with class names (None: not known) of the same shape."""
    counts = {}
    for label, name in zip(labels.ravel().tolist(), known.ravel().tolist(), strict=True):
        if label != 255 and name is not None:
            counts[label, name] = counts.get((label, name), 0) + 1
    return counts


def counted(naming):
    stacked = naming.confusion.stack()
    return {key: count for key, count in stacked.items() if count}


def majority(counts):
    """The most frequent class of each label; of equals, the one with more pixels in all, then the first by name."""
    totals = {}
    for (_, name), count in counts.items():
        totals[name] = totals.get(name, 0) + count
    return {
        label: min(totals, key=lambda name: (-counts.get((label, name), 0), -totals[name], name))
        for label in {label for label, _ in counts}
    }


def check(naming, counts):
    names = {one.id: one.name for one in naming.legend.classes}
    found = {label: names[number] for label, number in naming.legend.labels.items()}
    expected = majority(counts)
    assert counted(naming) == counts
    assert found == expected
    assert set(naming.unnamed) == set(naming.confusion.index.tolist()) - set(expected)
    right = sum(count for (label, name), count in counts.items() if expected[label] == name)
    assert naming.accuracy == pytest.approx(100 * right / sum(counts.values()))
    for name, row in naming.per_class.iterrows():
        hit = sum(counts.get((label, name), 0) for label in expected if expected[label] == name)
        true = sum(count for (_, other), count in counts.items() if other == name)
        predicted = sum(count for (label, _), count in counts.items() if expected[label] == name)
        assert row.tolist() == pytest.approx([true, 100 * hit / true, 100 * hit / (true + predicted - hit)])


label_arrays = arrays(np.uint8, (11, 12), elements=st.sampled_from([0, 1, 2, 3, 255]))
corners = st.integers(0, 26).map(lambda number: number / 2.13 - 0.4)  # on no pixel's centre


@given(labels=label_arrays, boxes=st.lists(st.tuples(corners, corners, corners, corners, st.sampled_from("abc")),
       min_size=1, max_size=6), grid=st.sampled_from(sorted(GRIDS)), side=st.integers(3, 20),
       crs=st.sampled_from([UTM, "EPSG:4326", None]))  # fmt: skip
@settings(max_examples=120, deadline=None)
def test_polygons(labels, boxes, grid, side, crs):
    transform = GRIDS[grid]
    shapes = [shapely.box(min(a, c), min(b, d), max(a, c) + 0.1, max(b, d) + 0.1) for a, b, c, d, _ in boxes]
    known = np.full(labels.shape, None, object)
    for (row, col), _ in np.ndenumerate(labels):
        for shape, (*_, name) in zip(shapes, boxes, strict=True):
            if shape.contains(shapely.Point(col + 0.5, row + 0.5)):
                known[row, col] = name
    placed = shapely.transform(np.array(shapes), lambda xy: np.stack(transform * tuple(xy.T), axis=-1))
    frame = geopandas.GeoDataFrame({"id": range(len(boxes)), "cover": [b[-1] for b in boxes]}, geometry=placed, crs=UTM)
    frame = frame.set_crs(None, allow_override=True) if crs is None else frame.to_crs(crs)
    array = raster(labels, transform, None if crs is None else UTM)
    counts = brute_force(labels, known)
    if not counts:
        with pytest.raises(DataError, match="no pixel in common"):
            name_classes(array, frame, block_px=side)
        return
    check(name_classes(array, frame, block_px=side), counts)


@given(labels=label_arrays, data=st.data(), grid=st.sampled_from(sorted(GRIDS)), side=st.integers(3, 20),
       crs=st.sampled_from([UTM, "EPSG:3857"]))  # fmt: skip
@settings(max_examples=80, deadline=None)
def test_points(labels, data, grid, side, crs):
    place = st.tuples(st.integers(-3, 15), st.integers(-3, 15), st.integers(0, 3))
    chosen = [(r, c, k) for r, c, k in data.draw(st.lists(place, min_size=1, max_size=40))]
    pixels = np.array([(c + 0.3, r + 0.6) for r, c, _ in chosen])
    xy = np.stack(GRIDS[grid] * tuple(pixels.T), axis=-1)
    # Codes are read as floats where some are missing.
    codes = [None if k == 3 else float(k) for *_, k in chosen]
    frame = geopandas.GeoDataFrame({"code": codes}, geometry=shapely.points(xy), crs=UTM).to_crs(crs)
    inside = [(r, c, k) for r, c, k in chosen if k != 3 and 0 <= r < 11 and 0 <= c < 12]
    counts = {}
    for r, c, k in inside:
        if labels[r, c] != 255:
            counts[int(labels[r, c]), str(k)] = counts.get((int(labels[r, c]), str(k)), 0) + 1
    array = raster(labels, GRIDS[grid])
    if not counts:
        with pytest.raises(DataError, match=r"no pixel in common|no features with"):
            name_classes(array, frame, field="code", block_px=side)
        return
    naming = name_classes(array, frame, field="code", block_px=side)
    check(naming, counts)
    assert naming.unit == "points"
    known = sum(k != 3 for *_, k in chosen)
    said = " ".join(naming.notes)
    assert (f"{known - len(inside)} of {known} points lie beyond" in said) == (known > len(inside))
    left = len(inside) - sum(counts.values())
    assert (f"{left} points lie where the map has no data" in said) == (left > 0)
    assert (f"{len(chosen) - known} of {len(chosen)} features have no value" in said) == (known < len(chosen))


@given(labels=label_arrays, known=arrays(np.int16, (7, 9), elements=st.sampled_from([0, 7, 300, -1])),
       grid=st.sampled_from(sorted(GRIDS)), scale=st.sampled_from([0.21, 0.5, 0.93]), side=st.integers(3, 20),
       nodata=st.sampled_from([None, -1]), crs=st.sampled_from([UTM, None]))  # fmt: skip
@settings(max_examples=150, deadline=None)
def test_rasters(labels, known, grid, scale, side, nodata, crs):
    transform = Affine(scale, 0, 5e5 + 0.37, 0, -scale, 5538000 - 0.41)
    names = np.full(labels.shape, None, object)
    for (row, col), (x, y) in zip(
        np.ndindex(labels.shape), centres(labels.shape, GRIDS[grid]).reshape(-1, 2), strict=True
    ):
        c, r = np.floor(~transform * (x, y)).astype(int)
        if 0 <= r < 7 and 0 <= c < 9 and known[r, c] != nodata:
            names[row, col] = str(known[r, c])
    array, reference = raster(labels, GRIDS[grid], crs), raster(known, transform, crs, nodata)
    counts = brute_force(labels, names)
    if not counts:
        with pytest.raises(DataError, match="no pixel in common"):
            name_classes(array, reference, block_px=side)
        return
    naming = name_classes(array, reference, block_px=side)
    assert counted(naming) == counts
    assert naming.confusion.columns.tolist() == sorted(naming.confusion.columns, key=int)


def test_a_raster_of_another_crs():
    labels = np.arange(600 * 500).reshape(600, 500) // 50_000
    labels = labels.astype(np.uint8)
    transform = Affine(10, 0, 5e5, 0, -10, 5538000)
    to_degrees = Transformer.from_crs(UTM, 4326, always_xy=True)
    lon, lat = to_degrees.transform(*np.moveaxis(centres(labels.shape, transform), -1, 0))
    there = Affine((lon.max() - lon.min()) / 40, 0, lon.min(), 0, (lat.min() - lat.max()) / 40, lat.max())
    known = np.random.default_rng(0).integers(0, 4, (40, 40)).astype(np.uint8)
    classes = [
        LandCoverClass(0, "road", "#111111"),
        LandCoverClass(1, "wood", "#00ff00"),
        LandCoverClass(3, "lake", "#0000ff"),
    ]
    cols, rows = ~there * (lon, lat)
    at = known[np.clip(rows, 0, 39).astype(int), np.clip(cols, 0, 39).astype(int)]
    expected = brute_force(labels, np.array(["road", "wood", "2", "lake"], object)[at])
    naming = name_classes(raster(labels, transform), raster(known, there, "EPSG:4326", classes=classes), block_px=128)
    assert naming.confusion.columns.tolist() == ["road", "wood", "2", "lake"]
    found = counted(naming)
    # GDAL's warper is exact to an eighth of a pixel, by default.
    assert sum(abs(found.get(key, 0) - expected.get(key, 0)) for key in {*found, *expected}) < 0.002 * labels.size
    colours = {one.name: one.colour for one in classes}
    assert all(one.colour == colours[one.name] for one in naming.legend.classes if one.name in colours)


def test_a_raster_on_the_same_pixels_with_a_colour_table(write_scene):
    labels = write_scene(np.array([[[0, 0, 1, 1, 2]]], np.uint8), "labels.tif", nodata=255)
    reference = write_scene(np.array([[[4, 4, 9, 0, 0]]], np.uint8), "reference.tif", nodata=0)
    with rasterio.open(reference, "r+") as dataset:
        dataset.write_colormap(1, {4: (255, 0, 0), 9: (0, 128, 0)})
    naming = name_classes(labels, reference)
    assert naming.legend.labels == {0: 0, 1: 1}
    assert naming.legend.classes == (LandCoverClass(0, "4", "#ff0000"), LandCoverClass(1, "9", "#008000"))
    assert naming.unnamed == (2,)


def test_a_reference_of_things_or_measurements_is_refused_before_it_fills_the_memory():
    """Every pixel its own number: a table of 200 labels and a million of them."""
    labels = np.tile(np.arange(200, dtype=np.uint8), (1000, 5))
    numbers = np.arange(labels.size, dtype=np.int32).reshape(labels.shape)
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=r"has [\d,]+ classes or more for 200 labels, .*give one of classes"):
            name_classes(raster(labels), raster(numbers, nodata=None), block_px=256)
        assert tracemalloc.get_traced_memory()[1] < 400 << 20
    finally:
        tracemalloc.stop()


@given(counts=arrays(np.int64, st.tuples(st.integers(1, 6), st.integers(1, 6)), elements=st.integers(0, 5)))
@settings(deadline=None)
def test_hungarian_is_one_to_one(counts):
    given_ = assign(counts, "hungarian")
    taken = given_[given_ >= 0]
    assert len(set(taken.tolist())) == len(taken)
    assert all(counts[label, place] > 0 for label, place in enumerate(given_) if place >= 0)
    import itertools

    padded = np.zeros((6, 6), np.int64)
    padded[: counts.shape[0], : counts.shape[1]] = counts
    best = max(padded[range(6), list(order)].sum() for order in itertools.permutations(range(6)))
    assert sum(counts[label, place] for label, place in enumerate(given_) if place >= 0) == best


def test_hungarian_leaves_labels_over():
    labels = raster(np.array([[0, 0, 0, 1, 1, 2]], np.uint8))
    reference = raster(np.array([[5, 5, 5, 5, 5, 8]], np.uint8))
    naming = name_classes(labels, reference, matching="hungarian")
    assert naming.legend.labels == {0: 0, 2: 1}
    assert naming.unnamed == (1,)
    assert naming.accuracy == pytest.approx(100 * 4 / 6)
    assert "Left over by one label a class, and so without a name: 1." in naming.report()
    assert name_classes(labels, reference).legend.labels == {0: 0, 1: 0, 2: 1}
    with pytest.raises(ConfigError, match="majority, hungarian"):
        name_classes(labels, reference, matching="best")


@pytest.mark.parametrize("changes", ["labels.tif", "known.tif", "known.geojson", "known.dbf"])
def test_what_changes_while_it_is_read_gives_no_legend(write_scene, tmp_path, changes):
    values = np.arange(64 * 64, dtype=np.uint8).reshape(1, 64, 64) % 3
    labels, known = (write_scene(values, name, nodata=255) for name in ("labels.tif", "known.tif"))
    if changes in ("known.geojson", "known.dbf"):
        known = tmp_path / changes.replace("dbf", "shp")
        with rasterio.open(labels) as dataset:
            square = shapely.box(*dataset.bounds)
            geopandas.GeoDataFrame({"kind": ["a"]}, geometry=[square], crs=dataset.crs).to_file(known)

    def change(stage, done, total, detail=""):
        path = tmp_path / changes
        path.write_bytes(path.read_bytes() + b" ")

    with pytest.raises(SceneError, match="has changed while it was read"):
        name_classes(labels, known, block_px=32, out=tmp_path / "l.yaml", progress=change)
    assert not (tmp_path / "l.yaml").exists()


def test_labels_that_are_declared_but_not_touched():
    classes = [LandCoverClass(i, f"class {i}", "#000000") for i in range(4)]
    labels = raster(np.array([[0, 1, 2]], np.uint8), classes=classes)
    naming = name_classes(labels, raster(np.array([[7, 7, 255]], np.uint8)))
    assert naming.unnamed == (2, 3)
    assert naming.confusion.index.tolist() == [0, 1, 2, 3]
    assert "Without any reference, and so without a name: 2 and 3." in naming.report()


def test_labels_that_occur_beside_the_reference_have_a_row_and_no_name():
    labels = raster(np.array([[0, 1, 5, 255]], np.uint8))
    naming = name_classes(labels, raster(np.array([[7, 7, 255, 255]], np.uint8)))
    assert naming.confusion.index.tolist() == [0, 1, 5]
    assert naming.confusion.loc[5].tolist() == [0]
    assert naming.unnamed == (5,)


def test_classes_have_the_colour_of_the_label_that_shows_most_of_them():
    known = [LandCoverClass(number, "", f"#{number}{number}0000") for number in range(4)]
    labels = raster(np.array([[0, 0, 1, 1, 1, 2, 3]], np.uint8), classes=known)
    legend = name_classes(labels, raster(np.array([[5, 5, 5, 5, 5, 5, 6]], np.uint8))).legend
    assert [(entry.name, entry.colour) for entry in legend.classes] == [("5", "#110000"), ("6", "#330000")]


def test_classes_that_no_label_is_named_after_are_said():
    labels, known = np.array([[0, 0, 0, 1]], np.uint8), np.array([[7, 7, 8, 7]], np.uint8)
    naming = name_classes(raster(labels), raster(known))
    assert naming.unmatched == ("8",)
    assert "No label is named after 8: the map will not show it. Finer clusters may find it" in " ".join(
        naming.report().split()
    )
    assert "No label is named after" not in name_classes(raster(known), raster(known)).report()


def test_the_report_tells_all():
    labels = raster(np.array([[0, 0, 0, 0, 1]], np.uint8))
    report = name_classes(labels, raster(np.array([[1, 1, 1, 2, 2]], np.uint8))).report()
    assert "75.0" in report
    assert "25.0" in report
    assert "Overall accuracy 80.0 %, measured on the very reference used for naming" in " ".join(report.split())
    many = raster(np.arange(20, dtype=np.uint8).reshape(1, 20) // 2)
    wide = name_classes(many, raster(np.arange(20, dtype=np.uint8).reshape(1, 20))).report(80)
    assert "most overlap" in wide
    assert "4 50.0, 5 50.0" in wide
    assert max(map(len, wide.splitlines())) <= 80


class TestFiles:
    """What is refused, and what files say about themselves."""

    LABELS = np.array([[0, 1], [2, 3]], np.uint8)

    @pytest.fixture
    def labels(self, tmp_path):
        path = tmp_path / "labels.tif"
        raster(self.LABELS).rio.to_raster(path)
        return path

    @pytest.fixture
    def frame(self):
        xy = [GRIDS["north up"] * (c + 0.5, r + 0.5) for r, c in np.ndindex(2, 2)]
        return geopandas.GeoDataFrame({"cover": list("abcd")}, geometry=shapely.points(xy), crs=UTM)

    @pytest.mark.parametrize("name", ["r.gpkg", "r.geojson", "r.fgb", "r.shp", "r.parquet", "suffix.tif"])
    def test_kinds_are_told_by_content(self, labels, frame, tmp_path, name):
        path, buffered = tmp_path / name, frame.set_geometry(frame.buffer(0.2))
        for one, unit in ((frame, "points"), (buffered, "pixels")):
            one = one.to_crs(4326) if name == "r.geojson" else one
            one.to_parquet(path) if name == "r.parquet" else one.to_file(
                path, driver="GeoJSON" if ".tif" in name else None
            )
            naming = name_classes(labels, path)
            assert naming.unit == unit
            assert {i: naming.legend.classes[k].name for i, k in naming.legend.labels.items()} == dict(
                enumerate("abcd")
            )

    def test_layers(self, labels, frame, tmp_path):
        path = tmp_path / "reference.gpkg"
        frame.to_file(path, layer="here")
        frame.drop(columns="geometry").pipe(geopandas.pd.DataFrame).pipe(self.write_table, path)
        assert name_classes(labels, path).accuracy == 100
        frame.to_file(path, layer="there")
        with pytest.raises(DataError, match=r"several layers \(here, there\)"):
            name_classes(labels, path)
        assert name_classes(labels, path, layer="there").accuracy == 100
        with pytest.raises(DataError, match="no layer 'classes'"):
            name_classes(labels, path, layer="classes")

    @staticmethod
    def write_table(table, path):
        import pyogrio

        pyogrio.write_dataframe(table, path, layer="classes", append=False)

    def test_fields(self, labels, frame, tmp_path):
        frame["code"] = range(4)
        frame["area"] = 0.5
        path = tmp_path / "reference.gpkg"
        frame.to_file(path)
        for reference in (frame, path):
            with pytest.raises(DataError, match=r"its fields: cover, code, area\); name it with field="):
                name_classes(labels, reference)
            with pytest.raises(DataError, match=r"no field 'Cover'.*did you mean 'cover'"):
                name_classes(labels, reference, field="Cover")
            classes = name_classes(labels, reference, field="code").legend.classes
            assert [one.name for one in classes] == ["0", "1", "2", "3"]
        with pytest.raises(DataError, match="is a raster; leave the field"):
            name_classes(labels, labels, field="cover")
        with pytest.raises(DataError, match="is a raster; leave the field"):
            name_classes(labels, labels, layer="x")

    def test_geometries(self, labels, frame):
        line = shapely.LineString([(0, 0), (1, 1)])
        with pytest.raises(DataError, match="holds lines"):
            name_classes(labels, frame.set_geometry([line] * 4, crs=UTM))
        with pytest.raises(DataError, match="both points and polygons"):
            name_classes(labels, frame.set_geometry([*frame.geometry[:3], shapely.box(0, 0, 1, 1)], crs=UTM))
        with pytest.raises(DataError, match="no features with a geometry"):
            name_classes(labels, frame.set_geometry([None] * 4, crs=UTM))
        together = frame.dissolve("cover", as_index=False).set_geometry(
            [shapely.MultiPoint(frame.geometry.tolist()), *frame.geometry[1:]], crs=UTM
        )
        assert name_classes(labels, together).confusion.to_numpy().sum() == 7  # each point of a group counts

    def test_systems(self, labels, frame, tmp_path):
        nowhere = frame.set_crs(None, allow_override=True)
        with pytest.raises(
            DataError, match=r"the reference has no coordinate reference system, but .*labels.tif has one"
        ):
            name_classes(labels, nowhere)
        plain = raster(self.LABELS, crs=None)
        with pytest.raises(DataError, match="label array has no coordinate reference system"):
            name_classes(plain, frame)
        with pytest.raises(DataError, match="label array has no coordinate reference system"):
            name_classes(plain, labels)
        assert name_classes(plain, nowhere).accuracy == 100
        with pytest.warns(UserWarning, match="crs"):
            nowhere.to_file(tmp_path / "nowhere.gpkg")
        assert name_classes(plain, tmp_path / "nowhere.gpkg").accuracy == 100
        with pytest.raises(DataError, match=r"nowhere.gpkg has no coordinate reference system, but"):
            name_classes(labels, tmp_path / "nowhere.gpkg")
        assert (
            name_classes(
                raster(self.LABELS, Affine.identity(), None), raster(self.LABELS, Affine.identity(), None)
            ).accuracy
            == 100
        )
        halves = raster(self.LABELS.repeat(2, 0).repeat(2, 1), Affine.scale(0.5, -0.5), None)
        assert name_classes(raster(self.LABELS, Affine.identity(), None), halves).accuracy == 100

    def test_polygons_drawn_in_qgis_on_an_image_that_nothing_places(self):
        drawn = geopandas.GeoDataFrame(
            {"cover": ["a", "b"]}, geometry=[shapely.box(0, -1, 2, 0), shapely.box(0, -2, 2, -1)]
        )
        naming = name_classes(raster(np.array([[0, 0], [3, 3]], np.uint8), Affine.identity(), None), drawn)
        assert naming.legend.labels == {0: 0, 3: 1}

    def test_elsewhere(self, labels, frame):
        far = frame.translate(1000)
        for geometry in (far, far.buffer(1)):
            with pytest.raises(DataError, match="no pixel in common"):
                name_classes(labels, frame.set_geometry(geometry))

    def test_no_reference_at_all(self, labels, tmp_path):
        with pytest.raises(DataError, match="no such file"):
            name_classes(labels, tmp_path / "none.gpkg")
        path = tmp_path / "text.txt"
        path.write_text("nothing of this kind")
        with pytest.raises(DataError, match="cannot be opened as polygons or points, and is no raster"):
            name_classes(labels, path)
        with pytest.raises(VectorError, match="float32"):
            name_classes(labels, raster(np.ones((2, 2), np.float32)))

    def test_control_points(self, labels):
        from rasterio.control import GroundControlPoint

        points = [GroundControlPoint(r, c, 9 + c, 50 - r) for r in (0, 2) for c in (0, 2)]
        array = xr.DataArray(self.LABELS, dims=("y", "x")).rio.write_gcps(points, "EPSG:4326")
        with pytest.raises(DataError, match="ground control points; warp it"):
            name_classes(array, labels)

    def test_later_polygons_lie_on_top(self, labels):
        whole = shapely.box(4e5, 5e6, 6e5, 6e6)
        corner = shapely.box(5e5, 5537999.5, 5e5 + 0.5, 5538000)
        for order, expected in ((["all", "corner"], ["all", "corner"]), (["corner", "all"], ["all"])):
            shapes = [{"all": whole, "corner": corner}[one] for one in order]
            frame = geopandas.GeoDataFrame({"cover": order}, geometry=shapes, crs=UTM)
            assert name_classes(labels, frame).confusion.columns.tolist() == expected

    def test_progress(self, labels, frame):
        told = []
        name_classes(labels, frame, block_px=1, progress=lambda *step: told.append(step))
        assert told == [("comparing", i, 4) for i in (1, 2, 3, 4)]
