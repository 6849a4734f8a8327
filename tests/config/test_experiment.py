import pytest

from geohp.config.experiment import Config

DINOV2, DINOV3 = "vit_small_patch14_dinov2.lvd142m", "vit_small_patch16_dinov3.lvd1689m"


@pytest.mark.parametrize(
    ("backbone", "side"),
    [
        ({}, 256),
        ({"name": DINOV2}, 448),
        ({"name": DINOV3}, 512),
        ({"name": "rcf", "options": {"patch_size": 4}}, 128),
        ({"name": "aerial"}, 256),
    ],
)
def test_patches_of_auto_side_are_32_of_the_backbones(backbone, side):
    config = Config.model_validate({"data": {"images": "tiles", "patch_px": "auto"}, "backbone": backbone})
    assert (config.data.patch_px, config.data.model_input_px, config.data.evaluation_px) == (side, side, side)


def test_a_side_given_is_taken():
    config = Config.model_validate({"data": {"images": "tiles", "patch_px": 112}, "backbone": {"name": DINOV2}})
    assert config.data.patch_px == 112
    with pytest.raises(ValueError, match="patch_px"):
        Config.model_validate({"data": {"images": "tiles", "patch_px": "automatic"}})


@pytest.mark.parametrize(
    ("installed", "bands", "given", "name", "options"),
    [
        (True, None, {}, "aerial", {"patch_size": 14}),
        (True, ["nir", "red", "green"], {}, "aerial", {"patch_size": 14}),
        (True, None, {"options": {"patch_size": 8}}, "aerial", {"patch_size": 8}),
        (True, [1, 2, 3, 4], {}, "rcf", {}),
        (True, None, {"weights": "vit.safetensors"}, "rcf", {}),
        (True, None, {"options": {"filters": 32}}, "rcf", {"filters": 32}),
        (False, None, {"options": {"filters": 32}}, "rcf", {"filters": 32}),
    ],
)
def test_auto_is_the_best_backbone_that_there_is_without_a_download(
    monkeypatch, installed, bands, given, name, options
):
    monkeypatch.setattr("geohp.backbones.names.is_packaged", lambda: installed)
    data = {"images": "tiles", "patch_px": "auto", "bands": bands}
    config = Config.model_validate({"data": data, "backbone": {"name": "auto", **given}})
    assert (config.backbone.name, config.backbone.options) == (name, options)
    assert config.data.patch_px == 32 * options.get("patch_size", 8)
    assert Config.model_validate(config.model_dump()) == config  # and stays so wherever it is read again


def test_a_side_given_is_in_patches_of_its_own_size(monkeypatch):
    monkeypatch.setattr("geohp.backbones.names.is_packaged", lambda: True)
    config = Config.model_validate({"data": {"images": "tiles", "patch_px": 256}, "backbone": {"name": "auto"}})
    assert (config.backbone.name, config.backbone.options) == ("aerial", {})
