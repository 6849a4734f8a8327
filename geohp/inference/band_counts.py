"""As many bands as a model has channels."""

from __future__ import annotations

from geohp.errors import ConfigError, SceneError
from geohp.raster.read.bands import BandRequest, band_list
from geohp.raster.read.scene import Scene


def check_band_count(bands: BandRequest, channels: int, name: str) -> None:
    """Refuse another number of bands than the model takes."""
    count = len(band_list(bands) or ())
    if count != channels:
        problem = f"{{option}}: {count} named, but {name} takes {channels}"
        remedy = f"name {channels}, or ask for a number of classes to find them on the scenes themselves"
        raise ConfigError(problem, remedy, option="bands")


def check_channels(scene: Scene, channels: int) -> None:
    """Refuse a scene of another number of bands than the model takes."""
    if len(scene.bands) != channels:
        raise SceneError(
            f"{scene.path}: {len(scene.bands)} band(s) chosen, but the model takes {channels}",
            "choose as many with {option} or train on these",
            option="bands",
        )
