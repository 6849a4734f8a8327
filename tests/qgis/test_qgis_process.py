"""The plugin within QGIS itself, without a window: algorithms run, mistakes are sentences, results have styles."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import rasterio.shutil
import yaml
from shapely import Point, box

import geohp
from geohp.legend.file import Legend

PLUGINS = Path(__file__).resolve().parents[2] / "qgis"
# Debian's script of that name passes an option that the program does not know.
QGIS_PROCESS = shutil.which("qgis_process.bin") or shutil.which("qgis_process")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.cheap,
    pytest.mark.skipif(QGIS_PROCESS is None, reason="QGIS (qgis_process) is not installed"),
    pytest.mark.skipif(os.name == "nt", reason="the geohp under test is started by a script of Unix"),
]


@pytest.fixture
def qgis(tmp_path):
    """Run ``qgis_process`` with the plugin, in a profile of its own, whose geohp is the one under test."""
    command = tmp_path / "env" / "bin" / "geohp"
    command.parent.mkdir(parents=True)
    # The variables of the tests do not reach it: the plugin clears what QGIS sets for its own Python.
    package = Path(geohp.__file__).resolve().parents[1]
    command.write_text(f'#!/bin/sh\nPYTHONPATH="{package}" exec "{sys.executable}" -m geohp "$@"\n')
    command.chmod(0o755)
    settings = tmp_path / "config" / "profiles" / "default" / "QGIS" / "QGIS3.ini"
    settings.parent.mkdir(parents=True)
    settings.write_text(
        f"[PythonPlugins]\ngeohp_processing=true\n\n[Processing]\nConfiguration\\GEOHP_COMMAND={tmp_path / 'env'}\n"
    )
    variables = {
        **os.environ,
        # The Python within QGIS looks for its library beside the first python3 on PATH: not that of the tests.
        "PATH": os.pathsep.join([str(Path(QGIS_PROCESS).parent), os.defpath]),
        "QT_QPA_PLATFORM": "offscreen",
        "QGIS_CUSTOM_CONFIG_PATH": str(tmp_path / "config"),
        "QGIS_PLUGINPATH": str(PLUGINS),
        "XDG_RUNTIME_DIR": str(tmp_path),
        "PYTHONDONTWRITEBYTECODE": "1",
    }

    def call(*arguments: object) -> subprocess.CompletedProcess:
        line = [QGIS_PROCESS, *map(str, arguments)]
        return subprocess.run(line, capture_output=True, text=True, env=variables, timeout=600)

    call.settings, call.variables = settings, variables
    return call


def _results(process: subprocess.CompletedProcess) -> dict:
    assert process.returncode == 0, process.stdout + process.stderr
    return json.loads(process.stdout[process.stdout.index("{") :])["results"]


def test_segment_polygonize_legend_and_recode(qgis, write_scene, three_fields, tmp_path):
    scene = write_scene(three_fields)
    labels, polygons = tmp_path / "labels.tif", tmp_path / "land cover.gpkg"
    segmented = _results(
        qgis("run", "geohp:segment", "--json", f"--INPUT={scene}", "--CLASSES=3", "--DEVICE=cpu", f"--OUTPUT={labels}")
    )
    assert segmented == {"OUTPUT": str(labels)}
    with rasterio.open(labels) as dataset:
        assert len(set(dataset.read(1).ravel()) - {255}) == 3
    assert labels.with_suffix(".qml").is_file()

    arguments = ["--json", f"--INPUT={labels}", "--MIN_AREA=10", f"--STATS_RASTER={scene}", "--STATS=mean,p90"]
    polygonized = _results(qgis("run", "geohp:polygonize", *arguments, f"--OUTPUT={polygons}"))
    assert polygonized == {"OUTPUT": f"{polygons}|layername=landcover"}
    frame = gpd.read_file(polygons, layer="landcover")
    assert set(frame.class_id) == {0, 1, 2}
    assert {"scene_mean", "scene_p90"} <= set(frame.columns)

    reference, legend, named = tmp_path / "known.gpkg", tmp_path / "legend.yaml", tmp_path / "named.tif"
    frame.assign(cover=frame.class_id.map({0: "meadow", 1: "rock", 2: "soil"}))[["cover", "geometry"]].to_file(
        reference, layer="places"
    )
    arguments = [f"--INPUT={labels}", f"--REFERENCE={reference}|layername=places", "--FIELD=cover"]
    _results(qgis("run", "geohp:legend", "--json", *arguments, f"--OUTPUT={legend}"))
    assert {entry.name for entry in Legend.read(legend).classes} == {"meadow", "rock", "soil"}
    _results(qgis("run", "geohp:recode", "--json", f"--INPUT={labels}", f"--LEGEND={legend}", f"--OUTPUT={named}"))
    with rasterio.open(named) as dataset:
        assert "meadow" in dataset.tags(1)["classes"]


def test_train_and_segment_with_its_model(qgis, write_scene, three_fields, tmp_path):
    scene = write_scene(three_fields)
    run = tmp_path / "run"
    settings = "train.epochs=1\ndata.patches=8\ndata.patch_px=64"
    trained = _results(
        qgis(
            "run",
            "geohp:train",
            "--json",
            f"--LAYERS={scene}",
            "--CLASSES=3",
            f"--SETTINGS={settings}",
            f"--OUTPUT={run}",
        )
    )
    assert trained == {
        "OUTPUT": str(run),
        "MODEL": str(run / "model.safetensors"),
        "REPORT": str(run / "report.html"),
    }
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert (config["data"]["images"], config["classes"]["count"]) == ([str(scene)], 3)
    labels = tmp_path / "labels.tif"
    _results(
        qgis("run", "geohp:segment", "--json", f"--INPUT={scene}", f"--MODEL={trained['MODEL']}", f"--OUTPUT={labels}")
    )
    with rasterio.open(labels) as dataset:
        assert "GEOHP_MODEL_SHA256" in dataset.tags()


def test_change_within_an_area(qgis, write_scene, tmp_path):
    """Of two label maps; the area is a layer of a file that has several."""
    old = np.zeros((1, 40, 60), np.uint8)
    new = old.copy()
    new[0, 10:30, 10:50] = 1
    maps = [f"--{name}={write_scene(data, f'{name}.tif', nodata=255)}" for name, data in (("OLD", old), ("NEW", new))]
    area = tmp_path / "area.gpkg"
    left_half = box(380000, 5799980, 380015, 5800000)
    gpd.GeoDataFrame(geometry=[left_half.buffer(99)], crs=32633).to_file(area, layer="wide")
    gpd.GeoDataFrame(geometry=[left_half], crs=32633).to_file(area, layer="half")
    out, polygons, matrix = tmp_path / "change.tif", tmp_path / "change.gpkg", tmp_path / "change.csv"
    files = [f"--OUTPUT={out}", f"--POLYGONS={polygons}", f"--MATRIX={matrix}"]
    changed = _results(
        qgis("run", "geohp:change", "--json", "--LABELS=1", *maps, f"--AOI={area}|layername=half", *files)
    )
    assert changed == {"OUTPUT": str(out), "POLYGONS": f"{polygons}|layername=change", "MATRIX": str(matrix)}
    with rasterio.open(out) as dataset:
        transitions = dataset.read(1)
    assert (transitions[10:30, 10:30] == 1).all()
    assert (transitions[:, 30:] == 65535).all()
    assert gpd.read_file(polygons, layer="change").area.sum() == 20 * 20 * 0.25
    assert out.with_suffix(".qml").is_file()


def test_classes_of_a_few_points_are_taught_and_mapped_in_an_area_alone(qgis, write_scene, three_fields, tmp_path):
    scene, places, model = write_scene(three_fields), tmp_path / "places.gpkg", tmp_path / "taught.safetensors"
    points = [(380000 + x, 5800000 - y) for x in (15, 50, 85) for y in range(5, 75, 5)]
    covers = np.repeat(["meadow", "rock", "soil"], len(points) // 3)
    gpd.GeoDataFrame({"cover": covers}, geometry=gpd.points_from_xy(*np.transpose(points)), crs=32633).to_file(places)
    arguments = [f"--LAYERS={scene}", "--BACKBONE=rcf", f"--REFERENCE={places}", "--FIELD=cover", "--DEVICE=cpu"]
    taught = _results(qgis("run", "geohp:probe", "--json", *arguments, f"--OUTPUT={model}"))
    assert taught == {"OUTPUT": str(model)}

    area = tmp_path / "area.gpkg"
    gpd.GeoDataFrame(geometry=[box(380000, 5799950, 380050, 5800000)], crs=32633).to_file(area)
    labels, shares = tmp_path / "labels.tif", tmp_path / "shares.tif"
    files = [f"--OUTPUT={labels}", f"--PROBABILITIES={shares}"]
    _results(
        qgis(
            "run",
            "geohp:segment",
            f"--INPUT={scene}",
            f"--MODEL={model}",
            f"--AOI={area}",
            "--CROP=1",
            *files,
            "--json",
        )
    )
    with rasterio.open(labels) as dataset:
        assert dataset.shape == (100, 100)
        assert (dataset.read(1)[:, :60] == 0).mean() > 0.9
        assert "meadow" in dataset.tags(1)["classes"]
    with rasterio.open(shares) as dataset:
        assert dataset.count == 3


def test_a_mistake_is_geohps_sentence_with_the_parameter_it_means(qgis, write_scene, three_fields, tmp_path):
    labels = tmp_path / "labels.tif"
    process = qgis(
        "run", "geohp:segment", f"--INPUT={write_scene(three_fields)}", "--WEIGHTS=w.pth", f"--OUTPUT={labels}"
    )
    assert process.returncode != 0
    output = process.stdout + process.stderr
    assert "--backbone is “Backbone (without a model)”" in output
    assert "Traceback" not in output
    assert not labels.exists()


def test_a_missing_command_is_said_with_the_place_to_choose_one(qgis, write_scene, three_fields, tmp_path):
    qgis.settings.write_text(qgis.settings.read_text().replace(str(tmp_path / "env"), str(tmp_path / "nowhere")))
    process = qgis("run", "geohp:segment", f"--INPUT={write_scene(three_fields)}", f"--OUTPUT={tmp_path / 'l.tif'}")
    assert process.returncode != 0
    assert "Settings > Options > Processing > Providers > geohp" in process.stdout + process.stderr


@pytest.fixture(scope="module")
def qgis_python() -> str:
    """The Python that QGIS's own modules are installed for."""
    for python in filter(None, map(shutil.which, ["/usr/bin/python3", "python3"])):
        if subprocess.run([python, "-c", "import qgis.core"], capture_output=True, cwd="/").returncode == 0:
            return python
    pytest.skip("no Python can import qgis.core")


def _in_archive(path: Path) -> str:
    with zipfile.ZipFile(path.with_suffix(".zip"), "w") as archive:
        archive.write(path, path.name)
    return f"/vsizip/{path.with_suffix('.zip')}/{path.name}"


def _in_table(path: Path) -> str:
    tables = path.with_suffix(".gpkg")
    for name in ("OTHER", "LABELS"):
        options = {"RASTER_TABLE": name, "APPEND_SUBDATASET": str(tables.exists()).upper(), "TILE_FORMAT": "PNG"}
        rasterio.shutil.copy(path, tables, driver="GPKG", **options)
    return f"GPKG:{tables}:LABELS"


@pytest.mark.parametrize(
    ("algorithm", "out", "source"),
    [
        ("polygonize", "landcover.gpkg", str),
        ("recode", "named.tif", str),
        ("recode", "named.tif", _in_archive),
        ("recode", "named.tif", _in_table),
    ],
)
def test_layers_are_loaded_in_the_colours_of_their_classes(
    qgis, qgis_python, write_scene, tmp_path, algorithm, out, source
):
    """Also of a raster in an archive, or in one of several tables."""
    labels = write_scene(
        np.arange(3, dtype=np.uint8).repeat(40)[None, None].repeat(50, axis=1), "labels.tif", nodata=255
    )
    legend = tmp_path / "legend.yaml"
    classes = {"meadow": "#55aa33", "rock": "#888888", "soil": "#aa7744"}
    entries = [{"id": id_, "name": name, "colour": colour} for id_, (name, colour) in enumerate(classes.items())]
    legend.write_text(yaml.safe_dump({"classes": entries}))
    parameters = {"INPUT": source(labels), "LEGEND": str(legend), "OUTPUT": str(tmp_path / out)}
    script = Path(__file__).with_name("styled_layers.py")
    line = [qgis_python, str(script), f"geohp:{algorithm}", json.dumps(parameters), str(PLUGINS)]
    # Outside QGIS's own programs its settings are others: here the command is the one on PATH.
    variables = {**qgis.variables, "PATH": f"{tmp_path / 'env' / 'bin'}{os.pathsep}{qgis.variables['PATH']}"}
    process = subprocess.run(line, capture_output=True, text=True, env=variables, timeout=600)
    assert process.returncode == 0, process.stdout + process.stderr
    assert json.loads(process.stdout.splitlines()[-1]) == classes


def test_of_layers_geohp_gets_what_qgis_shows(qgis, qgis_python, tmp_path):
    """Edits that are not saved, fields that QGIS computes or joins, one of a file's types, and the system chosen."""
    path = tmp_path / "known.geojson"
    shapes = [box(13, 52, 14, 53), box(14, 52, 15, 53), Point(13, 52)]
    gpd.GeoDataFrame({"cover": ["meadow", "rock", "soil"]}, geometry=shapes, crs=4326).to_file(path)
    line = [qgis_python, str(Path(__file__).with_name("copied_layers.py")), str(path), str(PLUGINS)]
    process = subprocess.run(line, capture_output=True, text=True, env=qgis.variables, timeout=600)
    assert process.returncode == 0, process.stdout + process.stderr
    assert json.loads(process.stdout.splitlines()[-1]) == {
        "as it is": [True, 3, ["cover"], "EPSG:4326"],
        "edited": [False, 2, ["cover"], "EPSG:4326"],
        "computed": [False, 3, ["cover", "loud"], "EPSG:4326"],
        "elsewhere": [False, 3, ["cover"], "EPSG:4258"],
        "of a type": [False, 2, ["cover"], "EPSG:4326"],
    }
