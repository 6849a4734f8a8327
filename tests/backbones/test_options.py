"""Options of backbones, which configurations and models may give any value."""

import pytest

from geohp.backbones.factory import create_backbone, create_backbone_for_bands
from geohp.errors import ConfigError


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("rcf", {"scales": 5}, "scales must be a list of whole numbers, not 5"),
        ("rcf", {"scales": [1.0, 3.0]}, "scales must be a list of whole numbers"),
        ("rcf", {"filters": 2.5}, "filters must be a whole number, not 2.5"),
        ("rcf", {"patch_size": True}, "patch_size must be a whole number, not True"),
        ("rcf", {"patch_size": "8"}, "patch_size must be a whole number, not '8'"),
        ("rcf", {"bias": "a"}, "bias must be a number, not 'a'"),
        ("rcf", {"channels": 2.5}, "channels must be a whole number"),
        ("rcf", {"name": "x"}, "has no option 'name'"),
        ("rcf", {"bands": 3}, "has no option 'bands'"),
        ("aerial", {"stages": 3}, "stages must be a list of whole numbers, not 3"),
        ("colour", {"patch_size": 0}, "patch_size must be at least 1, not 0"),
        ("vit_tiny_patch16_224", {"norm": "yes"}, "norm must be true or false, not 'yes'"),
        ("vit_tiny_patch16_224", {"seed": 3}, "has no option 'seed'"),
        ("vit_tiny_patch16_224", {"positions": 3}, "positions must be a text, not 3"),
    ],
)
def test_values_of_another_type_are_one_sentence(name, options, said):
    with pytest.raises(ConfigError, match=f"^backbone {name}: {said}"):
        create_backbone_for_bands(name, 3, weights=None if name in ("rcf", "colour") else "random", options=options)


def test_what_may_be_left_open_may_be_none():
    assert create_backbone("rcf", channels=None, bias=1, scales=(1,)).options()["channels"] is None
