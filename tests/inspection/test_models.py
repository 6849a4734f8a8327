"""What is shown of models."""

import json
import logging
import shutil
from dataclasses import replace

import pytest

from geohp.inference.map_options import ModelOptions
from geohp.inference.segment import load_segmenter
from geohp.inspection.models import is_model, model_info
from geohp.model.digest import model_file_sha256, model_sha256
from geohp.model.file import load_model, save_model


def test_a_file_has_the_digest_of_the_model_that_is_loaded_from_it(tall_model):
    assert model_file_sha256(tall_model) == model_sha256(load_model(tall_model))


def test_a_model_tells_what_it_is(tall_model):
    model = load_model(tall_model)
    info = model_info(tall_model.parent)
    assert info.path == str(tall_model)
    assert (info.method, info.backbone) == (model.card.method, model.card.backbone.name)
    assert info.classes == model.card.classes
    assert info.clusters == 4
    assert info.sha256 == model_sha256(model)


def test_folders_and_safetensors_mean_models(tall_model, tall_scene):
    assert is_model(tall_model)
    assert is_model(tall_model.parent)
    assert not is_model(tall_scene)


@pytest.mark.parametrize("text", ["", "[]", '{"kmeans": "none"}', '{"other": {}}', "\udcff"])
def test_what_a_run_wrote_of_k_means_is_shown_where_it_can_be_read(tall_model, tmp_path, text):
    shutil.copy(tall_model, tmp_path / "model.safetensors")
    assert model_info(tmp_path).kmeans is None
    (tmp_path / "metrics.json").write_text(json.dumps({"kmeans": {"verdict": "worse"}}))
    assert model_info(tmp_path).kmeans == {"verdict": "worse"}
    # It is about the run's result, and no other model beside it.
    shutil.copy(tall_model, tmp_path / "best_on_labels.safetensors")
    assert model_info(tmp_path / "best_on_labels.safetensors").kmeans is None
    (tmp_path / "metrics.json").write_bytes(text.encode(errors="surrogateescape"))
    assert model_info(tmp_path).kmeans is None


def test_clusters_that_no_legend_has_merged_are_told_wherever_the_model_is_used(tall_model, tmp_path, caplog):
    caplog.set_level(logging.INFO, "geohp")
    model = load_model(tall_model)
    model.card = replace(model.card, config={"classes": {"count": 3, "extra_clusters": 1}})
    path = save_model(model, tmp_path / "model.safetensors")
    assert model_info(path).unmerged.startswith("4 clusters for 3 classes: ")
    assert "geohp legend merges them" in model_info(path).unmerged
    load_segmenter(ModelOptions(model=path))
    assert caplog.messages[-1] == model_info(path).unmerged
    merged = replace(model.card, classes=model.card.classes[:3], cluster_to_class=(0, 1, 2, 2))
    assert merged.unmerged == ""


@pytest.mark.parametrize(
    "config", [{}, {"classes": {"extra_clusters": 0}}, {"classes": 3}, {"classes": {"extra_clusters": "x"}}]
)
def test_whatever_a_card_says_of_its_configuration_is_no_obstacle(tall_model, config):
    assert replace(load_model(tall_model).card, config=config).unmerged == ""
