"""A cover is one class on images that it covers most of, whichever way the classes are found."""

import json
import re

import numpy as np
import pytest
import rasterio

import geohp
from geohp.classes import classes_from_json
from geohp.methods.hp.method import HP
from geohp.methods.kmeans.method import KMeans
from geohp.model.card import read_card
from geohp.model.file import load_model

GREENS = ((70, 92, 48), (45, 66, 38), (112, 132, 70), (58, 84, 60))
OTHERS = ((112, 112, 112), (160, 70, 55), (60, 62, 118))
SIDE, FIELD = 384, 32
TRAINING = [
    "data.patches=24", "data.patch_px=64", "train.batch_size=4", "train.epochs=2", "train.device=cpu",
    "method.code_channels=16", "method.pool_size=24", "method.warmup_steps=2", "classes.count=4",
]  # fmt: skip


@pytest.fixture(scope="module")
def country(tmp_path_factory):
    """A scene, three quarters of it fields of four greens, with a texture each; and where they are."""
    folder = tmp_path_factory.mktemp("country")
    rng = np.random.default_rng(1)
    kind = rng.choice(7, (SIDE // FIELD,) * 2, p=[0.19] * 4 + [0.08] * 3).repeat(FIELD, 0).repeat(FIELD, 1)
    texture = rng.normal(0, 1, (SIDE, SIDE, 1)) * np.array([4, 8, 12, 16, 3, 6, 9])[kind][..., None]
    image = np.clip(np.array([*GREENS, *OTHERS])[kind] + texture, 1, 255).astype(np.uint8)
    write_image(folder / "scene.tif", image)
    write_image(folder / "scene_labels.tif", (kind < 4)[..., None])
    return folder / "scene.tif", kind


def write_image(path, image):
    profile = {"driver": "GTiff", "width": SIDE, "height": SIDE, "dtype": "uint8", "crs": "EPSG:32633",
               "transform": rasterio.transform.from_origin(3e5, 5e6, 0.5, 0.5)}  # fmt: skip
    with rasterio.open(path, "w", count=image.shape[-1], **profile) as dataset:
        dataset.write(image.astype(np.uint8).transpose(2, 0, 1))


def agreement(labels, kind):
    return float(((labels == 0) == (kind < 4)).mean())


def largest(labels):
    return float(np.bincount(np.asarray(labels).ravel()).max() / np.size(labels))


def test_classes_found_on_the_scene_itself(country):
    scene, kind = country
    labels = geohp.segment(str(scene), classes=4)
    assert classes_from_json(labels.attrs["classes"])[0].name == "vegetation"
    assert agreement(labels.values, kind) > 0.9
    split = geohp.segment(str(scene), classes=4, split_covers=True)
    assert json.loads(split.attrs["classes"])[0]["name"] == "class 0"
    assert largest(split.values) < 0.6 < largest(labels.values)


@pytest.fixture(scope="module")
def infrared(country, tmp_path_factory):
    """The same country in near infrared, red and green: plants are bright in the first, nothing else is."""
    scene, kind = country
    with rasterio.open(scene) as dataset:
        red, green, _ = dataset.read()
    near = np.clip(red * np.where(kind < 4, 2.2, 1.15) + (kind < 4) * 20, 1, 255)
    path = tmp_path_factory.mktemp("infrared") / "scene.tif"
    write_image(path, np.stack([near, red, green], -1))
    return path, kind


def test_plants_are_told_by_near_infrared_where_it_is_said_which_band_it_is(infrared):
    scene, kind = infrared
    names = [classes_from_json(geohp.segment(str(scene), classes=4, bands=bands).attrs["classes"])[0].name
             for bands in ([1, 2, 3], ["nir=1", "red=2", "green=3"])]  # fmt: skip
    assert names == ["class 0", "vegetation"]
    assert agreement(geohp.segment(str(scene), classes=4, bands=["nir=1", "red=2", "green=3"]).values, kind) > 0.9


def test_what_seems_to_be_infrared_is_told(country, infrared, caplog):
    said = "the bands look like near infrared, red and green"
    for scene, bands, expected in (
        (infrared, [1, 2, 3], True), (infrared, None, True), (infrared, ["nir=1", "red=2", "green=3"], False),
        (infrared, ["red=1", "green=2", "blue=3"], False), (country, None, False),
    ):  # fmt: skip
        caplog.clear()
        geohp.segment(str(scene[0]), classes=4, bands=bands)
        assert any(said in record.getMessage() for record in caplog.records) == expected
    caplog.clear()
    geohp.segment(str(infrared[0]), classes=4, split_covers=True)
    assert said not in caplog.text


def test_a_model_trained_on_near_infrared_knows_its_bands(infrared, tmp_path, caplog):
    scene, kind = infrared
    # rcf, whether aerial is installed or not; all of it vegetation would agree for 0.75
    shared = ["backbone.name=rcf", *(setting for setting in TRAINING if not setting.startswith("method."))]
    geohp.train("orthophotos", [f"data.images={scene}", *shared], out=tmp_path / "plain")
    assert "data.bands=[nir=1,red=2,green=3]" in caplog.text
    caplog.clear()
    bands = 'data.bands=["nir=1", "red=2", "green=3"]'
    run = geohp.train("orthophotos", [f"data.images={scene}", bands, *shared], out=tmp_path / "run")
    assert read_card(run.folder).classes[0].name == "vegetation"
    assert "data.bands=" not in caplog.text
    assert read_card(run.folder).bands == ("nir=1", "red=2", "green=3")
    assert agreement(geohp.segment(str(scene), run.folder).values, kind) > 0.85


@pytest.mark.parametrize("method", ["hp", "kmeans"])
def test_a_trained_model_and_its_figures(country, tmp_path, method):
    scene, kind = country
    config = "orthophotos-hp" if method == "hp" else "orthophotos"
    shared = [setting for setting in TRAINING if method == "hp" or not setting.startswith("method.")]
    labelled = ["data.labels='{stem}_labels.tif'", "data.label_classes=[other, vegetation]", "data.split=none"]
    run = geohp.train(config, [f"data.images={scene}", *labelled, *shared], out=tmp_path / "run")
    model = load_model(run.folder)
    assert (model.clusters, len(model.probe.clusters)) == (4, 11)
    assert [entry.name for entry in read_card(run.folder).classes] == ["vegetation", "class 1", "class 2", "class 3"]
    assert agreement(geohp.segment(str(scene), run.folder).values, kind) > 0.9
    report = (run.folder / "report.html").read_text()
    assert report.count("vegetation") > 1
    evaluation = geohp.evaluate(run.folder)
    cluster = next(result for result in evaluation.results if result.mode.probe == "cluster")
    assert len(cluster.scores["counts"]) == 4  # classes, not centroids
    assert cluster.scores["class_iou"][1] > 80


def test_water_is_blue_however_dark_it_is(tmp_path):
    rng = np.random.default_rng(0)
    kind = rng.choice(4, (SIDE // FIELD,) * 2, p=[0.4, 0.2, 0.2, 0.2]).repeat(FIELD, 0).repeat(FIELD, 1)
    image = np.array([(13, 16, 10), (112, 112, 112), (160, 70, 55), (60, 62, 118)])[kind]
    image += rng.integers(-2, 3, (SIDE, SIDE, 1))
    scene = tmp_path / "coast.tif"
    write_image(scene, image)
    classes = classes_from_json(geohp.segment(str(scene), classes=4).attrs["classes"])
    settings = [setting for setting in TRAINING if not setting.startswith("method.")]
    run = geohp.train("orthophotos", [f"data.images={scene}", *settings], out=tmp_path / "run")
    for water, *others in (classes, read_card(run.folder).classes):
        assert water.name == "water"
        assert water.rgb[2] > water.rgb[1] > water.rgb[0] + 20
        assert all(len({entry.name, entry.colour} & {water.name, water.colour}) == 0 for entry in others)


@pytest.mark.parametrize("config", ["orthophotos", "orthophotos-hp", None], ids=["k-means", "HP", "without a model"])
def test_no_clusters_are_fitted_that_covers_take_the_place_of(country, tmp_path, monkeypatch, config):
    scene, _ = country

    def waste(method, sample):
        pytest.fail("k-means for nothing")

    monkeypatch.setattr(KMeans, "finish", waste)
    monkeypatch.setattr(HP, "finish", waste)
    if config is None:
        labels = geohp.segment(str(scene), classes=4)
        assert classes_from_json(labels.attrs["classes"])[0].name == "vegetation"
        return
    shared = [setting for setting in TRAINING if config != "orthophotos" or not setting.startswith("method.")]
    stages = []
    run = geohp.train(
        config, [f"data.images={scene}", *shared], out=tmp_path / "run", progress=lambda *step: stages.append(step)
    )
    assert read_card(run.folder).classes[0].name == "vegetation"
    assert [step for step in stages if step[0] == "finding classes"] == [("finding classes", n, 1) for n in (0, 1)]
    report = (run.folder / "report.html").read_text()
    assert re.search("vegetation, 7[0-9] % of the ground, is one class; classes.split_covers=true", report)


def test_names_of_the_user_s_count_and_a_cover_that_gets_another_is_told(country, tmp_path, caplog):
    scene, _ = country
    settings = [f"data.images={scene}", *(setting for setting in TRAINING if not setting.startswith("method."))]
    run = geohp.train("orthophotos", [*settings, "classes.names=[roads,trees,water,roofs]"], out=tmp_path / "run")
    assert [entry.name for entry in read_card(run.folder).classes] == ["roads", "trees", "water", "roofs"]
    assert "vegetation is called 'roads' by classes.names, which go by number" in caplog.text


def test_the_published_way_splits_it(country, tmp_path):
    scene, _ = country
    settings = [f"data.images={scene}", *TRAINING, "classes.split_covers=true"]
    run = geohp.train("orthophotos-hp", settings, out=tmp_path / "run")
    assert load_model(run.folder).probe.members is None
    assert read_card(run.folder).classes[0].name == "class 0"
