"""Who trains is told, in a line, of better features and of pixels that the weights do not know."""

import logging

import numpy as np
import pytest

import geohp
from geohp.config.loading import load_config
from geohp.model.file import load_model
from geohp.training.backbone_notes import backbone_notes


def test_without_a_vision_transformer_the_command_that_fetches_one_is_named():
    (note,) = backbone_notes("rcf", 0.5)
    settings = note.rpartition("(docs/backbones.md), --set ")[2].removesuffix(" fetches one").split(" --set ")
    config = load_config("orthophotos.yaml", ["data.images=a.tif", *settings])
    assert (config.backbone.name, config.backbone.block) == ("vit_small_patch14_dinov2.lvd142m", 5)
    assert "\n" not in note
    assert backbone_notes(config.backbone.name, 0.5) == []


@pytest.mark.parametrize(
    ("installed", "remedy"), [(False, 'pip install "geohp[aerial]"'), (True, "--set backbone.name=aerial")]
)
def test_what_gains_without_a_download_is_named(monkeypatch, installed, remedy):
    monkeypatch.setattr("geohp.training.backbone_notes.is_packaged", lambda: installed)
    (note,) = backbone_notes("rcf", None)
    assert f"aerial ({remedy})" in note


def test_hp_is_named_where_it_wins_and_is_not_trained():
    (note,) = backbone_notes("rcf", None, "kmeans")
    assert note.endswith("training HP on rcf, too (orthophotos-hp.yaml)")
    assert load_config("orthophotos-hp.yaml", ["data.images=a.tif", "backbone.name=rcf"]).method.name == "hp"
    assert backbone_notes("rcf", None, "hp") == backbone_notes("rcf", None)
    assert backbone_notes("aerial", None, "kmeans") == []


@pytest.mark.parametrize(("pixel_size_m", "notes"), [(None, 0), (0.07, 0), (0.24, 0), (0.05, 1), (0.5, 1)])
def test_pixels_far_from_those_of_the_training(pixel_size_m, notes):
    found = backbone_notes("aerial", pixel_size_m)
    assert len(found) == notes
    assert all(f"pixels of 0.125 m and sees some of {pixel_size_m} m" in note for note in found)
    # Nobody may have asked for it by name.
    assert all("backbone.name=auto, where it is installed" in note and "backbone.name=rcf" in note for note in found)
    assert all("auto" not in note for note in backbone_notes("vit_large_patch16_dinov3.sat493m", 0.1))


def test_pixels_are_those_that_the_backbone_sees(write_scene, tmp_path, caplog):
    scene = write_scene(np.random.default_rng(0).integers(0, 255, (3, 96, 96), dtype=np.uint8))  # of 0.5 m
    settings = ["backbone.name=aerial", "backbone.weights=random", "method.name=kmeans", "classes.count=2"]
    patches = ["data.patches=4", "data.patch_px=32", "data.input_px=128", "train.device=cpu"]
    with caplog.at_level(logging.INFO):
        geohp.train("orthophotos", [f"data.images={scene}", *settings, *patches], out=tmp_path / "enlarged")
        assert "was trained on pixels" not in caplog.text
        patches.remove("data.input_px=128")
        geohp.train("orthophotos", [f"data.images={scene}", *settings, *patches], out=tmp_path / "as-it-is")
    assert "sees some of 0.5 m" in caplog.text


def test_features_side_by_side_are_fitted_kept_and_trained_on(write_scene, tmp_path):
    scene = write_scene(np.random.default_rng(0).integers(0, 255, (4, 96, 96), dtype=np.uint8))
    settings = ["backbone.name=rcf+colour", "backbone.options={filters: 16, share: 0.3}", "data.bands=[1, 2, 3, 4]"]
    settings += ["data.patches=4", "data.patch_px=32", "method.name=kmeans", "classes.count=2", "train.device=cpu"]
    run = geohp.train("orthophotos", [f"data.images={scene}", *settings, "train.cache=disk"], out=tmp_path / "run")
    model = load_model(run.folder)
    assert (model.backbone.name, model.backbone.share) == ("rcf+colour", 0.3)
    assert model.card.in_channels == model.backbone.channels == model.backbone.first.channels + 8
    assert not model.backbone.needs_fit
