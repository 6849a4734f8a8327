"""Many scenes with one model: the same ground in the same class, nothing made twice, nothing lost or replaced."""

import gc
import json
import logging
import signal
import subprocess
import sys
import time
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
from affine import Affine
from typer.testing import CliRunner

import geohp
from geohp.cli.app import app
from geohp.errors import ConfigError, GeohpError, ModelError, OutputError, SceneError
from geohp.inference import rasters as segmenting

SIDE, TILE, STEP = 700, 448, 252


def write(path, data, row=0, col=0, **profile):
    grid = {"crs": "EPSG:32633", "transform": Affine(0.5, 0, 3e5 + col / 2, 0, -0.5, 5e6 - row / 2)}
    path.parent.mkdir(exist_ok=True)
    size = {"count": data.shape[0], "height": data.shape[1], "width": data.shape[2], "dtype": data.dtype}
    with rasterio.open(path, "w", driver="GTiff", tiled=True, **{**size, **grid, **profile}) as out:
        out.write(data)
    return path


@pytest.fixture(scope="module")
def ground():
    """(3, 700, 700) uint16: fields of colour that get three times as bright from west to east."""
    rng = np.random.default_rng(0)
    fields = rng.integers(0, 4, (14, 14)).repeat(50, 0).repeat(50, 1)
    colours = np.array([[300, 900, 200], [700, 700, 700], [900, 500, 300], [200, 300, 900]])
    light = np.linspace(1, 3, SIDE)
    return (colours[fields].transpose(2, 0, 1) * light + rng.integers(0, 60, (3, SIDE, SIDE))).astype(np.uint16)


@pytest.fixture(scope="module")
def tiles(ground, tmp_path_factory):
    """Four overlapping tiles of the ground."""
    folder = tmp_path_factory.mktemp("scenes") / "tiles"
    for name, row, col in (("nw", 0, 0), ("ne", 0, STEP), ("sw", STEP, 0), ("se", STEP, STEP)):
        write(folder / f"{name}.tif", ground[:, row : row + TILE, col : col + TILE], row, col)
    return folder


@pytest.fixture(scope="module")
def maps(tiles, tmp_path_factory):
    """What one call makes of them; not to be changed."""
    out = tmp_path_factory.mktemp("made") / "maps"
    made = geohp.segment_files(tiles, out, classes=4, products=["confidence", "polygons", "stac"])
    assert not made.failed
    return made, out


def labels(path):
    with rasterio.open(path) as dataset:
        return dataset.read(1)


def overlap(folder, margin):
    """What two neighbours say of the ground that both show, less a margin along their borders."""
    shared = TILE - STEP
    inner = np.s_[margin : TILE - margin, margin : shared - margin]
    return labels(folder / "nw.tif")[:, STEP:][inner], labels(folder / "ne.tif")[:, :shared][inner]


def test_the_same_ground_gets_the_same_class_in_every_tile(maps, tiles, tmp_path):
    _, out = maps
    one, other = overlap(out, 24)
    assert len(np.unique(one)) == 4
    assert (one == other).mean() > 0.96
    # Scaled each by its own percentiles, the same model tells them apart by where they lie.
    model = out / "model.safetensors"
    for name in ("nw", "ne"):
        geohp.segment_file(tiles / f"{name}.tif", tmp_path / f"{name}.tif", model)
    apart = overlap(tmp_path, 24)
    assert (apart[0] == apart[1]).mean() < (one == other).mean() - 0.05


def test_names_contents_and_mosaic(maps, ground):
    made, out = maps
    names = {"nw", "ne", "sw", "se"}
    kinds = (".tif", "_confidence.tif", ".gpkg", ".json")
    wanted = {f"{name}{kind}" for name in names for kind in kinds} | {"mosaic.vrt", "model.safetensors", ".geohp"}
    assert {path.name for path in out.iterdir()} == wanted
    assert [path.name for path in made.maps[0].files] == ["ne.tif", "ne_confidence.tif", "ne.gpkg", "ne.json"]
    with rasterio.open(out / "mosaic.vrt") as mosaic, rasterio.open(out / "ne.tif") as first:
        assert mosaic.shape == (SIDE, SIDE)
        assert mosaic.transform == Affine(0.5, 0, 3e5, 0, -0.5, 5e6)
        assert mosaic.crs == first.crs
        assert mosaic.nodata == 255
        assert {n: mosaic.colormap(1)[n] for n in range(4)} == {n: first.colormap(1)[n] for n in range(4)}
        assert mosaic.tags(1)["classes"] == first.tags(1)["classes"]
        whole = mosaic.read(1)
    expected = np.full((SIDE, SIDE), 255, dtype=np.uint8)
    for name, row, col in (("ne", 0, STEP), ("nw", 0, 0), ("se", STEP, STEP), ("sw", STEP, 0)):  # later on top
        expected[row : row + TILE, col : col + TILE] = labels(out / f"{name}.tif")
    np.testing.assert_array_equal(whole, expected)
    assert 'relativeToVRT="1">ne.tif<' in (out / "mosaic.vrt").read_text()


def test_the_mosaic_shows_what_lies_below_nodata(ground, tmp_path):
    holed = ground[:, :200, :200].copy()
    holed[:, 50:100, 50:100] = 0
    scenes = [write(tmp_path / "a.tif", ground[:, :200, :200]), write(tmp_path / "b.tif", holed, nodata=0)]
    geohp.segment_files(scenes, tmp_path / "maps", classes=3)
    hole = np.s_[50:100, 50:100]
    mosaic = labels(tmp_path / "maps" / "mosaic.vrt")
    np.testing.assert_array_equal(mosaic[hole], labels(tmp_path / "maps" / "a.tif")[hole])
    below = labels(tmp_path / "maps" / "b.tif")
    np.testing.assert_array_equal(mosaic[below != 255], below[below != 255])


def test_made_once_is_not_made_again_and_only_what_is_missing_is(tiles, tmp_path, monkeypatch):
    ran = []
    plain = segmenting.label_blocks
    monkeypatch.setattr(segmenting, "label_blocks", lambda *a, **k: ran.append(a[0].path) or plain(*a, **k))
    out = tmp_path / "maps"
    some = [tiles / "nw.tif", tiles / "ne.tif"]
    first = geohp.segment_files(some, out, classes=4)
    assert len(ran) == 2
    before = {path.name: path.read_bytes() for path in out.glob("*.tif")}
    again = geohp.segment_files(some, out, classes=4)
    assert len(ran) == 2
    assert [one.made_earlier for one in first.maps + again.maps] == [False, False, True, True]
    (out / "ne.tif").unlink()
    more = geohp.segment_files(tiles, out, classes=4)
    assert [Path(path).name for path in ran[2:]] == ["ne.tif", "se.tif", "sw.tif"]
    assert {name: (out / name).read_bytes() for name in before} == before  # the classes and the scaling are the same
    assert not more.failed
    with rasterio.open(more.mosaic) as mosaic:
        assert mosaic.shape == (SIDE, SIDE)
    only = geohp.segment_files(tiles / "sw.tif", out, classes=4, products=["polygons"])
    assert len(ran) == 5
    assert (out / "sw.gpkg").exists()
    with rasterio.open(only.mosaic) as mosaic:  # still over all that the folder holds
        assert mosaic.shape == (SIDE, SIDE)


def test_polygons_made_without_confidence_get_it_where_both_are_asked_for(tiles, tmp_path):
    out, made = tmp_path / "maps", []
    for products in (["polygons"], ["confidence"], ["polygons", "confidence"], ["polygons", "confidence"]):
        (result,) = geohp.segment_files(tiles / "nw.tif", out, classes=4, products=products).maps
        made.append(result.made_earlier)
    assert made == [False, False, False, True]
    polygons = geopandas.read_file(out / "nw.gpkg", layer="landcover")
    assert polygons["mean_confidence"].gt(0).all()
    geohp.segment_files(tiles / "nw.tif", out, classes=4, products=["polygons"])
    assert "mean_confidence" in geopandas.read_file(out / "nw.gpkg", layer="landcover")


def test_what_something_else_has_made_is_refused_before_work_begins(tiles, tmp_path, monkeypatch):
    out = tmp_path / "maps"
    out.mkdir()
    (out / "sw.tif").write_text("precious")

    def never(*_, **__):
        raise AssertionError("work has begun")

    with monkeypatch.context() as patch:
        patch.setattr(segmenting, "label_blocks", never)
        patch.setattr("geohp.inference.segmenter.fit_kmeans", never)
        with pytest.raises(OutputError, match=r"sw\.tif: exists already.*overwrite"):
            geohp.segment_files(tiles, out, classes=4)
    assert [path.name for path in out.iterdir()] == ["sw.tif"]
    assert (out / "sw.tif").read_text() == "precious"
    geohp.segment_files(tiles / "sw.tif", out, classes=4, overwrite=True)
    kept = {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}
    with monkeypatch.context() as patch:
        patch.setattr(segmenting, "label_blocks", never)
        with pytest.raises(OutputError, match="overwrite=True"):
            geohp.segment_files(tiles / "sw.tif", out, classes=3)
        with pytest.raises(OutputError, match=r"sw\.tif: exists already and is not what this command makes"):
            geohp.segment_files(tiles / "sw.tif", out, classes=4, overlap=0.5)
    assert {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()} == kept
    geohp.segment_files(tiles / "sw.tif", out, classes=3, overwrite=True)
    assert set(np.unique(labels(out / "sw.tif"))) == {0, 1, 2}


def test_a_legend_that_was_corrected_is_not_met_with_the_maps_that_it_named_wrongly(ground, tmp_path):
    """The labels are the same numbers, and what made them the same model: only what they are called differs."""
    scene = write(tmp_path / "a.tif", ground[:, :128, :128])
    geohp.segment_files(scene, tmp_path / "model", classes=2)
    model, out = tmp_path / "model" / "model.safetensors", tmp_path / "maps"
    wrong, right = (geohp.Legend.named(dict(enumerate(names))) for names in (["water", "forest"], ["forest", "water"]))
    geohp.segment_files(scene, out, model, legend=wrong, products=["polygons", "qml"])
    assert geohp.segment_files(scene, out, model, legend=wrong, products=["polygons", "qml"]).maps[0].made_earlier
    with pytest.raises(OutputError, match=r"a\.tif: exists already and is not what this command makes"):
        geohp.segment_files(scene, out, model, legend=right, products=["polygons", "qml"])
    geohp.segment_files(scene, out, model, legend=right, products=["polygons", "qml"], overwrite=True)
    with rasterio.open(out / "a.tif") as dataset:
        assert [entry["name"] for entry in json.loads(dataset.tags(1)["classes"])] == ["forest", "water"]
    polygons = geopandas.read_file(out / "a.gpkg", layer="landcover")
    assert dict(zip(polygons["class_id"], polygons["class_name"], strict=True)) == {0: "forest", 1: "water"}


def test_a_bad_file_does_not_lose_the_others(tiles, tmp_path):
    scenes = tmp_path / "scenes"
    scenes.mkdir()
    for name in ("nw", "se"):
        (scenes / f"{name}.tif").write_bytes((tiles / f"{name}.tif").read_bytes())
    (scenes / "text.tif").write_text("no raster")
    cut = (tiles / "ne.tif").read_bytes()
    (scenes / "cut.tif").write_bytes(cut[: len(cut) // 2])
    out = tmp_path / "maps"
    arguments = ["segment", str(scenes), "--out-dir", str(out), "--classes", "3"]
    done = subprocess.run([sys.executable, "-m", "geohp", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    said = done.stderr.strip().splitlines()
    assert said[-1].startswith("geohp: error: 2 of 4 scenes gave no map")
    reasons = [line for line in said if line.startswith("geohp: no map of")]
    assert [sum(name in line for line in reasons) for name in ("text.tif", "cut.tif")] == [1, 1]
    assert "2 map(s)" in done.stdout
    assert {path.name for path in out.glob("*.tif")} == {"nw.tif", "se.tif"}
    assert rasterio.open(out / "mosaic.vrt").shape == (SIDE, SIDE)
    # Mended, what was missing is made with the same classes; what is there stays.
    (scenes / "text.tif").write_bytes((tiles / "sw.tif").read_bytes())
    (scenes / "cut.tif").write_bytes(cut)
    again = CliRunner().invoke(app, arguments)
    assert again.exit_code == 0, again.output
    assert "(2 of them made earlier)" in again.output


def test_a_scene_of_quite_other_pixels_stops_none_of_the_others(ground, tmp_path):
    scenes = tmp_path / "scenes"
    write(scenes / "usual.tif", ground[:, :96, :96])
    write(scenes / "world.tif", ground[:, :96, :96], transform=Affine(5e4, 0, 3e5, 0, -5e4, 5e6))
    made = geohp.segment_files(scenes, tmp_path / "maps", classes=3, pixel_size_m=0.5)
    assert (tmp_path / "maps" / "usual.tif").exists()
    (failed,) = made.failed
    assert failed.scene.endswith("world.tif")
    assert "times its size" in failed.error


def test_classes_are_found_on_small_scenes_where_nothing_of_the_large_ones_can_be_read(ground, tmp_path):
    """A file cut short, of which only the header is left, and one without data; both many times larger."""
    scenes = tmp_path / "scenes"
    cut = write(scenes / "cut.tif", ground[:, :448, :448]).read_bytes()
    (scenes / "cut.tif").write_bytes(cut[:700])
    write(scenes / "empty.tif", np.zeros((3, 448, 448), np.uint16), nodata=0)
    write(scenes / "small.tif", ground[:, :96, 200:296])  # four fields
    made = geohp.segment_files(scenes, tmp_path / "maps", classes=3, on_read_error="nodata")
    assert not made.failed
    assert set(np.unique(labels(tmp_path / "maps" / "small.tif"))) == {0, 1, 2}


@pytest.mark.parametrize(
    "notes",
    [
        {"scalings": 7},
        {"scalings": {"uint16,uint16,uint16": ["type", ["x"] * 3, [255] * 3]}},
        {"scalings": {"uint16,uint16,uint16": ["type", [0], [255]]}},
        {"scalings": {"uint16,uint16,uint16": ["type", [0] * 3, [float("nan")] * 3]}},
        {"scalings": {"uint16,uint16,uint16": ["type", [0] * 3, [10**400] * 3]}},
    ],
    ids=["a number", "texts", "another number of bands", "no numbers", "10^400"],
)
def test_a_record_that_remembers_what_cannot_be_is_refused(ground, tmp_path, notes):
    scene, out = write(tmp_path / "scenes" / "a.tif", ground[:, :96, :96]), tmp_path / "maps"
    geohp.segment_files(scene, out, classes=3)
    path = out / ".geohp" / "record.json"
    stored = json.loads(path.read_text())
    path.write_text(json.dumps({**stored, "notes": {**stored["notes"], **notes}}))
    with pytest.raises(OutputError, match=r"record\.json cannot be understood"):
        geohp.segment_files(scene, out, classes=3)


def test_where_a_folders_model_came_from_may_be_forgotten(ground, tmp_path):
    scene, out = write(tmp_path / "scenes" / "a.tif", ground[:, :96, :96]), tmp_path / "maps"
    geohp.segment_files(scene, out, classes=3)
    path = out / ".geohp" / "record.json"
    stored = json.loads(path.read_text())
    del stored["notes"]["origin"]
    path.write_text(json.dumps(stored))
    assert geohp.segment_files(scene, out, classes=3).maps[0].made_earlier


def test_a_model_of_scenes_without_data_is_refused_for_those_that_hold_some(ground, tmp_path):
    scenes = tmp_path / "scenes"
    write(scenes / "empty.tif", np.zeros((3, 96, 96), np.uint16), nodata=0)
    geohp.segment_files(scenes, tmp_path / "maps", classes=3)
    write(scenes / "full.tif", ground[:, :96, :96])
    with pytest.raises(ModelError, match="rcf has not been fitted: where classes were to be found there was no data"):
        geohp.segment_files(scenes, tmp_path / "maps", classes=3)


def test_areas_of_all_maps_leave_out_what_holds_no_data_also_in_later_calls(ground, tmp_path):
    scenes = [tmp_path / "scenes" / f"{name}.tif" for name in "ab"]

    def made(*data, **options):
        for scene, values in zip(scenes, data, strict=True):
            if values is not None:
                write(scene, values, nodata=0)
        result = geohp.segment_files(scenes, tmp_path / "maps", classes=2, **options)
        return [len(each.classes) for each in result.maps], sum(area.pixels for area in result.areas)

    field, nothing = ground[:, :60, :60], np.zeros_like(ground[:, :60, :60])
    assert made(field, nothing) == made(None, None) == ([2, 0], 3600)
    assert made(None, field, overwrite=True) == ([2, 2], 7200)
    assert made(None, nothing, overwrite=True) == made(None, None) == ([2, 0], 3600)


def test_damage_is_left_out_where_asked_and_told(tiles, tmp_path, monkeypatch):
    from geohp.raster.read.scene import Scene

    plain = Scene.read

    def damaged(self, row, col, height, width):
        if row < 300 and row + height > 256 and col < 300 and col + width > 256:
            raise SceneError(
                f"{self.path} cannot be read at row {row}, column {col} (9 x 9 px): broken", "fetch it again"
            )
        return plain(self, row, col, height, width)

    monkeypatch.setattr(Scene, "read", damaged)
    scene = str(tiles / "nw.tif")
    out = tmp_path / "labels.tif"
    failed = CliRunner().invoke(app, ["segment", scene, "--out", str(out), "--classes", "3"])
    assert isinstance(failed.exception, SceneError)
    done = CliRunner().invoke(app, ["segment", scene, "--out", str(out), "--classes", "3", "--on-read-error", "nodata"])
    assert done.exit_code == 0, done.output
    assert "1 part(s) of" in done.stderr
    assert f"row 256, column 256, 192 x 192 px: {scene} cannot be read" in done.stderr
    assert "broken\n" in done.stderr
    assert (labels(out) == 255).sum() == 192 * 192
    many = CliRunner().invoke(
        app, ["segment", scene, "--out-dir", str(tmp_path / "maps"), "--classes", "3", "--on-read-error", "nodata"]
    )
    assert many.exit_code == 0, many.output
    assert "1 part(s) of" in many.stderr


def test_killed_half_way_the_same_call_goes_on(tiles, tmp_path):
    out = tmp_path / "maps"
    command = [sys.executable, "-m", "geohp", "segment", str(tiles), "--out-dir", str(out), "--classes", "4"]
    code = (
        "import itertools, sys, time\n"
        "from geohp.inference import rasters\n"
        "plain, calls = rasters.label_blocks, itertools.count()\n"
        "def halting(*a, **k):\n"
        "    if next(calls) == 2: time.sleep(300)\n"
        "    return plain(*a, **k)\n"
        "rasters.label_blocks = halting\n"
        "from geohp.cli.app import main\n"
        "sys.argv = ['geohp', *sys.argv[1:]]\n"
        "main()\n"
    )
    running = subprocess.Popen([sys.executable, "-c", code, *command[3:]], stderr=subprocess.DEVNULL)
    while running.poll() is None and not (out / ".sw.tif.geohp").exists() and not (out / ".se.tif.geohp").exists():
        time.sleep(0.01)
    assert running.poll() is None
    running.send_signal(signal.SIGKILL)
    running.wait()
    there = {path: path.stat().st_mtime_ns for path in out.glob("*.tif")}
    assert len(there) == 2
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert {path: path.stat().st_mtime_ns for path in there} == there
    # Uninterrupted, with the classes that the folder remembers: found anew, they may differ in the last digit.
    found = {path: path.read_bytes() for path in out.glob("*.tif")}
    for path in found:
        path.unlink()
    subprocess.run(command, capture_output=True, check=True)
    assert {path: path.read_bytes() for path in out.glob("*.tif")} == found
    assert len(found) == 4


@pytest.mark.parametrize(
    ("scenes", "said"),
    [
        (("a/x.tif", "b/x.tif"), "would both be written to"),
        (("a/x.tif", "a/x_confidence.tif"), "would both be written to"),
        (("a/none/*.tif",), "no images there"),
        (("maps/x.tif",), "is a scene itself"),
    ],
)
def test_names_that_clash_and_patterns_of_nothing_are_refused(tmp_path, scenes, said, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder, name in (("a", "x"), ("b", "x"), ("a", "x_confidence"), ("maps", "x")):
        write(tmp_path / folder / f"{name}.tif", np.ones((3, 9, 9), dtype=np.uint8))
    with pytest.raises(GeohpError, match=said) as error:
        geohp.segment_files(scenes, "maps", classes=2, products=["confidence"])
    assert "\n" not in str(error.value)
    assert [path.name for path in (tmp_path / "maps").iterdir()] == ["x.tif"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"crs": "EPSG:32632"}, "another CRS"),
        ({"transform": Affine(0.4, 0, 3e5, 0, -0.4, 5e6)}, "another pixel size"),
        ({"transform": Affine(0.4, 0.3, 3e5, 0.3, -0.4, 5e6)}, "not north-up"),
        ({"crs": None}, "no CRS"),
    ],
)
def test_why_there_is_no_mosaic(ground, tmp_path, change, reason):
    scenes = [write(tmp_path / "a.tif", ground[:, :90, :90]), write(tmp_path / "b.tif", ground[:, :90, :90], **change)]
    made = geohp.segment_files(scenes, tmp_path / "maps", classes=2)
    assert reason in made.mosaic
    assert not made.failed
    assert not (tmp_path / "maps" / "mosaic.vrt").exists()


def test_what_was_made_of_a_replaced_map_is_told(ground, tmp_path, caplog):
    caplog.set_level(logging.WARNING, "geohp")
    scenes = [write(tmp_path / f"{name}.tif", ground[:, :90, :90]) for name in "ab"]
    out = tmp_path / "maps"
    geohp.segment_files(scenes, out, classes=2, products=["polygons", "qml"])
    geohp.segment_files(scenes[:1], out, classes=2, products=["polygons"], min_area_m2=2, overwrite=True)
    assert not caplog.records
    write(scenes[0], ground[:, 90:180, :90])
    geohp.segment_files(scenes, out, classes=2, products=["confidence"], overwrite=True)
    assert [record.getMessage() for record in caplog.records] == [
        f"{out / 'a.gpkg'} (and 1 more) was made of a map that is replaced: ask for it, too, or remove it"
    ]
    caplog.clear()
    geohp.segment_files(scenes, out, classes=2, products=["confidence"])
    assert not caplog.records


def test_what_belongs_to_an_earlier_mosaic_goes_with_it(ground, tmp_path):
    scenes = [write(tmp_path / f"{name}.tif", ground[:, :90, :90]) for name in "ab"]
    out = tmp_path / "maps"
    mosaic, overviews = out / "mosaic.vrt", out / "mosaic.vrt.ovr"
    geohp.segment_files(scenes[:1], out, classes=2)
    overviews.touch()
    assert geohp.segment_files(scenes, out, classes=2).mosaic == mosaic
    assert not overviews.exists()
    overviews.touch()
    write(scenes[0], ground[:, :90, :90], transform=Affine(0.4, 0, 3e5, 0, -0.4, 5e6))
    assert "another pixel size" in geohp.segment_files(scenes, out, classes=2, overwrite=True).mosaic
    assert not mosaic.exists()
    assert not overviews.exists()


def test_tiles_between_pixels_are_placed_at_the_nearest(ground, tmp_path):
    scenes = [
        write(tmp_path / "a.tif", ground[:, :60, :60]),
        write(tmp_path / "b.tif", ground[:, :60, :60], 20.3, -10.4),
    ]
    made = geohp.segment_files(scenes, tmp_path / "maps", classes=2)
    with rasterio.open(made.mosaic) as mosaic:
        assert mosaic.shape == (81, 71)
        assert mosaic.transform.c == pytest.approx(3e5 - 5.5)
        whole = mosaic.read(1)
    np.testing.assert_array_equal(whole[20:80, 1:61], labels(tmp_path / "maps" / "b.tif"))
    np.testing.assert_array_equal(whole[:20, 11:], labels(tmp_path / "maps" / "a.tif")[:20])


def test_bytes_beside_16_bit_values_are_scaled_apart(ground, tmp_path):
    from geohp.raster.read.collection import SceneCollection

    small = (ground[:, :200, :200] // 16).clip(1, 255).astype(np.uint8)
    paths = [write(tmp_path / "a.tif", ground[:, :200, :200]), write(tmp_path / "b.tif", small)]
    scenes = SceneCollection([*paths, tmp_path / "none.tif"])
    assert scenes.scalings["uint8,uint8,uint8"].high == (255.0,) * 3
    assert scenes.scalings["uint16,uint16,uint16"].rule == "percentiles:2,98"
    assert list(scenes.failed) == [str(tmp_path / "none.tif")]
    with scenes.open(paths[0]) as scene, geohp.open_scene(paths[0]) as alone:
        np.testing.assert_allclose(scene.scaling.high, alone.scaling.high, rtol=0.02)


def test_many_scenes_are_sampled_in_proportion_and_in_bounded_memory(ground, tmp_path, monkeypatch):
    from geohp.inference import kmeans_fit, scene_sampler
    from geohp.options import FitOptions
    from geohp.raster.read.collection import SceneCollection

    monkeypatch.setattr(scene_sampler, "SAMPLED_WINDOWS", 2)
    monkeypatch.setattr(scene_sampler, "SAMPLED_OF_MANY", 9)
    paths = [write(tmp_path / f"{n}.tif", ground[:, :250, :250], nodata=0) for n in range(8)]
    large = write(tmp_path / "large.tif", np.tile(ground, (1, 3, 3))[:, :2000, :2000])
    drawn, kept = [], []
    plain_draw, plain_some = scene_sampler.sample_origins, kmeans_fit._draw_rows

    def drawing(scene, side, count, *rest, **named):
        drawn.append((scene.height, count))
        return plain_draw(scene, side, count, *rest, **named)

    def keeping(rows, most, generator):
        kept.append(len(plain_some(rows, most, generator)))
        return plain_some(rows, most, generator)

    monkeypatch.setattr(scene_sampler, "sample_origins", drawing)
    monkeypatch.setattr(kmeans_fit, "_draw_rows", keeping)
    segmenter = geohp.Segmenter.fit(SceneCollection([*paths, large]), FitOptions(classes=4), device="cpu")
    assert sum(count for _, count in drawn) == 9
    assert max(drawn) == (2000, 8)
    assert sum(kept) <= 2 * 56**2
    assert len(segmenter.classes) == 4
    assert segmenter.model.card.bands is None


def test_options_that_do_not_go_together_are_refused(tiles, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scenes = [str(tiles / "nw.tif"), str(tiles / "se.tif")]
    for options, said in (
        ([*scenes, "--out", "x.tif"], "there are 2 scenes; give --out-dir"),
        ([str(tiles), "--out", "x.tif"], "there are 4 scenes"),
        ([scenes[0]], "give --out FILE for one scene, or --out-dir"),
        ([*scenes, "--out", "x.tif", "--out-dir", "maps"], "give one of them"),
        ([*scenes, "--out-dir", "maps", "--confidence", "c.tif"], "with --out-dir say --products confidence"),
        ([scenes[0], "--out", "x.tif", "--products", "stac"], "--products: goes with --out-dir"),
        ([*scenes, "--out-dir", "maps", "--products", "stac,pony"], "'pony' is none of"),
        ([str(tmp_path / "*.tif"), "--out-dir", "maps"], "no images there"),
    ):
        outcome = CliRunner().invoke(app, ["segment", *options])
        assert isinstance(outcome.exception, (ConfigError, SceneError)), options
        assert said in str(outcome.exception)
    assert list(tmp_path.iterdir()) == []


def test_two_runs_at_once_are_refused(tiles, tmp_path):
    from geohp.inference.folder_record import FolderRecord

    (tmp_path / "maps").mkdir()
    with FolderRecord(tmp_path / "maps"), pytest.raises(OutputError, match="in use by another run"):
        geohp.segment_files(tiles, tmp_path / "maps", classes=4)
    assert list((tmp_path / "maps").iterdir()) == []


def test_the_results_are_not_taken_for_scenes(tiles, tmp_path):
    for name in ("nw", "se"):
        write(tmp_path / "in" / f"{name}.tif", np.ones((3, 40, 40), np.uint8))
    for _ in range(2):
        made = geohp.segment_files(str(tmp_path / "in" / "**" / "*.tif"), tmp_path / "in" / "maps", classes=2)
        assert [Path(one.scene).name for one in made.maps] == ["nw.tif", "se.tif"]
    record = json.loads((tmp_path / "in" / "maps" / ".geohp" / "record.json").read_text())
    assert set(record["files"]) == {"nw.tif", "se.tif", "mosaic.vrt", "model.safetensors"}


def test_what_a_killed_run_left_of_its_record_goes_with_the_next(tiles, tmp_path):
    folder = tmp_path / "maps"
    geohp.segment_files(tiles, folder, classes=2)
    left = folder / ".geohp" / ".draft-record.0badcafe.json"
    left.write_text("{")
    geohp.segment_files(tiles, folder, classes=2)
    assert not left.exists()


def test_little_is_kept_of_each_scene(tmp_path):
    counts = []

    def counted(value):
        return issubclass(type(value), (dict, list, Path)) or str(type(value).__module__).startswith("geohp.")

    def progress(stage, done, total, detail=""):
        if stage == "scenes" and done in (10, 30):
            gc.collect()
            counts.append(sum(map(counted, gc.get_objects())))

    data = np.random.default_rng(0).integers(0, 255, (3, 40, 40), np.uint8)
    for number in range(31):
        write(tmp_path / "scenes" / f"{number}.tif", data)
    options = {"classes": 2, "backbone": "colour", "products": ["polygons"]}
    made = geohp.segment_files(tmp_path / "scenes", tmp_path / "maps", progress=progress, **options)
    assert not made.failed
    # Its result with the model and the areas of two classes, and the record's entries of two files.
    assert (counts[1] - counts[0]) / 20 < 7
