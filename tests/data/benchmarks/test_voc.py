"""PASCAL VOC 2012 in torchvision's layout: labels, lists, saliency maps, and what is missing."""

import os

import layouts
import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import VOCSegmentation

import geohp
from geohp.config.data import VocConfig
from geohp.data.benchmarks.framing import framed
from geohp.data.benchmarks.voc import VOC_CLASSES, Voc
from geohp.errors import ChangedError, DataError


def config(root, **settings) -> VocConfig:
    return VocConfig(source="voc", root=str(root), **settings)


@pytest.fixture(scope="module")
def voc(tmp_path_factory):
    root = tmp_path_factory.mktemp("voc")
    return root, layouts.write_voc(root, saliency=root / "saliency")


def test_torchvision_reads_the_same(voc):
    root, _ = voc
    official = VOCSegmentation(root, image_set="val")
    images = Voc(config(root, evaluation_px=48)).evaluation()
    assert len(images) == len(official) == 4
    for index, (image, labels) in enumerate(official):
        item = images[index]
        expected = framed(np.moveaxis(np.asarray(image), -1, 0), 48)
        np.testing.assert_allclose(item["image"] * 255, expected, atol=1e-4)
        np.testing.assert_array_equal(item["mask"], framed(np.asarray(labels), 48))
        assert 255 in item["mask"]


def test_the_twenty_and_the_background():
    assert [entry.id for entry in VOC_CLASSES] == list(range(21))
    assert len({entry.colour for entry in VOC_CLASSES}) == len({entry.name for entry in VOC_CLASSES}) == 21
    # The data set's colours: bits of the number, spread over the bits of red, green and blue.
    for entry in VOC_CLASSES:
        bits = [[entry.id >> (3 * place + band) & 1 for place in range(3)] for band in range(3)]
        assert entry.rgb == tuple(sum(bit << (7 - place) for place, bit in enumerate(band)) for band in bits)


def test_saliency_is_the_mask_of_an_image(voc):
    root, images = voc
    training = Voc(config(root, input_px=48, saliency=str(root / "saliency"))).training()
    assert training.segmented
    assert [training.name(i) for i in range(3)] == list(images["train"])
    for index, (_, labels) in enumerate(images["train"].values()):
        salient = framed((labels > 0) & (labels < 255), 48)
        np.testing.assert_array_equal(training[index]["segments"], np.where(salient, 0, -1))
    assert not Voc(config(root)).training().segmented


@pytest.mark.parametrize("part", [0, 1, 2])
def test_an_image_its_labels_and_its_saliency_are_noticed_where_they_change(tmp_path, part):
    layouts.write_voc(tmp_path, 3, 1, saliency=tmp_path / "saliency")
    images = Voc(config(tmp_path, saliency=str(tmp_path / "saliency"))).training()
    unchanged = images.unchanged()
    unchanged.check()
    file = images.files_of([1])[part]
    os.utime(file, ns=(1, 1))
    unchanged.check(images.files_of([0, 2]))
    with pytest.raises(ChangedError, match=file):
        unchanged.check()


def test_maps_of_zeros_and_ones_and_without_anything_salient(voc, tmp_path):
    layouts.write_voc(tmp_path, 2, 1, saliency=tmp_path / "saliency")
    first, second, *_ = sorted((tmp_path / "saliency").iterdir())
    halves = np.zeros((48, 64), np.uint8)
    halves[:, 32:] = 1
    Image.fromarray(halves).save(first)
    Image.fromarray(halves * 0).save(second)
    training = Voc(config(tmp_path, input_px=48, saliency=str(tmp_path / "saliency"))).training()
    np.testing.assert_array_equal(training[0]["segments"], framed(halves, 48).astype(int) - 1)
    assert torch.equal(training[1]["segments"], torch.full((48, 48), -1))


def test_the_folder_itself_and_lists_with_labels_elsewhere(voc, tmp_path):
    layouts.write_voc(tmp_path, 2, 1)
    folder = tmp_path / "VOCdevkit" / "VOC2012"
    assert len(Voc(config(folder)).training()) == 2
    (folder / "SegmentationClass").rename(folder / "SegmentationClassAug")
    assert len(Voc(config(folder)).training()) == 2


def test_published_only_with_all_of_val(voc):
    root, _ = voc
    protocol = Voc(config(root)).protocol
    assert (protocol.benchmark, protocol.same) == ("voc-2012", False)
    assert "4 images" in protocol.text


def test_what_is_missing(voc, tmp_path):
    root, _ = voc
    with pytest.raises(DataError, match=r"VOCtrainval_11-May-2012\.tar"):
        Voc(config(tmp_path))
    with pytest.raises(DataError, match="lists there are train"):
        Voc(config(root, train_list="trainaug")).training()
    layouts.write_voc(tmp_path, 2, 1, saliency=tmp_path / "saliency")
    data = Voc(config(tmp_path, saliency=str(tmp_path / "saliency")))
    maps = sorted((tmp_path / "saliency").iterdir())
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(maps[0])
    with pytest.raises(DataError, match="9 x 9 px where its image is of 64 x 48"):
        data.training()[0]
    maps[1].unlink()
    with pytest.raises(DataError, match=f"1 of 2 maps are missing \\({maps[1].stem}\\)"):
        data.training()


def test_evaluation_of_voc_has_a_row_for_masks(tmp_path):
    layouts.write_voc(tmp_path / "voc", 20, 24, saliency=tmp_path / "saliency")
    settings = [
        f"data.root={tmp_path / 'voc'}",
        f"data.saliency={tmp_path / 'saliency'}",
        "data.input_px=48",
        "data.evaluation_px=48",
        "backbone.name=rcf",
        "backbone.options={patch_size: 8}",
        "train.epochs=2",
        "train.batch_size=4",
        "train.workers=0",
        "train.device=cpu",
    ]
    run = geohp.train("voc-maskcontrast", settings, out=tmp_path / "run")
    evaluation = geohp.evaluate(run.folder, report=tmp_path / "report", device="cpu")
    assert [str(result.mode) for result in evaluation.results] == ["cluster", "linear", "masks"]
    masks = evaluation.results[-1].scores
    assert masks["class_iou"][0] > 80  # the background, which saliency tells
    text = evaluation.report()
    assert "last checkpoint, masks clustered" in text
    assert "MaskContrast" in text
    assert "44.2" in text
    assert (tmp_path / "report" / "confusion-2.png").is_file()
