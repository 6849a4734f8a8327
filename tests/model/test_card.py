"""The card of a model: what it says of the backbone is enough to build it, and to find its weights again."""

from pathlib import Path

import pytest

from geohp.backbones.factory import create_backbone
from geohp.errors import WeightsError
from geohp.model.card import BackboneCard, backbone_weights


def test_weights_that_moved_are_found_beside_the_model_and_nowhere_else(tmp_path: Path) -> None:
    model = tmp_path / "copied" / "model.safetensors"
    model.parent.mkdir()
    trained = tmp_path / "weights.safetensors"
    trained.touch()
    card = BackboneCard("vit_tiny_patch16_224", 1, weights=str(trained))
    beside = model.parent / trained.name
    beside.touch()
    assert backbone_weights(card, model, None) == str(trained)
    trained.unlink()
    assert backbone_weights(card, model, None) == str(beside)
    beside.unlink()
    with pytest.raises(WeightsError, match=r"copied/model\.safetensors: its backbone weights are no longer at"):
        backbone_weights(card, model, None)
    assert backbone_weights(card, model, "given") == "given"


def test_a_backbone_is_built_again_from_its_card() -> None:
    backbone = create_backbone("rcf", in_channels=4, patch_size=16, filters=32, scales=(1, 5), channels=24, seed=3)
    card = BackboneCard.of(backbone)
    again = create_backbone(card.name, block=card.block, **card.options)
    assert again.options() == backbone.options()
    assert card == BackboneCard.of(again)
