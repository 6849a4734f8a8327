"""Intersection ways: TorchGeo's data sets in geohp, geohp's data in TorchGeo's trainers and samplers."""

import numpy as np
import pytest
import torch
from lightning import Trainer
from PIL import Image
from rasterio.transform import from_origin
from torch.utils.data import DataLoader
from torchgeo.datasets import NonGeoDataset, RasterDataset, stack_samples
from torchgeo.samplers import GridGeoSampler, RandomGeoSampler
from torchgeo.trainers import SemanticSegmentationTask

from geohp.config.loading import parse_config
from geohp.data.datamodule import GeohpDataModule
from geohp.data.factory import open_data, source_of
from geohp.data.torchgeo.raster_dataset import GeohpRasterDataset
from geohp.data.torchgeo.source import TorchGeoData, dataset_class
from geohp.data.torchgeo.torchgeo_images import TorchGeoImages
from geohp.errors import DataError

LABELS = np.arange(96)[:, None] // 48 * 2 + np.arange(128)[None] // 64


def picture(labels):
    return np.stack([labels * 40 + 10, labels * 20 + 30, 200 - labels * 30]).astype(np.uint8)


def settings(**data):
    return parse_config({"data": {"patch_px": 32, "patches": 10, **data}}).data


class Chips(NonGeoDataset):
    """Pictures of several sizes with masks, as most of TorchGeo's data sets hand them out."""

    classes = ("land", "water", "wood", "road")

    def __init__(self, split="train", count=3):
        self.sizes = [(96, 128), (40, 50), (64, 32)][:count]

    def __len__(self):
        return len(self.sizes)

    def __getitem__(self, index):
        height, width = self.sizes[index]
        labels = LABELS[:height, :width]
        return {"image": torch.from_numpy(picture(labels)).float(), "mask": torch.from_numpy(labels)}


@pytest.fixture
def scene(write_scene):
    return write_scene(picture(LABELS), "scene.tif")


@pytest.fixture
def truth(write_scene):
    return write_scene(LABELS.astype(np.uint8)[None] + 1, "truth.tif", nodata=0)


def agree(item, shift=0):
    mask = item["mask"].numpy()
    known = mask != 255
    np.testing.assert_allclose(item["image"].numpy()[:, known] * 255, picture(mask + shift)[:, known], atol=0.01)


def test_pictures_are_cut_into_patches_and_every_pixel_is_judged_once():
    data = TorchGeoData(Chips(), Chips("test"), config=settings(source="torchgeo", dataset="RESISC45"))
    train, test = data.training(), data.evaluation()
    assert len(train) == 10
    assert train.labelled
    assert [c.name for c in data.classes] == list(Chips.classes)
    for images in (train, test):
        for i in range(len(images)):
            assert images[i]["image"].shape == (3, 32, 32)
            agree(images[i])
    judged = sum(int((test[i]["mask"] != 255).sum()) for i in range(len(test)))
    assert judged == sum(h * w for h, w in Chips().sizes)
    assert len({train.name(i) for i in range(len(train))}) == len(train)
    np.testing.assert_array_equal(train[3]["image"], data.training()[3]["image"])


def test_without_a_test_set_labels_judge_and_teach_nothing():
    data = TorchGeoData(Chips(), config=settings(source="torchgeo", dataset="RESISC45"))
    assert not data.training().labelled
    assert data.evaluation().labelled
    assert "none of whose labels were used" in data.protocol.text


def test_bands_classes_and_ranges():
    images = TorchGeoImages(Chips(), patch_px=32, patches=4, bands=[3, 1], scaling="0,510")
    assert images.channels == 2
    assert 0 < images[0]["image"].max() <= 0.5
    with pytest.raises(DataError, match="has bands 1 to 3"):
        TorchGeoImages(Chips(), patch_px=32, patches=4, bands=[4])
    mapping = {0: "dry", 1: "wet", 2: "dry", 3: None}
    data = TorchGeoData(Chips(), config=settings(source="torchgeo", dataset="RESISC45", label_classes=mapping), seed=1)
    found = data.evaluation()
    values = torch.cat([found[i]["mask"].flatten() for i in range(len(found))]).unique().tolist()
    assert values == [0, 1, 255]


def test_floats_below_zero_are_measured_and_not_taken_for_colours():
    """Decibels of radar, whose largest value is below 1."""
    chips = Chips()
    plain = chips.__getitem__
    chips.__class__ = type("Radar", (Chips,), {"__getitem__": lambda self, i: {"image": plain(i)["image"] / 10 - 30}})
    low, high = (TorchGeoImages(chips, patch_px=32, patches=4).scaling.__getattribute__(end) for end in ("low", "high"))
    assert low[0] < -25
    assert -25 < high[0] < 0


def test_geodatasets_are_drawn_from_by_place(scene, truth):
    images = TorchGeoImages(RasterDataset(str(scene)), patch_px=32, patches=6, seed=2)
    again = TorchGeoImages(RasterDataset(str(scene)), patch_px=32, patches=6, seed=2)
    for i in range(6):
        np.testing.assert_array_equal(images[i]["image"], again[i]["image"])
    keys = {"source": "torchgeo", "dataset": "RasterDataset", "options": {"paths": str(scene)}}
    labels = {"label_dataset": "RasterDataset", "label_options": {"paths": str(truth)}}
    classes = {1: "a", 2: "b", 3: "c", 4: "d", 0: None}
    data = open_data(settings(**keys, **labels, label_classes=classes))
    test = data.evaluation()
    assert data.pixel_size_m == pytest.approx(0.5, rel=1e-2)
    for i in range(len(test)):
        agree(test[i])
    assert sum(int((test[i]["mask"] != 255).sum()) for i in range(len(test))) == 96 * 128
    assert not data.training().labelled
    unlabelled = open_data(settings(**keys))
    assert unlabelled.training()[0]["image"].max() <= 1
    with pytest.raises(DataError, match="gives no masks"):
        unlabelled.evaluation()


def test_beyond_the_data_nothing_is_a_class(scene, truth):
    images = RasterDataset(str(scene))
    labels = RasterDataset(str(truth))
    labels.is_image = False
    data = TorchGeoData(images & labels, config=settings(source="torchgeo", dataset="RasterDataset", patch_px=50))
    test = data.evaluation()
    assert sum(int((test[i]["mask"] != 255).sum()) for i in range(len(test))) == 96 * 128


def test_only_data_sets_of_torchgeos_can_be_named():
    assert dataset_class("LandCoverAI").__name__ == "LandCoverAI"
    for name in ("os", "stack_samples", "RasterDatset", "__builtins__"):
        with pytest.raises(DataError, match=r"torchgeo.datasets has no such data set"):
            dataset_class(name)
    with pytest.raises(DataError, match="did you mean 'RasterDataset'"):
        open_data(settings(source="torchgeo", dataset="RasterDatset"))
    data = open_data(settings(source="torchgeo", dataset="LandCoverAI", options={"root": "/nowhere"}))
    with pytest.raises(DataError, match=r"data.dataset = LandCoverAI: cannot be opened: .*check data.options"):
        data.training()
    with pytest.raises(DataError, match=r"cannot be opened: .*unexpected keyword"):
        open_data(settings(source="torchgeo", dataset="LandCoverAI", options={"rot": "x"})).training()


def test_patches_larger_than_all_images_are_refused(scene):
    with pytest.raises(DataError, match=r"set data.patch_px lower"):
        TorchGeoImages(RasterDataset(str(scene)), patch_px=512, patches=4)


def test_objects_serve_as_sources(scene):
    config = settings(images=["x"], label_classes={0: "a", "*": None})
    data = source_of(Chips(), config)
    assert data.training()[0]["image"].shape == (3, 32, 32)
    assert data.evaluation().labelled
    assert [c.name for c in data.classes] == ["a"]
    assert source_of(data, config) is data
    images = data.training()
    assert source_of(images, config).training() is images
    assert len(source_of(RasterDataset(str(scene)), config).training()) == 10
    with pytest.raises(DataError, match="neither a data source"):
        source_of([1, 2], config)


def test_reader_processes_take_every_kind(scene, truth, tmp_path):
    keys = {"labels": [str(truth)], "split": "block", "block_m": 16, "patch_px": 16}
    own = open_data(settings(images=[str(scene)], **keys))
    for images in (own.training(), own.evaluation(), TorchGeoImages(RasterDataset(str(scene)), patch_px=16, patches=4)):
        plain = [images[i]["image"] for i in range(len(images))]
        read = [b["image"] for b in DataLoader(images, batch_size=2, num_workers=1, multiprocessing_context="spawn")]
        torch.testing.assert_close(torch.cat(read), torch.stack(plain))


@pytest.fixture
def module(tmp_path):
    for n in range(4):
        Image.fromarray(np.moveaxis(picture(LABELS), 0, -1)).save(tmp_path / f"{n}.png")
        Image.fromarray(LABELS.astype(np.uint8)).save(tmp_path / f"{n}_labels.png")
    config = parse_config(
        {
            "data": {
                "images": [str(tmp_path)],
                "labels": "{stem}_labels.png",
                "split": "tile",
                "patch_px": 32,
                "patches": 6,
            },
            "train": {"batch_size": 3},
        }
    )
    return GeohpDataModule(config)


def test_torchgeos_trainer_takes_the_data_module(module, tmp_path):
    task = SemanticSegmentationTask(
        model="fcn", num_filters=4, in_channels=3, num_classes=4, ignore_index=255, weights=None, lr=0.01
    )
    trainer = Trainer(
        max_epochs=1,
        limit_train_batches=2,
        limit_val_batches=1,
        limit_test_batches=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    trainer.fit(task, datamodule=module)
    assert torch.isfinite(trainer.callback_metrics["train_loss"])
    assert torch.isfinite(trainer.test(task, datamodule=module, verbose=False)[0]["test_loss"] * torch.ones(1))
    assert trainer.predict(task, datamodule=module)[0].shape[2:] == (32, 32)


def test_batches_of_the_data_module(module):
    module.setup("fit")
    batch = next(iter(module.train_dataloader()))
    assert batch["image"].shape == (3, 3, 32, 32)
    assert batch["mask"].shape == (3, 32, 32)
    assert batch["mask"].dtype == torch.int64
    assert len(module.classes) == 4
    module.teardown()


def test_without_labels_there_is_nothing_to_validate_on(scene):
    module = GeohpDataModule(parse_config({"data": {"images": [str(scene)], "patch_px": 32, "patches": 4}}))
    module.setup("fit")
    assert set(next(iter(module.train_dataloader()))) == {"image"}
    assert module.val_dataloader() == []
    with pytest.raises(DataError, match="no labels"):
        module.test_dataloader()
    assert len(module.predict_dataloader().dataset) == 4


def test_torchgeos_samplers_draw_from_ones_own_images(write_scene, scene, truth):
    own = settings(images=[str(scene)], scaling="0,100")
    dataset = GeohpRasterDataset(own)
    sampler = RandomGeoSampler(dataset, size=16, length=4)
    batch = next(iter(DataLoader(dataset, batch_size=4, sampler=sampler, collate_fn=stack_samples)))
    assert batch["image"].shape == (4, 3, 16, 16)
    assert batch["image"].max() == 1.0  # 200 of 100, clipped
    labels = RasterDataset(str(truth))
    labels.is_image = False
    both = GeohpRasterDataset(settings(images=[str(scene)])) & labels
    for key in GridGeoSampler(both, size=32, stride=32):
        sample = both[key]
        agree({"image": sample["image"], "mask": sample["mask"] - 1})


def test_images_of_other_bands_crs_and_holes_are_laid_together(write_scene):
    grid = {"transform": from_origin(380000, 5800000, 0.5, 0.5)}
    data = picture(LABELS)
    data[:, :20] = 0
    write_scene(data, "a.tif", nodata=0, **grid)
    second = write_scene(np.full((3, 96, 128), 77, np.uint8), "b.tif", **grid)
    dataset = GeohpRasterDataset(settings(images=[str(second.parent / "*.tif")], bands=[3, 2]))
    x, y, t = dataset.bounds
    image = dataset[x, y, t]["image"].numpy() * 255
    assert image.shape == (2, 96, 128)
    np.testing.assert_allclose(image[:, :19], 77, atol=0.01)
    np.testing.assert_allclose(image[:, 21:], data[[2, 1], 21:], atol=0.01)
    moved = GeohpRasterDataset(settings(images=[str(second)]), crs="EPSG:32632", res=0.5)
    x, y, t = moved.bounds
    middle = (
        slice((x.start + x.stop) / 2, (x.start + x.stop) / 2 + 8),
        slice((y.start + y.stop) / 2, y.start / 2 + y.stop / 2 + 8),
    )
    np.testing.assert_allclose(moved[(*middle, t)]["image"].numpy() * 255, 77, atol=0.01)
    with pytest.raises(DataError, match="no coordinate reference system"):
        GeohpRasterDataset(settings(images=[str(write_scene(data, "c.png", driver="PNG", crs=None))]))
