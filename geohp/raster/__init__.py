"""Rasters: scenes read window by window, outputs written whole or not at all."""

from geohp.raster.grid import Grid
from geohp.raster.scaling import Scaling
from geohp.raster.scenes import Scene, open_scene
from geohp.raster.writing import RasterWriter

__all__ = ["Grid", "RasterWriter", "Scaling", "Scene", "open_scene"]
