"""What is surveyed has to be what is read later: files are watched from the first look at them on."""

import os

import geopandas as gpd
import numpy as np
import pytest
import shapely
from PIL import Image

from geohp.config.loading import parse_config
from geohp.data.factory import open_data
from geohp.errors import ChangedError


def overwrite(path):
    Image.fromarray(np.zeros((32, 32), np.uint8)).save(path)


def replace(path):
    other = path.with_name("other.png")
    Image.fromarray(np.ones((96, 128, 3), np.uint8)).save(other)
    other.replace(path)


@pytest.fixture
def town(tmp_path):
    """Three pictures, and labels beside them."""
    rng = np.random.default_rng(0)
    for number in range(3):
        labels = np.repeat([0, 1], 64)[None].repeat(96, 0).astype(np.uint8)
        image = rng.integers(0, 255, (96, 128, 3), np.uint8)
        Image.fromarray(image).save(tmp_path / f"{number}.png")
        Image.fromarray(labels).save(tmp_path / f"{number}_labels.png")
    return tmp_path


def own(town, **keys):
    keys = {"patch_px": 32, "patches": 12, "images": [str(town / "?.png")], **keys}
    return open_data(parse_config({"data": keys}).data)


def at_first(expected, act):
    """Progress that does something once the first image is surveyed."""

    def progress(stage, done, total, detail=""):
        if (stage, done) == (expected, 1):
            act()

    return progress


@pytest.mark.parametrize("number", [0, 2])
@pytest.mark.parametrize("change", [overwrite, replace, lambda path: os.utime(path, ns=(1, 1))])
def test_an_image_that_changes_before_or_after_it_is_surveyed_is_noticed(town, number, change):
    path = town / f"{number}.png"
    images = own(town).training(at_first("surveying images", lambda: change(path)))
    with pytest.raises(ChangedError, match=rf"a file of the data has changed while it was read \(.*{number}\.png\)"):
        images.unchanged().check()


def test_an_image_that_is_removed_once_it_is_surveyed_is_noticed(town):
    images = own(town).training(at_first("surveying images", (town / "0.png").unlink))
    with pytest.raises(ChangedError, match=r"0\.png"):
        images.unchanged().check()


def test_what_stays_as_it_is_passes(town):
    source = own(town, labels=[str(town / "{stem}_labels.png")])
    source.training().unchanged().check()
    source.evaluation().unchanged().check()


@pytest.mark.parametrize("change", [overwrite, os.remove])
def test_labels_that_change_while_images_are_surveyed_are_noticed(town, change):
    source = own(town, labels=[str(town / "{stem}_labels.png")])
    act = at_first("surveying labelled images", lambda: change(town / "0_labels.png"))
    images = source.evaluation(act)
    with pytest.raises(ChangedError, match=r"0_labels\.png"):
        images.unchanged().check()


def test_labels_are_watched_from_when_classes_were_found_on_them(town):
    source = own(town, labels=[str(town / "{stem}_labels.png")])
    source.evaluation()
    os.utime(town / "0_labels.png", ns=(1, 1))
    with pytest.raises(ChangedError, match=r"0_labels\.png"):
        source.evaluation().unchanged().check()


def write_fields(path):
    boxes = [shapely.box(380_000 + n, 5_799_990, 380_003 + n, 5_799_999) for n in range(0, 12, 4)]
    gpd.GeoDataFrame({"kind": ["a", "b", "c"]}, geometry=boxes, crs="EPSG:32633").to_file(path)


@pytest.mark.parametrize("changed", ["fields.shp", "fields.dbf"])
@pytest.mark.parametrize("keys", [{"labels": ["fields.shp"], "label_field": "kind"}, {"mask_polygons": ["fields.shp"]}])
def test_polygons_that_change_are_noticed_with_their_attributes(write_scene, tmp_path, keys, changed):
    rng = np.random.default_rng(0)
    scene = write_scene(rng.integers(0, 255, (3, 96, 96)).astype(np.uint8), crs="EPSG:32633")
    write_fields(tmp_path / "fields.shp")
    keys = {
        key: [str(tmp_path / path) for path in value] if key != "label_field" else value for key, value in keys.items()
    }
    source = own(tmp_path, **{"images": [str(scene)], **keys})
    images = source.evaluation() if "labels" in keys else source.training()
    assert {str(tmp_path / "fields.shp"), str(tmp_path / "fields.dbf")} < set(images.files())
    os.utime(tmp_path / changed, ns=(1, 1))
    with pytest.raises(ChangedError, match=changed):
        images.unchanged().check()


def test_patches_know_their_own_files(town):
    images = own(town, labels=[str(town / "{stem}_labels.png")]).evaluation()
    names = [images.name(index).split(" row")[0] for index in range(len(images))]
    for index, name in enumerate(names):
        assert list(images.files_of([index])) == [name, name.replace(".png", "_labels.png")]
    assert list(images.files_of(range(len(images)))) == list(images.files())
    assert len(images.files()) == 6
    unlabelled = own(town).training()
    assert list(unlabelled.files()) == [str(town / f"{number}.png") for number in range(3)]


def test_a_virtual_label_raster_is_watched_with_what_it_is_made_of(town):
    import rasterio.shutil

    label = town / "0_labels.png"
    rasterio.shutil.copy(label, town / "0_labels.vrt", driver="VRT")
    (town / "0.png").rename(town / "image.png")
    source = own(town, images=[str(town / "image.png")], labels=[str(town / "0_labels.vrt")])
    with pytest.raises(ChangedError, match=r"0_labels\.png"):
        watched(source, label)


def watched(source, label):
    images = source.evaluation()
    os.utime(label, ns=(1, 1))
    images.unchanged().check()
