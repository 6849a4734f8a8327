"""The model file: one ``.safetensors`` with head and probe weights and a JSON card in its header. Never pickle.

The backbone's weights stay out, since they are public and large, unless the backbone was fitted to the data (rcf)
or the caller embeds them; a fingerprint in the card makes sure that the right ones are found again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from geohp.backbones.base import Backbone
from geohp.backbones.factory import create_backbone
from geohp.backbones.side_by_side import OTHERS, SideBySide
from geohp.backbones.vit import VisionTransformer
from geohp.backbones.weight_paths import RANDOM
from geohp.backbones.weights import digest, fingerprint
from geohp.errors import GeohpError, ModelError
from geohp.files.atomic import atomic_write
from geohp.methods.factory import build_head
from geohp.methods.probes import ClusterProbe, LinearProbe
from geohp.model.card import BACKBONE_ENTRY, CARD_ENTRY, BackboneCard, ModelCard, backbone_weights, read_card
from geohp.model.network import LandCoverModel
from geohp.model.runs import find_model

CHECKSUM_ENTRY = "geohp_sha256"
"""Entry of a file's header: of the card and all tensors."""

_ROOM = 8
"""Times as large as its weights in the file a part may be before they are fitted: embedded positions are resized."""

Module = TypeVar("Module", bound=nn.Module)

_BESIDE = f"backbone.{OTHERS}"
"""Prefix of backbones beside one whose weights lie elsewhere."""


def save_model(model: LandCoverModel, path: str | Path, *, embed_backbone: bool = False) -> Path:
    """Write the model file whole or not at all.

    Args:
        model: what to save.
        path: the file to write, ending in ``.safetensors``.
        embed_backbone: put the backbone's weights in as well.

    Raises:
        OutputError: when the file cannot be written.
    """
    parts: dict[str, nn.Module] = {"head": model.head, "probe": model.probe}
    if model.linear_probe is not None:
        parts["linear_probe"] = model.linear_probe
    if embed_backbone or model.backbone.embedded:
        parts["backbone"] = model.backbone
    elif isinstance(model.backbone, SideBySide):
        parts[_BESIDE] = model.backbone.others
    tensors = {
        f"{part}.{name}": tensor for part, module in parts.items() for name, tensor in module.state_dict().items()
    }
    card = model.card.to_json()
    return _write(Path(path), tensors, {CARD_ENTRY: card, CHECKSUM_ENTRY: _checksum(card, tensors)})


def save_backbone(backbone: VisionTransformer, path: str | Path) -> Path:
    """Write a vision transformer's weights alone, by timm's names, whole or not at all.

    The file goes where backbone weights go, with the name its metadata tell under ``geohp_backbone``.

    Args:
        backbone: whose weights to write.
        path: the file to write, ending in ``.safetensors``.

    Raises:
        OutputError: when the file cannot be written.
    """
    return _write(Path(path), backbone.model.state_dict(), {BACKBONE_ENTRY: backbone.name})


def load_model(path: str | Path, *, weights: str | Path | None = None) -> LandCoverModel:
    """Load a model with its backbone, on the CPU.

    Args:
        path: a model file or a run folder.
        weights: backbone weights, where they are not embedded and no longer where the training found them.

    Raises:
        ModelError: when the file is damaged or not geohp's, or its backbone's weights are other ones.
        WeightsError: when the backbone's weights cannot be found.
    """
    path = find_model(path)
    card = read_card(path)
    tensors = _read_tensors(path)
    try:
        head = _filled(lambda: build_head(card.method, card.in_channels, card.code_channels, tensors), "head", tensors)
        probe = _filled(lambda: _cluster_probe(card, tensors), "probe", tensors)
        linear_probe = _linear_probe(card, tensors)
        backbone = _backbone(card.backbone, tensors, path, weights)
    except GeohpError:
        raise
    except (KeyError, TypeError, RuntimeError, ValueError, OverflowError) as error:
        reason = str(error).splitlines()[0]
        problem = f"{path}: weights and card do not fit together ({reason})"
        raise ModelError(problem, "train or copy it again") from error
    model = LandCoverModel(backbone, head, probe, card, linear_probe)
    _check_classes(model, path)
    return model


def _check_classes(model: LandCoverModel, path: Path) -> None:
    card = model.card
    clusters = len(card.classes if card.cluster_to_class is None else card.cluster_to_class)
    if model.clusters != clusters or not clusters:
        problem = f"{path}: its {card.probe} probe has {model.clusters} classes, its card {clusters}"
        raise ModelError(problem, "train or copy it again")
    if card.cluster_to_class is not None and {entry.id for entry in card.classes} != set(card.cluster_to_class):
        raise ModelError(f"{path}: its clusters belong to other classes than its card lists", "name them again")


def _write(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> Path:
    """Write a safetensors file whole or not at all."""
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    with atomic_write(path, failures=(OSError, SafetensorError)) as draft:
        save_file(plain, draft, metadata={"format": "pt", **metadata})
    return path


def _cluster_probe(card: ModelCard, tensors: Mapping[str, Tensor]) -> ClusterProbe:
    return ClusterProbe(card.code_channels, len(tensors["probe.clusters"]), tensors.get("probe.members"))


def _linear_probe(card: ModelCard, tensors: Mapping[str, Tensor]) -> LinearProbe | None:
    if card.probe != "linear" and not any(name.startswith("linear_probe.") for name in tensors):
        return None
    classes = len(tensors["linear_probe.classifier.weight"])
    return _filled(lambda: LinearProbe(card.code_channels, classes), "linear_probe", tensors)


def _read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a model file, which are those that were saved.

    Raises:
        ModelError: some cannot be read, are not finite, or others than the file's checksum says.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            # Copies: what is mapped would change with the file, checksum or not, where somebody overwrites it in place.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        checksum = metadata.get(CHECKSUM_ENTRY)  # files of before have none
        damaged = checksum is not None and checksum != _checksum(metadata[CARD_ENTRY], tensors)
        reason = "they are not what was saved" if damaged else _impossible(tensors)
    except (OSError, SafetensorError, AttributeError, KeyError, RuntimeError, TypeError) as error:  # types unknown here
        reason = str(error).splitlines()[0]
    if reason:
        raise ModelError(f"{path}: its weights are damaged ({reason})", "train or copy the model again")
    return tensors


def _impossible(tensors: Mapping[str, Tensor]) -> str:
    """What cannot be right about tensors; empty where all may be."""
    infinite = next((name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()), None)
    return "" if infinite is None else f"{infinite} is not finite"


def _checksum(card: str, tensors: Mapping[str, Tensor]) -> str:
    """Of all that a file holds: formats like this one notice no flipped bit."""
    return digest(tensors, card.encode())


def _filled(build: Callable[[], Module], part: str, tensors: Mapping[str, Tensor]) -> Module:
    """A module with its weights, which is not built before they are known to fit: a card may ask for any size.

    Raises:
        RuntimeError: they do not fit.
    """
    own = {name.removeprefix(f"{part}."): tensor for name, tensor in tensors.items() if name.startswith(f"{part}.")}
    with torch.device("meta"):  # takes no memory
        expected = build().state_dict()
    size, weights = (sum(tensor.numel() for tensor in state.values()) for state in (expected, own))
    if size > _ROOM * (weights + _ROOM):
        raise RuntimeError(f"{part} would have {size:,} weights, of which there are {weights:,}")
    for name in expected.keys() & own.keys():
        if own[name].is_floating_point() != expected[name].is_floating_point():
            raise RuntimeError(f"{part}.{name} is of {own[name].dtype}, not {expected[name].dtype}")
    module = build()
    module.load_state_dict(own)
    return module


def _backbone(card: BackboneCard, tensors: Mapping[str, Tensor], path: Path, weights: str | Path | None) -> Backbone:
    stored = [name for name in tensors if name.startswith("backbone.")]
    embedded = any(not name.startswith(f"{_BESIDE}.") for name in stored)
    source = RANDOM if embedded else backbone_weights(card, path, weights)

    def create() -> Backbone:
        beside = RANDOM if stored else None
        return create_backbone(card.name, weights=source, block=card.block, weights_beside=beside, **card.options)

    backbone = _filled(create, "backbone", tensors) if embedded else create()
    if isinstance(backbone, SideBySide) and not embedded:
        own = {name.removeprefix(f"{_BESIDE}."): tensors[name] for name in stored}
        backbone.others.load_state_dict(own)
    if embedded:
        backbone.embedded = True  # what is saved of this model must hold the weights, too
    elif fingerprint(backbone) != card.fingerprint:
        problem = f"{path}: was trained on other weights of {card.name} than {source or 'the hub'} holds"
        raise ModelError(problem, "give the file it was trained with as {option}", option="weights")
    backbone.eval()
    return backbone
