"""The model file: one ``.safetensors`` with head and probe weights and a JSON card in its header. Never pickle.

The backbone's weights stay out, since they are public and large, unless the backbone was fitted to the data (rcf)
or the caller embeds them; a fingerprint in the card makes sure that the right ones are found again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from geohp.backbones.base import Backbone
from geohp.backbones.factory import create_backbone
from geohp.backbones.vit import VisionTransformer
from geohp.backbones.weights import fingerprint
from geohp.classes import LandCoverClass
from geohp.errors import ModelError, OutputError, WeightsError
from geohp.methods.hp.head import SegmentationHead
from geohp.methods.kmeans import Standardise
from geohp.methods.probes import ClusterProbe, LinearProbe
from geohp.model.network import PROBES, LandCoverModel, ModelCard

FORMAT_VERSION = 1
MODEL_NAME = "model.safetensors"
_BACKBONE_ENTRY = "geohp_backbone"
_CLUSTER_TO_CLASS = "members"  # its name in the file

# The head each method leaves behind, from the widths on the card and, for STEGO's, from what the file holds: it may
# have been trained without the nonlinear branch.
_HEADS: dict[str, Any] = {
    "hp": lambda card, _: SegmentationHead(card.in_channels, card.code_channels),
    "stego": lambda card, tensors: SegmentationHead(
        card.in_channels, card.code_channels, nonlinear=any(name.startswith("head.nonlinear.") for name in tensors)
    ),
    "kmeans": lambda card, _: Standardise(card.in_channels),
}


def describe_backbone(backbone: Backbone) -> dict[str, Any]:
    """The card's entry for a backbone: enough to build it again and to notice another one in its place."""
    return {
        "name": backbone.name,
        "block": backbone.block,
        "options": backbone.options(),
        "weights": getattr(backbone, "weights_source", None),
        "fingerprint": fingerprint(backbone),
        "mean": list(backbone.mean),
        "std": list(backbone.std),
    }


def save_model(model: LandCoverModel, path: str | Path, *, embed_backbone: bool = False) -> Path:
    """Write the model file whole or not at all.

    Args:
        model: what to save.
        path: the file to write, ending in ``.safetensors``.
        embed_backbone: put the backbone's weights in as well.

    Raises:
        OutputError: when the file cannot be written.
    """
    path = Path(path)
    parts: dict[str, nn.Module] = {"head": model.head, "probe": model.probe}
    if model.linear_probe is not None:
        parts["linear_probe"] = model.linear_probe
    if embed_backbone or model.backbone.embedded:
        parts["backbone"] = model.backbone
    tensors = {
        f"{part}.{name}": tensor for part, module in parts.items() for name, tensor in module.state_dict().items()
    }
    card = {"format_version": FORMAT_VERSION, **asdict(model.card)}
    card[_CLUSTER_TO_CLASS] = card.pop("cluster_to_class")
    return _write(path, tensors, {"geohp": json.dumps(card, ensure_ascii=False)})


def save_backbone(backbone: VisionTransformer, path: str | Path) -> Path:
    """Write a vision transformer's weights alone, by timm's names, whole or not at all.

    The file goes where backbone weights go, with the name its metadata tell under ``geohp_backbone``.

    Args:
        backbone: whose weights to write.
        path: the file to write, ending in ``.safetensors``.

    Raises:
        OutputError: when the file cannot be written.
    """
    return _write(Path(path), backbone.model.state_dict(), {_BACKBONE_ENTRY: backbone.name})


def read_card(path: str | Path) -> ModelCard:
    """The card of a model file (or of the model in a run folder), without its weights.

    Raises:
        ModelError: when there is no model file, or it is none of geohp's.
    """
    path = find_model(path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path}: not a readable safetensors file ({error}); train or copy the model again") from error
    if "geohp" not in metadata:
        name = metadata.get(_BACKBONE_ENTRY)
        raise ModelError(
            f"{path}: holds weights but no geohp model card; it may be a backbone, which goes with "
            f"{f'--backbone {name} ' if name else ''}--weights"
        )
    return _parse_card(metadata["geohp"], path)


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
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    try:
        head = _HEADS[card.method](card, tensors)
        probe = ClusterProbe(card.code_channels, len(tensors["probe.clusters"]))
        _load_part(head, "head", tensors)
        _load_part(probe, "probe", tensors)
        linear_probe = _linear_probe(card, tensors)
        backbone = _backbone(card, tensors, path, weights)
    except (KeyError, TypeError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(f"{path}: weights and card do not fit together ({reason}); train or copy it again") from error
    model = LandCoverModel(backbone, head, probe, card, linear_probe)
    _check_classes(model, path)
    return model


def _check_classes(model: LandCoverModel, path: Path) -> None:
    card = model.card
    known = card.classes if card.cluster_to_class is None else card.cluster_to_class
    if model.clusters != len(known):
        raise ModelError(
            f"{path}: its {card.probe} probe has {model.clusters} classes, its card {len(known)}; "
            f"train or copy it again"
        )
    if card.cluster_to_class is not None and {one.id for one in card.classes} != set(card.cluster_to_class):
        raise ModelError(f"{path}: its clusters belong to other classes than its card lists; name them again")


def find_model(path: str | Path) -> Path:
    """The model file at ``path`` or in the run folder ``path``.

    Raises:
        ModelError: when there is none.
    """
    path = Path(path)
    if path.is_dir():
        if (path / MODEL_NAME).is_file():
            return path / MODEL_NAME
        if (path / "unfinished").is_dir():
            raise ModelError(f"{path}: its training is not finished; go on with geohp train --resume {path}")
        raise ModelError(f"{path}: a folder without {MODEL_NAME}; give a finished run or a model file")
    if not path.is_file():
        raise ModelError(f"{path}: no such model; give a run folder or a .safetensors file, or train one first")
    return path


def newest_run(folder: str | Path = "runs") -> Path | None:
    """The model file written last in any run below ``folder``; ``None`` where there is none."""
    models = list(Path(folder).glob(f"*/{MODEL_NAME}"))
    return max(models, key=lambda m: m.stat().st_mtime, default=None)


def _parse_card(text: str, path: Path) -> ModelCard:
    try:
        values: dict[str, Any] = json.loads(text)
        version = values.pop("format_version")
        if version > FORMAT_VERSION:
            raise ModelError(f"{path}: written by a newer geohp (format {version}); update geohp to use it")
        values["classes"] = tuple(LandCoverClass(**c) for c in values["classes"])
        values["cluster_to_class"] = values.pop(_CLUSTER_TO_CLASS, None)
        for name in ("bands", "cluster_to_class"):
            if values.get(name) is not None:
                values[name] = tuple(values[name])
        card = ModelCard(**values)
        if card.probe not in PROBES:
            raise ModelError(f"{path}: predicts with a {card.probe!r} probe, unknown here; update geohp to use it")
        return card
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ModelError(f"{path}: its model card cannot be read ({error}); train or copy the model again") from error


def _write(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> Path:
    """Write a safetensors file whole or not at all."""
    temporary = path.with_name(f".{path.name}.part")
    try:
        save_file(
            {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()},
            temporary,
            metadata={"format": "pt", **metadata},
        )
        # safetensors writes for the owner only; a model is an ordinary file.
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except (OSError, SafetensorError) as error:
        raise OutputError(f"{path}: the model file cannot be written ({error}); choose a writable folder") from error
    finally:
        temporary.unlink(missing_ok=True)
    return path


def _linear_probe(card: ModelCard, tensors: Mapping[str, Tensor]) -> LinearProbe | None:
    if card.probe != "linear" and not any(name.startswith("linear_probe.") for name in tensors):
        return None
    probe = LinearProbe(card.code_channels, len(tensors["linear_probe.classifier.weight"]))
    _load_part(probe, "linear_probe", tensors)
    return probe


def _load_part(module: nn.Module, part: str, tensors: Mapping[str, Tensor]) -> None:
    prefix = f"{part}."
    module.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})


def _backbone(card: ModelCard, tensors: Mapping[str, Tensor], path: Path, weights: str | Path | None) -> Backbone:
    told = card.backbone
    embedded = any(name.startswith("backbone.") for name in tensors)
    source = "random" if embedded else _weights_source(told, path, weights)
    backbone = create_backbone(told["name"], weights=source, block=told["block"], **told["options"])
    if embedded:
        _load_part(backbone, "backbone", tensors)
    elif fingerprint(backbone) != told["fingerprint"]:
        raise ModelError(
            f"{path}: was trained on other weights of {told['name']} than {source or 'the hub'} holds; "
            f"give the file it was trained with as --weights"
        )
    backbone.eval()
    return backbone


def _weights_source(told: Mapping[str, Any], path: Path, weights: str | Path | None) -> str | None:
    """Where the backbone's weights are to be found now: as told, else as trained, else beside the model file."""
    if weights is not None:
        return str(weights)
    recorded = told["weights"]
    if recorded in (None, "hub"):
        return None
    if recorded == "random" or Path(recorded).is_file():
        return str(recorded)
    beside = path.parent / Path(recorded).name
    if beside.is_file():
        return str(beside)
    raise WeightsError(
        f"{path}: its backbone weights are no longer at {recorded}; give them as --weights FILE or put them beside it"
    )


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def torch_device(name: str) -> torch.device:
    """The device a user means; ``auto`` is a GPU where there is one.

    Raises:
        ModelError: when the device asked for is not there.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(device for device, there in available.items() if there))
    if not available.get(name.split(":")[0], False):
        raise ModelError(f"device {name}: not available here; use --device auto or cpu")
    return torch.device(name)
