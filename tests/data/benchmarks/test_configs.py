"""The packaged benchmark configurations carry the published settings."""

import pytest

from geohp.config.loading import load_config
from geohp.training.defaults import resolve

PUBLISHED = {
    "potsdam3": (256, 0.4, 0.0, 1.0, 1024, 0.999, 100, 20, 10, 3, "vit_base_patch8_224.dino"),
    "cocostuff27": (512, 0.8, 0.05, 0.02, 2048, 0.99, 1000, 100, 3, 27, "vit_small_patch8_224.dino_300ep"),
    "cityscapes27": (512, 0.6, 0.05, 0.02, 2048, 0.999, 50, 20, 30, 27, "vit_small_patch8_224.dino_300ep"),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_settings(name):
    config = load_config(name)
    method = config.method
    assert (
        method.code_channels,
        method.temperature,
        method.consistency_weight,
        method.keep_rate,
        method.pool_size,
        method.ema_momentum,
        method.warmup_steps,
        method.renew_interval,
        config.train.epochs,
        config.classes.count,
        config.backbone.name,
    ) == PUBLISHED[name]
    assert (method.reweight, method.refit_probe, config.train.batch_size) == (True, False, 64)
    assert (config.data.input_px, config.data.evaluation_px) == (224, 320)
    # Labels are looked at where that is asked for alone, and then when the authors' code does.
    assert (config.train.score_every, config.train.score_steps) == (0, 50 if name == "potsdam3" else 100)


def test_data_of_the_benchmarks():
    assert load_config("potsdam3").data.train_split == "labelled_train"
    coco, city = load_config("cocostuff27").data, load_config("cityscapes27").data
    assert (coco.crop_ratio, city.crop_ratio) == (0.5, 0.5)
    assert (coco.train_list, coco.evaluation_list) == ("Coco164kFull_Stuff_Coarse", "Coco164kFull_Stuff_Coarse_7")


@pytest.mark.parametrize(
    ("name", "weights", "shifts", "backbone"),
    [
        ("cocostuff27_stego", (0.1, 1.0, 0.154), (0.12, 0.2, 1.0), "vit_base_patch8_224.dino"),
        ("cityscapes27_stego", (1.0, 0.577, 0.906), (0.458, 0.175, 0.314), "vit_base_patch8_224.dino"),
        ("potsdam3_stego", (0.67, 0.25, 0.63), (0.08, 0.02, 0.46), "vit_small_patch8_224.dino_300ep"),
    ],
)
def test_published_settings_of_stego(name, weights, shifts, backbone):
    config = load_config(name)
    method = config.method
    kinds = ("self", "neighbour", "random")
    assert tuple(getattr(method, f"{kind}_weight") for kind in kinds) == pytest.approx(weights, abs=5e-4)
    assert tuple(getattr(method, f"{kind}_shift") for kind in kinds) == pytest.approx(shifts, abs=5e-4)
    assert (method.code_channels, method.samples, method.random_pairs, method.nearest_images) == (70, 11, 5, 7)
    rates = method.learning_rates
    assert (rates.head, rates.cluster_probe, rates.linear_probe) == (5e-4, 5e-3, 5e-3)
    assert (method.pointwise, method.zero_clamp, method.stabilise, method.refit_probe) == (True, True, False, False)
    assert (config.train.max_steps, config.train.epochs, config.train.batch_size) == (5000, None, 16)
    assert config.backbone.name == backbone
    assert config.data == load_config(name.removesuffix("_stego")).data
    assert config.classes == load_config(name.removesuffix("_stego")).classes


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_row_for_dino_is_of_the_same_data_backbone_and_training(name):
    config, hp = load_config(f"{name}_dino"), load_config(name)
    assert (config.data, config.backbone, config.classes, config.train) == (
        hp.data, hp.backbone, hp.classes, hp.train,
    )  # fmt: skip
    assert config.backbone.block == -1
    rates = config.method.learning_rates
    assert (config.method.name, rates.cluster_probe, rates.linear_probe) == ("probes", 5e-3, 1e-3)


@pytest.mark.parametrize(("images", "epochs"), [(4545, 18), (248_000, 1), (14_875, 6)])
def test_steps_are_as_many_epochs_as_they_take(images, epochs):
    config, notes = resolve(load_config("potsdam3_stego"), images)
    assert config.train.epochs == epochs
    assert notes == [f"5000 steps; an epoch has {images // 16} ({images} images in batches of 16)"]
