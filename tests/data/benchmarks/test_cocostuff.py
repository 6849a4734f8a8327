"""COCO-Stuff-27: the table of labels, the lists, five crops, and files that are not what they should be."""

import pickle
import shutil

import layouts
import numpy as np
import pytest
import torch
from PIL import Image

from geohp.config.data import CocoStuffConfig
from geohp.data.benchmarks.cocostuff import CocoStuff, coco_classes, fine_to_class
from geohp.data.benchmarks.framing import five_boxes, framed
from geohp.errors import DataError

KINDS = {
    "things": "electronic appliance food furniture indoor kitchen accessory animal outdoor person sports vehicle",
    "stuff": "ceiling floor food furniture rawmaterial textile wall window building ground plant sky solid structural "
    "water",
}


def config(root, **settings) -> CocoStuffConfig:
    return CocoStuffConfig(source="cocostuff", root=str(root), **settings)


@pytest.fixture(scope="module")
def coco(tmp_path_factory):
    root = tmp_path_factory.mktemp("cocostuff")
    return root, layouts.write_cocostuff(root)


@pytest.fixture
def spoilt(tmp_path):
    made = layouts.write_cocostuff(tmp_path, 2, 1)
    return tmp_path, list(made["train2017"])


def test_classes_are_twelve_things_then_fifteen_of_stuff():
    expected = [f"{word}-{kind}" for kind, words in KINDS.items() for word in words.split()]
    assert [c.name for c in coco_classes()] == expected
    assert [c.id for c in coco_classes()] == list(range(27))
    assert len({c.colour for c in coco_classes()}) == 27


def test_the_table_gives_every_fine_label_its_class():
    table = fine_to_class()
    assert sorted(table) == list(range(182))
    # Members of each class in the published table, which has 91 labels of things and 91 of stuff.
    counts = [6, 6, 10, 10, 8, 8, 8, 10, 6, 1, 10, 8, 2, 6, 4, 11, 4, 11, 7, 2, 6, 11, 9, 2, 6, 5, 5]
    members = np.bincount(list(table.values()), minlength=27).tolist()
    assert sum(members[:12]) == 91
    assert sum(members) == 182
    things = [9, *[11] * 8, *[8] * 6, *[7] * 10, *[6] * 8, *[10] * 10, *[5] * 8, *[2] * 10, *[3] * 10, *[0] * 6]
    things += [*[1] * 6, *[4] * 8]
    assert [table[i] for i in range(91)] == things
    assert members == counts


@pytest.mark.parametrize(
    ("fine", "name"),
    [(0, "person"), (2, "vehicle"), (123, "plant"), (148, "ground"), (156, "sky"), (154, "water"), (172, "wall")],
)
def test_well_known_labels(fine, name):
    assert coco_classes()[fine_to_class()[fine]].name.startswith(name)


def test_each_stored_label_becomes_its_class(tmp_path):
    made = layouts.write_cocostuff(tmp_path, 1, 1, size=(256, 256))
    name = next(iter(made["val2017"]))
    every = np.arange(256, dtype=np.uint8)[:, None].repeat(256, 1)
    Image.fromarray(every).save(tmp_path / "annotations" / "val2017" / f"{name}.png")
    mask = CocoStuff(config(tmp_path, evaluation_px=256)).evaluation()[0]["mask"]
    table = fine_to_class()
    for fine in range(256):
        assert set(mask[fine].tolist()) == {table.get(fine, 255)}, fine


def test_evaluation_takes_whole_images_of_the_curated_list(coco):
    root, made = coco
    data = CocoStuff(config(root))
    images = data.evaluation()
    assert len(images) == 3
    assert (images.channels, images.labelled) == (3, True)
    table = np.full(256, 255)
    table[:182] = [fine_to_class()[i] for i in range(182)]
    for index, (name, fine) in enumerate(made["val2017"].items()):
        assert images.name(index) == name
        item = images[index]
        assert item["image"].shape == (3, 320, 320)
        stored = np.asarray(Image.open(root / "images" / "val2017" / f"{name}.jpg"))
        np.testing.assert_allclose(item["image"] * 255, framed(np.moveaxis(stored, -1, 0), 320), atol=1e-4)
        np.testing.assert_array_equal(item["mask"], table[framed(fine, 320)])
    assert (data.protocol.benchmark, data.protocol.same) == ("cocostuff-27", True)


def test_training_takes_five_crops_of_each_image_decoding_it_once(coco, monkeypatch):
    root, made = coco
    decoded = []
    opening = Image.open
    monkeypatch.setattr(Image, "open", lambda path: decoded.append(str(path)) or opening(path))
    images = CocoStuff(config(root, input_px=32)).training()
    assert len(images) == 15
    items = [images[i] for i in range(len(images))]
    assert len(decoded) == 6  # three images, three label images
    for number, (name, fine) in enumerate(made["train2017"].items()):
        for k, box in enumerate(five_boxes(*fine.shape, 0.5)):
            index = number * 5 + k
            assert images.name(index) == f"{name} crop {k}"
            expected = [fine_to_class().get(v, 255) for v in framed(fine[box.slices], 32).ravel()]
            assert items[index]["mask"].ravel().tolist() == expected
    assert len(CocoStuff(config(root, crop_ratio=None)).training()) == 3
    with pytest.raises(IndexError):
        images[15]


def test_the_common_layout_serves_as_well(coco, tmp_path):
    layouts.write_cocostuff(tmp_path, plain=True)
    for part in ("training", "evaluation"):
        one, other = (getattr(CocoStuff(config(r)), part)() for r in (tmp_path, coco[0]))
        assert torch.equal(one[1]["image"], other[1]["image"])
        assert torch.equal(one[1]["mask"], other[1]["mask"])


def test_grey_photographs_become_coloured(spoilt):
    root, (name, _) = spoilt
    path = root / "images" / "train2017" / f"{name}.jpg"
    Image.open(path).convert("L").save(path)
    image = CocoStuff(config(root)).training()[0]["image"]
    assert torch.equal(image[0], image[2])


def test_travels_to_reader_processes(coco):
    images = CocoStuff(config(coco[0])).training()
    images[3]
    again = pickle.loads(pickle.dumps(images))
    assert again._last is None
    assert torch.equal(again[3]["image"], images[3]["image"])


def test_missing_files_are_counted_and_named(spoilt):
    root, (first, second) = spoilt
    (root / "annotations" / "train2017" / f"{second}.png").unlink()
    with pytest.raises(DataError, match=rf"annotations/train2017: 1 of 2 label files are missing \({second}\)"):
        CocoStuff(config(root)).training()
    (root / "images" / "train2017" / f"{first}.jpg").unlink()
    with pytest.raises(DataError, match=rf"images/train2017: 1 of 2 image files are missing \({first}\)"):
        CocoStuff(config(root)).training()
    assert len(CocoStuff(config(root)).evaluation()) == 1


@pytest.mark.parametrize(
    ("folder", "said"),
    [
        ("images/train2017", r"images/train2017: there is no such folder, nor .*; put the images of train2017.zip"),
        ("annotations/train2017", r"there is no such folder, nor .*stuffthingmaps.*stuffthingmaps_trainval2017.zip"),
        ("curated/train2017", r"curated/train2017: there is no such folder; put the curated lists of IIC"),
    ],
)
def test_missing_folders_are_named_with_what_belongs_there(spoilt, folder, said):
    shutil.rmtree(spoilt[0] / folder)
    with pytest.raises(DataError, match=said):
        CocoStuff(config(spoilt[0])).training()


def test_lists_that_are_not_there(coco, tmp_path):
    with pytest.raises(DataError, match=r"Mine.txt: there is no such list; lists there are Coco164kFull_Stuff_Coarse"):
        CocoStuff(config(coco[0], train_list="Mine")).training()
    data = CocoStuff(config(coco[0], evaluation_list="Coco164kFew_Stuff_6"))
    assert not data.protocol.same
    assert "Coco164kFew_Stuff_6, the middle square at 320 px" in data.protocol.text
    assert "Coco164kFull_Stuff_Coarse_7" in data.protocol.text
    with pytest.raises(DataError, match=r"is no folder"):
        CocoStuff(config(tmp_path / "nowhere"))


def test_files_that_are_damaged_or_of_another_kind(spoilt):
    root, (name, _) = spoilt
    image, label = root / "images" / "train2017" / f"{name}.jpg", root / "annotations" / "train2017" / f"{name}.png"
    sound = label.read_bytes()
    Image.new("RGB", (48, 64)).save(label)
    with pytest.raises(DataError, match=rf"{name}.png: holds RGB pixels where one byte each"):
        CocoStuff(config(root)).training()[0]
    Image.new("L", (40, 64)).save(label)
    with pytest.raises(DataError, match=rf"{name}.png: is of 40 x 64 px where its image is of 48 x 64 px"):
        CocoStuff(config(root)).training()[0]
    label.write_bytes(sound)
    image.write_bytes(image.read_bytes()[:400])
    with pytest.raises(DataError, match=rf"{name}.jpg: cannot be decoded"):
        CocoStuff(config(root)).training()[0]
    image.unlink()
    images = CocoStuff(
        config(root),
    ).evaluation()
    assert len(images) == 1
