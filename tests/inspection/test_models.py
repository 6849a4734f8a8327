"""What is shown of models."""

import json
import shutil

import pytest

from geohp.inspection.models import is_model, model_info
from geohp.model.digest import model_file_sha256, model_sha256
from geohp.model.file import load_model


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
