"""Model files: what was saved comes back, and what is anything else is refused in a sentence."""

import json
import struct
import tracemalloc

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from geohp.errors import GeohpError, ModelError
from geohp.inference.map_options import ModelOptions
from geohp.inference.segment import resolve_segmenter
from geohp.methods.probes import ClusterProbe
from geohp.model.card import read_card
from geohp.model.digest import model_file_sha256, model_sha256
from geohp.model.file import load_model, save_model
from geohp.model.network import LandCoverModel


@pytest.fixture(scope="module")
def saved(tall_scene, tmp_path_factory):
    model = resolve_segmenter(tall_scene, ModelOptions(classes=3)).model
    return save_model(model, tmp_path_factory.mktemp("model") / "model.safetensors")


def rewritten(saved, path, card=None, tensors=None):
    """The model in a file of before, without a checksum, with its card or tensors changed."""
    with safe_open(saved, framework="pt") as file:
        document = json.loads(file.metadata()["geohp"])
    values = load_file(saved)
    if card:
        card(document)
    if tensors:
        tensors(values)
    text = document if isinstance(document, str) else json.dumps(document)
    save_file(values, path, {"geohp": text})
    return path


def test_a_single_flipped_bit_is_noticed_wherever_it_is(saved, tmp_path):
    content = bytearray(saved.read_bytes())
    (length,) = struct.unpack("<Q", content[:8])
    card = content.index(b"pixel_size_m")
    path = tmp_path / "model.safetensors"
    for place in (card + 18, 8 + length + 3, (8 + length + len(content)) // 2, len(content) - 2):
        damaged = bytearray(content)
        damaged[place] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(ModelError) as caught:
            load_model(path)
        assert "\n" not in str(caught.value)
    path.write_bytes(content)
    assert load_model(path).clusters == 3


def test_files_of_before_have_no_checksum_and_load(saved, tmp_path):
    assert load_model(rewritten(saved, tmp_path / "m.safetensors")).clusters == 3


@pytest.mark.parametrize("changes", [
    {"code_channels": 2**16}, {"in_channels": 10**9}, {"patch_px": 10**9}, {"input_px": 0}, {"code_channels": -1},
    {"pixel_size_m": float("nan")}, {"pixel_size_m": -1}, {"format_version": float("inf")}, {"classes": []},
    {"classes": [{"id": 7, "name": "a", "colour": "#000000"}] * 3}, {"classes": None},
    {"classes": [{"id": i, "name": "a\nb", "colour": "#000000"} for i in range(3)]},
    {"classes": [{"id": i, "name": "a", "colour": "<b>"} for i in range(3)]},
    {"classes": [{"id": 300 + i, "name": "a", "colour": "#000000"} for i in range(3)]},
], ids=repr)  # fmt: skip
def test_cards_that_ask_for_the_impossible_are_refused(saved, tmp_path, changes):
    tracemalloc.start()
    path = rewritten(saved, tmp_path / "m.safetensors", card=lambda card: card.update(changes))
    with pytest.raises(ModelError) as caught:
        load_model(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "\n" not in str(caught.value)
    assert peak < 50 << 20


@pytest.mark.parametrize(
    "options", [{"filters": 10**9}, {"filters": "many"}, {"filters": -1}, {"kernel": 10**6}, {"patch_size": 10**9}]
)
def test_backbones_of_any_size_are_not_built(saved, tmp_path, options):
    def change(card):
        card["backbone"]["options"] |= options

    with pytest.raises(GeohpError) as caught:
        load_model(rewritten(saved, tmp_path / "m.safetensors", card=change))
    assert "\n" not in str(caught.value)


def test_a_card_nested_without_end_is_one_sentence(saved, tmp_path):
    save_file(load_file(saved), tmp_path / "m.safetensors", {"geohp": "[" * 100_000})
    with pytest.raises(ModelError, match="model card cannot be read"):
        read_card(tmp_path / "m.safetensors")


@pytest.mark.parametrize("change", [
    lambda values: values * float("nan"), lambda values: values.to(torch.complex64), lambda values: values.int(),
], ids=["NaN", "complex", "whole numbers"])  # fmt: skip
def test_weights_that_nothing_can_be_computed_with_are_refused(saved, tmp_path, change):
    def tensors(values):
        values["probe.clusters"] = change(values["probe.clusters"])

    with pytest.raises(ModelError, match=r"probe\.clusters"):
        load_model(rewritten(saved, tmp_path / "m.safetensors", tensors=tensors))


def test_a_probe_without_clusters_is_refused(saved, tmp_path):
    def card(document):
        document["classes"] = []

    def tensors(values):
        values["probe.clusters"] = values["probe.clusters"][:0]

    with pytest.raises(ModelError):
        load_model(rewritten(saved, tmp_path / "m.safetensors", card, tensors))


def test_classes_of_several_centroids_come_back_and_impossible_ones_are_refused(saved, tmp_path):
    model = load_model(saved)
    several = ClusterProbe(model.card.code_channels, 5, torch.tensor([0, 0, 1, 2, 2]))
    path = save_model(LandCoverModel(model.backbone, model.head, several, model.card), tmp_path / "m.safetensors")
    again = load_model(path)
    image = torch.rand(1, 3, 64, 64)
    assert again.clusters == 3
    assert torch.equal(again(image), LandCoverModel(model.backbone, model.head, several, model.card)(image))
    assert model_file_sha256(path) == model_sha256(again)
    for members in ([0, 0, 1, 2], [0, 0, 1, 3, 3], [-1, 0, 0, 1, 2], [0, 1, 2, 3, 4], [0.0, 0.0, 1.0, 2.0, 2.0]):
        wrong = rewritten(path, tmp_path / "w.safetensors", tensors=lambda values, m=members: values.update(
            {"probe.members": torch.tensor(m)}
        ))  # fmt: skip
        with pytest.raises(ModelError) as caught:
            load_model(wrong)
        assert "\n" not in str(caught.value)


def test_a_model_stays_what_it_was_when_its_file_is_overwritten(saved, tmp_path):
    model = load_model(saved)
    several = ClusterProbe(model.card.code_channels, 5, torch.tensor([0, 0, 1, 2, 2]))
    path = save_model(LandCoverModel(model.backbone, model.head, several, model.card), tmp_path / "m.safetensors")
    loaded = load_model(path)
    before = {name: tensor.clone() for name, tensor in loaded.state_dict().items()}
    path.write_bytes(bytes(path.stat().st_size))
    assert "probe.members" in before
    for name, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, before[name]), name
