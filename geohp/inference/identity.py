"""What makes two runs the same: the scene's files, the model's weights and every setting that pixels depend on."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from geohp.credentials import without_credentials
from geohp.files.state import content_digest
from geohp.inference.engine.settings import EngineSettings
from geohp.inference.extent import Extent
from geohp.model.digest import model_sha256
from geohp.model.network import LandCoverModel
from geohp.raster.read.scene import Scene
from geohp.raster.sources.paths import scene_name
from geohp.raster.write.resume_identity import SIDE_FILE, file_states
from geohp.version import __version__

# Unfinished work, and folders of maps, know these settings by the names that they once had.
_STORED_AS = {"tta": "augment", "cluster_to_class": "members", "input_scale": "zoom"}


def run_identity(
    scene: Scene, model: LandCoverModel, settings: EngineSettings, on_read_error: str, extent: Extent
) -> dict[str, object]:
    """What unfinished work must agree in to be gone on with, by names that a user understands.

    A changed file is noticed by its size and its time of change, what GDAL keeps beside it by its content; a scene that
    is no local file, by its name alone: signed anew, an address means the same.
    """
    local = Path(scene.path).exists()
    return {
        "input": without_credentials(scene.path) if not local else str(Path(scene.path).resolve()),
        "input files": file_states(scene.files),
        "bands": list(scene.bands),
        "scaling": [scene.scaling.rule, list(scene.scaling.low), list(scene.scaling.high)],
        "model": model_sha256(model),
        "settings": {_STORED_AS.get(name, name): value for name, value in asdict(settings).items()},
        **({} if extent.area is None else {"area of interest": extent.area.digest, "crop": list(extent.frame)}),
        "on-read-error": on_read_error,
        "geohp": __version__,
    }


def scene_tags(scene: Scene) -> dict[str, str]:
    """What rasters say of the scene that they are of: its name, and where it is in files, a digest of these."""
    files = [Path(name) for name in scene.files if not name.endswith(SIDE_FILE) and Path(name).is_file()]
    return {"GEOHP_SCENE": scene_name(scene.path)} | ({"GEOHP_SCENE_DIGEST": content_digest(files)} if files else {})
