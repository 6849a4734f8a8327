"""What a page holds, read without a browser."""

from __future__ import annotations

import html
import json
from functools import partial
from html.parser import HTMLParser

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from map_pages import COLOURS, MODEL, Page, inflated, label_values, pixels, scene_values, write_map, write_raster
from rasterio.control import GroundControlPoint

from geohp.errors import ConfigError, DataError, GeohpError, OutputError, SceneError, VectorError
from geohp.progress import no_progress
from geohp.raster.block import Block
from geohp.raster.grid import Grid
from geohp.raster.read.labels import open_labels
from geohp.vector.polygonize import polygonize
from geohp.vector.writing import write_polygons
from geohp.viewer import pyramid
from geohp.viewer.clusters import PLACE_PX, survey_clusters
from geohp.viewer.examples import cluster_examples
from geohp.viewer.inputs import open_inputs
from geohp.viewer.outlines import read_outlines
from geohp.viewer.page import PageContent, north_degrees, write_page
from geohp.viewer.pyramid import build_levels, read_colours
from geohp.viewer.view import view

GCPS = [
    GroundControlPoint(row, col, 380000 + col / 2, 5800000 - row / 2)
    for row, col in ((0, 0), (0, 200), (150, 200), (150, 0))
]


def opened(labels, scene, confidence=None):
    return open_inputs(labels, scene, confidence, bands=None, scaling="auto")


def test_a_page_holds_labels_colours_and_confidence(map_files):
    labels, scene = map_files
    page = view(labels, scene)
    assert page.path == labels.with_suffix(".html")
    shown = Page(page.path)
    expected = label_values()[0]
    np.testing.assert_array_equal(shown.labels(), expected)
    colours = shown.colours()
    np.testing.assert_array_equal(colours[..., 3] == 0, expected == 255)
    difference = np.abs(colours[..., :3].astype(int) - np.moveaxis(scene_values(expected), 0, -1))
    assert difference[expected != 255].mean() < 6
    confidence = shown.confidence()
    assert confidence[10, 30] == 90
    assert confidence[70, 30] == 50
    assert confidence[2, 2] == 255


def test_a_page_says_what_the_map_is(map_files):
    shown = Page(view(*map_files).path).document
    assert (shown["map"], shown["scene"], shown["model"]) == ("labels.tif", "scene.tif", MODEL)
    assert (shown["width"], shown["height"]) == (200, 150)
    assert shown["crs"] == "WGS 84 / UTM zone 33N (EPSG:32633)"
    assert shown["pixel_size_m"] == pytest.approx(0.5, rel=2e-3)
    clusters = {cluster["id"]: cluster for cluster in shown["clusters"]}
    assert [clusters[label]["colour"] for label in range(4)] == list(COLOURS)
    assert clusters[1]["pixels"] == 50 * 150
    assert clusters[1]["area_ha"] == pytest.approx(50 * 150 * 0.25 / 1e4)
    assert clusters[1]["mean_confidence"] == pytest.approx((229 + 127) / 2 / 254)
    assert all(cluster["examples"] for cluster in clusters.values())


def test_a_page_of_a_map_at_an_address_does_not_tell_its_signature(map_files, tmp_path):
    with opened(*map_files) as inputs:
        inputs.labels.name = "https://host/maps/labels.tif?X-Signature=5ecre7"
        content = PageContent(inputs.labels, inputs.labels.name, [], build_levels(inputs, no_progress), None, False)
        write_page(tmp_path / "page.html", content)
    assert content.document()["map"] == content.document()["scene"]
    assert "labels.tif" in content.document()["map"]
    assert "5ecre7" not in (tmp_path / "page.html").read_text()


def test_what_is_asked_for_is_what_is_shown(map_files, tmp_path):
    labels, scene = map_files
    sure = np.full((1, 150, 200), 192, np.uint8)
    sure[0, :, 25:50] = 255  # undecided: half of the first stripe, which is sure of nothing there
    confidence = write_raster(tmp_path / "other.tif", sure, nodata=255, scale=1 / 254)
    frame = polygonize(str(labels))
    for layer in ("now", "then"):
        frame["class_name"] = f"{layer} " + frame["class_name"]
        write_polygons(frame, tmp_path / "land.gpkg", layer=layer)
    page = view(
        labels, scene, out=tmp_path / "page.html", bands=[3, 2, 1], scaling="0,510", confidence=confidence,
        polygons=tmp_path / "land.gpkg", layer="then",
    )  # fmt: skip
    shown = Page(page.path)
    expected = np.array([int(COLOURS[2][i : i + 2], 16) for i in (5, 3, 1)]) / 2
    assert np.abs(shown.colours()[100, 125, :3] - expected - 3).max() < 10
    assert shown.document["outlines"]["names"] == [f"then now class {number}" for number in range(4)]
    decided = (sure[0] != 255)[label_values()[0] == 0].mean()
    means = [area.mean_confidence for area in page.areas]
    assert means == pytest.approx([192 / 254 * decided, *[192 / 254] * 3])
    assert shown.confidence()[70, 70] == 76  # per cent, of 254
    for cluster in shown.document["clusters"]:
        for place in cluster["examples"]:
            rows, cols = (slice(place[side], place[side] + place["side"]) for side in ("row", "col"))
            assert (label_values()[0, rows, cols] == cluster["id"]).mean() > 0.25


def test_a_page_knows_how_much_finer_its_map_is(map_files, monkeypatch):
    monkeypatch.setattr(pyramid, "build_levels", partial(build_levels, most_px=10_000))
    assert view(*map_files).factor == 2


def test_without_confidence_there_is_none(map_files):
    labels, scene = map_files
    labels.with_name("labels_confidence.tif").unlink()
    page = view(labels, scene)
    assert [area.mean_confidence for area in page.areas] == [None] * 4
    assert Page(page.path).parts["level-0"]["confidence"] == [""]


@pytest.mark.parametrize("tag", ["GEOHP_MODEL_SHA256", "GEOHP_WINDOW_PX", "GEOHP_SCENE"])
def test_a_confidence_of_another_map_beside_the_labels_is_left_out_with_a_word(map_files, tag, caplog):
    labels, scene = map_files
    sure = labels.with_name("labels_confidence.tif")
    for path, value in ((labels, "448"), (sure, "512")):
        with rasterio.open(path, "r+") as dataset:
            dataset.update_tags(**{tag: value})
    with caplog.at_level("INFO", "geohp"):
        assert not Page(view(labels, scene).path).document["has_confidence"]
    assert f"without confidence: {sure} is of another map than {labels} ({tag}: 512, not 448)" in caplog.text
    with pytest.raises(VectorError, match=r"is of another map than .*; give the confidence written with these labels"):
        view(labels, scene, confidence=sure, overwrite=True)


def test_a_confidence_of_what_the_labels_were_recoded_from_is_not_taken_by_itself(map_files):
    labels, scene = map_files
    with rasterio.open(labels, "r+") as dataset:
        dataset.update_tags(GEOHP_RECODED_SHA256="7" * 64)
    assert not Page(view(labels, scene).path).document["has_confidence"]
    page = view(labels, scene, confidence=labels.with_name("labels_confidence.tif"), overwrite=True)
    assert Page(page.path).document["has_confidence"]


@pytest.mark.parametrize("which", ["labels", "scene", "confidence"])
def test_what_changes_while_it_is_read_gives_no_page(map_files, which):
    labels, scene = map_files
    changing = {"labels": labels, "scene": scene, "confidence": labels.with_name("labels_confidence.tif")}[which]

    def change(stage, done, total, detail=""):
        changing.write_bytes(changing.read_bytes() + b"more")

    with pytest.raises(SceneError, match="has changed while it was read"):
        view(labels, scene, progress=change)
    assert not labels.with_suffix(".html").exists()


def test_larger_maps_are_shown_in_tiles_of_several_levels(tmp_path):
    shape = (700, 1301)
    labels = label_values(shape)
    path = write_raster(tmp_path / "labels.tif", labels, nodata=255)
    scene = write_raster(tmp_path / "scene.tif", scene_values(labels[0]), nodata=0)
    shown = Page(view(path, scene).path)
    assert [level["factor"] for level in shown.document["levels"]] == [1, 2, 4]
    np.testing.assert_array_equal(shown.labels(0), labels[0])
    for level, factor in ((1, 2), (2, 4)):
        reduced = shown.labels(level)
        assert reduced.shape == (-(-700 // factor), -(-1301 // factor))
        assert (reduced == labels[0][::factor, ::factor]).mean() > 0.99
        np.testing.assert_array_equal(shown.colours(level)[..., 3] == 0, reduced == 255)


@pytest.mark.parametrize("most_px", [700 * 1301, 350 * 651, 100_000])
def test_the_finest_level_has_no_more_pixels_than_asked_for(tmp_path, most_px):
    labels = label_values((700, 1301))
    path = write_raster(tmp_path / "labels.tif", labels, nodata=255)
    scene = write_raster(tmp_path / "scene.tif", scene_values(labels[0]), nodata=0)
    with opened(path, scene) as inputs:
        levels = build_levels(inputs, no_progress, most_px=most_px)
    factor = levels[0].factor
    assert -(-700 // factor) * -(-1301 // factor) <= most_px
    assert factor == 1 or -(-700 // (factor // 2)) * -(-1301 // (factor // 2)) > most_px


def test_the_finest_levels_are_left_out_where_the_page_would_be_too_large(tmp_path):
    labels = label_values((700, 1301))
    path = write_raster(tmp_path / "labels.tif", labels, nodata=255)
    scene = write_raster(tmp_path / "scene.tif", scene_values(labels[0]), nodata=0)
    with opened(path, scene) as inputs:
        every = build_levels(inputs, no_progress)
        some = build_levels(inputs, no_progress, most_bytes=sum(level.size_bytes for level in every) - 1)
        last = build_levels(inputs, no_progress, most_bytes=0)
    assert [level.factor for level in some] == [2, 4]
    assert [level.factor for level in last] == [4]


def test_places_are_where_a_cluster_is_sure_of_itself(tmp_path):
    labels = np.zeros((1, 600, 900), np.uint8)
    labels[0, 200:400, 300:600] = 1
    steps = np.full((1, 600, 900), 100, np.uint8)
    steps[0, 300:400, 450:600] = 250
    steps[0, :120, :120] = 250
    path = write_raster(tmp_path / "labels.tif", labels, nodata=255)
    scene = write_raster(tmp_path / "scene.tif", scene_values(labels[0]))
    confidence = write_raster(tmp_path / "sure.tif", steps, nodata=255, scale=1 / 254)
    with opened(path, scene, confidence) as inputs:
        first, second = survey_clusters(inputs, no_progress)
    assert first.places[0].row < 60 > first.places[0].col
    assert 260 <= second.places[0].row <= 320
    assert 410 <= second.places[0].col <= 520


def test_places_without_confidence_are_compact_and_apart(tmp_path):
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, (1, 720, 720)).astype(np.uint8)  # noise, and a compact field of 1
    labels[0, 400:640, 80:320] = 1
    path = write_raster(tmp_path / "labels.tif", labels, nodata=255)
    scene = write_raster(tmp_path / "scene.tif", scene_values(labels[0]))
    with opened(path, scene) as inputs:
        _, second = survey_clusters(inputs, no_progress, block_px=480)
    best, *others = second.places
    assert labels[0][best.slices].mean() > 0.95
    assert others
    for i, place in enumerate(second.places):
        assert place.shape == (PLACE_PX, PLACE_PX)
        for other in second.places[:i]:
            assert place.intersect(other) is None


def test_examples_are_not_all_of_the_same_sight(tmp_path):
    """A cluster that is mostly black, as beyond the margin of a mosaic, and in the lower part other things, too."""
    labels = np.zeros((1, 1440, 1440), np.uint8)
    scene = np.zeros((3, 1440, 1440), np.uint8)
    scene[1, 1200:, :720], scene[0, 1200:, 720:] = 90, 120
    steps = np.full((1, 1440, 1440), 254, np.uint8)
    steps[0, 1200:] = 200
    path = write_raster(tmp_path / "labels.tif", labels, nodata=255)
    confidence = write_raster(tmp_path / "sure.tif", steps, nodata=255, scale=1 / 254)
    with opened(path, write_raster(tmp_path / "scene.tif", scene), confidence) as inputs:
        (cluster,) = survey_clusters(inputs, no_progress)
        examples = cluster_examples(inputs, cluster)
    seen = [tuple(pixels(example.image)[60, 60, :3] > 45) for example in examples]
    assert len(seen) == 6
    assert not any(seen[0])
    assert {(False, True, False), (True, False, False)} <= set(seen)


def test_a_cluster_that_does_not_occur_has_no_examples(tmp_path):
    labels, scene = write_map(tmp_path, ("a", "b", "c", "d"))
    with rasterio.open(labels, "r+") as dataset:
        dataset.write(np.zeros((1, 150, 200), np.uint8))
    page = Page(view(labels, scene).path)
    assert [len(cluster["examples"]) > 0 for cluster in page.document["clusters"]] == [True, False, False, False]


def test_a_scene_on_another_grid_is_resampled(map_files, tmp_path):
    labels, _ = map_files
    values = scene_values(label_values()[0])[:, ::2, ::2]
    coarse = write_raster(tmp_path / "coarse.tif", values, nodata=0, transform=Affine(1, 0, 380000, 0, -1, 5800000))
    colours = Page(view(labels, coarse).path).colours()
    expected = np.array([int(COLOURS[2][i : i + 2], 16) for i in (1, 3, 5)])
    assert np.abs(colours[100, 125, :3].astype(int) - expected - 6).max() < 15


@pytest.mark.parametrize("scaling", ["auto", "type"])
def test_a_finer_scene_keeps_its_colours(map_files, tmp_path, scaling):
    """What is averaged are bytes as before: no numbers of an unknown range, to be stretched to all of it."""
    labels, _ = map_files
    values = np.random.default_rng(1).integers(100, 140, (3, 300, 400), np.uint8)
    fine = write_raster(tmp_path / "fine.tif", values, transform=Affine(0.25, 0, 380000, 0, -0.25, 5800000))
    with open_inputs(labels, fine, None, bands=None, scaling=scaling) as inputs:
        colours = read_colours(inputs, Block(0, 0, 150, 200))
    expected = values.reshape(3, 150, 2, 200, 2).mean(axis=(2, 4))
    assert np.abs(np.moveaxis(colours[..., :3], -1, 0) - expected).max() <= 1


def test_a_finer_scene_with_a_colour_table_has_no_colours_between_its_own(map_files, tmp_path):
    labels, _ = map_files
    values = np.where(np.arange(400) % 2, 10, 200).astype(np.uint8)[None, None].repeat(300, axis=1)
    fine = write_raster(tmp_path / "fine.tif", values, transform=Affine(0.25, 0, 380000, 0, -0.25, 5800000))
    with rasterio.open(fine, "r+") as dataset:
        dataset.write_colormap(1, {10: (255, 0, 0), 105: (0, 0, 255), 200: (255, 0, 0)})
    with open_inputs(labels, fine, None, bands=None, scaling="auto") as inputs:
        colours = read_colours(inputs, Block(0, 0, 150, 200))
    assert np.unique(colours.reshape(-1, 4), axis=0).tolist() == [[255, 0, 0, 255]]


@pytest.mark.filterwarnings("error")
def test_outlines_that_reach_far_beyond_the_map_are_drawn_on_it(map_files, tmp_path):
    """To the other end of the world, in centimetres, is farther than 32 bits count."""
    labels, _ = map_files
    far = shapely.Polygon([(380010, 5799990), (380010 + 4e9, 5799990), (380010 + 4e9, 5799990 - 4e9)])
    frame = geopandas.GeoDataFrame({"class_name": ["a"]}, geometry=[far], crs="EPSG:32633")
    frame.to_parquet(tmp_path / "far.parquet")
    with open_labels(labels) as raster:
        outlines = read_outlines(tmp_path / "far.parquet", raster, 1)
    corners = outlines.corners.cumsum(axis=0) * outlines.unit_px
    drawn = shapely.intersection(shapely.Polygon(corners), shapely.box(0, 0, 200, 150))
    expected = shapely.Polygon([(20, 20), (200, 20), (200, 150), (150, 150)])
    assert shapely.symmetric_difference(drawn, expected).area < 5


@pytest.mark.parametrize("suffix", [".gpkg", ".parquet", ".fgb", ".geojson"])
def test_outlines_are_those_of_the_polygons(map_files, tmp_path, suffix):
    labels, scene = map_files
    frame = polygonize(str(labels))
    polygons = write_polygons(frame, tmp_path / f"land{suffix}")
    outlines = Page(view(labels, scene, polygons=polygons).path).document["outlines"]
    numbers = {
        name: np.frombuffer(inflated(outlines[name]).tobytes(), "<f4" if name == "areas" else "<i4")
        for name in ("places", "areas", "rings", "counts", "corners")
    }
    names = [outlines["names"][place] for place in numbers["places"]]  # FlatGeobuf has an order of its own
    frame = frame.set_index("class_name").loc[names]
    np.testing.assert_allclose(numbers["areas"], frame["area_m2"], rtol=1e-5)
    corners = numbers["corners"].reshape(-1, 2).cumsum(axis=0) * outlines["unit"]
    rings = np.split(corners, numbers["counts"].cumsum()[:-1])
    in_pixels = shapely.transform(frame.geometry.to_numpy(), lambda xy: (xy - [380000, 5800000]) / [0.5, -0.5])
    for ring, expected in zip(rings, in_pixels, strict=True):
        assert shapely.symmetric_difference(shapely.Polygon(ring), expected).area < 30
    assert outlines["area_unit"] == "m2"


def test_too_many_outlines_become_coarser(map_files, tmp_path):
    labels, _ = map_files
    frame = polygonize(str(labels))
    frame.geometry = frame.geometry.segmentize(0.1)
    frame.geometry = shapely.transform(frame.geometry.to_numpy(), lambda xy: xy + 0.4 * np.sin(7 * xy[:, ::-1]))
    polygons = write_polygons(frame, tmp_path / "land.gpkg")
    with open_labels(labels) as raster:
        fine = read_outlines(polygons, raster, 1)
        coarse = read_outlines(polygons, raster, 1, most_corners=len(fine.corners) // 4)
    assert len(coarse.corners) <= len(fine.corners) // 4
    assert coarse.tolerance_px > fine.tolerance_px


def test_north_is_where_the_transform_says():
    upright = Grid(100, 100, Affine(1, 0, 500000, 0, -1, 5000000), rasterio.CRS.from_epsg(32633))
    assert north_degrees(upright) == pytest.approx(0, abs=0.01)
    turned = Affine(1, 0, 500000, 0, -1, 5000000) * Affine.rotation(30)
    assert north_degrees(Grid(100, 100, turned, upright.crs)) == pytest.approx(-30, abs=0.05)
    assert north_degrees(Grid(100, 100, Affine.identity())) is None


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ({"crs": None, "transform": Affine.identity()}, {"crs": None, "pixel_size_m": None, "north": None}),
        ({"crs": "EPSG:4326", "transform": Affine(1e-5, 0, 10, 0, -1e-5, 50)}, {"degrees": True, "north": 0}),
        ({"transform": Affine(0.5, 0, 380000, 0, -0.5, 5800000) * Affine.rotation(90)}, {"north": -90}),
        ({"gcps": GCPS, "transform": None}, {"degrees": False, "north": 0}),
    ],
    ids=["nowhere", "degrees", "turned", "control points"],
)
def test_maps_lie_where_they_lie(tmp_path, place, expected):
    labels = label_values()
    path = write_raster(tmp_path / "labels.tif", labels, nodata=255, **place)
    scene = write_raster(tmp_path / "scene.tif", scene_values(labels[0]), nodata=0, **place)
    shown = Page(view(path, scene).path)
    np.testing.assert_array_equal(shown.labels(), labels[0])
    for key, value in expected.items():
        assert shown.document[key] == (value if value is None else pytest.approx(value, abs=1.5))
    on_earth = shown.document["pixel_size_m"] is not None
    assert [cluster["area_ha"] is not None for cluster in shown.document["clusters"]] == [on_earth] * 4


def test_a_map_without_data_is_an_empty_page(map_files):
    labels, scene = map_files
    with rasterio.open(labels, "r+") as dataset:
        dataset.write(np.full((1, 150, 200), 255, np.uint8))
    page = view(labels, scene)
    assert [area.pixels for area in page.areas] == [0] * 4
    assert (Page(page.path).labels() == 255).all()


class Scripts(HTMLParser):
    """Scripts and attributes that a browser would find."""

    def __init__(self):
        super().__init__()
        self.scripts, self.handlers, self.tags = [], [], set()

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        if tag == "script":
            self.scripts.append(dict(attributes).get("id"))
        self.handlers += [name for name, _ in attributes if name.startswith("on")]


def test_texts_of_files_stay_texts(tmp_path):
    attack = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\"'&"
    names = (attack, "<!--", "]]>", "\\u003c/script\\u003e")
    page = view(*write_map(tmp_path, names, stem='<i onclick="x">', scene="<svg onload=x>.tif"))
    found = Scripts()
    found.feed(page.path.read_text(encoding="utf-8"))
    assert found.scripts == ["page", "level-0", None]
    assert found.handlers == []
    assert not found.tags & {"img", "i", "b"}
    shown = Page(page.path).document
    assert [cluster["name"] for cluster in shown["clusters"]] == list(names)
    assert shown["scene"] == "<svg onload=x>.tif"
    assert shown["map"] == '<i onclick="x">.tif'


def test_a_page_shows_itself_in_a_notebook(map_files, monkeypatch):
    page = view(*map_files)
    frame = page._repr_html_()
    assert frame.startswith('<iframe srcdoc="')
    assert html.unescape(frame[len('<iframe srcdoc="') : frame.index('" width=')]) == page.path.read_text("utf-8")
    monkeypatch.setattr("geohp.viewer.view._INLINE_BYTES", 10)
    monkeypatch.chdir(page.path.parent)
    assert page._repr_html_().startswith('<iframe src="labels.html"')


def test_arrays_are_shown_too(map_files, tmp_path):
    rioxarray = pytest.importorskip("rioxarray")
    labels, scene = (rioxarray.open_rasterio(path) for path in map_files)
    page = view(labels, scene, out=tmp_path / "array.html")
    np.testing.assert_array_equal(Page(page.path).labels(), label_values()[0])
    with pytest.raises(ConfigError, match=r"give out='page\.html'"):
        view(labels, scene)


def photo(folder):
    values = np.random.default_rng(0).integers(0, 250, (1, 150, 200), np.uint8)
    return write_raster(folder / "photo.tif", values)


@pytest.mark.parametrize(
    ("change", "kind", "said"),
    [
        ({"scene": "nowhere.tif"}, SceneError, "nowhere.tif does not exist"),
        ({"labels": "nowhere.tif"}, SceneError, "nowhere.tif does not exist"),
        ({"polygons": "nowhere.gpkg"}, DataError, "nowhere.gpkg does not exist"),
        ({"out": "page.pdf"}, OutputError, "pages are written to .html or .htm"),
        ({"out": "no/page.html"}, OutputError, "does not exist"),
        ({"out": "there.html"}, OutputError, "replace it with overwrite=True"),
        ({"scene": "elsewhere.tif"}, VectorError, "shows another place"),
        ({"scene": "plain.tif"}, VectorError, "nothing says where they lie"),
        ({"labels": "scene.tif"}, VectorError, "has 3 bands"),
        ({"labels": "photo.tif", "out": "a.html"}, VectorError, "more than 100 different values"),
        ({"labels": "wide.tif", "out": "a.html"}, VectorError, "has the label 300"),
        ({"confidence": "photo.tif"}, VectorError, "no confidence"),
        ({"confidence": "plain.tif"}, VectorError, "does not lie on the label map's pixel grid"),
        ({"polygons": "notes.txt"}, DataError, "no layer with geometries"),
        ({"polygons": "far.gpkg"}, DataError, "no polygons on"),
        ({"scaling": "brightest"}, ConfigError, "brightest"),
    ],
)
def test_mistakes_are_refused_in_a_sentence(map_files, tmp_path, monkeypatch, change, kind, said):
    monkeypatch.chdir(tmp_path)
    labels, scene = map_files
    photo(tmp_path)
    values = scene_values(label_values()[0])
    write_raster(tmp_path / "elsewhere.tif", values, transform=Affine(0.5, 0, 480000, 0, -0.5, 5800000))
    write_raster(tmp_path / "plain.tif", values[:1, :100], crs=None, transform=Affine.identity())
    write_raster(tmp_path / "wide.tif", np.full((1, 150, 200), 300, np.uint16))
    (tmp_path / "there.html").write_text("mine")
    (tmp_path / "notes.txt").write_text("nothing of use")
    far = polygonize(str(labels))
    far.geometry = far.geometry.translate(xoff=5000)
    write_polygons(far, tmp_path / "far.gpkg")
    asked = {"labels": labels, "scene": scene, **change}
    with pytest.raises(kind, match=said) as refused:
        view(asked.pop("labels"), asked.pop("scene"), **asked)
    assert isinstance(refused.value, GeohpError)
    assert (tmp_path / "there.html").read_text() == "mine"
    assert not [path for path in tmp_path.glob("*.html") if path.name != "there.html"]


@pytest.mark.slow
def test_memory_does_not_grow_with_the_map(tmp_path, peak_memory):
    pytest.importorskip("resource")
    script = """
import sys
from geohp.progress import no_progress
from geohp.viewer.clusters import survey_clusters
from geohp.viewer.inputs import open_inputs
from geohp.viewer.pyramid import build_levels, read_colours
with open_inputs(sys.argv[1], sys.argv[2], None, bands=None, scaling="auto") as inputs:
    survey_clusters(inputs, no_progress, block_px=512)
    build_levels(inputs, no_progress, most_px=2**19)
"""
    peaks = []
    for side in (1000, 4000):
        labels = label_values((side, side))
        tiled = {"tiled": True, "compress": "deflate", "nodata": 255}
        path = write_raster(tmp_path / f"labels{side}.tif", labels, **tiled)
        scene = write_raster(tmp_path / f"scene{side}.tif", np.repeat(labels, 3, axis=0), **tiled)
        peaks.append(peak_memory(script, path, scene)[1])
    assert peaks[1] < peaks[0] + 60, json.dumps(peaks)
