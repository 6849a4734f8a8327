"""The main path on small real files: train, segment, polygonise, from the command line and from Python."""

import json
import os
import subprocess
import sys

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import rioxarray
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.transform import Affine
from rio_cogeo import cog_validate

import geohp
from geohp.classes import classes_from_json
from geohp.config.loading import load_config
from geohp.errors import ConfigError, DataError, GeohpError, ModelError, OutputError, SceneError
from geohp.inference.map_options import ModelOptions
from geohp.inference.map_scene import segment_file
from geohp.inference.segment import resolve_segmenter
from geohp.model.file import read_card

SMALL = ["data.patches=12", "data.patch_px=64", "train.epochs=2", "train.batch_size=4", "train.device=cpu"]
SMALL_HP = [*SMALL, "method.pool_size=12", "method.code_channels=16", "method.warmup_steps=2", "classes.count=3"]


def run(*arguments, cwd):
    done = subprocess.run(
        [sys.executable, "-m", "geohp", *map(str, arguments)], capture_output=True, text=True, cwd=cwd, check=False
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def train(scene, out, *overrides):
    return geohp.train("orthophotos-hp", [f"data.images={scene}", *SMALL_HP, *overrides], out=out)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A scene of three fields, and a run trained on it."""
    folder = tmp_path_factory.mktemp("trained")
    rng = np.random.default_rng(7)
    colours = np.array([[60, 140, 50], [128, 128, 128], [170, 110, 60]])
    stripes = colours[np.minimum(np.arange(200) // 67, 2)].T[:, None, :].repeat(150, axis=1)
    data = np.clip(stripes + rng.normal(0, 8, (3, 150, 200)), 1, 255).astype(np.uint8)
    path = folder / "scene.tif"
    grid = {"crs": CRS.from_epsg(32633), "transform": Affine(0.5, 0, 380000, 0, -0.5, 5800000)}
    with rasterio.open(path, "w", driver="GTiff", width=200, height=150, count=3, dtype="uint8", **grid) as dataset:
        dataset.write(data)
    return path, train(path, folder / "run")


def test_a_run_folder_holds_what_it_should(trained):
    _, done = trained
    names = {p.name for p in done.folder.iterdir()}
    pictures = {"loss.png", "samples.png", "report.html"}
    assert names == {"config.yaml", "model.safetensors", "metrics.csv", "metrics.json", "tensorboard", *pictures}
    assert any((done.folder / "tensorboard").glob("events.out.tfevents.*"))
    config = load_config(done.folder / "config.yaml")
    assert config.train.epochs == 2
    assert config.method.pool_size == 12
    lines = (done.folder / "metrics.csv").read_text().splitlines()
    assert len(lines) == 1 + 2 * 3
    assert {"contrastive", "cluster", "task_specific_weight"} <= set(lines[0].split(","))


def test_training_moves_head_and_average_and_repeats_bit_for_bit(trained, tmp_path):
    from safetensors.torch import load_file

    scene, done = trained
    again = train(scene, tmp_path / "again")
    other = train(scene, tmp_path / "other", "train.seed=1")
    first, second, third = (load_file(r.model) for r in (done, again, other))
    assert all(np.array_equal(first[k].numpy(), second[k].numpy()) for k in first)
    assert any(not np.array_equal(first[k].numpy(), third[k].numpy()) for k in first)


def test_the_map_separates_the_fields_and_lies_on_the_scenes_grid(trained):
    scene, done = trained
    labels = geohp.segment(scene, model=done.folder)
    assert labels.dims == ("y", "x")
    assert labels.dtype == np.uint8
    assert labels.rio.nodata == 255
    with rasterio.open(scene) as dataset:
        assert labels.rio.crs == dataset.crs
        assert labels.rio.transform() == dataset.transform
    fields = [np.bincount(labels.values[:, a:b].ravel(), minlength=3) for a, b in ((8, 58), (76, 126), (145, 195))]
    assert {f.argmax() for f in fields} == {0, 1, 2}
    assert all(f.max() / f.sum() > 0.95 for f in fields)
    polygons = geohp.polygonize(labels)
    assert polygons.crs == labels.rio.crs
    assert polygons.area.sum() == pytest.approx(150 * 200 * 0.25)


def test_a_trained_model_stores_what_its_classes_look_like(trained, tmp_path):
    scene, done = trained
    classes = read_card(done.folder).classes
    labels = geohp.segment(scene, model=done.folder).values
    with rasterio.open(scene) as dataset:
        looks = np.array([dataset.read()[:, labels == number].mean(1) for number in range(3)])
    green = int(np.argmax(looks[:, 1] - looks[:, 0]))
    assert np.argmax(classes[green].rgb) == 1
    assert int(np.argmax([entry.rgb[0] - entry.rgb[2] for entry in classes])) == int(
        np.argmax(looks[:, 0] - looks[:, 2])
    )
    chosen = ["#ff0000", "#00ff00", "#0000ff"]
    again = train(scene, tmp_path / "run", f"classes.colours={json.dumps(chosen)}", "train.epochs=1")
    assert [entry.colour for entry in read_card(again.folder).classes] == chosen


def test_files_and_arrays_give_the_same_labels_and_the_outputs_are_cogs(trained, tmp_path):
    scene, done = trained
    args = ("--model", done.folder, "--confidence", "confidence.tif", "--polygons", "landcover.gpkg")
    assert run("segment", scene, "--out", "labels.tif", *args, cwd=tmp_path).returncode == 0
    with rasterio.open(tmp_path / "labels.tif") as dataset, rasterio.open(scene) as source:
        assert (dataset.width, dataset.height) == (source.width, source.height)
        assert dataset.transform == source.transform
        assert dataset.crs == source.crs
        assert dataset.nodata == 255
        assert dataset.dtypes == ("uint8",)
        assert [c.name for c in classes_from_json(dataset.tags(1)["classes"])] == ["vegetation", "class 1", "class 2"]
        assert dataset.colormap(1)[0][:3] == classes_from_json(dataset.tags(1)["classes"])[0].rgb
        np.testing.assert_array_equal(dataset.read(1), geohp.segment(scene, model=done.folder).values)
    with rasterio.open(tmp_path / "confidence.tif") as dataset:
        assert dataset.scales == (1 / 254,)
        assert dataset.nodata == 255
        assert dataset.read(1).max() <= 254
    for name in ("labels.tif", "confidence.tif"):
        assert cog_validate(tmp_path / name, quiet=True)[0]
    polygons = gpd.read_file(tmp_path / "landcover.gpkg", layer="landcover")
    assert polygons.area.sum() == pytest.approx(150 * 200 * 0.25)
    assert polygons.crs == CRS.from_epsg(32633)
    assert {p.name for p in tmp_path.iterdir()} == {"labels.tif", "confidence.tif", "landcover.gpkg"}


def test_with_no_model_the_newest_run_is_used_and_k_means_otherwise(trained, tmp_path):
    scene, done = trained
    first = run("segment", scene, "--out", "a.tif", cwd=tmp_path)
    assert "k-means on the scene's own rcf features" in first.stderr
    (tmp_path / "runs").mkdir()
    for number, name in enumerate(("old", "new")):
        (tmp_path / "runs" / name).mkdir()
        model = tmp_path / "runs" / name / "model.safetensors"
        model.write_bytes(done.model.read_bytes())
        os.utime(model, (1000 + number, 1000 + number))
    second = run("segment", scene, "--out", "b.tif", cwd=tmp_path)
    assert "model runs/new/model.safetensors" in second.stderr
    third = run("segment", scene, "--out", "c.tif", "--classes", "2", cwd=tmp_path)
    assert "k-means" in third.stderr
    with rasterio.open(tmp_path / "c.tif") as dataset:
        assert set(np.unique(dataset.read(1))) == {0, 1}


def test_nothing_that_exists_is_replaced_unasked(trained, tmp_path):
    scene, done = trained
    (tmp_path / "labels.tif").write_text("precious")
    refused = run("segment", scene, "--out", "labels.tif", "--model", done.folder, cwd=tmp_path)
    assert refused.returncode == 2
    assert "--overwrite" in refused.stderr
    assert (tmp_path / "labels.tif").read_text() == "precious"
    arguments = ("segment", scene, "--out", "labels.tif", "--model", done.folder, "--overwrite")
    assert run(*arguments, cwd=tmp_path).returncode == 0
    with pytest.raises(OutputError, match="is the input itself"):
        segment_file(scene, scene, geohp.Segmenter.load(done.folder), overwrite=True)
    with pytest.raises(ConfigError, match="both labels and confidence"):
        segment_file(scene, tmp_path / "x.tif", geohp.Segmenter.load(done.folder), confidence=tmp_path / "x.tif")
    with pytest.raises(OutputError, match="exists already"):
        train(scene, done.folder)


def test_a_failure_half_way_leaves_nothing(trained, tmp_path, monkeypatch):
    scene, done = trained
    segmenter = geohp.Segmenter.load(done.folder)
    forward = segmenter.model.backbone.forward

    def fail(*args, **kwargs):
        if any(p.name.startswith(".labels.tif") for p in tmp_path.iterdir()):
            raise SceneError("the second half cannot be read")
        return forward(*args, **kwargs)

    monkeypatch.setattr(segmenter.model.backbone, "forward", fail)
    with pytest.raises(SceneError, match="second half"):
        segment_file(scene, tmp_path / "labels.tif", segmenter, confidence=tmp_path / "c.tif")
    assert list(tmp_path.iterdir()) == []


def test_training_that_fails_leaves_no_run(trained, tmp_path, monkeypatch):
    from geohp.methods.hp.method import HP

    def fail(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(HP, "losses", fail)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        train(trained[0], tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["rotated", "gcps", "plain"])
def test_any_georeference_survives(write_scene, three_fields, tmp_path, kind):
    points = [GroundControlPoint(r, c, 13 + c * 1e-5, 52 - r * 1e-5) for r in (0, 149) for c in (0, 199)]
    profile = {
        "rotated": {"transform": Affine(0.4, 0.3, 380000, 0.3, -0.4, 5800000)},
        "gcps": {"gcps": points, "crs": CRS.from_epsg(4326), "transform": None},
        "plain": {"crs": None, "transform": None},
    }[kind]
    scene = write_scene(three_fields, **profile)
    segment_file(scene, tmp_path / "labels.tif", resolve_segmenter(scene, ModelOptions(classes=3)))
    with rasterio.open(tmp_path / "labels.tif") as dataset, rasterio.open(scene) as source:
        assert dataset.transform == source.transform
        assert dataset.crs == source.crs
        assert [(p.row, p.col, p.x, p.y) for p in dataset.gcps[0]] == [(p.row, p.col, p.x, p.y) for p in source.gcps[0]]
        assert dataset.gcps[1] == source.gcps[1]
    assert len(geohp.polygonize(tmp_path / "labels.tif")) >= 3


def test_invalid_pixels_are_255_and_covered_by_no_polygon(write_scene, three_fields, tmp_path):
    three_fields[:, 20:90, 30:120] = 0
    scene = write_scene(three_fields, nodata=0)
    labels = geohp.segment(scene, classes=3)
    hole = np.zeros((150, 200), dtype=bool)
    hole[20:90, 30:120] = True
    np.testing.assert_array_equal(labels.values == 255, hole)
    assert geohp.polygonize(labels).area.sum() == pytest.approx((~hole).sum() * 0.25)


def test_an_xarray_gives_what_its_file_gives(write_scene, three_fields):
    scene = write_scene(three_fields)
    array = rioxarray.open_rasterio(scene)
    np.testing.assert_array_equal(geohp.segment(array, classes=3).values, geohp.segment(scene, classes=3).values)
    with geohp.open_scene(scene) as opened:
        np.testing.assert_array_equal(geohp.segment(opened, classes=3).values, geohp.segment(scene, classes=3).values)


@pytest.mark.parametrize("shape", [(1, 1), (3, 2), (7, 300)])
def test_one_command_on_one_file_always_gives_a_map(write_scene, shape):
    data = np.random.default_rng(0).integers(1, 255, (3, *shape)).astype(np.uint8)
    labels = geohp.segment(write_scene(data), classes=4)
    assert labels.shape == shape
    assert labels.values.max() < 4


def test_a_backbone_of_three_bands_refuses_two_in_one_sentence(write_scene, three_fields):
    scene = write_scene(three_fields)
    vit = {"backbone": "vit_tiny_patch16_224", "weights": "random", "block": 0}
    with pytest.raises(ConfigError, match=r"2 band\(s\) chosen, but vit_tiny_patch16_224 takes 3"):
        geohp.segment(scene, classes=3, bands=[1, 2], **vit)
    assert geohp.segment(scene, classes=3, bands=[1, 2]).shape == (150, 200)


def test_imagery_of_one_colour_gives_a_map(write_scene):
    labels = geohp.segment(write_scene(np.full((3, 60, 70), 90, dtype=np.uint8)), classes=4)
    assert labels.shape == (60, 70)
    assert labels.values.max() < 4


def test_a_scene_without_data_gives_a_map_without_classes(write_scene):
    labels = geohp.segment(write_scene(np.zeros((3, 40, 50), dtype=np.uint8), nodata=0))
    assert (labels.values == 255).all()


def test_a_vision_transformer_trains_and_is_found_again(trained, tmp_path):
    """Weights from a file: recorded, checked by fingerprint, and asked for when they are gone."""
    import torch
    from safetensors.torch import save_file

    from geohp.backbones.factory import create_backbone

    torch.manual_seed(0)
    weights = tmp_path / "tiny.safetensors"
    source = create_backbone("vit_tiny_patch16_224", weights="random", block=1)
    save_file({k: v.contiguous() for k, v in source.model.state_dict().items()}, weights)
    vit = ["backbone.name=vit_tiny_patch16_224", f"backbone.weights={weights}", "backbone.block=1"]
    done = train(trained[0], tmp_path / "run", *vit)
    labels = geohp.segment(trained[0], model=done.folder).values
    moved = weights.rename(tmp_path / "moved.safetensors")
    with pytest.raises(ModelError, match=r"no longer at .* as weights= or"):
        geohp.segment(trained[0], model=done.folder)
    np.testing.assert_array_equal(geohp.segment(trained[0], model=done.folder, weights=moved).values, labels)
    other = create_backbone("vit_tiny_patch16_224", weights="random", block=1)
    torch.nn.init.normal_(other.model.cls_token)
    save_file({k: v.contiguous() for k, v in other.model.state_dict().items()}, weights)
    with pytest.raises(ModelError, match="was trained on other weights"):
        geohp.segment(trained[0], model=done.folder)


def test_k_means_trains_too(trained, tmp_path):
    overrides = [f"data.images={trained[0]}", *SMALL, "classes.count=3"]
    done = geohp.train("orthophotos", overrides, out=tmp_path / "run")
    assert not (done.folder / "loss.png").exists()
    assert done.comparison is None  # not with itself
    assert "Beside k-means" not in (done.folder / "report.html").read_text()
    assert set(np.unique(geohp.segment(trained[0], model=done.model).values)) == {0, 1, 2}


def test_features_that_do_not_fit_in_memory_are_computed_anew_and_an_augmented_view_is_used(trained, tmp_path):
    done = train(trained[0], tmp_path / "run", "train.cache_gib=0", "method.consistency_weight=0.05")
    header = (done.folder / "metrics.csv").read_text().splitlines()[0]
    assert "consistency" in header.split(",")
    cached = train(trained[0], tmp_path / "cached", "method.consistency_weight=0.05")
    assert "consistency" in (cached.folder / "metrics.csv").read_text().splitlines()[0]


def test_class_names_travel_from_the_configuration_to_the_polygons(trained, tmp_path):
    done = train(trained[0], tmp_path / "run", "classes.names=[grass, road, soil]")
    polygons = geohp.polygonize(geohp.segment(trained[0], model=done.folder))
    assert set(polygons["class_name"]) <= {"grass", "road", "soil"}
    assert json.loads(geohp.segment(trained[0], model=done.folder).attrs["classes"])[2]["name"] == "soil"


@pytest.mark.parametrize(
    ("overrides", "kind", "said"),
    [
        (["data.patch_px=65"], DataError, "must be a multiple of the backbone's patch of 8 px, for example 64"),
        (["data.bands=[1, 9]"], GeohpError, "9"),
        (["backbone.name=vit_tiny_patch16_224", "backbone.weights=nowhere.pth"], ModelError, "nowhere.pth"),
        (["backbone.name=vit_tinny_patch16_224"], ConfigError, "vit_tiny_patch16_224"),
        (["backbone.options={filtres: 3}"], ConfigError, "filtres"),
        (["data.exclude=['*.tif']"], DataError, "no images there"),
    ],
)
def test_training_mistakes_are_one_sentence(trained, tmp_path, overrides, kind, said):
    with pytest.raises(kind, match=said):
        train(trained[0], tmp_path / "run", *overrides)
    assert list(tmp_path.iterdir()) == []


def test_files_that_are_no_models_are_told_apart(tmp_path, trained):
    from safetensors.torch import save_file

    (tmp_path / "text.safetensors").write_text("not a model")
    import torch

    save_file({"a": torch.zeros(1)}, tmp_path / "bare.safetensors")
    (tmp_path / "folder").mkdir()
    for name, said in (
        ("text.safetensors", "not a readable safetensors"),
        ("bare.safetensors", "no geohp model card"),
        ("folder", "a folder without"),
        ("none.safetensors", "no such model"),
    ):
        with pytest.raises(ModelError, match=said):
            geohp.Segmenter.load(tmp_path / name)
    with pytest.raises(SceneError, match=r"band.*chosen"):
        geohp.segment(_single_band(tmp_path), model=trained[1].folder)


def _single_band(folder):
    """Four bands asked for by number where the model takes three cannot happen through its card; a Scene can."""
    path = folder / "two.tif"
    with rasterio.open(path, "w", driver="GTiff", width=20, height=20, count=2, dtype="uint8") as dataset:
        dataset.write(np.ones((2, 20, 20), dtype=np.uint8))
    return geohp.open_scene(path, bands=[1, 2])


def test_several_processes_read_geotiffs_that_this_one_has_read_already(trained, tmp_path):
    scene, alone = trained
    several = train(scene, tmp_path / "run", "train.workers=2", "train.cache=off")
    from safetensors.torch import load_file

    first, second = load_file(alone.model), load_file(several.model)
    assert all(np.array_equal(first[name].numpy(), second[name].numpy()) for name in first)


def test_a_sweep_compares_numbers_of_classes_and_takes_the_best(trained, tmp_path):
    scene, _ = trained
    options = [f"--set={option}" for option in [f"data.images={scene}", *SMALL_HP[:-1], "data.patches=40"]]
    done = run("train", "orthophotos-hp", *options, "--sweep", "classes=2..4", "--out", tmp_path / "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with (tmp_path / "run" / "sweep.csv").open() as file:
        counts = [line.split(",")[0] for line in file][1:]
    assert counts == ["2", "3", "4"]
    config = load_config(tmp_path / "run" / "config.yaml")
    assert f"{config.classes.count} classes, as the comparison recommends" in done.stderr
    assert len(geohp.Segmenter.load(tmp_path / "run").classes) == config.classes.count
    assert "sweep" in (tmp_path / "run" / "report.html").read_text()
    # A number that was asked for stays.
    asked = [*options, "--set=classes.count=5"]
    done = run("train", "orthophotos-hp", *asked, "--sweep", "classes=2,3", "--out", tmp_path / "other", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(geohp.Segmenter.load(tmp_path / "other").classes) == 5
    done = run("train", "orthophotos-hp", *options, "--sweep", "classes=9..3", cwd=tmp_path)
    assert done.returncode == 2
