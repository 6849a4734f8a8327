"""What makes two runs the same: the scene's files, the model's weights and every setting that pixels depend on."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from geohp.files import file_state
from geohp.inference.engine.settings import EngineSettings
from geohp.inference.extent import Extent
from geohp.model.digest import model_sha256
from geohp.model.network import LandCoverModel
from geohp.raster.read.scene import Scene
from geohp.version import __version__

# Unfinished work, and folders of maps, know these settings by the names that they once had.
_STORED_AS = {"tta": "augment", "cluster_to_class": "members", "input_scale": "zoom"}


def run_identity(
    scene: Scene, model: LandCoverModel, settings: EngineSettings, on_read_error: str, extent: Extent
) -> dict[str, object]:
    """What unfinished work must agree in to be gone on with, by names that a user understands.

    A changed file is noticed by its size and its time of change; a scene that is no local file, by its name alone.
    """
    return {
        "input": scene.path if not Path(scene.path).exists() else str(Path(scene.path).resolve()),
        "input files": [_file(name) for name in scene.files],
        "bands": list(scene.bands),
        "scaling": [scene.scaling.rule, list(scene.scaling.low), list(scene.scaling.high)],
        "model": model_sha256(model),
        "settings": {_STORED_AS.get(name, name): value for name, value in asdict(settings).items()},
        **({} if extent.area is None else {"area of interest": extent.area.digest, "crop": list(extent.frame)}),
        "on-read-error": on_read_error,
        "geohp": __version__,
    }


def _file(name: str) -> list[Any]:
    path = Path(name)
    state = file_state(path) if path.is_file() else None
    return [name] if state is None else [str(path.resolve()), *state]
