"""A few polygons become a model like any other, with an honest word on how right it is."""

import json
import re
import shutil
from dataclasses import replace

import geopandas
import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
import torch
from typer.testing import CliRunner

import geohp
from geohp.cli.app import app
from geohp.errors import ConfigError, DataError, GeohpError, OutputError
from geohp.inference.probe.discriminant import Conditioning
from geohp.model.digest import model_sha256
from geohp.model.file import load_model, save_model
from geohp.model.runs import MODEL_NAME
from geohp.options import FitOptions
from geohp.raster.read.scene import open_scene

NAMES = ["meadow", "paved", "bare"]


@pytest.fixture
def scene(write_scene, three_fields):
    return write_scene(three_fields)


@pytest.fixture
def run(scene, tmp_path):
    """A model that was trained on the scene."""
    with open_scene(scene) as opened:
        return save_model(geohp.Segmenter.fit(opened, FitOptions(classes=4)).model, tmp_path / "run.safetensors")


def squares(names=NAMES, rows=range(10, 150, 25), crs="EPSG:32633", **fields):
    """Squares of 6 m down the middle of each of the three fields."""
    shapes, classes = [], []
    for field, name in enumerate(names):
        for row in rows:
            x, y = 380000 + (field * 67 + 33) / 2, 5800000 - row / 2
            shapes.append(shapely.box(x - 3, y - 3, x + 3, y + 3))
            classes.append(name)
    return geopandas.GeoDataFrame({"landuse": classes, **fields}, geometry=shapes, crs=crs)


def truth():
    return np.minimum(np.arange(200) // 67, 2)[None].repeat(150, 0)


def test_a_trained_model_learns_names_and_maps_them(scene, run, tmp_path):
    known = tmp_path / "known.gpkg"
    squares().to_file(known)
    out = tmp_path / "named.safetensors"
    result = geohp.probe(run, scene, known, field="landuse", out=out)
    assert [entry.name for entry in result.segmenter.classes] == ["bare", "meadow", "paved"]
    assert result.accuracy.value > 95
    assert result.miou.value > 90
    assert result.per_class["objects"].tolist() == [6, 6, 6]
    assert result.per_class["pixels"].tolist() == [6 * 144] * 3
    labels = geohp.segment(scene, out)
    expected = np.array([1, 2, 0])[truth()]
    assert (labels.values == expected).mean() > 0.93
    np.testing.assert_array_equal(labels.values, result.segmenter.segment(open_scene(scene)).values)
    assert set(geohp.polygonize(labels)["class_name"]) == {"bare", "meadow", "paved"}
    # Green, grey and brown, as they look.
    bare, meadow, paved = (np.array(entry.rgb) for entry in result.segmenter.classes)
    assert meadow.argmax() == 1
    assert bare.argmax() == 0
    assert np.ptp(paved) < 40
    # All that the trained model was is still there.
    before, after = load_model(run), load_model(out)
    np.testing.assert_array_equal(before.probe.clusters, after.probe.clusters)
    assert after.card.probe == "linear"
    assert after.card.code_channels == before.card.code_channels


def test_scores_of_a_probe_are_means_of_neighbouring_patches(scene, run, tmp_path):
    result = geohp.probe(run, scene, squares(), out=tmp_path / "named.safetensors")
    model = load_model(tmp_path / "named.safetensors")
    assert model.card.smooth_scores
    images = torch.rand(2, 3, 48, 64, generator=torch.Generator().manual_seed(0))
    smooth = model(images)
    model.card = replace(model.card, smooth_scores=False)
    plain = model(images)
    torch.testing.assert_close(smooth[:, :, 2, 3], plain[:, :, 1:4, 2:5].mean((2, 3)))
    torch.testing.assert_close(smooth[:, :, 0, 0], plain[:, :, :2, :2].mean((2, 3)))
    # Maps differ, so the digest that tells models apart does.
    assert model_sha256(model) != model_sha256(result.segmenter.model)


def test_a_probe_taught_on_all_views_maps_with_all_of_them(scene, run, tmp_path):
    out = tmp_path / "views.safetensors"
    geohp.probe(run, scene, squares(), out=out, tta=True)
    assert load_model(out).card.tta
    labels = geohp.segment(scene, out)
    np.testing.assert_array_equal(labels.values, geohp.segment(scene, out, tta=True).values)
    assert (labels.values == np.array([1, 2, 0])[truth()]).mean() > 0.93
    single = load_model(out)
    single.card = replace(single.card, tta=False)
    assert model_sha256(single) != model_sha256(load_model(out))
    confidences = []
    for model in (out, save_model(single, tmp_path / "single.safetensors")):
        geohp.segment_file(scene, tmp_path / "map.tif", model, confidence=tmp_path / "sure.tif", overwrite=True)
        with rasterio.open(tmp_path / "sure.tif") as dataset:
            confidences.append(dataset.read(1))
    assert (confidences[0] != confidences[1]).any()


def test_a_probe_can_be_named_and_taught_anew(scene, run):
    taught = geohp.probe(run, scene, squares()).segmenter
    named = taught.named(_legend())
    assert [entry.name for entry in named.classes] == ["open", "sealed"]
    again = geohp.probe(named, scene, squares(["c", "b", "b"]))
    assert [entry.name for entry in again.segmenter.classes] == ["b", "c"]
    assert again.segmenter.model.clusters == 2


def _legend():
    from geohp.classes import LandCoverClass

    return geohp.Legend(
        (LandCoverClass(0, "open", "#117733"), LandCoverClass(1, "sealed", "#5d5d5d")), {0: 0, 1: 0, 2: 1}
    )


def test_confidence_is_no_more_than_what_is_right(scene, run, tmp_path):
    """Labels of which a third are wrong leave nobody sure."""
    frame = squares()
    frame.loc[[0, 3, 7, 10, 13, 16], "landuse"] = ["paved", "bare", "bare", "meadow", "meadow", "paved"]
    result = geohp.probe(run, scene, frame)
    geohp.segment_file(scene, tmp_path / "map.tif", confidence=tmp_path / "sure.tif", model=result.segmenter)
    with rasterio.open(tmp_path / "sure.tif") as dataset:
        band = dataset.read(1, masked=True) * (dataset.scales[0] or 1)
    assert 0.33 < band.mean() < 0.85
    assert result.accuracy.value < 80


def test_points_numbers_and_rows_without_a_class(scene, run):
    frame = squares([10, 9, 2])
    frame.geometry = frame.centroid
    frame["landuse"] = frame["landuse"].astype("Int64")
    frame.loc[4, "landuse"] = None
    result = geohp.probe(run, scene, frame, field="landuse")
    assert [entry.name for entry in result.segmenter.classes] == ["2", "9", "10"]
    assert result.unit == "points"
    assert result.per_class["pixels"].tolist() == [6, 6, 5]
    assert result.notes == ("1 of 18 features have no value in the field 'landuse' and were left out.",)


def test_a_raster_of_classes_gives_its_names_and_colours(scene, run, write_scene):
    path = write_scene(np.array([3, 1, 8], np.uint8)[truth()][None], "known.tif")
    with rasterio.open(path, "r+") as dataset:
        classes = '[{"id": 3, "name": "meadow", "colour": "#00aa00"}, {"id": 1, "name": "road", "colour": "#111111"}]'
        dataset.update_tags(1, classes=classes)
    result = geohp.probe(run, scene, path)
    entries = [(entry.id, entry.name, entry.colour) for entry in result.segmenter.classes]
    assert entries[:2] == [(0, "road", "#111111"), (1, "meadow", "#00aa00")]
    assert entries[2][:2] == (2, "8")
    assert result.miou.value > 85


def test_raw_features_need_no_training_and_remember_the_pixel_size(scene, tmp_path):
    out = tmp_path / "raw.safetensors"
    result = geohp.probe(None, [scene], squares(), backbone="rcf", out=out)
    assert result.accuracy.value > 95
    assert load_model(out).card.pixel_size_m == pytest.approx(0.5, rel=0.01)
    assert (geohp.segment(scene, out).values == np.array([1, 2, 0])[truth()]).mean() > 0.93


def test_features_side_by_side_are_learnt_from_and_map_alone(scene, tmp_path):
    out = tmp_path / "beside.safetensors"
    result = geohp.probe(None, [scene], squares(), backbone="rcf+colour", out=out)
    assert result.accuracy.value > 95
    assert load_model(out).card.backbone.name == "rcf+colour"
    assert (geohp.segment(scene, out).values == np.array([1, 2, 0])[truth()]).mean() > 0.93


def test_features_side_by_side_count_as_the_parts_that_they_are(scene, monkeypatch):
    parts = []
    condition = Conditioning.of
    monkeypatch.setattr(Conditioning, "of", lambda *of: parts.append(of[2]) or condition(*of))
    backbone = geohp.probe(None, [scene], squares(), backbone="rcf+colour").segmenter.model.backbone
    assert parts == [(backbone.channels - 6, 6)]


def test_a_transformer_is_learnt_from_without_the_colour_that_clusters_have_beside(scene):
    vit = {"backbone": "vit_tiny_patch16_224", "weights": "random", "block": 0}
    assert geohp.probe(None, [scene], squares(), **vit).segmenter.model.backbone.name == "vit_tiny_patch16_224"
    found = geohp.segment(scene, classes=3, **vit)
    assert "vit_tiny_patch16_224+colour" in found.attrs["GEOHP_BACKBONE"]


def test_scenes_beside_the_labels_are_counted_and_those_of_the_training_are_the_default(scene, run, write_scene):
    elsewhere = write_scene(np.full((3, 60, 60), 90, np.uint8), "far.tif", transform=(0.5, 0, 5e5, 0, -0.5, 5.9e6))
    result = geohp.probe(run, [scene, elsewhere], squares())
    assert "1 of 2 scenes hold no labels." in result.notes
    with pytest.raises(ConfigError, match="does not say which images it was trained on; name the scenes"):
        geohp.probe(run, None, squares())
    segmenter = geohp.Segmenter.load(run)
    segmenter.model.card.config["data"] = {"images": [str(scene)]}
    assert geohp.probe(segmenter, None, squares()).accuracy.value > 95


def test_an_array_is_one_scene_and_not_one_a_band(scene, run, three_fields):
    on_pixels = squares(crs=None)
    on_pixels.geometry = on_pixels.affine_transform([2, 0, 0, 2, -760000, -11600000])
    expected = geohp.probe(run, scene, squares()).per_class
    for array in (three_fields, {"image": three_fields, "bounds": 0}):
        assert geohp.probe(run, array, on_pixels).per_class.equals(expected)


def test_too_few_polygons_and_contradictions_are_said(scene, run):
    frame = squares(["meadow", "paved", "bare"])
    frame = frame.drop(index=[*range(8, 12), *range(13, 18)])
    frame.loc[2, "landuse"] = "paved"
    result = geohp.probe(run, scene, frame)
    report = " ".join(result.report(200).split())
    assert "Only one polygon, and so untested: bare." in report
    assert "Fewer than 5 polygons, so that its scores are a guess: paved." in report
    assert np.isnan(result.per_class.loc["bare", "iou"])
    doubt = result.doubts[0]
    assert (doubt.feature, doubt.name, doubt.looks_like) == (2, "paved", "meadow")
    assert (doubt.x, doubt.y) == pytest.approx((380016.5, 5799970), abs=1)
    assert "Look again at feature 2 near" in report


def test_nothing_is_claimed_where_nothing_can_be_left_out(scene, run):
    result = geohp.probe(run, scene, squares(rows=[75]))
    assert result.accuracy is None
    assert result.confusion is None
    assert "nothing can be said about how right the maps will be" in result.report()


def test_errors_are_those_of_polygons_not_of_pixels(scene, run):
    """Twice the pixels of as many polygons make nothing surer."""
    frame = squares()
    frame.loc[[0, 7], "landuse"] = ["paved", "bare"]
    result = geohp.probe(run, scene, frame)
    # Two of 18 polygons: a standard error of about 7 per cent, where that of their 2592 pixels would be 0.6.
    assert 4 < result.accuracy.error < 12


def test_mistakes_are_one_sentence(scene, run, tmp_path, write_scene):
    far = squares().translate(5000)
    far = geopandas.GeoDataFrame({"landuse": squares()["landuse"]}, geometry=far, crs="EPSG:32633")
    plain = write_scene(np.zeros((3, 40, 40), np.uint8), "plain.tif", crs=None)
    folder = tmp_path / "run"
    folder.mkdir()
    shutil.copy(run, folder / MODEL_NAME)
    cases = [
        ((run, scene, squares()), {"field": "landuze"}, DataError, "has no field 'landuze'.*did you mean 'landuse'"),
        ((run, scene, squares(crs=None)), {}, DataError, "the reference has no coordinate reference system"),
        ((run, plain, squares()), {}, DataError, "plain.tif has no coordinate reference system, but the reference"),
        ((run, scene, far), {}, DataError, "labels no pixel with data of the scenes; check that both show"),
        ((run, scene, squares(["a", "a", "a"])), {}, DataError, r"one class only \(a\); label at least two"),
        ((None, scene, squares()), {}, ConfigError, "neither a model nor a backbone"),
        ((run, scene, squares()), {"backbone": "rcf"}, ConfigError, "backbone=: the model has its own"),
        ((run, scene, squares()), {"out": tmp_path / "model.pt"}, OutputError, "models are written to .safetensors"),
        ((run, scene, squares()), {"out": run, "overwrite": True}, OutputError, "run.safetensors"),
        (
            (folder, scene, squares()),
            {"out": folder / MODEL_NAME, "overwrite": True},
            OutputError,
            "is the input itself",
        ),
        ((run, tmp_path / "no.tif", squares()), {}, GeohpError, "no.tif"),
        ((run, scene, tmp_path / "no.gpkg"), {}, DataError, "no.gpkg: no such file"),
        ((run, [], squares()), {}, ConfigError, "no scenes to find labels on; name some"),
    ]
    for arguments, options, kind, message in cases:
        with pytest.raises(kind, match=message):
            geohp.probe(*arguments, **options)
    assert not list(tmp_path.glob("*.pt"))


def test_the_command(scene, run, tmp_path):
    known, out = tmp_path / "known.gpkg", tmp_path / "named.safetensors"
    pyogrio.write_dataframe(squares(), known)
    arguments = ["probe", str(run), str(scene), "--reference", str(known), "--field", "landuse", "-o", str(out)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.exception
    assert re.search(r"accuracy (9\d|100) ± \d+ %, mIoU", " ".join(result.stdout.split()))
    assert f"wrote {out}: bare, meadow, paved" in result.stdout
    assert "exists already" in str(CliRunner().invoke(app, arguments).exception)
    as_json = CliRunner().invoke(app, [*arguments, "--overwrite", "--json"])
    document = json.loads(as_json.stdout)
    assert document["outputs"] == [str(out)]
    assert [entry["name"] for entry in document["details"]["per_class"]] == ["bare", "meadow", "paved"]
    assert document["details"]["accuracy"]["value"] > 90
    raw = ["probe", str(scene), "--backbone", "rcf", "--reference", str(known), "-o", str(tmp_path / "raw.safetensors")]
    assert CliRunner().invoke(app, raw).exit_code == 0
