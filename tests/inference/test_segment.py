"""Which model labels a scene, and what of it the caller may choose."""

import logging

import numpy as np
import pytest
import rasterio
from affine import Affine
from typer.testing import CliRunner

import geohp
from geohp.cli.app import app
from geohp.errors import ConfigError
from geohp.inference.map_options import ModelOptions
from geohp.inference.segment import load_segmenter
from geohp.model.file import save_model
from geohp.model.runs import MODEL_NAME
from geohp.options import FitOptions
from geohp.raster.read.collection import SceneCollection


@pytest.fixture
def scene(write_scene, three_fields):
    return write_scene(three_fields)


@pytest.fixture
def run(scene, tmp_path, monkeypatch):
    """The newest run, below the current folder."""
    model = geohp.Segmenter.fit(SceneCollection([scene]), FitOptions(classes=3)).model
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "new").mkdir(parents=True)
    return save_model(model, tmp_path / "runs" / "new" / MODEL_NAME)


@pytest.mark.parametrize("newest", [True, False])
def test_bands_and_scaling_do_not_drop_a_model(scene, run, newest, three_fields, write_scene):
    model = None if newest else run
    turned = write_scene(three_fields[::-1], "turned.tif", photometric="MINISBLACK")
    plain = geohp.segment(scene, run)
    np.testing.assert_array_equal(geohp.segment(turned, model, bands=[3, 2, 1]), plain)
    np.testing.assert_array_equal(geohp.segment(turned, model, bands="3,2,1", scaling="0,255"), plain)
    assert (geohp.segment(scene, model, bands=[1, 1, 1]) != plain).any()
    assert load_segmenter(ModelOptions(model=model, bands=[1, 1, 1])).origin.endswith("new/model.safetensors")
    for bands in ([1], [1, 2, 3, 1]):
        with pytest.raises(ConfigError, match=rf"bands=: {len(bands)} named, but model .* takes 3; name 3, or ask for"):
            geohp.segment(scene, model, bands=bands)
    with pytest.raises(ConfigError, match='Scaling "often" is not understood'):
        geohp.segment(scene, model, scaling="often")


def test_the_command_line_says_what_does_not_fit(scene, run, tmp_path):
    def said(*options):
        return str(CliRunner().invoke(app, ["segment", str(scene), "-o", "out.tif", *options]).exception)

    assert "bands=: 1 named, but model runs/new/model.safetensors takes 3" in said("--bands", "1")
    assert "classes=: the model has its own" in said("--model", str(run), "--classes", "4")
    assert "split_covers=: the model has its own" in said("--model", str(run), "--split-covers")
    assert not (tmp_path / "out.tif").exists()


def test_a_number_of_classes_asks_for_classes_of_the_scene_itself(scene, run):
    for options in ({"classes": 2}, {"backbone": "rcf"}):
        assert load_segmenter(ModelOptions(bands=[1, 2], **options)) is None
    assert geohp.segment(scene, classes=2, bands=[1, 2]).max() == 1


def test_a_transformer_finds_classes_without_what_its_positions_add(scene):
    options = FitOptions(classes=2, backbone="vit_tiny_patch16_224", weights="random")
    model = geohp.Segmenter.fit(SceneCollection([scene]), options).model
    assert model.card.backbone.options["remove_position_bias"] is True


@pytest.mark.parametrize("option", [{"classes": 256}, {"classes": 2, "seed": -1}])
def test_what_asks_for_the_impossible_is_refused_before_the_scene_is_looked_at(option, tmp_path):
    with pytest.raises(ConfigError, match="give a whole number from"):
        geohp.segment(tmp_path / "none.tif", **option)


def test_an_open_scene_keeps_its_bands(scene, run):
    with geohp.open_scene(scene, bands=[3, 2, 1]) as opened:
        expected = geohp.segment(scene, run, bands=[3, 2, 1])
        np.testing.assert_array_equal(geohp.segment(opened, run), expected)
        for options in ({"bands": [1, 2, 3]}, {"scaling": "type"}):
            with pytest.raises(ConfigError, match="is open already and has its own"):
                geohp.segment(opened, run, **options)


def test_a_single_band_for_three_channels_is_said_once(run, write_scene, three_fields, tmp_path, caplog):
    scenes = [write_scene(three_fields[:1], f"{name}.tif") for name in ("a", "b")]
    with caplog.at_level(logging.INFO, "geohp"):
        geohp.segment_files(scenes, tmp_path / "maps", run)
    notes = [text for text in caplog.messages if "band 1 is read for all channels of the model" in text]
    assert notes == [f"{scenes[0]} has no 3 bands: band 1 is read for all channels of the model"]
    caplog.clear()
    with caplog.at_level(logging.INFO, "geohp"):
        geohp.segment(scenes[0], run, bands=[1, 1, 1])
    assert "band 1 is read" not in caplog.text


def test_a_folder_measures_anew_where_other_bands_are_asked_for(run, write_scene, three_fields, tmp_path):
    data = three_fields.astype(np.uint16) * np.array([1, 10, 50], np.uint16)[:, None, None]
    scene = write_scene(data, "deep.tif")
    maps = [geohp.segment_files(scene, tmp_path / "maps", run, bands=bands, overwrite=True).maps[0].files[0]
            for bands in ([1, 1, 1], [3, 3, 3])]  # fmt: skip
    with rasterio.open(maps[-1]) as dataset:
        np.testing.assert_array_equal(dataset.read(1), geohp.segment(scene, run, bands=[3, 3, 3]))


def test_a_scene_with_a_colour_table_is_mapped_by_its_colours(scene, run, tmp_path):
    """Not by the numbers that stand for them, which in this one mean nothing."""
    rows, cols = np.mgrid[:128, :128]
    red = (rows // 64 + cols // 64) % 2
    path, numbers = tmp_path / "table.tif", np.where((rows + cols) % 2, 10 + red, 200 + red).astype(np.uint8)
    size = {"driver": "GTiff", "width": 128, "height": 128, "count": 1, "dtype": "uint8"}
    with rasterio.open(path, "w", crs="EPSG:32633", transform=Affine(1, 0, 0, 0, -1, 0), **size) as dataset:
        dataset.write(numbers, 1)
        dataset.write_colormap(1, {number: (200 * (number % 2), 90, 40) for number in (10, 11, 200, 201)})
    for bands in (None, "red,green,blue"):
        labels = geohp.segment(path, classes=2, bands=bands, split_covers=True).to_numpy()
        share = (labels == red).mean()
        assert max(share, 1 - share) > 0.9
