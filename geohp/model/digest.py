"""What tells one model from another: a digest of all that its labels depend on."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from geohp.model.network import LandCoverModel


def model_sha256(model: LandCoverModel) -> str:
    """Hexadecimal SHA-256 of what a model computes with: backbone by its fingerprint, head, probes, merged classes."""
    digest = hashlib.sha256(json.dumps(asdict(model.card.backbone), sort_keys=True, default=str).encode())
    digest.update(f"{model.card.probe} {model.card.patch_px} {model.card.input_px}".encode())
    if model.card.cluster_to_class is not None:
        digest.update(f"{model.card.cluster_to_class}".encode())
    for part in (model.head, model.probe, model.linear_probe):
        for name, tensor in sorted(part.state_dict().items()) if part is not None else ():
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
