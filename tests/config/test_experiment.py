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
