"""What a label map says of itself: the model that made it, and how; as tags of a raster and attributes of an array."""

from __future__ import annotations

from typing import TYPE_CHECKING

from geohp.model.digest import model_sha256
from geohp.raster.read.labels import MODEL_TAG
from geohp.version import __version__

if TYPE_CHECKING:
    from geohp.inference.engine.settings import EngineSettings
    from geohp.model.network import LandCoverModel

ORIGIN_TAG = "GEOHP_MODEL"
"""Says in words where the model came from."""


def map_tags(model: LandCoverModel, origin: str, settings: EngineSettings) -> dict[str, str]:
    """The tags of a map, texts all of them.

    Args:
        model: that labels the scene.
        origin: says in words where it came from.
        settings: how the scene is cut into windows.
    """
    card = model.card
    tags = {
        "GEOHP_VERSION": __version__,
        "GEOHP_METHOD": card.method,
        "GEOHP_BACKBONE": f"{card.backbone.name} block {card.backbone.block}",
        "GEOHP_WINDOW_PX": str(settings.window_px),
        "GEOHP_OVERLAP_PX": str(settings.overlap_px),
        "GEOHP_BLENDING": "sin^2 ramps over the overlap",
        "GEOHP_SCALING": str(card.scaling),
        "GEOHP_INPUT_SCALE": f"{settings.input_scale:g}",
        "GEOHP_TTA": "flips and rotations" if settings.tta else "none",
        "GEOHP_REFINEMENT": "none",
    }
    if settings.refine is not None:
        window, overlap = settings.refine.window_px, settings.refine.overlap_px
        tags["GEOHP_REFINEMENT"] = f"dense CRF over windows of {window} px, overlapping by {overlap}"
    return tags | {ORIGIN_TAG: origin, MODEL_TAG: model_sha256(model)}
