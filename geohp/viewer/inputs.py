"""What a page shows, opened together: a label map, the scene below it, and its confidence."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geohp.classes import NODATA_LABEL, QUANTITY_STEPS
from geohp.errors import GeohpError, VectorError
from geohp.raster.block import Block
from geohp.raster.grid import Grid
from geohp.raster.read.bands import BandRequest
from geohp.raster.read.labels import MODEL_TAG, MOST_UNNAMED, LabelRaster, open_labels, opened_raster, too_many_values
from geohp.raster.read.quantities import QuantityRaster
from geohp.raster.read.scene import ScalingRequest, Scene, open_scene
from geohp.vector.zonal import check_of_map, dataset_on_grid

if TYPE_CHECKING:
    from xarray import DataArray

logger = logging.getLogger(__name__)

_ROUNDING = 1e-6  # of a share that was stored as an integer


@dataclass(frozen=True)
class MapInputs:
    """Open rasters on one grid.

    Attributes:
        labels: the map.
        scene: what it is a map of, resampled to the map's grid where it has another.
        confidence: of the map; ``None`` where there is none.
    """

    labels: LabelRaster
    scene: Scene
    confidence: ConfidenceRaster | None

    def check_unchanged(self) -> None:
        """Make sure that all are what they were when they were opened.

        Raises:
            SceneError: one is not.
        """
        self.labels.unchanged.check()
        self.scene.unchanged.check()
        if self.confidence is not None:
            self.confidence.unchanged.check()

    def read_labels(self, block: Block, shape: tuple[int, int] | None = None) -> NDArray[np.uint8]:
        """Labels of a block, (rows, cols), 255 where there is no data.

        Args:
            block: inside the map.
            shape: rows and columns to reduce it to.

        Raises:
            SceneError: it cannot be read.
            VectorError: labels outside 0 to 254, or too many to be labels.
        """
        values, valid = self.labels.read_reduced(block, shape or block.shape)
        present = np.unique(values[valid])
        if len(present) and not 0 <= int(present[0]) <= int(present[-1]) < NODATA_LABEL:
            beyond = int(present[0]) if present[0] < 0 else int(present[-1])
            raise VectorError(
                f"{self.labels.name} has the label {beyond}, but a page shows labels from 0 to {NODATA_LABEL - 1}",
                "number them anew (geohp recode)",
            )
        if self.labels.labels is None and len(present) > MOST_UNNAMED:
            raise VectorError(too_many_values(self.labels.name), "give a label map, such as geohp segment writes")
        return np.where(valid, values, NODATA_LABEL).astype(np.uint8)


class ConfidenceRaster:
    """An open raster of shares in [0, 1] on a label map's grid.

    Attributes:
        unchanged: tells whether its files are still what they were when it was opened.
    """

    def __init__(self, dataset: Any, name: str, labels: LabelRaster) -> None:
        """Take an open rasterio dataset, of which the first band is read.

        Raises:
            VectorError: it is of another map, or lies on another grid.
        """
        check_of_map(dataset, name, labels)
        self._shares = QuantityRaster(dataset, name)
        self.unchanged = self._shares.unchanged

    def read(self, block: Block, shape: tuple[int, int] | None = None) -> NDArray[np.uint8]:
        """The block's confidence, (rows, cols), in steps of 1/254; 255 where there is none.

        Args:
            block: inside the map.
            shape: rows and columns to average it to.

        Raises:
            SceneError: it cannot be read.
            VectorError: values that are no shares.
        """
        shares, valid = self._shares.read(block, shape)
        values = shares.astype(np.float32)
        if not ((values >= 0) & (values <= 1 + _ROUNDING))[valid].all():
            raise VectorError(
                f"{self._shares.name} holds values outside 0 to 1, so it is no confidence",
                "give the raster that geohp segment --confidence wrote with these labels",
            )
        steps = np.full(values.shape, NODATA_LABEL, np.uint8)
        steps[valid] = np.rint(values[valid].clip(0, 1) * QUANTITY_STEPS).astype(np.uint8)
        return steps


@contextmanager
def open_inputs(
    labels: str | Path | DataArray,
    scene: str | Path | DataArray,
    confidence: str | Path | DataArray | None,
    *,
    bands: BandRequest,
    scaling: ScalingRequest,
) -> Iterator[MapInputs]:
    """Open a label map, its scene and its confidence.

    Args:
        labels: one band of integers.
        scene: an image of the same place.
        confidence: on the map's grid; ``None`` takes one that lies beside the labels, see :func:`confidence_beside`.
        bands, scaling: of the scene, see :func:`geohp.raster.read.scene.open_scene`.

    Raises:
        SceneError: a raster that cannot be opened.
        VectorError: no labels, a scene of another place, or a confidence of another map.
        ConfigError: a scaling that is not understood.
    """
    with ExitStack() as stack:
        raster = stack.enter_context(open_labels(labels))
        below = stack.enter_context(_scene_on(raster.grid, scene, bands, scaling))
        if confidence is None and isinstance(labels, str | Path):
            confidence = confidence_beside(Path(labels), raster)
        quantity = None
        if confidence is not None:
            dataset, name = stack.enter_context(opened_raster(confidence))
            quantity = ConfidenceRaster(dataset, name, raster)
        yield MapInputs(raster, below, quantity)


def confidence_beside(path: Path, labels: LabelRaster) -> Path | None:
    """The confidence that was written with labels: ``NAME_confidence.tif`` or ``confidence.tif`` beside ``NAME.tif``.

    It must be of the same model and scene, made in the same way; what is not is left out with a word.
    """
    model = labels.making.get(MODEL_TAG)
    if model is None or model != labels.model_sha256:  # unknown, or recoded since
        return None
    for name in (f"{path.stem}_confidence{path.suffix}", f"confidence{path.suffix}"):
        candidate = path.with_name(name)
        if not candidate.is_file() or candidate == path:
            continue
        try:
            with opened_raster(candidate) as (dataset, name):
                if MODEL_TAG in dataset.tags():
                    check_of_map(dataset, name, labels)
                    return candidate
        except GeohpError as error:
            logger.info("the page is without confidence: %s", error)
    return None


@contextmanager
def _scene_on(
    grid: Grid, source: str | Path | DataArray, bands: BandRequest, scaling: ScalingRequest
) -> Iterator[Scene]:
    opened = (
        open_scene(source, bands=bands, scaling=scaling)
        if isinstance(source, str | Path)
        else Scene.from_dataarray(source, bands=bands, scaling=scaling)
    )
    with opened as scene:
        if scene.grid.coincides_with(grid):
            yield scene
            return
        if not (grid.is_georeferenced and scene.grid.is_georeferenced):
            raise VectorError(
                f"{scene.path} has {scene.height} x {scene.width} pixels, but the label map {grid.height} x "
                f"{grid.width}, and nothing says where they lie",
                "give the scene that the map was made of",
            )
    with (
        opened_raster(source) as (dataset, name),
        dataset_on_grid(dataset, name, grid) as resampled,
        Scene(resampled, name, bands=bands, scaling=scaling) as scene,
    ):
        if not scene.thumbnail(256)[1].any():
            problem = f"{name} shows another place than the label map"
            raise VectorError(problem, "give the scene that the map was made of")
        yield scene
