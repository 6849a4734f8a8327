"""The packaged benchmark configurations carry the published settings."""

import pytest

from geohp.config.loading import load_config

PUBLISHED = {
    "potsdam3": (256, 0.4, 0.0, 1.0, 1024, 0.999, 100, 20, 10, 3, "vit_base_patch8_224.dino"),
    "cocostuff27": (512, 0.8, 0.05, 0.02, 2048, 0.99, 1000, 100, 3, 27, "vit_small_patch8_224.dino"),
    "cityscapes27": (512, 0.6, 0.05, 0.02, 2048, 0.999, 50, 20, 30, 27, "vit_small_patch8_224.dino"),
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


def test_data_of_the_benchmarks():
    assert load_config("potsdam3").data.train_split == "labelled_train"
    coco, city = load_config("cocostuff27").data, load_config("cityscapes27").data
    assert (coco.crop_ratio, city.crop_ratio) == (0.5, 0.5)
    assert (coco.train_list, coco.evaluation_list) == ("Coco164kFull_Stuff_Coarse", "Coco164kFull_Stuff_Coarse_7")
