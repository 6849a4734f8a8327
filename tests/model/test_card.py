"""The card of a model: what it says of the backbone is enough to find its weights again."""

from pathlib import Path

import pytest

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
