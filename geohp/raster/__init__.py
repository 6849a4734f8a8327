"""Rasters: scenes read window by window, outputs written whole or not at all."""

from geohp.raster.grid import Grid
from geohp.raster.layers import Layer
from geohp.raster.scaling import Scaling
from geohp.raster.scenes import Scene, open_scene
from geohp.raster.work import Work

__all__ = ["Grid", "Layer", "Scaling", "Scene", "Work", "open_scene"]
