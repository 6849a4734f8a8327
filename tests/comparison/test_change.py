"""Two dates of a place: transitions, polygons, matrix and picture, and what is refused."""

import csv
import json
from xml.etree import ElementTree

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import rasterio.shutil
from affine import Affine
from PIL import Image
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS

import geohp
from geohp.classes import LandCoverClass, classes_from_json
from geohp.comparison import picture
from geohp.comparison.options import ChangeOptions
from geohp.comparison.transitions import NODATA, Transitions
from geohp.errors import ConfigError, OutputError, SceneError, VectorError
from geohp.files.unfinished import work_folder
from geohp.raster.grid import Grid
from geohp.raster.read.labels import MODEL_TAG
from geohp.raster.write.layer import label_layer
from geohp.raster.write.resumable import ResumableRasterWriter

CLASSES = (
    LandCoverClass(0, "water", "#2255aa"),
    LandCoverClass(1, "=field", "#99aa44"),
    LandCoverClass(3, "town", "#cc4444"),
)
UTM = rasterio.crs.CRS.from_epsg(32633)
PLACE = Affine(2, 0, 380000, 0, -2, 5800000)


def write(path, labels, *, transform=PLACE, model="m", classes=CLASSES, crs=UTM, gcps=()):
    """A label map as geohp writes them."""
    grid = Grid(labels.shape[1], labels.shape[0], transform, crs, gcps)
    layer = label_layer(classes, {MODEL_TAG: model} if model else {})
    with ResumableRasterWriter.open({path: layer}, grid, {}) as work:
        work.put(0, 0, {path: labels.astype(np.uint8)})
        work.publish()
    return path


def write_confidence(path, values, *, transform=PLACE):
    profile = {"driver": "GTiff", "width": values.shape[1], "height": values.shape[0], "count": 1, "dtype": "uint8"}
    with rasterio.open(path, "w", crs=UTM, transform=transform, nodata=255, **profile) as dataset:
        dataset.write(np.round(values * 254).astype(np.uint8), 1)
        dataset.scales = (1 / 254,)
    return path


def read(path):
    with rasterio.open(path) as dataset:
        return dataset.read(1)


@pytest.fixture
def dates(tmp_path):
    """Water that retreats, a town that grows, a speck of noise, and no data in a corner of either."""
    old = np.ones((40, 60), np.uint8)
    old[:, :20] = 0
    new = old.copy()
    new[:, 15:20] = 1
    new[10:20, 40:50] = 3
    new[30, 30] = new[30, 31] = 3
    old[:3, :3] = 255
    new[-4:, -4:] = 255
    return write(tmp_path / "old.tif", old), write(tmp_path / "new.tif", new)


@pytest.mark.parametrize(("dtype", "label"), [("uint16", 259), ("int16", -253), ("uint16", 511)])
def test_labels_beyond_those_of_maps_are_not_taken_for_others(dates, tmp_path, dtype, label):
    profile = {"driver": "GTiff", "width": 60, "height": 40, "count": 1, "dtype": dtype, "crs": UTM, "transform": PLACE}
    with rasterio.open(dates[0]) as old, rasterio.open(tmp_path / "wide.tif", "w", **profile) as wide:
        wide.write(np.where(old.read(1) == 1, label, 0).astype(dtype), 1)
        wide.update_tags(1, **old.tags(1))
        wide.update_tags(**old.tags())
    with pytest.raises(VectorError, match=f"label {label}; number the labels from 0 to 254"):
        geohp.change(dates[0], tmp_path / "wide.tif", tmp_path / "change.tif")


def test_what_gives_access_to_the_dates_is_not_told(dates, tmp_path, monkeypatch):
    titles = []
    monkeypatch.setattr(picture, "draw_panels", lambda panels, _: titles.extend(title for title, _ in panels) or b"")
    new = dates[1].rename(tmp_path / "new.tif?token=4711")  # as the end of an address
    geohp.change(dates[0], new, tmp_path / "change.tif", picture=tmp_path / "change.png")
    assert titles == ["old.tif", "new.tif?token=***", "change"]
    with rasterio.open(tmp_path / "change.tif") as dataset:
        assert dataset.tags()["GEOHP_CHANGE_TO"].endswith("/new.tif?token=***")


def test_all_that_is_made_says_the_same(dates, tmp_path):
    old, new = dates
    files = {
        name: tmp_path / f"change.{suffix}"
        for name, suffix in (("polygons", "gpkg"), ("matrix", "csv"), ("picture", "png"))
    }
    result = geohp.change(old, new, tmp_path / "change.tif", **files)
    before, after = read(old), read(new)
    both = (before != 255) & (after != 255)
    expected = np.where(both, 100 * before.astype(np.uint16) + after, NODATA)
    np.testing.assert_array_equal(read(tmp_path / "change.tif"), expected)
    with rasterio.open(tmp_path / "change.tif") as dataset, rasterio.open(old) as first:
        assert (dataset.transform, dataset.crs, dataset.nodata) == (first.transform, first.crs, NODATA)
        names = {entry.id: entry.name for entry in classes_from_json(dataset.tags(1)["classes"])}
        assert names[1] == "water → =field"
        assert names[0] == "water (unchanged)"
        assert dataset.colormap(1)[103][:3] == CLASSES[2].rgb
        assert dataset.tags()["GEOHP_CHANGE_CODE"] == "100 * from + to"
    pixels = result.matrix.pixels
    assert pixels.sum() == both.sum()
    assert pixels[0, 1] == 5 * 40
    assert pixels[1, 2] == 102
    assert result.matrix.areas_ha == pytest.approx(pixels * 4 / 1e4, rel=1e-3)
    assert result.matrix.changed.pixels == 302
    assert result.matrix.suppressed_share == 0
    shown = result._repr_html_()
    assert "now =field (ha)" in shown
    assert f"{200 * 4 / 1e4:.3f}" in shown
    frame = gpd.read_file(tmp_path / "change.gpkg", layer="change")
    assert result.polygons == len(frame) == 3
    assert sorted(zip(frame.from_name, frame.to_name, frame.n_pixels, strict=True)) == [
        ("=field", "town", 2), ("=field", "town", 100), ("water", "=field", 200)
    ]  # fmt: skip
    assert frame.area_m2.sum() == pytest.approx(302 * 4, rel=1e-3)
    rows = list(csv.reader((tmp_path / "change.csv").read_text().splitlines()))
    assert rows[0] == ["from \\ to (ha)", "water", "'=field", "town", "sum"]
    assert float(rows[1][2]) == pytest.approx(200 * 4 / 1e4)
    assert float(rows[-1][-1]) == pytest.approx(both.sum() * 4 / 1e4)
    with Image.open(tmp_path / "change.png") as picture:
        assert picture.width > 2.5 * picture.height
    assert result.files == (tmp_path / "change.tif", *files.values())
    with pytest.raises(OutputError, match="exists already"):
        geohp.change(old, new, tmp_path / "change.tif")


def test_blocks_make_no_difference(dates, tmp_path, monkeypatch):
    whole = geohp.change(*dates, tmp_path / "a.tif", polygons=tmp_path / "a.gpkg", min_area_m2=10)
    monkeypatch.setattr("geohp.comparison.change.BLOCK_PX", 16)
    blocks = geohp.change(*dates, tmp_path / "b.tif", polygons=tmp_path / "b.gpkg", min_area_m2=10)
    np.testing.assert_array_equal(read(tmp_path / "a.tif"), read(tmp_path / "b.tif"))
    assert whole.matrix.as_dict() == blocks.matrix.as_dict()
    whole_file, in_blocks = (gpd.read_file(tmp_path / f"{name}.gpkg", layer="change") for name in "ab")
    assert (
        whole_file.geometry.normalize().sort_values().tolist() == in_blocks.geometry.normalize().sort_values().tolist()
    )


def test_noise_is_suppressed_and_counted(dates, tmp_path):
    old, new = dates
    sure = np.full((40, 60), 0.9)
    doubtful = sure.copy()
    doubtful[:10, 15:20] = 0.4
    confidence = write_confidence(tmp_path / "a.tif", sure), write_confidence(tmp_path / "b.tif", doubtful)
    result = geohp.change(
        old, new, tmp_path / "change.tif", confidence=confidence, min_confidence=0.5, min_area_m2=9,
        polygons=tmp_path / "change.gpkg",
    )  # fmt: skip
    codes = read(tmp_path / "change.tif")
    assert (codes[30, 30:32] == 101).all()  # smaller than 9 m2
    assert (codes[3:10, 15:20] == 0).all()
    assert (codes[10:, 15:20] == 1).all()
    assert (result.matrix.unsure.pixels, result.matrix.small.pixels) == (50, 2)
    assert result.matrix.changed.pixels == 250
    assert result.matrix.suppressed_share == pytest.approx(52 / 302)
    assert result.matrix.unsure.area_ha == pytest.approx(50 * 4 / 1e4, rel=1e-3)
    frame = gpd.read_file(tmp_path / "change.gpkg", layer="change")
    assert sorted(frame.n_pixels) == [100, 150]
    np.testing.assert_allclose(frame.mean_confidence, 0.9, atol=0.01)
    with rasterio.open(confidence[1], "r+") as dataset:
        dataset.update_tags(**{MODEL_TAG: "n"})
    with pytest.raises(VectorError, match=r"b\.tif is of another map than .*new\.tif"):
        geohp.change(old, new, tmp_path / "x.tif", confidence=confidence, min_confidence=0.5)
    with pytest.raises(ConfigError, match=r"min_confidence=: label maps do not say"):
        geohp.change(old, new, tmp_path / "x.tif", min_confidence=0.5)


def test_the_new_date_is_brought_to_the_old_ones_pixels(dates, tmp_path):
    old, new = dates
    # The same ground in pixels of half the side, further to the west and south, and in degrees.
    finer = np.full((100, 150), 255, np.uint8)
    finer[:80, 20:140] = read(new).repeat(2, 0).repeat(2, 1)
    shifted = write(tmp_path / "finer.tif", finer, transform=PLACE * Affine.translation(-10, 0) * Affine.scale(0.5))
    geohp.change(old, new, tmp_path / "a.tif")
    geohp.change(old, shifted, tmp_path / "b.tif")
    np.testing.assert_array_equal(read(tmp_path / "a.tif"), read(tmp_path / "b.tif"))
    doubt = np.full((40, 60), 0.9)
    doubt[12:16, 42:46] = 0.2
    own = write_confidence(tmp_path / "own.tif", doubt)
    moved = np.full((100, 150), 0.9)
    moved[:80, 20:140] = doubt.repeat(2, 0).repeat(2, 1)
    place = PLACE * Affine.translation(-10, 0) * Affine.scale(0.5)
    elsewhere = write_confidence(tmp_path / "elsewhere.tif", moved, transform=place)
    geohp.change(old, new, tmp_path / "d.tif", confidence=(own, own), min_confidence=0.5)
    geohp.change(old, shifted, tmp_path / "e.tif", confidence=(own, elsewhere), min_confidence=0.5)
    assert (read(tmp_path / "d.tif")[12:16, 42:46] == 101).all()
    np.testing.assert_array_equal(read(tmp_path / "d.tif"), read(tmp_path / "e.tif"))
    half = write(tmp_path / "half.tif", read(new)[:, 30:], transform=PLACE * Affine.translation(30, 0))
    result = geohp.change(old, half, tmp_path / "c.tif")
    assert (read(tmp_path / "c.tif")[:, :30] == NODATA).all()
    assert result.matrix.compared.pixels == (read(tmp_path / "a.tif")[:, 30:] != NODATA).sum()


def test_control_points_of_the_old_date_place_what_has_changed(dates, tmp_path):
    old, new = dates
    corners = [(row, col, *(PLACE * (col + row / 9, row))) for row, col in ((0, 0), (0, 60), (40, 0), (40, 60))]
    points = tuple(GroundControlPoint(*corner, z=0) for corner in corners)
    slanted = write(tmp_path / "slanted.tif", read(old), transform=Affine.identity(), gcps=points)
    out = tmp_path / "change.tif"
    geohp.change(slanted, new, out)
    with rasterio.open(out) as dataset:
        assert [(p.row, p.col, p.x, p.y) for p in dataset.gcps[0]] == corners
        assert (dataset.read(1)[20, :12] == 0).all()


def test_an_area_of_interest_bounds_what_is_compared(dates, tmp_path):
    import shapely

    area = gpd.GeoSeries([shapely.box(380000 + 2 * 38, 5800000 - 2 * 16, 380000 + 2 * 60, 5800000)], crs=UTM)
    result = geohp.change(*dates, tmp_path / "change.tif", aoi=area)
    codes = read(tmp_path / "change.tif")
    assert (codes[:, :38] == NODATA).all()
    assert (codes[16:] == NODATA).all()
    cropped = geohp.change(*dates, tmp_path / "crop.tif", aoi=area, crop=True)
    np.testing.assert_array_equal(read(tmp_path / "crop.tif"), codes[:16, 38:])
    assert cropped.matrix.as_dict() == result.matrix.as_dict()
    with rasterio.open(tmp_path / "crop.tif") as dataset:
        assert dataset.transform == PLACE * Affine.translation(38, 0)
    assert result.matrix.compared.pixels == 16 * 22
    assert result.matrix.changed.pixels == 6 * 10


def test_control_points_place_what_is_cropped_as_they_place_the_whole(dates, tmp_path):
    import shapely

    old, new = dates
    slanted = [(row, col, *(PLACE * (col + row / 2, row + col / 7))) for row in (0, 20, 40) for col in (0, 20, 40, 60)]
    points = tuple(GroundControlPoint(*point, z=0) for point in slanted)
    old, sure = write(tmp_path / "slanted.tif", read(old), transform=Affine.identity(), gcps=points), tmp_path / "s.tif"
    for path in (sure, write_confidence(tmp_path / "new_s.tif", np.linspace(0, 1, 2400).reshape(40, 60))):
        if path == sure:
            with rasterio.open(old) as like, rasterio.open(sure, "w", **{**like.profile, "nodata": 255}) as dataset:
                dataset.gcps = like.gcps
                dataset.write(np.full((1, 40, 60), 200, np.uint8))
    area = gpd.GeoSeries([shapely.box(380000 + 2 * 20, 5800000 - 2 * 36, 380000 + 2 * 58, 5800000 - 8)], crs=UTM)
    options = {"aoi": area, "confidence": (sure, tmp_path / "new_s.tif"), "min_confidence": 0.4}
    result = geohp.change(old, new, tmp_path / "whole.tif", **options)
    cropped = geohp.change(old, new, tmp_path / "crop.tif", crop=True, **options)
    for kind in ("compared", "changed", "unsure"):
        assert getattr(cropped.matrix, kind).pixels == getattr(result.matrix, kind).pixels > 0
    whole, part = read(tmp_path / "whole.tif"), read(tmp_path / "crop.tif")
    rows, cols = np.nonzero(whole != NODATA)
    np.testing.assert_array_equal(part, whole[rows.min() : rows.max() + 1, cols.min() : cols.max() + 1])
    with rasterio.open(tmp_path / "crop.tif") as dataset:
        moved = [(p.row + rows.min(), p.col + cols.min(), p.x, p.y) for p in dataset.gcps[0]]
        assert np.allclose(moved, slanted)
        assert Grid.of(dataset).transform.is_identity


def test_nothing_is_brought_to_what_control_points_bend(dates, tmp_path):
    """By their transform it would lie beside, unlike on a date with the same points."""
    old, new = dates
    bent = [(row, col, *(PLACE * (col + (row / 9) ** 2, row))) for row in (0, 20, 40) for col in (0, 20, 40, 60)]
    points = tuple(GroundControlPoint(*point, z=0) for point in bent)
    old, same = (
        write(tmp_path / f"b{path.name}", read(path), transform=Affine.identity(), gcps=points) for path in dates
    )
    with pytest.raises(SceneError, match=r"new\.tif cannot be brought .* control points bend; warp that"):
        geohp.change(old, new, tmp_path / "c.tif")
    assert geohp.change(old, same, tmp_path / "c.tif").matrix.changed.pixels > 0


def test_what_cannot_be_compared_is_refused(dates, tmp_path, write_scene, three_fields):
    old, new = dates
    labels, out = read(old), tmp_path / "change.tif"

    def refused(error, match, first, second, **options):
        with pytest.raises(error, match=match):
            geohp.change(first, second, out, **options)
        assert not out.exists()

    refused(VectorError, "of different models", old, write(tmp_path / "m.tif", labels, model="other"))
    refused(VectorError, "of different models", old, write(tmp_path / "n.tif", labels, model=None))
    renamed = (CLASSES[0], LandCoverClass(1, "wood", "#113311"), CLASSES[2])
    refused(
        VectorError, "label 1 is '=field' in .* and 'wood' in", old, write(tmp_path / "r.tif", labels, classes=renamed)
    )
    far = write(tmp_path / "far.tif", labels, transform=PLACE * Affine.translation(5000, 0))
    refused(SceneError, "show different ground", old, far)
    refused(SceneError, "nowhere.tif does not say where", old, write(tmp_path / "nowhere.tif", labels, crs=None))
    site = write(tmp_path / "site.tif", labels, crs=CRS.from_wkt('LOCAL_CS["site",UNIT["metre",1]]'))
    refused(VectorError, "nothing leads from the .* to 'site'", site, old)
    refused(ConfigError, "is both dates", old, old)
    scene = write_scene(three_fields, "scene.tif", transform=PLACE)
    twin = write_scene(three_fields, "twin.tif", transform=PLACE)
    refused(ConfigError, "the scaling 'auto' measures nothing", scene, twin, classes=2, per_date_scaling=True)
    refused(ConfigError, "old.tif is a label map and .*scene.tif is none", old, scene)
    refused(ConfigError, "classes=: is for scenes", old, new, classes=4)
    refused(ConfigError, "min_confidence=: 1.5 is no confidence", old, new, min_confidence=1.5)
    refused(OutputError, r"change.txt has the suffix", old, new, matrix=tmp_path / "change.txt")
    area = gpd.GeoDataFrame(geometry=gpd.points_from_xy([0], [0], crs=UTM).buffer(1e7))
    area.to_file(tmp_path / "area.geojson")
    own = {"aoi": tmp_path / "area.geojson", "polygons": tmp_path / "area.geojson", "overwrite": True}
    refused(OutputError, "area.geojson: is the input itself", old, new, **own)
    with pytest.raises(ConfigError, match=r"old\.tif is one of these"):
        geohp.change(scene, twin, tmp_path / "maps" / "old.tif", classes=2, maps=tmp_path / "maps")


@pytest.mark.parametrize("which", [0, 1])
def test_a_map_that_a_date_is_made_of_is_not_replaced_even_when_asked_to(dates, tmp_path, which):
    given, precious = list(dates), dates[which].read_bytes()
    given[which] = tmp_path / "virtual.vrt"
    rasterio.shutil.copy(dates[which], given[which], driver="VRT")
    with pytest.raises(OutputError, match="the input is made of it"):
        geohp.change(*given, dates[which], overwrite=True)
    assert dates[which].read_bytes() == precious


def test_two_scenes_get_one_model(write_scene, three_fields, tmp_path):
    old = write_scene(three_fields, "2017.tif")
    later = three_fields.copy()
    later[:, 20:120, 80:120] = three_fields[:, 20:120, 10:50]  # grey has become green
    new = write_scene(later, "2021.tif")
    result = geohp.change(
        old, new, tmp_path / "change.tif", classes=3, split_covers=True, min_area_m2=50, min_confidence=0.01,
        maps=tmp_path / "maps", polygons=tmp_path / "change.gpkg", picture=tmp_path / "change.png",
    )  # fmt: skip
    codes = read(tmp_path / "change.tif")
    changed = codes // 100 != codes % 100
    truth = np.zeros_like(changed)
    truth[20:120, 80:120] = True
    assert (changed & truth).sum() / (changed | truth).sum() > 0.75
    assert result.model is not None
    assert "k-means on the scenes' own" in result.model.origin
    assert {path.name for path in (tmp_path / "maps").glob("*.tif")} == {
        "old.tif", "new.tif", "old_confidence.tif", "new_confidence.tif"
    }  # fmt: skip
    frame = gpd.read_file(tmp_path / "change.gpkg", layer="change")
    assert frame.mean_confidence.between(0, 1).all()
    again = geohp.change(
        tmp_path / "maps" / "old.tif", tmp_path / "maps" / "new.tif", tmp_path / "b.tif", min_area_m2=50
    )
    assert again.matrix.pixels.tolist() == result.matrix.pixels.tolist()


@pytest.mark.parametrize(("scaling", "said"), [("auto", True), ("0,255", False)])
def test_dates_of_different_types_are_not_scaled_apart_without_a_word(
    write_scene, three_fields, tmp_path, caplog, scaling, said
):
    old, new = write_scene(three_fields, "old.tif"), write_scene(three_fields.astype(np.uint16), "new.tif")
    geohp.change(old, new, tmp_path / "change.tif", classes=3, scaling=scaling)
    assert ("store values of different types" in caplog.text) == said


def test_a_date_that_is_brighter_is_scaled_by_itself_where_asked_for(write_scene, three_fields, tmp_path, caplog):
    old = write_scene(three_fields, "2017.tif")
    darker = np.clip(three_fields * 0.6 + 5, 1, 255).astype(np.uint8)  # nothing else has changed
    new = write_scene(darker, "2021.tif")
    with caplog.at_level("INFO", "geohp"):
        plain = geohp.change(old, new, tmp_path / "a.tif", classes=3)
    assert "one date is brighter than the other" in caplog.text
    each = geohp.change(
        old, new, tmp_path / "b.tif", classes=3, scaling="percentiles-per-band:2,98", per_date_scaling=True
    )
    assert each.matrix.changed.pixels < 0.03 * each.matrix.compared.pixels
    assert plain.matrix.changed.pixels > 5 * each.matrix.changed.pixels


def test_interrupted_it_goes_on_and_leaves_nothing_behind(write_scene, three_fields, tmp_path, monkeypatch):
    old, new = write_scene(three_fields, "2017.tif"), write_scene(three_fields[:, ::-1].copy(), "2021.tif")
    from geohp.comparison import change as module

    with monkeypatch.context() as patch:
        patch.setattr(module, "survey", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt) as stop:
            geohp.change(old, new, tmp_path / "change.tif", classes=3)
    assert "the same command goes on" in " ".join(stop.value.__notes__)
    assert not (tmp_path / "change.tif").exists()
    made = (tmp_path / ".change.tif.maps" / "old.tif").stat().st_mtime_ns
    seen = []
    plain = module.open_pair
    monkeypatch.setattr(
        module,
        "open_pair",
        lambda dates, *rest: seen.append(dates.old.labels.stat().st_mtime_ns) or plain(dates, *rest),
    )
    geohp.change(old, new, tmp_path / "change.tif", classes=3)
    assert seen == [made]
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_what_begins_anew_replaces_no_comparison_that_is_complete(dates, tmp_path, monkeypatch):
    out, matrix = tmp_path / "change.tif", tmp_path / "change.csv"
    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):  # noqa: PT012
        patch.setattr("geohp.comparison.change.write_text", lambda *_: 1 / 0)
        geohp.change(*dates, out, matrix=matrix)
    complete = out.read_bytes()
    with pytest.raises(OutputError, match=r"change\.tif: exists already"):
        geohp.change(*reversed(dates), out, matrix=matrix, restart=True)
    assert out.read_bytes() == complete
    geohp.change(*dates, out, matrix=matrix)
    assert out.read_bytes() == complete
    assert matrix.exists()


@pytest.mark.parametrize("which", ["old", "new", "confidence"])
@pytest.mark.parametrize("when", [1, 2])
def test_maps_that_change_while_they_are_read_give_no_comparison(dates, tmp_path, which, when):
    sure = [write_confidence(tmp_path / f"{name}_sure.tif", np.ones((40, 60))) for name in ("old", "new")]
    moved = write(tmp_path / "moved.tif", read(dates[1]), transform=PLACE @ Affine.translation(3, 0))
    changing = {"old": dates[0], "new": moved, "confidence": sure[1]}[which]

    def change(stage, done, total, detail=""):
        if done == when:
            changing.write_bytes(changing.read_bytes() + b"more")

    with pytest.raises(SceneError, match="has changed while it was read"):
        geohp.change(dates[0], moved, tmp_path / "c.tif", confidence=sure, min_confidence=0.5, progress=change)
    assert not (tmp_path / "c.tif").exists()
    # Of blocks that were read before or after, none is taken for one of the files as they are now.
    kept = work_folder(tmp_path / "c.tif")
    if kept.exists():
        with pytest.raises(OutputError, match="unfinished work with another input files"):
            geohp.change(dates[0], moved, tmp_path / "c.tif", confidence=sure, min_confidence=0.5)


@pytest.mark.parametrize("shift", [0, 3])
def test_files_behind_a_virtual_map_that_change_give_no_comparison(dates, tmp_path, shift):
    """While it is read, and before an interrupted comparison goes on; on the old date's grid and on another."""
    source = write(tmp_path / "source.tif", read(dates[1]), transform=PLACE @ Affine.translation(shift, 0))
    rasterio.shutil.copy(source, tmp_path / "new.vrt", driver="VRT")

    def change(stage, done, total, detail=""):
        if done == 2:
            source.write_bytes(source.read_bytes() + b"more")

    with pytest.raises(SceneError, match="has changed while it was read"):
        geohp.change(dates[0], tmp_path / "new.vrt", tmp_path / "c.tif", progress=change)
    with pytest.raises(OutputError, match="unfinished work with another input files"):
        geohp.change(dates[0], tmp_path / "new.vrt", tmp_path / "c.tif")


def test_numbers_of_transitions_tell_both_classes():
    few = Transitions(CLASSES)
    assert few.codes(np.uint8([1, 3]), np.uint8([3, 0])).tolist() == [103, 300]
    assert few.names(103) == ("=field", "town")
    many = Transitions((*CLASSES, LandCoverClass(254, "last", "#000000")))
    assert many.codes(np.uint8([254]), np.uint8([254])).tolist() == [256 * 254 + 254]
    assert many.ids(256 * 254 + 3) == (254, 3)
    with pytest.raises(VectorError, match="label 300"):
        Transitions((LandCoverClass(300, "beyond", "#000000"),))


def test_the_command_shows_the_matrix_and_what_was_suppressed(dates, tmp_path):
    from typer.testing import CliRunner

    from geohp.cli.app import app

    runner = CliRunner()
    arguments = ["change", *map(str, dates), "--min-area", "9", "-o"]
    shown = runner.invoke(app, [*arguments, str(tmp_path / "a.tif")])
    assert shown.exit_code == 0, shown.output
    assert "have changed" in shown.output
    assert "suppressed as noise: 0.7 % of the pixels that differ" in shown.output
    assert "from \\ to (ha)" in shown.output
    as_json = runner.invoke(app, [*arguments, str(tmp_path / "b.tif"), "--json"])
    details = json.loads(as_json.stdout.splitlines()[-1])["details"]
    assert details["matrix"]["pixels"][0][1] == 200
    assert details["matrix"]["small"] == {"pixels": 2, "area_ha": pytest.approx(8e-4, rel=1e-2)}


def test_memory_does_not_grow_with_the_dates(tmp_path, peak_memory):
    script = """
import sys, numpy as np, rasterio, geohp
side, folder = int(sys.argv[1]), sys.argv[2]
options = dict(driver="GTiff", width=side, height=side, count=1, dtype="uint8", tiled=True, compress="deflate")
options |= dict(crs="EPSG:32633", transform=rasterio.Affine(1, 0, 3e5, 0, -1, 5e6))
classes = '[{"id": 0, "name": "a", "colour": "#112233"}, {"id": 1, "name": "b", "colour": "#445566"}]'
for name, value in (("old", 0), ("new", 1)):
    with rasterio.open(f"{folder}/{name}{side}.tif", "w", **options) as out:
        block = np.zeros((256, 256), np.uint8)
        block[:100] = value
        for _, window in out.block_windows():
            out.write(block[: window.height, : window.width], 1, window=window)
        out.update_tags(1, classes=classes)
result = geohp.change(f"{folder}/old{side}.tif", f"{folder}/new{side}.tif", f"{folder}/change{side}.tif")
print(result.matrix.changed.pixels)
"""
    _, small = peak_memory(script, 2048, tmp_path)
    changed, large = peak_memory(script, 6144, tmp_path)
    assert int(changed) > 6144 * 6144 / 3
    assert large - small < 120  # nine times the pixels: 36 MiB a map of them in bytes


@pytest.mark.slow
def test_lakes_of_two_real_dates_stay(shared, tmp_path):
    scenes = [shared / "data" / "scenes" / f"naip_4band_5m{date}.tif" for date in ("_2017", "")]
    result = geohp.change(*scenes, tmp_path / "change.tif", classes=6, bands=[1, 2, 3, 4], picture=tmp_path / "a.png")
    codes = read(tmp_path / "change.tif")
    with rasterio.open(scenes[0]) as old:
        assert codes.shape == old.shape
        lake = old.index(486310, 5207620)  # in the west, at both dates
    around = codes[lake[0] - 10 : lake[0] + 10, lake[1] - 10 : lake[1] + 10]
    assert (around // 100 == around % 100).mean() > 0.95
    # The other date begins 2 m to the west and ends 2 m to the east of where this one does.
    assert result.matrix.compared.pixels == (codes != NODATA).sum() > 0.98 * codes.size


def test_the_style_has_only_the_transitions_that_there_are(dates, tmp_path):
    result = geohp.change(*dates, tmp_path / "change.tif", qml=True)
    style = tmp_path / "change.qml"
    assert style in result.files
    entries = ElementTree.fromstring(style.read_text().partition("\n")[2]).iter("paletteEntry")
    occurring = set(np.unique(read(tmp_path / "change.tif"))) - {NODATA}
    assert {int(entry.get("value")) for entry in entries} == occurring
    (tmp_path / "change.tif").unlink()
    with pytest.raises(OutputError, match=r"change\.qml"):
        geohp.change(*dates, tmp_path / "change.tif", qml=True)
    assert not (tmp_path / "change.tif").exists()


def test_links_without_end_are_no_folder_for_maps(tmp_path):
    (tmp_path / "round").symlink_to("round")
    for links in ({"maps": tmp_path / "round"}, {"out": tmp_path / "round" / "c.tif", "maps": tmp_path}):
        with pytest.raises(OutputError, match=r"leads nowhere|symbolic links"):
            ChangeOptions(**{"out": tmp_path / "c.tif", **links})


def test_killed_at_its_very_end_it_leaves_no_maps(dates, tmp_path):
    old, new = dates
    out = tmp_path / "change.tif"
    geohp.change(old, new, out)
    maps = tmp_path / ".change.tif.maps"
    maps.mkdir()
    (maps / "old.tif").write_bytes(b"half removed")
    with pytest.raises(OutputError, match="exists already"):
        geohp.change(old, new, out)
    assert not maps.exists()
