"""What tells one model from another: a digest of all that its labels depend on."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geohp.model.card import ModelCard, read_card
from geohp.model.runs import find_model

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geohp.model.network import LandCoverModel

_PARTS = ("head", "probe", "linear_probe")


def model_sha256(model: LandCoverModel) -> str:
    """Hexadecimal SHA-256 of what a model computes with: backbone by its fingerprint, head, probes, merged classes."""
    parts = [getattr(model, part) for part in _PARTS]
    return _digest(
        model.card,
        (
            {name: tensor.detach().cpu().contiguous().numpy() for name, tensor in part.state_dict().items()}
            for part in parts
            if part is not None
        ),
    )


def model_file_sha256(path: str | Path) -> str:
    """The same of the model in a file or a run folder, without torch.

    Raises:
        ModelError: when there is no model file, or it is none of geohp's.
    """
    from safetensors import safe_open

    card = read_card(path)
    with safe_open(find_model(path), framework="np") as file:
        names = list(file.keys())
        return _digest(
            card,
            [
                {n.removeprefix(f"{part}."): file.get_tensor(n) for n in names if n.startswith(f"{part}.")}
                for part in _PARTS
            ],
        )


def _digest(card: ModelCard, parts: Iterable[Mapping[str, NDArray[Any]]]) -> str:
    digest = hashlib.sha256(json.dumps(asdict(card.backbone), sort_keys=True, default=str).encode())
    digest.update(f"{card.probe} {card.patch_px} {card.input_px}".encode())
    if card.cluster_to_class is not None:
        digest.update(f"{card.cluster_to_class}".encode())
    for flag in ("smooth_scores", "tta"):
        if getattr(card, flag):
            digest.update(flag.encode())
    for part in parts:
        for name, values in sorted(part.items()):
            digest.update(name.encode())
            digest.update(values.tobytes())
    return sys.intern(digest.hexdigest())  # thousands of maps may name it
