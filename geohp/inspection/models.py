"""What a model file says of itself: how it was trained, on what, and which classes it has."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geohp.classes import LandCoverClass
from geohp.files.reading import json_value
from geohp.model.card import read_card
from geohp.model.digest import model_file_sha256
from geohp.model.runs import FIGURES_NAME, KMEANS_ENTRY, MODEL_NAME, find_model


@dataclass(frozen=True)
class ModelInfo:
    """What a model says of itself; more of most of it in :class:`geohp.model.card.ModelCard`.

    Attributes:
        path: of the model file.
        method: that trained it.
        backbone: its name; weights: where the training found its weights, ``None`` where it has none of its own.
        block: of the backbone, whose output is used.
        classes: that it maps; clusters: that they were made of.
        probe: which predicts, "cluster" or "linear".
        bands: as asked for; ``None`` is red, green, blue.
        scaling: rule that brings values to [0, 1].
        pixel_size_m: of the training imagery; ``None`` where it had none.
        patch_px: side of training patches in scene pixels; input_px: side they were resized to.
        geohp_version: that wrote it.
        sha256: what tells its maps from those of other models.
        unmerged: what is still to be done with its clusters, in words; empty where they are as many as were asked for.
        kmeans: how it compares with k-means on the same features, as its run has written it down; ``None`` where there
            is no such run, or it did not compare.
    """

    path: str
    method: str
    backbone: str
    weights: str | None
    block: int
    classes: tuple[LandCoverClass, ...]
    clusters: int
    probe: str
    bands: tuple[int | str, ...] | None
    scaling: str
    pixel_size_m: float | None
    patch_px: int
    input_px: int
    geohp_version: str
    sha256: str
    unmerged: str = ""
    kmeans: dict[str, Any] | None = None


def model_info(path: str | Path) -> ModelInfo:
    """Look at a model file, or the one in a run folder, without torch.

    Raises:
        ModelError: there is none, or it is none of geohp's.
    """
    card = read_card(path)
    return ModelInfo(
        path=str(find_model(path)),
        method=card.method,
        backbone=card.backbone.name,
        weights=card.backbone.weights,
        block=card.backbone.block,
        classes=card.classes,
        clusters=len(card.classes if card.cluster_to_class is None else card.cluster_to_class),
        probe=card.probe,
        bands=card.bands,
        scaling=card.scaling,
        pixel_size_m=card.pixel_size_m,
        patch_px=card.patch_px,
        input_px=card.input_px,
        geohp_version=card.geohp_version,
        sha256=model_file_sha256(path),
        unmerged=card.unmerged,
        kmeans=_beside_kmeans(find_model(path)),
    )


def _beside_kmeans(model: Path) -> dict[str, Any] | None:
    """The run's comparison, of the model that it is about."""
    if model.name != MODEL_NAME:
        return None
    try:
        entry = json_value((model.parent / FIGURES_NAME).read_text(encoding="utf-8"))[KMEANS_ENTRY]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return entry if isinstance(entry, dict) else None


def is_model(path: str | Path) -> bool:
    """Whether a path means a model rather than a raster: a folder, or a ``.safetensors`` file."""
    return Path(path).is_dir() or Path(path).suffix == ".safetensors"
