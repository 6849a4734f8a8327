"""Models with the classes of a legend, and the commands that name things."""

import json

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import geohp
from geohp.cli.app import app
from geohp.errors import ConfigError, GeohpError
from geohp.inference.engine.layers import confidence_layers
from geohp.inference.engine.layers import labels as labels_of
from geohp.inference.engine.transfer import LayersToHost
from geohp.inference.map_options import ModelOptions
from geohp.inference.map_scene import segment_file
from geohp.inference.segment import resolve_segmenter
from geohp.legend.file import Legend
from geohp.legend.recode_model import recode_model, recode_model_file
from geohp.model.file import load_model, save_model

LEGEND = Legend.named({0: "water", 2: "water", 1: "roof"})


@pytest.fixture
def scene(write_scene, three_fields):
    return write_scene(three_fields)


@pytest.fixture
def segmenter(scene):
    return resolve_segmenter(scene, ModelOptions(classes=4))


def arrived(layers, valid):
    return LayersToHost.send(layers).wait(valid)


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_shares_of_a_class_are_those_of_its_clusters(data):
    k = data.draw(st.integers(1, 6))
    cluster_to_class = data.draw(st.lists(st.sampled_from([0, 3, 9, 200]), min_size=k, max_size=k))
    scores = torch.randn(k + 1, 5, 4, generator=torch.Generator().manual_seed(data.draw(st.integers(0, 99))))
    scores[-1] = scores[-1].abs() + 1
    valid = np.random.default_rng(0).random((5, 4)) > 0.2
    everything = frozenset({"confidence", "entropy", "probabilities"})
    one, merged = (arrived(confidence_layers(scores, everything, given), valid) for given in (None, cluster_to_class))
    clusters, classes = (
        arrived({"labels": labels_of(scores[:k], given)}, valid)["labels"] for given in (None, cluster_to_class)
    )
    np.testing.assert_array_equal(classes[valid], np.array(cluster_to_class)[clusters[valid]])
    assert (classes[~valid] == 255).all()
    ids = sorted(set(cluster_to_class))
    assert merged["probabilities"].shape == (len(ids), 5, 4)
    for place, number in enumerate(ids):
        own = [k for k, member in enumerate(cluster_to_class) if member == number]
        together = one["probabilities"][own].astype(int).sum(0)
        assert np.abs(merged["probabilities"][place].astype(int) - together)[valid].max(initial=0) <= k
        here = valid & (classes == number)
        np.testing.assert_array_equal(merged["confidence"][here], merged["probabilities"][place][here])
    assert (merged["entropy"][valid] <= 254).all()


def test_a_legend_found_on_one_models_map_is_refused_for_another(scene, segmenter, tmp_path):
    labels = segment_file(scene, tmp_path / "labels.tif", segmenter).files[0]
    legend = geohp.name_classes(labels, geohp.segment(scene, segmenter)).legend
    assert geohp.name_classes(geohp.segment(scene, segmenter), labels).legend == legend
    path = legend.write(tmp_path / "legend.yaml")
    assert Legend.read(path) == legend
    assert len(segmenter.named(path).classes) == 4
    other = save_model(resolve_segmenter(scene, ModelOptions(classes=3)).model, tmp_path / "other.safetensors")
    for refused in (
        lambda: geohp.segment(scene, other, legend=path),
        lambda: recode_model_file(other, tmp_path / "named.safetensors", path),
        lambda: segmenter.named(LEGEND).named(path),
    ):
        with pytest.raises(ConfigError, match="names the labels of another model"):
            refused()
    done = CliRunner().invoke(app, ["segment", str(scene), "-o", str(tmp_path / "b.tif"), "--model", str(other),
                                    "--legend", str(path)])  # fmt: skip
    assert "make a legend for this one (geohp legend)" in str(done.exception)
    assert not (tmp_path / "b.tif").exists()


def test_a_named_model_gives_named_maps(scene, segmenter, tmp_path):
    plain = geohp.segment(scene, segmenter)
    named = segmenter.named(LEGEND)
    assert [(c.id, c.name) for c in named.classes] == [(0, "water"), (1, "roof"), (3, "class 3")]
    expected = np.array([0, 1, 0, 3, *[255] * 252], np.uint8)[plain.to_numpy()]
    np.testing.assert_array_equal(geohp.segment(scene, named).to_numpy(), expected)
    np.testing.assert_array_equal(geohp.segment(scene, segmenter, legend=LEGEND).to_numpy(), expected)
    segment_file(scene, tmp_path / "a.tif", segmenter, legend=LEGEND, probabilities=tmp_path / "p.tif")
    with rasterio.open(tmp_path / "a.tif") as dataset, rasterio.open(tmp_path / "p.tif") as shares:
        np.testing.assert_array_equal(dataset.read(1), expected)
        assert '"name": "water"' in dataset.tags(1)["classes"]
        assert shares.descriptions == ("water", "roof", "class 3")
    # The first is what it was.
    assert len(segmenter.classes) == 4


def test_names_travel_in_the_model_file(scene, segmenter, tmp_path):
    save_model(segmenter.model, tmp_path / "model.safetensors")
    LEGEND.write(tmp_path / "legend.yaml")
    recode_model_file(tmp_path / "model.safetensors", tmp_path / "named.safetensors", tmp_path / "legend.yaml")
    loaded = load_model(tmp_path / "named.safetensors")
    assert loaded.card.cluster_to_class == (0, 1, 0, 3)
    np.testing.assert_array_equal(
        geohp.segment(scene, tmp_path / "named.safetensors").to_numpy(), geohp.segment(scene, segmenter, legend=LEGEND)
    )
    # Named again, classes are merged further.
    twice = recode_model(loaded, Legend.named({0: "not built", 3: "not built"}))
    assert twice.card.cluster_to_class == (0, 1, 0, 0)
    assert [c.name for c in twice.card.classes] == ["not built", "roof"]


def test_a_legend_of_another_model_is_refused(segmenter):
    with pytest.raises(ConfigError, match="label 7"):
        segmenter.named(Legend.named({7: "moor"}))


def run(*arguments):
    outcome = CliRunner().invoke(app, list(map(str, arguments)))
    if isinstance(outcome.exception, GeohpError):
        return outcome
    assert outcome.exit_code == 0, outcome.output + repr(outcome.exception)
    return outcome


def test_from_a_map_to_named_polygons(scene, tmp_path):
    labels, legend = tmp_path / "labels.tif", tmp_path / "legend.yaml"
    run("segment", scene, "--out", labels, "--classes", 4, "--confidence", tmp_path / "c.tif")
    with rasterio.open(labels) as dataset:
        values, bounds = dataset.read(1), dataset.bounds
        x, y = (bounds.left + bounds.right) / 2, (bounds.top + bounds.bottom) / 2
        crs, label = dataset.crs, int(values[dataset.index(x, y)])
    points = gpd.GeoDataFrame({"use": ["lawn"]}, geometry=gpd.points_from_xy([x], [y]), crs=crs)
    points.to_crs(4326).to_file(tmp_path / "points.geojson")
    outcome = run("legend", labels, "--reference", tmp_path / "points.geojson", "--field", "use", "--out", legend)
    assert "lawn" in outcome.output
    assert "measured on the very reference" in outcome.output
    assert Legend.read(legend).labels == {label: 0}
    run("recode", labels, "--legend", legend, "--out", tmp_path / "named.tif", "--qml")
    assert "lawn" in (tmp_path / "named.qml").read_text()
    out = tmp_path / "named.gpkg"
    run(
        "polygonize", labels, "--legend", legend, "--out", out, "--min-area", 1, "--simplify", 0.5, "--smooth", 2,
        "--confidence", tmp_path / "c.tif", "--stats", f"{scene}:mean,p90",
    )  # fmt: skip
    polygons = gpd.read_file(out, layer="landcover")
    at = polygons[polygons.contains(gpd.points_from_xy([x], [y])[0])]
    assert at["class_name"].tolist() == ["lawn"]
    assert {"min_confidence", "scene_mean", "scene_p90"} <= set(polygons)
    with rasterio.open(tmp_path / "named.tif") as dataset:
        assert dataset.read(1)[dataset.index(x, y)] == 0
    run("polygonize", labels, "--legend", legend, "--out", tmp_path / "flat.fgb", "--qml")
    assert 'attr="class_id"' in (tmp_path / "flat.qml").read_text()
    run("segment", scene, "--out", tmp_path / "again.tif", "--classes", 4, "--legend", legend, "--qml")
    assert (tmp_path / "again.qml").read_text() == (tmp_path / "named.qml").read_text()
    with rasterio.open(tmp_path / "again.tif") as again, rasterio.open(tmp_path / "named.tif") as named:
        np.testing.assert_array_equal(again.read(), named.read())
        assert again.tags(1)["classes"] == named.tags(1)["classes"]
        assert again.colormap(1) == named.colormap(1)


def test_recode_tells_programs_all_classes_of_what_it_made(write_scene, tmp_path):
    labels = write_scene(np.arange(16, dtype=np.uint8).reshape(1, 4, 4) % 4, "labels.tif", nodata=255)
    (tmp_path / "legend.yaml").write_text("{0: water, 1: water}")
    outcome = run("recode", labels, "--legend", tmp_path / "legend.yaml", "--out", tmp_path / "named.tif", "--json")
    told = json.loads(outcome.output)["classes"]
    with rasterio.open(tmp_path / "named.tif") as dataset:
        assert told == json.loads(dataset.tags(1)["classes"])
    assert [entry["name"] for entry in told] == ["water", "class 2", "class 3"]


def test_mistakes_on_the_command_line_are_one_sentence(scene, tmp_path):
    labels = tmp_path / "labels.tif"
    run("segment", scene, "--out", labels, "--classes", 3)
    (tmp_path / "legend.yaml").write_text("{9: moor}")
    for command in (
        ["polygonize", labels, "--out", tmp_path / "a.gpkg", "--legend", tmp_path / "legend.yaml"],
        ["recode", labels, "--out", tmp_path / "a.tif", "--legend", tmp_path / "legend.yaml"],
        ["segment", scene, "--classes", 3, "--out", tmp_path / "a.tif", "--legend", tmp_path / "legend.yaml"],
    ):
        outcome = run(*command)
        assert "label 9" in str(outcome.exception)
    outcome = run("legend", labels, "--reference", tmp_path / "nothing.gpkg", "--out", tmp_path / "b.yaml")
    assert "nothing.gpkg" in str(outcome.exception)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["labels.tif", "legend.yaml", "scene.tif"]
