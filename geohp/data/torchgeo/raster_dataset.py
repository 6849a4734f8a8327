"""One's own imagery as a TorchGeo data set: read by place, combined with others, drawn from by TorchGeo's samplers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, MaskFlags, Resampling
from rasterio.transform import from_bounds
from torch import Tensor
from torchgeo.datasets import RasterDataset

from geohp.config.data import OrthophotosConfig
from geohp.config.experiment import Config
from geohp.errors import DataError
from geohp.raster.area_of_interest import AreaOfInterest
from geohp.raster.gdal import open_raster
from geohp.raster.grid import Grid
from geohp.raster.read.labels import opened_raster, warped_to
from geohp.raster.read.scaling import Scaling
from geohp.raster.read.scene import Scene, open_scene
from geohp.raster.read.validity import alpha_bands
from geohp.raster.sources.find import find_images


class GeohpRasterDataset(RasterDataset):
    """A configuration's images, with its bands and scaling, as ``torchgeo.datasets.RasterDataset``.

    Samples are ``{"image": (bands, H, W) float32 in [0, 1], "crs", "bounds"}``, 0 where no image has data; where images
    overlap, the first with data counts. Labels, areas of interest and splits are those of whatever it is combined
    with: ``images & labels``, and the ``roi`` of samplers.

    Args:
        config: whose ``data`` section names images, bands and scaling; or that section.
        crs: to bring all images to; that of the first by default.
        res: pixel size in units of ``crs``; that of the first image by default.
        transforms: applied to each sample.

    Raises:
        DataError: no images, or one that does not say where it lies.
        SceneError: an image that cannot be read.
    """

    def __init__(
        self,
        config: Config | OrthophotosConfig,
        crs: Any = None,
        res: float | tuple[float, float] | None = None,
        transforms: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
    ) -> None:
        data = config.data if isinstance(config, Config) else config
        if not isinstance(data, OrthophotosConfig):
            raise DataError(f"data.source = {data.source}: only one's own imagery can be a RasterDataset")
        area = None if data.area is None else AreaOfInterest.of(data.area, data.area_layer).series
        images = find_images(data.images, exclude=data.exclude, area=area, asset=data.asset, key="data.images")
        self._images = sorted(images, key=Path)
        for path in self._images:
            with opened_raster(path) as (dataset, _):
                if dataset.crs is None:
                    raise DataError(f"{path} has no coordinate reference system", "assign it first (gdal_edit -a_srs)")
        self._data, self._scalings = data, dict[str, tuple[Scaling, tuple[int, ...]]]()
        super().__init__(self._images, crs=crs, res=res, transforms=transforms, cache=False)

    @property
    def files(self) -> list[str]:
        """The images."""
        return list(self._images)

    def _merge_files(self, filepaths: Sequence[str], query: Any, band_indexes: Sequence[int] | None = None) -> Tensor:
        """Scaled channels (bands, H, W) of what lies in a query."""
        x, y, _ = self._disambiguate_slice(query)
        width, height = round((x.stop - x.start) / x.step), round((y.stop - y.start) / y.step)
        crs = CRS.from_wkt(self.crs.to_wkt())
        transform = from_bounds(x.start, y.start, x.stop, y.stop, width, height)
        grid = Grid(width, height, transform, crs)
        merged, known = None, np.zeros((height, width), bool)
        for path in filepaths:
            data, valid = self._read(str(path), grid)
            if merged is None:
                merged = np.zeros_like(data)
            if len(data) != len(merged):
                raise DataError(f"{path}: gives {len(data)} band(s), others {len(merged)}", "name them with data.bands")
            fresh = valid & ~known
            merged[:, fresh] = data[:, fresh]
            known |= valid
        assert merged is not None  # TorchGeo asks for places that images cover
        return torch.from_numpy(merged)

    def _read(self, path: str, grid: Grid) -> Any:
        """Channels and validity of an image on another grid."""
        if path not in self._scalings:
            with open_scene(path, bands=self._data.bands, scaling=self._data.scaling) as scene:
                self._scalings[path] = scene.scaling, tuple(scene.bands)
        scaling, bands = self._scalings[path]
        with open_raster(path, sharing=False) as dataset:
            bare = all(set(flags) <= {MaskFlags.all_valid} for flags in dataset.mask_flag_enums)
            # An indexed colour has no mean with its neighbours.
            nearest = ColorInterp.palette in dataset.colorinterp
            options = {"resampling": Resampling.nearest if nearest else Resampling.bilinear}
            warped = warped_to(grid, dataset, path, add_alpha=bare and not alpha_bands(dataset), **options)
            with Scene(warped, path, bands=None if nearest else bands, scaling=scaling) as scene:
                return scene.read(0, 0, grid.height, grid.width)
