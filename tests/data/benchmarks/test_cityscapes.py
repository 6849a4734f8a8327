"""Cityscapes-27: every label id, classes as the data set has them, and partial downloads."""

import layouts
import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import Cityscapes as Official

from geohp.config.data import CityscapesConfig
from geohp.data.benchmarks.cityscapes import CITYSCAPES_CLASSES, Cityscapes
from geohp.data.benchmarks.framing import five_boxes, framed
from geohp.errors import DataError


def config(root, **settings) -> CityscapesConfig:
    return CityscapesConfig(source="cityscapes", root=str(root), **settings)


@pytest.fixture(scope="module")
def city(tmp_path_factory):
    root = tmp_path_factory.mktemp("cityscapes")
    return root, layouts.write_cityscapes(root)


def test_names_and_colours_are_the_data_sets_own():
    official = {c.id: c for c in Official.classes}
    assert len(CITYSCAPES_CLASSES) == 27
    for ours in CITYSCAPES_CLASSES:
        assert (ours.name, ours.rgb) == (official[ours.id + 7].name, official[ours.id + 7].color)


def test_each_label_id_becomes_its_class(tmp_path):
    made = layouts.write_cityscapes(tmp_path, 1, 1, size=(256, 256))
    name = next(iter(made["val"]))
    every = np.arange(256, dtype=np.uint8)[:, None].repeat(256, 1)
    Image.fromarray(every).save(tmp_path / "gtFine" / "val" / "frankfurt" / f"{name}_gtFine_labelIds.png")
    mask = Cityscapes(config(tmp_path, evaluation_px=256)).evaluation()[0]["mask"]
    for stored in range(256):
        assert set(mask[stored].tolist()) == {stored - 7 if 7 <= stored <= 33 else 255}, stored


def test_evaluation_takes_the_middle_of_val(city):
    root, made = city
    data = Cityscapes(config(root))
    images = data.evaluation()
    assert len(images) == 2
    for index, (name, (image, ids)) in enumerate(made["val"].items()):
        assert images.name(index) == name
        item = images[index]
        np.testing.assert_allclose(item["image"] * 255, framed(np.moveaxis(image, -1, 0), 320), atol=1e-4)
        shown = framed(ids, 320).astype(int)
        np.testing.assert_array_equal(item["mask"], np.where((shown >= 7) & (shown <= 33), shown - 7, 255))


def test_hidden_files_are_no_images(city):
    root, made = city
    (root / "leftImg8bit" / "val" / "frankfurt" / "._x_leftImg8bit.png").touch()
    assert Cityscapes(config(root)).names("val") == list(made["val"])


def test_training_takes_five_crops(city):
    root, made = city
    images = Cityscapes(config(root, input_px=24)).training()
    assert len(images) == 15
    assert [images.name(i) for i in (0, 5, 10)] == [f"{n} crop 0" for n in sorted(made["train"])]
    for number, name in enumerate(sorted(made["train"])):
        image, _ = made["train"][name]
        for k, box in enumerate(five_boxes(32, 64, 0.5)):
            expected = framed(np.moveaxis(image[box.slices], -1, 0), 24)
            assert torch.equal(images[number * 5 + k]["image"], torch.from_numpy(expected).float().div(255))


def test_all_500_images_make_the_published_protocol(city, tmp_path):
    protocol = Cityscapes(config(city[0])).protocol
    assert (protocol.benchmark, protocol.same) == ("cityscapes-27", False)
    assert "2 images of val" in protocol.text
    assert "all 500" in protocol.text
    folder = tmp_path / "leftImg8bit" / "val" / "frankfurt"
    folder.mkdir(parents=True)
    (tmp_path / "gtFine").mkdir()
    for i in range(500):
        (folder / f"frankfurt_{i:06}_000019_leftImg8bit.png").touch()
    assert Cityscapes(config(tmp_path)).protocol.same
    assert not Cityscapes(config(tmp_path, evaluation_px=224)).protocol.same
    with pytest.raises(DataError, match=r"gtFine/val: 500 of 500 label files .*labelIds.png.* and 497 more"):
        Cityscapes(config(tmp_path)).evaluation()
    with pytest.raises(DataError, match=r"leftImg8bit/train: no images named CITY"):
        Cityscapes(config(tmp_path)).training()


def test_archives_that_are_still_packed_are_told(tmp_path):
    with pytest.raises(DataError, match=r"leftImg8bit: there is no such folder; fetch and unpack leftImg8bit_trainval"):
        Cityscapes(config(tmp_path))
    (tmp_path / "leftImg8bit").mkdir()
    (tmp_path / "gtFine_trainvaltest.zip").touch()
    with pytest.raises(DataError, match=r"gtFine: there is no such folder; unpack gtFine_trainvaltest.zip into"):
        Cityscapes(config(tmp_path))


def test_label_files_of_other_kinds_are_refused(tmp_path):
    made = layouts.write_cityscapes(tmp_path, 1, 1)
    name = next(iter(made["val"]))
    folder = tmp_path / "gtFine" / "val" / "frankfurt"
    (folder / f"{name}_gtFine_labelIds.png").write_bytes((folder / f"{name}_gtFine_color.png").read_bytes())
    with pytest.raises(DataError, match=r"labelIds.png: holds RGB pixels"):
        Cityscapes(config(tmp_path)).evaluation()[0]
