"""Features of several backbones side by side."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from geohp.backbones import factory
from geohp.backbones.factory import create_backbone, create_backbone_for_bands
from geohp.backbones.names import patch_size_of
from geohp.classes import default_classes
from geohp.errors import ConfigError, DataError, ModelError
from geohp.methods.kmeans.method import KMeans
from geohp.model.card import BackboneCard, ModelCard
from geohp.model.file import load_model, save_model
from geohp.model.network import LandCoverModel

TINY = "vit_tiny_patch16_224"
RCF = create_backbone("rcf")


def images(count: int = 3, bands: int = 3, side: int = 64) -> torch.Tensor:
    """Bright coloured noise, normalised as for a transformer."""
    return torch.randn(count, bands, side, side, generator=torch.Generator().manual_seed(1))


def side_by_side(name: str = f"{TINY}+aerial+colour", **options):
    torch.manual_seed(0)
    backbone = create_backbone(name, weights="random", block=1, weights_beside="random", **options)
    backbone.fit(iter(images().split(2)))
    return backbone


@pytest.mark.parametrize(
    ("name", "joined"),
    [(TINY, f"{TINY}+colour"), (f"{TINY}+aerial", f"{TINY}+aerial"), ("rcf", "rcf"), ("colour", "colour")],
)
def test_colour_is_set_beside_transformers_that_have_nothing_beside(name, joined, monkeypatch):
    created = {}
    monkeypatch.setattr(factory, "create_backbone", lambda name, **options: created.update({name: options}) or RCF)
    create_backbone_for_bands(name, 3, colour_share=0.25)
    assert list(created) == [joined]
    assert created[joined].get("share") == (0.25 if joined == f"{TINY}+colour" else None)
    created.clear()
    create_backbone_for_bands(name, 3)
    assert list(created) == [name]


def test_features_are_the_firsts_and_then_the_others_centred_and_of_their_share_of_its_length():
    backbone = side_by_side(share=0.25)
    out = backbone(images())
    first = backbone.first(images())
    width = backbone.first.channels
    assert out.features.shape == (3, width + 64 + 6, 4, 4)
    assert backbone.channels == width + 64 + 6
    assert torch.equal(out.features[:, :width], first.features)
    assert torch.equal(out.affinities, first.affinities)
    assert backbone(images(), affinities=False).affinities is None
    length = first.features.norm(dim=1).mean()
    for part in torch.split(out.features[:, width:], [64, 6], dim=1):
        torch.testing.assert_close(part.norm(dim=1).mean(), 0.25 * length)
        assert part.mean((0, 2, 3)).abs().max() < 1e-4 * length


def test_the_length_of_a_transformers_features_is_measured_on_a_few_images(monkeypatch):
    torch.manual_seed(0)
    backbone = create_backbone(f"{TINY}+colour", weights="random", block=1)
    seen = []
    backbone.first.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    backbone.fit(iter(images(30, side=16).split(4)))
    assert sum(seen) == 8
    assert not backbone.fit_is_random
    assert create_backbone_for_bands("rcf+colour", 3).fit_is_random


def test_imagery_of_one_colour_gives_nothing_but_the_firsts_features():
    torch.manual_seed(0)
    backbone = create_backbone(f"{TINY}+colour", weights="random", block=1)
    plain = torch.full((2, 3, 32, 32), 0.3) + torch.tensor([0.1, 0.2, 0.7])[:, None, None]
    backbone.fit(iter([plain]))
    out = backbone(plain).features
    assert torch.equal(out[:, : backbone.first.channels], backbone.first(plain).features)
    assert not out[:, backbone.first.channels :].any()


def test_parts_are_those_of_all_in_their_order():
    backbone = side_by_side(f"{TINY}+aerial3+colour")
    assert backbone.parts == (backbone.first.channels, 64, 128, 256, 6)
    assert sum(backbone.parts) == backbone.channels
    assert side_by_side(f"{TINY}+aerial").parts == (backbone.first.channels, 64)


def test_every_backbone_sees_the_images_in_its_own_normalisation():
    backbone = side_by_side(f"{TINY}+colour")
    colour = create_backbone("colour", patch_size=16)
    plain = images() * torch.tensor(backbone.std)[:, None, None] + torch.tensor(backbone.mean)[:, None, None]
    alone = colour((plain - 0.5) / 0.25).features
    others = backbone.others
    expected = (alone - alone.mean((0, 2, 3), keepdim=True)) * others.scale[:, None, None]
    torch.testing.assert_close(backbone(images()).features[:, -6:], expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("aerial", ["aerial", "aerial3"])
def test_a_model_holds_what_stands_beside_the_first_and_finds_the_first_again(aerial: str, tmp_path: Path):
    weights = tmp_path / "tiny.safetensors"
    from safetensors.torch import load_file, save_file

    torch.manual_seed(0)
    save_file(create_backbone(TINY, weights="random", block=1).model.state_dict(), weights)
    backbone = create_backbone(f"{TINY}+{aerial}", weights=weights, block=1, weights_beside="random")
    backbone.fit([images()])
    method = KMeans(backbone.channels, 4, seed=0)
    card = ModelCard("kmeans", BackboneCard.of(backbone), backbone.channels, backbone.channels, default_classes(4))
    model = LandCoverModel(backbone, method.head, method.probe, card)
    path = save_model(model, tmp_path / "model.safetensors")
    assert not any(name.startswith("backbone.first") for name in load_file(path))  # the transformer is not in it
    again = load_model(path)
    assert again.backbone.name == f"{TINY}+{aerial}"
    assert torch.equal(again.backbone(images()).features, backbone(images()).features)
    resaved = load_model(save_model(again, tmp_path / "again.safetensors", embed_backbone=True))
    weights.unlink()
    assert torch.equal(resaved.backbone(images()).features, backbone(images()).features)


def test_rcf_with_colour_beside_it_is_fitted_and_goes_into_the_model_whole():
    backbone = create_backbone_for_bands("rcf+colour", 4, seed=3, options={"filters": 16})
    assert backbone.needs_fit
    assert backbone.embedded
    with pytest.raises(ModelError, match="has not been fitted"):
        backbone(images(bands=4))
    with pytest.raises(DataError, match="no imagery"):
        backbone.fit([])
    backbone.fit([images(bands=4)])
    again = create_backbone(backbone.name, **backbone.options())
    again.load_state_dict(backbone.state_dict())
    assert not again.needs_fit
    assert torch.equal(again(images(bands=4)).features, backbone(images(bands=4)).features)


def test_patches_are_the_firsts():
    assert patch_size_of("vit_small_patch14_dinov2+aerial", {}) == 14
    assert patch_size_of("rcf+colour", {}) == 8


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (f"{TINY}+rcf", {}, "rcf cannot stand after a +; there may be aerial, aerial3 or colour"),
        (f"{TINY}+", {}, "nothing cannot stand after a +"),
        ("colour+colour", {}, "names a backbone twice"),
        (f"{TINY}+colour", {"share": 0}, "share must be a number above 0, not 0"),
        ("vit_tyni_patch16_224+colour", {}, "vit_tyni_patch16_224: unknown; did you mean"),
        ("rcf+aerial", {"in_channels": 4}, "aerial takes 3 bands, rcf 4; leave aerial out"),
        (f"{TINY}+colour", {"filters": 4}, "has no option 'filters'"),
    ],
)
def test_what_cannot_be_side_by_side_is_refused(name, options, message):
    weights = None if name.startswith(("rcf", "colour")) else "random"
    with pytest.raises(ConfigError) as caught:
        create_backbone(name, weights=weights, weights_beside="random", **options)
    assert message in str(caught.value)
