"""What commands print: tables for people, one object for programs."""

import json

import pytest
from typer.testing import CliRunner

from geohp.cli.app import app
from geohp.cli.report import ReportDocument, area_table
from geohp.inference.areas import ClassArea


@pytest.fixture
def scene(write_scene, three_fields):
    return write_scene(three_fields)


def run(*arguments):
    done = CliRunner().invoke(app, list(map(str, arguments)))
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done


def test_an_area_table_is_aligned_and_starts_with_the_largest():
    areas = [ClassArea(0, "water", 5, 0.05, 0.0012, 0.5), ClassArea(1, "forest", 95, 0.95, 1234.5, None)]
    assert area_table(areas).splitlines() == [
        "class         ha     %  mean confidence",
        "forest  1,234.50  95.0                -",
        "water     0.0012   5.0             0.50",
    ]
    assert area_table([ClassArea(0, "water", 1200, 1.0, None, 0.5)]).splitlines()[1].split() == [
        "water", "1,200", "100.0", "0.50",
    ]  # fmt: skip
    assert area_table([]) == ""


def test_the_largest_class_is_so_by_its_area_where_maps_have_pixels_of_several_sizes():
    areas = [ClassArea(0, "roofs", 900, 0.1, 5.0, None), ClassArea(1, "fields", 40, 0.9, 45.0, None)]
    assert [line.split()[0] for line in area_table(areas).splitlines()] == ["class", "fields", "roofs"]


def test_segment_shows_areas(scene, tmp_path):
    done = run("segment", scene, "-o", tmp_path / "a.tif", "--classes", 3)
    first, head, *rows = done.stdout.splitlines()
    assert first == f"3 classes: wrote {tmp_path / 'a.tif'}"
    assert head.split() == ["class", "ha", "%", "mean", "confidence"]
    assert sum(float(row.split()[-2]) for row in rows) == pytest.approx(100, abs=0.2)


def test_json_is_one_object_of_what_was_made(scene, tmp_path):
    out = tmp_path / "a.tif"
    done = run("segment", scene, "-o", out, "--classes", 3, "--polygons", tmp_path / "a.gpkg", "--json")
    report = json.loads(done.stdout)
    assert set(report) == set(ReportDocument.__annotations__)
    assert report["command"] == "segment"
    assert report["outputs"] == [str(out), str(tmp_path / "a.gpkg")]
    assert [entry["id"] for entry in report["classes"]] == [0, 1, 2]
    assert sum(area["pixels"] for area in report["areas"]) == 150 * 200
    assert report["model"]["origin"].startswith("k-means")
    assert len(report["model"]["sha256"]) == 64
    assert report["seconds"] > 0
    (details,) = report["details"]["scenes"]
    assert details["polygons"] == 3
    again = run("polygonize", out, "-o", tmp_path / "b.gpkg", "--json")
    assert json.loads(again.stdout)["details"] == {"polygons": 3}


def test_json_of_a_folder_tells_of_every_scene_and_still_fails(scene, tmp_path):
    broken = tmp_path / "broken.tif"
    broken.write_bytes(b"nothing")
    done = CliRunner().invoke(app, ["segment", str(scene), str(broken), "--out-dir", str(tmp_path / "m"), "--json"])
    assert "1 of 2 scenes gave no map" in str(done.exception)
    report = json.loads(done.stdout)
    good, bad = report["details"]["scenes"]
    assert good["error"] is None
    assert "broken.tif" in bad["error"]
    assert sum(area["pixels"] for area in report["areas"]) == 150 * 200


def test_quiet_prints_nothing(scene, tmp_path):
    done = run("segment", scene, "-o", tmp_path / "a.tif", "--classes", 3, "-q")
    assert done.output == ""
